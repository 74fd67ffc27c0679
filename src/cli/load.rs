//! `ddock load`.

use crate::archive::Loaded;
use crate::cli::failure::{self, Refusal};
use crate::cli::{output, pull};
use crate::engine::image::load;
use crate::platform::Platform;
use crate::reference::Reference;
use anyhow::{Context, Result};
use clap::Args;
use fs_err as fs;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Read from a file instead of stdin: an archive of docker's or podman's or an image layout, compressed or not
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Say nothing but what was loaded
    #[arg(short, long)]
    quiet: bool,
    /// Of images for several platforms load this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

/// Brings the images of an archive into the store and says their names.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    let (input, name) = open(arguments)?;
    let context = || format!("cannot load {name}");
    let platform = arguments.platform.as_ref();
    let notes = |note| {
        if !arguments.quiet {
            failure::note(note);
        }
    };
    let loaded = load(root, input, platform, &pull::unpacking, &notes).with_context(context)?;
    output::print(&loaded.iter().map(lines).collect::<String>())
}

/// Opens what is to be read, and says what it is called.
fn open(arguments: &Arguments) -> Result<(fs::File, String)> {
    if let Some(path) = arguments
        .input
        .as_deref()
        .filter(|path| path.as_os_str() != "-")
    {
        let name = format!("`{}`", path.display());
        let file = fs::File::open(path).with_context(|| format!("cannot load {name}"))?;
        return Ok((file, name));
    }
    if io::stdin().is_terminal() {
        let refusal = Refusal::new("requested load from stdin, but stdin is empty");
        return Err(refusal.code(1).into());
    }
    let stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("cannot load from stdin")?;
    let stdin = fs::File::from_parts(stdin.into(), "standard input");
    Ok((stdin, "from stdin".to_owned()))
}

/// Docker's lines.
fn lines(loaded: &Loaded) -> String {
    if loaded.names.is_empty() {
        return format!("Loaded image ID: {}\n", loaded.id);
    }
    let line = |name: &Reference| format!("Loaded image: {}\n", name.familiar());
    loaded.names.iter().map(line).collect()
}
