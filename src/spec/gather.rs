//! Everything that flags, other containers and the image want mounted, each place once.

use crate::options::{
    Below, Bind, Content, ImageVolumes, MountOptions, Volume, target, tmpfs_options,
};
use crate::spec::point::MountPoint;
use crate::spec::subject::Subject;
use crate::store::VolumeName;
use anyhow::{Context, Result};
use std::path::Path;

/// The directories that `--read-only-tmpfs` keeps writable. Podman's.
const SCRATCH: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Something to mount, and the name of the volume if it is one.
pub(crate) struct Wanted {
    pub(crate) options: MountOptions,
    pub(crate) volume: Option<VolumeName>,
    /// The mode of the image's directory that a tmpfs covers.
    pub(crate) covered: Option<u32>,
}

/// Returns what flags, other containers and the image ask for: what comes first has the place.
pub(crate) fn all(image_volumes: &[String], subject: &Subject) -> Result<Vec<Wanted>> {
    let files = &subject.options.files;
    let mut all = files.mounts.clone();
    let add = |all: &mut Vec<MountOptions>, wanted: MountOptions| {
        if all.iter().all(|other| other.target != wanted.target) {
            all.push(wanted);
        }
    };
    // Of two containers with a mount at one place the later one has it.
    for inherited in files.inherited.iter().rev() {
        add(&mut all, inherited.clone());
    }
    for text in image_volumes {
        let target = target(&Path::new("/").join(text))
            .with_context(|| format!("the image declares the volume `{text}`"))?;
        let content = match files.image_volumes {
            ImageVolumes::Anonymous => Content::Volume(Volume::anonymous()),
            ImageVolumes::Tmpfs => Content::Tmpfs(tmpfs_options("exec")?),
            ImageVolumes::Ignored => continue,
        };
        add(&mut all, MountOptions::plain(target, content));
    }
    if files.read_only && files.read_only_tmpfs {
        for path in SCRATCH {
            let content = Content::Tmpfs(tmpfs_options("exec,mode=1777")?);
            add(&mut all, MountOptions::plain(path.into(), content));
        }
    }
    let all = all.into_iter();
    Ok(all.map(|options| name(options, &subject.mounted)).collect())
}

/// Gives a volume that has no name the one that it had when the container was started before, or a new one.
fn name(options: MountOptions, mounted: &[MountPoint]) -> Wanted {
    let volume = match &options.content {
        Content::Volume(volume) => {
            let before = mounted.iter().find(|it| it.target == options.target);
            let before = before.and_then(|point| point.volume.as_ref());
            let name = volume.name.as_ref().or(before);
            Some(name.cloned().unwrap_or_else(VolumeName::random))
        }
        Content::Bind(_) | Content::Tmpfs(_) | Content::Image(_) => None,
    };
    Wanted {
        options,
        volume,
        covered: None,
    }
}

impl MountPoint {
    /// Returns what a container asks for that takes the mount over; none if it is nothing that can be shared.
    pub(crate) fn inherited(&self) -> Result<Option<MountOptions>> {
        let content = match (self.kind.as_str(), &self.volume) {
            // Not copied to: it is another's.
            ("volume", Some(name)) => Content::Volume(Volume {
                copy: false,
                ..Volume::named(name.clone())
            }),
            ("bind", _) => Content::Bind(Bind {
                source: self.source.clone(),
                propagation: self.propagation.parse().unwrap_or_default(),
                below: Below::Alike,
                idmap: self.idmap.clone(),
                make: false,
            }),
            _ => return Ok(None),
        };
        Ok(Some(MountOptions {
            read_only: self.read_only,
            mode: self.mode.clone(),
            ..MountOptions::plain(target(&self.target)?, content)
        }))
    }
}
