//! One header block of a tar archive: v7, ustar, GNU.
//!
//! Guarantees: a block is taken for a header only if its checksum is right;
//! every number is checked; nothing is resolved or interpreted beyond the
//! block. Sources: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar
//! manual, "Basic Tar Format" and `tar.h`; star(5).

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

/// star only, and what tells its headers from ustar's: the last byte of its
/// shorter prefix, and two times.
const STAR_PREFIX_END: usize = 475;
const STAR_ATIME: Range<usize> = 476..488;
const STAR_CTIME: Range<usize> = 488..500;
/// Bytes of one piece in the map of a sparse file: offset and length.
const PIECE_BYTES: usize = 24;
/// Pieces in an extension block, and where it says that another one follows.
const EXTENSION_PIECES: Range<usize> = 0..504;
const EXTENSION_MORE: usize = 504;

/// Where a dialect's header of a sparse file has what.
struct SparseFields {
    pieces: Range<usize>,
    more: usize,
    real_size: Range<usize>,
}

const SPARSE_GNU: SparseFields = SparseFields {
    pieces: 386..482,
    more: 482,
    real_size: 483..495,
};

const SPARSE_STAR: SparseFields = SparseFields {
    pieces: 356..452,
    more: 355,
    real_size: 452..464,
};

/// A part of the map of a sparse file in the format of old GNU tar.
#[derive(Clone, Copy)]
pub(super) struct MapPart<'a> {
    pieces: &'a [u8],
    /// Whether an extension block follows.
    pub(super) more: bool,
}

impl<'a> MapPart<'a> {
    /// What an extension block holds.
    pub(super) fn of_extension(block: &'a [u8; BLOCK_BYTES]) -> Self {
        Self {
            pieces: &block[EXTENSION_PIECES],
            more: block[EXTENSION_MORE] != 0,
        }
    }

    /// Offset and length of each piece, up to the first that is not used;
    /// `None` for what is no number.
    pub(super) fn pieces(self) -> impl Iterator<Item = Option<(u64, u64)>> + 'a {
        let used = |piece: &&[u8]| piece[PIECE_BYTES / 2] != 0;
        let natural = |field| number(field).and_then(|n| u64::try_from(n).ok());
        let all = self.pieces.chunks_exact(PIECE_BYTES).take_while(used);
        all.map(move |piece| {
            let (offset, len) = piece.split_at(PIECE_BYTES / 2);
            natural(offset).zip(natural(len))
        })
    }
}

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
        if self.is_ustar() && !prefix.is_empty() {
            out.extend_from_slice(prefix);
            out.push(b'/');
        }
        out.extend_from_slice(text(&self.header.as_old().name));
    }

    /// Whether this is the dialect of POSIX, or one that extends it.
    pub(super) fn is_ustar(self) -> bool {
        self.bytes()[MAGIC].starts_with(b"ustar\0")
    }

    fn is_gnu(self) -> bool {
        self.bytes()[MAGIC] == *b"ustar  \0"
    }

    /// Whether star wrote this, as GNU tar finds out.
    fn is_star(self) -> bool {
        let bytes = self.bytes();
        let is_time = |field: &[u8]| matches!(field, [b'0'..=b'7', .., b' ']);
        self.is_ustar()
            && bytes[STAR_PREFIX_END] == 0
            && is_time(&bytes[STAR_ATIME])
            && is_time(&bytes[STAR_CTIME])
    }

    /// The start of the map of a sparse file and the size that the file has,
    /// if the dialect of this header knows such files.
    pub(super) fn sparse(self) -> Option<(MapPart<'a>, Option<u64>)> {
        let fields = match self.typeflag() {
            b'S' if self.is_gnu() => SPARSE_GNU,
            b'S' if self.is_star() => SPARSE_STAR,
            _ => return None,
        };
        let bytes = self.bytes();
        let part = MapPart {
            pieces: &bytes[fields.pieces],
            more: bytes[fields.more] != 0,
        };
        let real_size = number(&bytes[fields.real_size]);
        Some((part, real_size.and_then(|size| u64::try_from(size).ok())))
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
