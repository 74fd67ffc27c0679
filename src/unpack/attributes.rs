//! Extended attributes: which of a layer's are kept, and keeping them.

use crate::unpack::name;
use crate::unpack::{OverlayAttributes, Skipped};
use anyhow::{Context, Result};
use rustix::fd::AsFd;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of the longest list of names that the kernel returns (`XATTR_LIST_MAX`).
const LONGEST_LIST: usize = 65_536;

/// Returns why an attribute is not kept, if it is not.
///
/// `user.*` and file capabilities belong to the image. The rest belongs to the host: security labels and
/// ACLs name what exists there only, and what speaks to overlayfs could show files of other layers.
fn refusal(name: &[u8]) -> Option<Skipped> {
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return Some(Skipped::OverlayAttribute);
    }
    let kept = name.starts_with(b"user.") || name == b"security.capability";
    (!kept).then_some(Skipped::HostAttribute)
}

/// Sets what is to be kept of `attributes` on an open file or directory.
pub(crate) fn set(
    file: impl AsFd,
    attributes: &BTreeMap<Vec<u8>, Vec<u8>>,
    skipped: &mut BTreeSet<Skipped>,
) -> Result<()> {
    for (attribute, value) in attributes {
        if let Some(why) = refusal(attribute) {
            skipped.insert(why);
            continue;
        }
        match rustix::fs::fsetxattr(&file, attribute, value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                skipped.insert(Skipped::UnsupportedAttribute);
            }
            Err(error) => {
                let shown = name::shown(attribute);
                return Err(error).with_context(|| format!("setting its attribute `{shown}`"));
            }
        }
    }
    Ok(())
}

/// Notes the attributes of what cannot carry any: the kernel allows them on files and directories only (xattr(7)).
pub(crate) fn skip(attributes: &BTreeMap<Vec<u8>, Vec<u8>>, skipped: &mut BTreeSet<Skipped>) {
    for attribute in attributes.keys() {
        skipped.insert(refusal(attribute).unwrap_or(Skipped::UnsupportedAttribute));
    }
}

/// Removes what an earlier entry of the same name has set.
pub(crate) fn clear(file: impl AsFd) -> Result<()> {
    let mut list = vec![0; LONGEST_LIST];
    let length = rustix::fs::flistxattr(&file, &mut list)?;
    for attribute in list[..length].split(|byte| *byte == 0) {
        if !attribute.is_empty() && refusal(attribute).is_none() {
            rustix::fs::fremovexattr(&file, attribute)?;
        }
    }
    Ok(())
}

/// Marks a directory as opaque for overlayfs (kernel, overlayfs.rst, "whiteouts and opaque directories").
pub(crate) fn mark_opaque(directory: impl AsFd, namespace: OverlayAttributes) -> Result<()> {
    let attribute = match namespace {
        OverlayAttributes::Trusted => "trusted.overlay.opaque",
        OverlayAttributes::User => "user.overlay.opaque",
    };
    rustix::fs::fsetxattr(directory, attribute, b"y", XattrFlags::empty())
        .with_context(|| format!("setting `{attribute}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_image_are_kept_and_no_others() {
        for kept in ["user.a", "user.overlay", "security.capability"] {
            assert_eq!(refusal(kept.as_bytes()), None, "{kept}");
        }
        for (name, why) in [
            ("trusted.overlay.opaque", Skipped::OverlayAttribute),
            ("trusted.overlay.redirect", Skipped::OverlayAttribute),
            ("user.overlay.whiteout", Skipped::OverlayAttribute),
            ("trusted.a", Skipped::HostAttribute),
            ("security.selinux", Skipped::HostAttribute),
            ("security.ima", Skipped::HostAttribute),
            ("security.evm", Skipped::HostAttribute),
            ("system.nfs4_acl", Skipped::HostAttribute),
            ("system.posix_acl_access", Skipped::HostAttribute),
            ("nonsense", Skipped::HostAttribute),
            ("", Skipped::HostAttribute),
        ] {
            assert_eq!(refusal(name.as_bytes()), Some(why), "{name}");
        }
    }
}
