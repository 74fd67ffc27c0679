//! `ddock version`.

use crate::cli::{listing, output};
use crate::platform::Platform;
use crate::template::METHOD;
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

/// The version of Docker's Engine API whose documents are shown, and the oldest whose readers understand them.
const API: (&str, &str) = ("1.51", "1.24");

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Show so: `json`, or a template of Go's such as `{{.Server.Version}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Prints what this ddock is: client and server in one, so that scripts that ask about either find it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let facts = facts();
    output::print(&match arguments.format.as_deref() {
        Some(format) => {
            // A template that cannot be read is 64 here, as with Docker.
            let template = listing::template(format).map_err(|refusal| refusal.code(64))?;
            listing::fill(&template, &facts)? + "\n"
        }
        None => render(&facts),
    })
}

fn facts() -> Value {
    let platform = Platform::host();
    let kernel = rustix::system::uname();
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "Client": {
            "Platform": {"Name": "ddock"},
            "Version": version,
            "ApiVersion": API.0,
            format!("{METHOD}APIVersion"): API.0,
            "DefaultAPIVersion": API.0,
            "GitCommit": "",
            "GoVersion": "",
            "Os": platform.os,
            "Arch": platform.architecture,
            "BuildTime": "",
            "Context": "default",
        },
        "Server": {
            "Platform": {"Name": "ddock"},
            "Components": [{"Name": "Engine", "Version": version}],
            "Version": version,
            "ApiVersion": API.0,
            format!("{METHOD}APIVersion"): API.0,
            "MinAPIVersion": API.1,
            "GitCommit": "",
            "GoVersion": "",
            "Os": platform.os,
            "Arch": platform.architecture,
            "KernelVersion": kernel.release().to_string_lossy(),
            "Experimental": false,
            "BuildTime": "",
        },
    })
}

/// Docker's lines, for people.
fn render(facts: &Value) -> String {
    let text = |pointer: &str| {
        facts
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let (version, api, least) = (
        text("/Client/Version"),
        text("/Client/ApiVersion"),
        text("/Server/MinAPIVersion"),
    );
    let platform = format!("{}/{}", text("/Client/Os"), text("/Client/Arch"));
    format!(
        "Client: ddock\n Version:           {version}\n API version:       {api}\n OS/Arch:           {platform}\n \
         Context:           default\n\n\
         Server: ddock, without a daemon\n Engine:\n  Version:          {version}\n  \
         API version:      {api} (minimum version {least})\n  OS/Arch:          {platform}\n  Experimental:     false\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_dockers_fields() {
        let facts = facts();
        let shown =
            |format: &str| listing::fill(&listing::template(format).unwrap(), &facts).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            shown("{{.Server.Version}} {{.Client.Version}}"),
            format!("{version} {version}")
        );
        assert_eq!(shown("{{.Client.APIVersion}} {{.Server.Os}}"), "1.51 linux");
        assert!(
            !shown("json").contains("APIVersion\":\"1.51\",\"APIVersion"),
            "{}",
            shown("json")
        );
    }
}
