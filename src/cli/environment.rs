//! What flags name of this process's environment, and of files of variables.

use crate::human::printable;
use crate::options::{Variable, parse_variables};
use crate::sys::file;
use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;

/// Reads `--env-file`, then `-e`, in order; without a value a variable is to be removed.
pub(crate) fn asked(
    files: &[PathBuf],
    flags: Vec<Variable>,
) -> Result<Vec<(String, Option<String>)>> {
    let mut set = Vec::new();
    for path in files {
        let content = file::read_given(path)?;
        let lines =
            parse_variables(&content).with_context(|| format!("reading `{}`", path.display()))?;
        for (name, value) in lines {
            let value = value.map_or_else(|| callers(name), |value| Ok(Some(value.to_owned())));
            // A bare name that the caller does not have is passed over.
            set.extend(value?.map(|value| (name.to_owned(), Some(value))));
        }
    }
    for variable in flags {
        match variable {
            Variable::Set(name, value) => set.push((name, Some(value))),
            Variable::Callers(name) => {
                let value = callers(&name)?;
                set.push((name, value));
            }
            Variable::CallersLike(prefix) => {
                let variables = all_callers(&prefix)?.into_iter();
                set.extend(variables.map(|(name, value)| (name, Some(value))));
            }
        }
    }
    Ok(set)
}

/// Returns this process's own variables whose names begin with `prefix`; names that are not UTF-8 nobody can ask for.
pub(crate) fn all_callers(prefix: &str) -> Result<Vec<(String, String)>> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut variables = Vec::new();
    for name in names.filter(|name| name.starts_with(prefix)) {
        if let Some(value) = callers(&name)? {
            variables.push((name, value));
        }
    }
    Ok(variables)
}

/// Returns this process's own value of a variable.
fn callers(name: &str) -> Result<Option<String>> {
    let value = env::var_os(name).map(|value| value.into_string().ok());
    // config.json is JSON, which holds nothing but UTF-8.
    value
        .map(|value| {
            value.with_context(|| {
                let name = printable(name);
                format!("the value of the environment variable `{name}` is not UTF-8")
            })
        })
        .transpose()
}
