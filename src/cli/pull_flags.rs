//! The flags that `pull` and the pull of `run` share.

use crate::cli::failure::Refusal;
use crate::cli::prompt;
use crate::cli::reach::Reach;
use crate::human;
use crate::pull::Retry;
use crate::registry::{Given, Secret};
use anyhow::Result;
use clap::Args;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct PullFlags {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Log in to the registry as this user; others can see it in the list of processes, but what is typed instead
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<Secret>,
    /// Look into this file first for how to log in to the registry
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Begin anew so many times when the pull fails for a reason that may pass
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    retry: u32,
    /// Wait so long before each of them, `90s` say [default: 1s, and each time twice as long]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_delay: Option<Duration>,
    /// Verify no signatures, which is so anyway
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

fn with_password(user: &Secret) -> Result<Secret> {
    if !io::stdin().is_terminal() {
        let refusal = Refusal::new(
            "`--creds` has no colon and no password, and there is no terminal to ask for one",
        );
        let hint = "give `--creds USER:PASSWORD`, or keep the password with `ddock login`";
        return Err(refusal.hint(hint).into());
    }
    let password = prompt::ask_secret("Password: ")?;
    Ok(format!("{}:{}", user.expose(), password.expose()).into())
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    human::parse_duration(text).ok_or("expected a duration such as `500ms`, `90s` or `1m30s`")
}

impl PullFlags {
    /// Returns what these flags say about logging in; asks for a password that `--creds` leaves out.
    pub(crate) fn given(&self) -> Result<Given> {
        let pair = match &self.creds {
            Some(user) if !user.is_empty() && !user.expose().contains(':') => {
                Some(with_password(user)?)
            }
            pair => pair.clone(),
        };
        let file = self.authfile.clone();
        Ok(Given { pair, file })
    }

    pub(crate) fn retry(&self) -> Retry {
        Retry {
            times: self.retry,
            delay: self.retry_delay,
        }
    }

    /// Returns these flags as words, for a child process: all but the password, which others could see there.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<_> = self.reach.words().into_iter().map(Into::into).collect();
        if let Some(file) = &self.authfile {
            words.extend(["--authfile".into(), file.into()]);
        }
        words.push(format!("--retry={}", self.retry).into());
        let delay = self.retry_delay.map(|delay| delay.as_secs_f64());
        words.extend(delay.map(|seconds| format!("--retry-delay={seconds}s").into()));
        words
    }
}
