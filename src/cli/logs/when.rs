//! `--since` and `--until`: points in time as Docker writes them.

use crate::human;
use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use std::str::FromStr;

/// A point in time, or how long before now it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(DateTime<Utc>),
    Before(TimeDelta),
}

impl When {
    pub(crate) fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Before(ago) => now
                .checked_sub_signed(ago)
                .unwrap_or(DateTime::<Utc>::MIN_UTC),
        }
    }
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
        time.ok()
            .or_else(|| local(text))
            .or_else(|| unix(text))
            .map(Self::At)
            .or_else(|| Some(Self::Before(TimeDelta::from_std(human::parse_duration(text)?).ok()?)))
            .ok_or("expected a time such as `2026-01-31T12:00:00Z`, seconds since 1970, or a duration such as `1h30m`")
    }
}

/// A time without a zone is the caller's.
fn local(text: &str) -> Option<DateTime<Utc>> {
    let times = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    let mut times = times
        .iter()
        .filter_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let time = times.next().or_else(|| {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        date.and_hms_opt(0, 0, 0)
    })?;
    Some(Local.from_local_datetime(&time).earliest()?.to_utc())
}

/// Seconds since 1970, with up to nine digits after the point.
fn unix(text: &str) -> Option<DateTime<Utc>> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_fraction = fraction.len() <= 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    DateTime::from_timestamp(seconds.parse().ok()?, nanoseconds).filter(|_| is_fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dockers() {
        let now: DateTime<Utc> = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("2026-01-31T11:00:00Z", "2026-01-31T11:00:00Z"),
            ("2026-01-31T11:00:00.5+01:00", "2026-01-31T10:00:00.5Z"),
            ("1769857200", "2026-01-31T11:00:00Z"),
            ("1769857200.25", "2026-01-31T11:00:00.25Z"),
            ("90m", "2026-01-31T10:30:00Z"),
            ("1h30m", "2026-01-31T10:30:00Z"),
            ("1.5s", "2026-01-31T11:59:58.5Z"),
        ] {
            let expected: DateTime<Utc> = time.parse().unwrap();
            assert_eq!(text.parse::<When>().unwrap().at(now), expected, "{text}");
        }
        for local in ["2026-01-31", "2026-01-31T11:00", "2026-01-31T11:00:00.5"] {
            assert!(matches!(local.parse(), Ok(When::At(_))), "{local}");
        }
        for bad in ["", "yesterday", "1x", "h", "-", "1.1234567890", "1h30"] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }
}
