//! Limits of a single process as config.json's `process.rlimits`.

use crate::options::Ulimit;
use serde_json::{Value, json};

/// Returns the limits that were asked for; of two of one type the last one counts.
pub(crate) fn build(asked: &[Ulimit]) -> Vec<Value> {
    let mut limits: Vec<&Ulimit> = Vec::new();
    for limit in asked {
        limits.retain(|other| other.name != limit.name);
        limits.push(limit);
    }
    limits.sort_by_key(|limit| &limit.name);
    let value = |limit: &Ulimit| {
        let kind = format!("RLIMIT_{}", limit.name.to_uppercase());
        json!({ "type": kind, "soft": limit.soft, "hard": limit.hard })
    };
    limits.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_limits_the_last_counts() {
        let asked = ["nproc=5:6", "core=-1", "nproc=7:8"].map(|text| text.parse().unwrap());
        let limit =
            |kind: &str, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
        let expected = [
            limit("RLIMIT_CORE", u64::MAX, u64::MAX),
            limit("RLIMIT_NPROC", 7, 8),
        ];
        assert_eq!(build(&asked), expected);
        assert!(build(&[]).is_empty());
    }
}
