//! Tars for tests, the crooked ones too.

/// Returns the record `length key=value\n`.
pub(crate) fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..8)
        .map(|digits| rest + digits)
        .find(|length| length.to_string().len() + rest == *length)
        .expect("some length fits");
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}
