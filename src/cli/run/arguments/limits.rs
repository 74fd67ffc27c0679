//! The flags of `ddock run` about limits: how much of the machine the container may use.

use crate::human;
use crate::spec::Limits;
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitFlags {
    /// Limit memory, in bytes or with b, k, m, g
    #[arg(short, long, value_name = "BYTES", value_parser = memory, allow_negative_numbers = true)]
    memory: Option<u64>,
    /// Limit processor time, in processors: 0.5 is half of one
    #[arg(long, value_name = "NUMBER", value_parser = nano_cpus, allow_negative_numbers = true)]
    cpus: Option<u64>,
    /// Limit the number of processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
}

impl From<LimitFlags> for Limits {
    fn from(flags: LimitFlags) -> Self {
        Self {
            // Docker: 0 is no limit.
            memory: flags.memory.filter(|bytes| *bytes > 0),
            nano_cpus: flags.cpus.filter(|cpus| *cpus > 0),
            pids: flags.pids_limit,
        }
    }
}

fn memory(text: &str) -> Result<u64, &'static str> {
    human::parse_bytes(text).ok_or("expected a size such as `512m` or `2g`")
}

/// Returns `1.5` as 1,500,000,000.
fn nano_cpus(text: &str) -> Result<u64, &'static str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return Err("expected a number such as `0.5` or `2`");
    }
    if fraction.len() > 9 {
        return Err("there are at most nine digits after the point");
    }
    let digits = format!("{whole}{fraction:0<9}");
    digits.parse().map_err(|_| "that is too many processors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_exactly() {
        for (text, expected) in [
            ("2", Ok(2_000_000_000)),
            ("0.1", Ok(100_000_000)),
            (".5", Ok(500_000_000)),
            ("1.", Ok(1_000_000_000)),
            ("0.000000001", Ok(1)),
        ] {
            assert_eq!(nano_cpus(text), expected, "{text}");
        }
        for bad in ["", ".", "-1", "1e3", "x", "0.0000000001", "99999999999999"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }
}
