//! The flags that `pull` and the pull of `run` share.

use crate::cli::reach::Reach;
use crate::registry::{Given, Secret};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct PullFlags {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Log in to the registry as this user; others can see it in the list of processes
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<Secret>,
    /// Look into this file first for how to log in to the registry
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl PullFlags {
    /// Returns what these flags say about logging in.
    pub(crate) fn given(&self) -> Given {
        Given {
            pair: self.creds.clone(),
            file: self.authfile.clone(),
        }
    }

    /// Returns these flags as words, for a child process: all but the password, which others could see there.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<_> = self.reach.words().into_iter().map(Into::into).collect();
        if let Some(file) = &self.authfile {
            words.extend(["--authfile".into(), file.into()]);
        }
        words
    }
}
