//! Everything that flags, other containers and the image want mounted, each place once.

use crate::spec::host::Host;
use crate::spec::request::{ImageVolumes, Request};
use crate::spec::wanted::{Below, Bind, Content, MountPoint, Volume, Wanted};
use crate::spec::{mount_flag, tmpfs, volume_flag, wanted};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// The directories that `--read-only-tmpfs` keeps writable. Podman's.
const SCRATCH: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Returns what flags, other containers and the image ask for: what comes first has the place.
pub(crate) fn all(image_volumes: &[String], request: &Request, host: &Host) -> Result<Vec<Wanted>> {
    let (files, directory) = (&request.files, host.current_directory.as_deref());
    let volumes = files.volumes.iter();
    let mounts = files.mounts.iter();
    let mut all: Vec<Wanted> = volumes
        .map(|text| volume_flag::parse(text, directory))
        .chain(mounts.map(|text| mount_flag::parse(text, directory)))
        .chain(files.tmpfs.iter().map(|text| tmpfs::parse(text)))
        .collect::<Result<_>>()?;
    refuse_duplicates(&all)?;
    let add = |all: &mut Vec<Wanted>, wanted: Wanted| {
        if all.iter().all(|other| other.target != wanted.target) {
            all.push(wanted);
        }
    };
    // Of two containers with a mount at one place the later one has it.
    for point in files.inherited.iter().rev() {
        add(&mut all, inherited(point)?);
    }
    for text in image_volumes {
        let target = wanted::target(&Path::new("/").join(text))
            .with_context(|| format!("the image declares the volume `{text}`"))?;
        let content = match files.image_volumes {
            ImageVolumes::Anonymous => Content::Volume(Volume::anonymous()),
            ImageVolumes::Tmpfs => Content::Tmpfs(tmpfs::options("exec")?),
            ImageVolumes::Ignored => continue,
        };
        add(&mut all, Wanted::plain(target, content));
    }
    if files.read_only && files.read_only_tmpfs {
        for path in SCRATCH {
            let content = Content::Tmpfs(tmpfs::options("exec,mode=1777")?);
            add(&mut all, Wanted::plain(path.into(), content));
        }
    }
    Ok(all)
}

/// Returns the images that `--mount` names.
pub(crate) fn images(request: &Request) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for text in &request.files.mounts {
        // Where the caller is matters to binds alone.
        if let Content::Image(image) = mount_flag::parse(text, Some(Path::new("/")))?.content {
            images.push(image.name);
        }
    }
    Ok(images)
}

/// Returns the mount of another container for this one.
fn inherited(point: &MountPoint) -> Result<Wanted> {
    let content = match &point.volume {
        // Not copied to: it is another's.
        Some(name) => Content::Volume(Volume {
            copy: false,
            ..Volume::named(name.clone())
        }),
        None => Content::Bind(Bind {
            source: point.source.clone(),
            propagation: wanted::propagation(&point.propagation).unwrap_or("rprivate"),
            below: Below::Alike,
            idmap: point.idmap.clone(),
            make: false,
        }),
    };
    Ok(Wanted {
        read_only: point.read_only,
        mode: point.mode.clone(),
        ..Wanted::plain(wanted::target(&point.target)?, content)
    })
}

fn refuse_duplicates(mounts: &[Wanted]) -> Result<()> {
    for (index, mount) in mounts.iter().enumerate() {
        let path = &mount.target;
        ensure!(
            mounts[..index].iter().all(|other| other.target != *path),
            "Duplicate mount point: {}",
            path.display()
        );
    }
    Ok(())
}
