//! What a layer may demand before it is taken for an attack: the environment may say otherwise.

use crate::human;
use crate::unpack::Limits;
use anyhow::{Context, Result};
use std::env;

/// Returns the limits for unpacking, the usual ones where the environment is silent.
pub(crate) fn gather() -> Result<Limits> {
    let usual = Limits::default();
    let memory = number("DDOCK_LAYER_DIRECTORIES")?.map(usize::try_from);
    let memory = memory.transpose().context("`DDOCK_LAYER_DIRECTORIES`")?;
    Ok(Limits {
        entries: number("DDOCK_LAYER_ENTRIES")?.unwrap_or(usual.entries),
        directory_memory: memory.unwrap_or(usual.directory_memory),
        tar_size: number("DDOCK_LAYER_SIZE")?.or(usual.tar_size),
        ratio: number("DDOCK_LAYER_RATIO")?.unwrap_or(usual.ratio),
        reserve: number("DDOCK_LAYER_RESERVE")?.or(usual.reserve),
    })
}

fn number(name: &str) -> Result<Option<u64>> {
    let Some(text) = env::var_os(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let number = text.to_str().and_then(human::parse_bytes);
    let number = number.with_context(|| {
        let text = human::printable(&text.to_string_lossy());
        format!("`{name}` is `{text}`: expected a number, with a unit or without, such as `20g`")
    })?;
    Ok(Some(number))
}
