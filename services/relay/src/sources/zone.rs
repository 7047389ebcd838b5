//! The zone that a source's times are in, where they do not say it.

use anyhow::{Context, Result};
use time::UtcOffset;

/// What `utc_offset` is set to.
pub fn configured(text: Option<&str>) -> Result<Option<UtcOffset>> {
    let read = |text| {
        offset(text).with_context(|| {
            format!("`utc_offset` is a difference to UTC such as +01:00, not {text}")
        })
    };
    text.map(read).transpose()
}

/// `+01:00`, `-0330`, `+03`.
pub fn offset(text: &str) -> Option<UtcOffset> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let is_plain = [2, 4].contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: i8 = is_plain.then(|| digits[..2].parse().ok())??;
    let minutes: i8 = digits
        .get(2..)
        .filter(|rest| !rest.is_empty())
        .map_or(Some(0), |rest| rest.parse().ok())?;
    (number <= 15 && minutes < 60)
        .then(|| UtcOffset::from_hms(sign * number, sign * minutes, 0).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_people_write_them() {
        for (text, seconds) in [("+01:00", 3600), ("-0330", -12_600), ("+05", 18_000)] {
            assert_eq!(offset(text).unwrap().whole_seconds(), seconds, "{text}");
        }
        for text in ["", "01:00", "+1", "+99:00", "CET", "+0é", "+01:60"] {
            assert!(offset(text).is_none(), "{text}");
        }
    }
}
