//! What a container's root is made from: an image of the store, or a directory of the host.

use crate::container::{self, Record};
use crate::image::{self, Image, ImageConfig};
use crate::narration::{Step, tell};
use crate::note::{Note, Notes};
use crate::options::{ContainerOptions, Root};
use crate::platform::Platform;
use crate::runtime::Rootfs;
use crate::store::Store;
use crate::sys::userns::Mapping;
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{Mode, OFlags, fstat, open, stat};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What was found by the name of a root.
#[derive(Debug)]
pub(super) enum Origin {
    Image(Box<Image>),
    Directory {
        /// Without symlinks.
        path: PathBuf,
        handle: OwnedFd,
        covered: bool,
    },
}

impl Origin {
    pub(super) fn find(
        options: &ContainerOptions,
        store: &Store,
        notes: Notes<'_>,
    ) -> Result<Self> {
        match &options.root {
            Root::Image(name) => {
                let image = image::find(store, name)?;
                check_platform(options, &image, notes)?;
                tell(|| Step::Image {
                    name: name.clone(),
                    id: image.id.short().to_string(),
                    layers: image.record.layers.len(),
                });
                Ok(Self::Image(Box::new(image)))
            }
            Root::Directory { path, covered } => {
                let (path, handle) = open_directory(path)?;
                tell(|| Step::Rootfs {
                    directory: path.display().to_string(),
                });
                Ok(Self::Directory {
                    path,
                    handle,
                    covered: *covered,
                })
            }
        }
    }

    /// Finds what a container was made from, whatever has its name by now.
    pub(super) fn again(
        record: &Record,
        options: &ContainerOptions,
        store: &Store,
    ) -> Result<Self> {
        match (&record.origin, &options.root) {
            (container::Origin::Image { image, .. }, _) => {
                let image = image::find(store, &image.to_string())?;
                Ok(Self::Image(Box::new(image)))
            }
            (container::Origin::Directory { rootfs }, Root::Directory { covered, .. }) => {
                let (path, handle) = open_directory(rootfs)?;
                Ok(Self::Directory {
                    path,
                    handle,
                    covered: *covered,
                })
            }
            _ => bail!(
                "it is not known what container `{}` was made from",
                record.name
            ),
        }
    }

    pub(super) fn image(&self) -> Option<&Image> {
        match self {
            Self::Image(image) => Some(image),
            Self::Directory { .. } => None,
        }
    }

    /// Returns what is written down of it; the user called it `name`.
    pub(super) fn record(&self, name: &Root) -> container::Origin {
        match self {
            Self::Image(image) => container::Origin::Image {
                image: image.id.clone(),
                image_name: name.to_string(),
            },
            Self::Directory { path, .. } => container::Origin::Directory {
                rootfs: path.clone(),
            },
        }
    }

    /// Returns the image's config; no image has an empty one.
    pub(super) fn config(&self, store: &Store) -> Result<ImageConfig> {
        let config = self.image().map(|image| image.config(store));
        config.unwrap_or_else(|| Ok(ImageConfig::default()))
    }

    /// Returns the directory of the host that is the root itself.
    pub(super) fn root_directory(&self) -> Option<&Path> {
        match self {
            Self::Directory {
                path,
                covered: false,
                ..
            } => Some(path),
            Self::Image(_) | Self::Directory { .. } => None,
        }
    }

    /// Puts the root together; one that is a directory of the host itself is handed out as it is.
    pub(super) fn assemble(
        self,
        store: &Store,
        mapping: &Mapping,
        container: &container::Container,
    ) -> Result<OwnedFd> {
        // Held until the layers are merged: its name leads there, and tells the container nothing.
        let mut held = None;
        let (mut lower, looks) = match self {
            Self::Image(image) => (image.lower_directories(store)?, image.root_directory(store)),
            Self::Directory {
                handle,
                covered: false,
                ..
            } => return Ok(handle),
            Self::Directory { handle, .. } => {
                let name = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
                held = Some(handle);
                (vec![name.clone()], Some(name))
            }
        };
        let layers = lower.len();
        if lower.is_empty() {
            // Overlayfs merges nothing with nothing.
            lower.push(container.make_lower()?);
        }
        let rootfs = Rootfs {
            lower,
            upper: container.upper(),
            work: container.work(),
            discarded: container.record.auto_remove,
            user_attributes: !mapping.is_root(),
        };
        // The upper directory is what the container sees as its root, which it may have changed since.
        if let Some(directory) = looks.filter(|_| !container.record.has_started()) {
            rootfs.adopt_root(&directory)?;
        }
        let root = rootfs.assemble(store.directory())?;
        drop(held);
        tell(|| Step::Root { layers });
        Ok(root)
    }
}

/// Opens a directory without entering it, and returns its name too, without symlinks.
fn open_directory(path: &Path) -> Result<(PathBuf, OwnedFd)> {
    let context = || format!("opening the root `{}`", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = open(path, flags, Mode::empty()).with_context(context)?;
    let (found, hosts) = (fstat(&handle)?, stat("/")?);
    if (found.st_dev, found.st_ino) == (hosts.st_dev, hosts.st_ino) {
        bail!(
            "the host's own root cannot be a container's: it would be changed, and its `/proc` and `/dev` covered"
        );
    }
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let path = fs_err::read_link(link).with_context(context)?;
    Ok((path, handle))
}

/// An image for another platform is refused if this one was asked for, and may run by emulation if not.
fn check_platform(options: &ContainerOptions, image: &Image, notes: Notes<'_>) -> Result<()> {
    let found = &image.record.platform;
    if let Some(wanted) = &options.platform {
        ensure!(
            wanted.rank(found).is_some(),
            "image with reference {} was found but its platform ({found}) does not match the specified platform ({wanted})",
            options.root
        );
    } else if Platform::host().rank(found).is_none() {
        notes(Note(anyhow!(
            "WARNING: The requested image's platform ({found}) does not match the detected host platform ({}) \
             and no specific platform was requested",
            Platform::host()
        )));
    }
    Ok(())
}
