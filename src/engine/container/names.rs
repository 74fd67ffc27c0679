//! Container names: made up when the user gives none, checked when they do.

use crate::fault::{Fault, Kind};
use anyhow::{Context, Result};

#[rustfmt::skip]
const ADJECTIVES: &[&str] = &[
    "able", "amber", "ample", "blithe", "brisk", "calm", "candid", "civil", "clear", "coral",
    "crisp", "deft", "dusky", "eager", "early", "earnest", "even", "fair", "fleet", "fond", "frank",
    "fresh", "gentle", "glad", "golden", "grand", "hardy", "hazel", "humble", "ivory", "jolly",
    "keen", "kind", "level", "light", "limber", "lively", "loyal", "lucid", "mellow", "merry",
    "mild", "modest", "neat", "nimble", "noble", "olive", "patient", "placid", "plucky", "polite",
    "prompt", "proud", "quick", "quiet", "ready", "robust", "rosy", "serene", "silver", "sober",
    "spry", "steady", "sunny", "tidy", "true", "upbeat", "vivid", "warm", "witty",
];

#[rustfmt::skip]
const SURNAMES: &[&str] = &[
    "akhmatova", "amundsen", "bartok", "basho", "berlioz", "bizet", "borodin", "brahms", "bronte",
    "bruckner", "byron", "cezanne", "chagall", "chopin", "conrad", "corelli", "couperin", "debussy",
    "degas", "dickinson", "donne", "duerer", "dvorak", "elgar", "faure", "fontane", "gauguin",
    "gogol", "goya", "grieg", "handel", "haydn", "heine", "hokusai", "holbein", "hopper", "horace",
    "ibsen", "janacek", "kahlo", "kandinsky", "keats", "klee", "lasso", "liszt", "magritte",
    "mahler", "manet", "matisse", "melville", "miro", "modigliani", "monet", "monteverdi",
    "morisot", "munch", "nansen", "neruda", "nielsen", "ovid", "palestrina", "petrarca", "poussin",
    "puccini", "purcell", "pushkin", "rameau", "ravel", "rembrandt", "rilke", "rossini", "rubens",
    "sappho", "satie", "schiele", "schubert", "schumann", "scriabin", "shackleton", "sibelius",
    "smetana", "tagore", "tallis", "telemann", "tolstoy", "turner", "vermeer", "vivaldi", "whitman",
    "yeats",
];

/// Returns a name as Docker makes them up: `brisk_vermeer`. It may be taken.
pub(crate) fn random() -> Result<String> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("reading random bytes")?;
    let [a, b, c, d] = bytes;
    let pick = |words: &[&'static str], high: u8, low: u8| {
        words[usize::from(u16::from_be_bytes([high, low])) % words.len()]
    };
    let (adjective, surname) = (pick(ADJECTIVES, a, b), pick(SURNAMES, c, d));
    Ok(format!("{adjective}_{surname}"))
}

/// Checks a name that the user chose. The text is Docker's.
pub(crate) fn check(name: &str) -> Result<(), Fault> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric();
    let is_name = name.len() > 1
        && is_word(name.as_bytes()[0])
        && name
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'_' | b'.' | b'-'));
    if is_name {
        return Ok(());
    }
    Err(Fault::new(
        Kind::Invalid,
        format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "a.b-c_d", "0x", "brisk_vermeer"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", "_a", ".a", "a b", "a/b", "é1", "a\nb"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn made_up_names_are_valid() {
        for _ in 0..100 {
            let name = random().unwrap();
            assert!(check(&name).is_ok() && name.contains('_'), "{name}");
        }
    }
}
