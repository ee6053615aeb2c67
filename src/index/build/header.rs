//! One header block of a tar archive: v7, ustar, GNU.
//!
//! Guarantees: a block is taken for a header only if its checksum is right;
//! every number is checked; nothing is resolved or interpreted beyond the
//! block. Sources: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar
//! manual, "Basic Tar Format" and `tar.h`.

use std::ops::Range;

use tar::Header;

/// Size in bytes of a header, and what content is padded to.
pub(super) const BLOCK_BYTES: usize = 512;

/// Where the checksum is; it counts as spaces.
const CHECKSUM: Range<usize> = 148..156;
/// Magic and version.
const MAGIC: Range<usize> = 257..265;
const DEV_MAJOR: Range<usize> = 329..337;
const DEV_MINOR: Range<usize> = 337..345;
/// ustar only: what stands before the name. In GNU headers these are times.
const PREFIX: Range<usize> = 345..500;

/// A header whose checksum is right.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    header: &'a Header,
}

impl<'a> Block<'a> {
    /// The header in a block, if the checksum says that it is one. Old writers
    /// summed signed bytes: both sums are accepted, as by every reader.
    pub(super) fn parse(block: &'a [u8; BLOCK_BYTES]) -> Option<Self> {
        let stored = octal(&block[CHECKSUM])?;
        (stored == checksum(block, i32::from)
            || stored == checksum(block, |b| i32::from(b.cast_signed())))
        .then(|| Self {
            header: Header::from_byte_slice(block),
        })
    }

    /// The letter of the type.
    pub(super) fn typeflag(self) -> u8 {
        self.header.as_old().linkflag[0]
    }

    /// Writes the name, with a ustar prefix, over `out`.
    pub(super) fn path(self, out: &mut Vec<u8>) {
        out.clear();
        let prefix = text(&self.bytes()[PREFIX]);
        if self.bytes()[MAGIC].starts_with(b"ustar\0") && !prefix.is_empty() {
            out.extend_from_slice(prefix);
            out.push(b'/');
        }
        out.extend_from_slice(text(&self.header.as_old().name));
    }

    /// The target of a link.
    pub(super) fn link(self) -> &'a [u8] {
        text(&self.header.as_old().linkname)
    }

    /// Bytes of content behind the header.
    pub(super) fn size(self) -> Option<u64> {
        number(&self.header.as_old().size).and_then(|size| u64::try_from(size).ok())
    }

    /// The mode; only its permission bits mean anything.
    pub(super) fn mode(self) -> Option<i64> {
        number(&self.header.as_old().mode)
    }

    pub(super) fn uid(self) -> Option<i64> {
        number(&self.header.as_old().uid)
    }

    pub(super) fn gid(self) -> Option<i64> {
        number(&self.header.as_old().gid)
    }

    /// Whole seconds since 1970.
    pub(super) fn mtime(self) -> Option<i64> {
        number(&self.header.as_old().mtime)
    }

    /// Major and minor device number; v7 archives have none.
    pub(super) fn device(self) -> Option<(i64, i64)> {
        if !self.bytes()[MAGIC].starts_with(b"ustar") {
            return None;
        }
        let bytes = self.bytes();
        Some((number(&bytes[DEV_MAJOR])?, number(&bytes[DEV_MINOR])?))
    }

    fn bytes(self) -> &'a [u8; BLOCK_BYTES] {
        self.header.as_bytes()
    }
}

/// The sum of all bytes, those of the checksum itself counted as spaces.
fn checksum(block: &[u8; BLOCK_BYTES], value: impl Fn(u8) -> i32) -> i64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| value(*b)).sum::<i32>();
    i64::from(sum(block) - sum(&block[CHECKSUM]) + 8 * i32::from(b' '))
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let len = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..len]
}

/// A number: octal digits, or base 256 with the top bit of the first byte set
/// and the next one as its sign (GNU).
fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // Seven bits of the first byte, sign-extended; fields have 12 bytes at most.
    let high = i128::from(first & 0x7f) - i128::from(first & 0x40) * 2;
    let value = rest.iter().fold(high, |sum, b| (sum << 8) | i128::from(*b));
    i64::try_from(value).ok()
}

/// Octal digits between spaces and NULs; nothing at all is 0.
fn octal(field: &[u8]) -> Option<i64> {
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_i64, |sum, b| match b {
        b'0'..=b'7' => Some((sum << 3) | i64::from(b - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_writers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77_777_777));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        let mut field = [0xff; 12];
        field[11] = 0;
        assert_eq!(number(&field), Some(-256));
        assert_eq!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        let max = [
            0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        assert_eq!(number(&max), Some(i64::MAX));
    }

    #[test]
    fn both_sums_are_right_and_no_other() {
        let mut block = [0_u8; 512];
        block[0] = 0xe4;
        for (stored, ok) in [(0xe4 + 256, true), (0xe4, true), (0xe4 + 255, false)] {
            block[CHECKSUM].copy_from_slice(format!("{stored:06o}\0 ").as_bytes());
            assert_eq!(Block::parse(&block).is_some(), ok, "{stored}");
        }
    }
}
