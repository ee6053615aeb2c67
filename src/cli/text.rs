//! How numbers, times and names are written for people.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::index::FileKind;
use crate::types::Timestamp;

/// `12345678` as `12.3 MB`.
pub(super) fn bytes(n: u64) -> String {
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
pub(super) fn count(n: u64) -> String {
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

/// `93784.5` seconds as `1 d 2 h 3 min 4 s`, without leading zeros.
pub(super) fn duration(seconds: f64) -> String {
    // Saturates, which no uptime comes near.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
    let whole = seconds as u64;
    let parts = [
        (whole / 86_400, "d"),
        (whole / 3600 % 24, "h"),
        (whole / 60 % 60, "min"),
        (whole % 60, "s"),
    ];
    let shown = parts.iter().skip_while(|(n, unit)| *n == 0 && *unit != "s");
    let shown: Vec<_> = shown.map(|(n, unit)| format!("{n} {unit}")).collect();
    shown.join(" ")
}

/// A time as `2026-01-31 12:00:00` in UTC; one that no calendar holds as its
/// seconds.
pub(super) fn time(time: Timestamp) -> String {
    match jiff::Timestamp::new(time.secs, 0) {
        Ok(stamp) => stamp.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{}", time.secs),
    }
}

/// What a kind of file is called.
pub(super) fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
    }
}

/// Its letter in `ls -l`.
pub(super) fn kind_letter(kind: FileKind) -> char {
    match kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
    }
}

/// `rwxr-xr-x`, with setuid, setgid and sticky as ls(1) shows them.
pub(super) fn permissions(perm: u16) -> String {
    let special = [
        (0o4000, 0o100, 's'),
        (0o2000, 0o010, 's'),
        (0o1000, 0o001, 't'),
    ];
    let mut text = String::with_capacity(9);
    for (i, (flag, execute, letter)) in special.into_iter().enumerate() {
        let bits = perm >> (6 - 3 * i);
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (perm & flag != 0, perm & execute != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A name for a terminal: control characters and bytes that are not UTF-8 are
/// escaped, so that a name from an archive cannot move the cursor.
pub(super) fn printable(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(name.len() + 8);
            for chunk in name.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if c.is_control() {
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
        assert_eq!(duration(0.9), "0 s");
        assert_eq!(duration(93_784.5), "1 d 2 h 3 min 4 s");
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        assert_eq!(printable(b"plain \xc3\xa9"), "plain \u{e9}");
        assert_eq!(printable(b"\x1b[2J\n\xff"), "\\u{1b}[2J\\n\\xff");
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
    fn permissions_read_as_ls_shows_them() {
        for (perm, shown) in [
            (0o755, "rwxr-xr-x"),
            (0o4755, "rwsr-xr-x"),
            (0o2644, "rw-r-Sr--"),
            (0o1777, "rwxrwxrwt"),
            (0o1776, "rwxrwxrwT"),
            (0, "---------"),
        ] {
            assert_eq!(permissions(perm), shown);
        }
    }
}
