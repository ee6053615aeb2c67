//! How numbers, times, names and tables are written for people.

pub mod table;

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::types::Timestamp;

/// `12345678` as `12.3 MB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time as `2026-01-31 12:00:00` in UTC; one that no calendar holds as its
/// seconds.
pub fn time(time: Timestamp) -> String {
    match jiff::Timestamp::new(time.secs, 0) {
        Ok(stamp) => stamp.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{}", time.secs),
    }
}

/// Whether a character changes how others are shown instead of being shown.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A name for a terminal: characters that are hidden and bytes that are not UTF-8 are
/// escaped, so that a name from an archive cannot move the cursor.
pub fn printable(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(is_hidden) => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(name.len() + 8);
            for chunk in name.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if is_hidden(c) {
                        text.extend(c.escape_default());
                    } else {
                        text.push(c);
                    }
                }
                for byte in chunk.invalid() {
                    let _infallible = write!(text, "\\x{byte:02x}");
                }
            }
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(294_123_456), "294.1 MB");
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn times_outside_of_the_calendar_are_seconds() {
        assert_eq!(time(Timestamp { secs: 0, nanos: 5 }), "1970-01-01 00:00:00");
        assert_eq!(
            time(Timestamp {
                secs: i64::MAX,
                nanos: 0
            }),
            format!("@{}", i64::MAX)
        );
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        assert_eq!(printable(b"plain \xc3\xa9"), "plain \u{e9}");
        assert_eq!(printable(b"\x1b[2J\n\xff"), "\\u{1b}[2J\\n\\xff");
    }
}
