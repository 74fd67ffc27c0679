//! `ddock save`.

use crate::cli::failure::Refusal;
use crate::cli::output::Stream;
use crate::engine::image::choose;
use crate::platform::Platform;
use anyhow::{Context, Result};
use clap::Args;
use fs_err as fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save images of this platform only
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Which images: names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Bytes that are written at a time.
const OUTPUT_SIZE: usize = 1 << 20;

/// Writes images to one file, which is there whole or not at all, or to a pipe.
pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<()> {
    if arguments.output.is_none() && Stream::Stdout.is_terminal() {
        let refusal =
            Refusal::new("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        return Err(refusal.code(1).into());
    }
    let context = || format!("cannot save {}", quoted(&arguments.images));
    // Before the user's own namespace is left: the file is theirs.
    let file = arguments.output.as_deref().map(Unfinished::create);
    let file = file.transpose().with_context(context)?;
    let chosen = choose(root, &arguments.images, arguments.platform.as_ref());
    let chosen = chosen.with_context(context)?;
    if let Some(mut file) = file {
        chosen.save(&mut file.writer).with_context(context)?;
        return file.finish().with_context(context);
    }
    let mut stdout = BufWriter::with_capacity(OUTPUT_SIZE, io::stdout().lock());
    chosen.save(&mut stdout).with_context(context)
}

fn quoted(names: &[String]) -> String {
    let names = names.iter().map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

/// A file that gets its name when it is whole, and is gone otherwise. A device or pipe is written to as it is.
struct Unfinished {
    writer: BufWriter<fs::File>,
    /// Where it is, and where it goes.
    names: Option<(PathBuf, PathBuf)>,
}

impl Unfinished {
    fn create(path: &Path) -> Result<Self> {
        let is_special = fs::metadata(path).is_ok_and(|found| !found.is_file());
        if is_special {
            let file = fs::OpenOptions::new().write(true).open(path)?;
            return Ok(Self {
                writer: BufWriter::with_capacity(OUTPUT_SIZE, file),
                names: None,
            });
        }
        // A symbolic link keeps leading to it.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut born = target.clone().into_os_string();
        born.push(format!(".{}.part", std::process::id()));
        let born = PathBuf::from(born);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&born)?;
        Ok(Self {
            writer: BufWriter::with_capacity(OUTPUT_SIZE, file),
            names: Some((born, target)),
        })
    }

    fn finish(mut self) -> Result<()> {
        self.writer.flush()?;
        if let Some((born, target)) = self.names.take() {
            let renamed = self
                .writer
                .get_ref()
                .sync_data()
                .and_then(|()| fs::rename(&born, target));
            if let Err(error) = renamed {
                fs::remove_file(born).ok();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((born, _)) = &self.names {
            // The first error is the one to tell.
            fs::remove_file(born).ok();
        }
    }
}
