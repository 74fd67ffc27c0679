//! The flags of `pull` and `run` about the way to registries.

use crate::registry::{Flags, Insecure, Mirror};
use clap::{ArgAction, Args};

#[derive(Debug, Args, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Ask URL before the registry HOST; may be given several times
    #[arg(long, value_name = "HOST=URL")]
    mirror: Vec<Mirror>,
    /// Take any certificate of this registry, and plain http
    #[arg(long, value_name = "HOST[:PORT]|CIDR")]
    insecure_registry: Vec<Insecure>,
    /// With `false`: take any certificate of the registry that is asked, and plain http
    #[arg(
        long,
        value_name = "BOOL",
        require_equals = true,
        default_value = "true",
        hide_default_value = true,
        hide_possible_values = true,
        action = ArgAction::Set
    )]
    tls_verify: bool,
}

impl Reach {
    /// Returns what these flags mean to the registry.
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            mirrors: self.mirror.clone(),
            insecure: self.insecure_registry.clone(),
            skip_verify: !self.tls_verify,
        }
    }

    /// Returns these flags as words, for a child process.
    pub(crate) fn words(&self) -> Vec<String> {
        let mirrors = self.mirror.iter().map(|it| format!("--mirror={it}"));
        let insecure = self.insecure_registry.iter();
        let insecure = insecure.map(|it| format!("--insecure-registry={it}"));
        let verify = (!self.tls_verify).then(|| "--tls-verify=false".to_owned());
        mirrors.chain(insecure).chain(verify).collect()
    }
}
