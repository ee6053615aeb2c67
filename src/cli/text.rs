//! How durations and kinds of files are written for people.

use crate::index::FileKind;
pub(super) use crate::inspect::report::kind_name as kind;
pub(super) use crate::text::{bytes, count, printable, time};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration(0.9), "0 s");
        assert_eq!(duration(93_784.5), "1 d 2 h 3 min 4 s");
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
