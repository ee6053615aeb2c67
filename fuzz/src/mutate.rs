//! Damage: blind, and such that checksums are right again behind it, so that
//! what they guard is reached.

use flate2::{Decompress, FlushDecompress, Status};

use super::archive::{BLOCK, sign};
use super::random::Random;

/// What kind of bytes an input is, for repairing its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Bytes without checksums.
    Raw,
    /// A tar stream.
    Tar,
    /// gzip members.
    Gzip,
    /// A sidecar file.
    Sidecar,
}

/// Numbers at which code decides something.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Changes `bytes` in one to eight places; `other` is an input to take pieces
/// from.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], format: Format, random: &mut Random) {
    let rounds = 1 << random.below(4);
    for _ in 0..rounds {
        change(bytes, other, random);
    }
    // Also wrong checksums have to be met, but not only those.
    if !random.one_in(8) {
        repair(bytes, format);
    }
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let len = bytes.len();
    let at = random.below(len);
    let end = (at + 1 + random.below(64)).min(len);
    match random.below(12) {
        0 | 1 if len > 0 => bytes[at] ^= 1 << random.below(8),
        2 if len > 0 => bytes[at] = random.byte(),
        3 if len > 0 => bytes[at] = bytes[at].wrapping_add(random.byte() % 5).wrapping_sub(2),
        4 => number(bytes, at, random),
        5 => digits(bytes, at, random),
        6 => bytes.truncate(at),
        7 => drop(bytes.drain(at.min(len)..end.min(len).max(at.min(len)))),
        8 => {
            let piece = bytes[at.min(len)..end].to_vec();
            let to = random.below(bytes.len() + 1);
            drop(bytes.splice(to..to, piece));
        }
        9 => splice(bytes, other, random),
        10 => blocks(bytes, random),
        11 => {
            let fill = *random.pick(&[0, 0xff, b'/', b'.', b'0', b'\n']);
            bytes[at.min(len)..end].fill(fill);
        }
        _ => bytes.push(random.byte()),
    }
}

/// A little-endian number of any width, at or near an edge.
fn number(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = *random.pick(&[1, 2, 4, 8]);
    let near = random.number() % 3;
    let value = random.pick(&EDGES).wrapping_add(near).wrapping_sub(1);
    for (byte, new) in bytes.iter_mut().skip(at).zip(&value.to_le_bytes()[..width]) {
        *byte = *new;
    }
}

/// Digits, as in the numbers of tar headers and PAX records.
fn digits(bytes: &mut [u8], at: usize, random: &mut Random) {
    let text = match random.below(4) {
        0 => format!("{:o}", random.number() >> random.below(64)),
        1 => format!("{}", random.number() >> random.below(64)),
        2 => format!("-{}.{}", random.number() % 1000, random.number()),
        _ => "7".repeat(random.below(24)),
    };
    for (byte, new) in bytes.iter_mut().skip(at).zip(text.as_bytes()) {
        *byte = *new;
    }
}

/// A piece of another input over or into this one.
fn splice(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let from = random.below(other.len());
    let until = (from + 1 + random.below(2 * BLOCK)).min(other.len());
    let piece = &other[from.min(until)..until];
    let to = random.below(bytes.len() + 1);
    let replaced = if random.one_in(2) { 0 } else { piece.len() };
    let end = (to + replaced).min(bytes.len());
    drop(bytes.splice(to..end, piece.iter().copied()));
}

/// Whole blocks doubled, dropped or exchanged: what is between headers.
fn blocks(bytes: &mut Vec<u8>, random: &mut Random) {
    let count = bytes.len() / BLOCK;
    if count < 2 {
        return;
    }
    let (a, b) = (random.below(count) * BLOCK, random.below(count) * BLOCK);
    match random.below(3) {
        0 => {
            let block = bytes[a..a + BLOCK].to_vec();
            drop(bytes.splice(b..b, block));
        }
        1 => drop(bytes.drain(a..a + BLOCK)),
        _ => (0..BLOCK).for_each(|i| bytes.swap(a + i, b + i)),
    }
}

/// Makes the checksums of `bytes` right.
pub fn repair(bytes: &mut [u8], format: Format) {
    match format {
        Format::Raw => {}
        Format::Tar => repair_tar(bytes),
        Format::Gzip => repair_gzip(bytes),
        Format::Sidecar => repair_sidecar(bytes),
    }
}

/// Signs every block that looks like a header.
fn repair_tar(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK) {
        let is_header = &block[257..262] == b"ustar" || block[154..156] == *b"\0 ";
        if is_header {
            sign(block);
        }
    }
}

/// Writes the trailer of every member that can be decoded.
fn repair_gzip(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(body) = bytes.get(at..).and_then(header_len) {
        let mut inflate = Decompress::new(false);
        let mut crc = crc32fast::Hasher::new();
        let mut out = vec![0; 1 << 16];
        // A bound on the work for one input: bombs are for other tests.
        let ended = (0..256).any(|_| {
            let input = &bytes[(at + body)
                .saturating_add(inflate.total_in() as usize)
                .min(bytes.len())..];
            let before = inflate.total_out();
            let status = inflate.decompress(input, &mut out, FlushDecompress::None);
            let produced = (inflate.total_out() - before) as usize;
            crc.update(&out[..produced]);
            !matches!(status, Ok(Status::Ok)) || produced == 0 && input.is_empty()
        });
        let trailer = at + body + inflate.total_in() as usize;
        let Some(place) = bytes.get_mut(trailer..trailer + 8).filter(|_| ended) else {
            return;
        };
        place[..4].copy_from_slice(&crc.finalize().to_le_bytes());
        place[4..].copy_from_slice(&inflate.total_out().to_le_bytes()[..4]);
        at = trailer + 8;
    }
}

/// How long the gzip header at the start of `bytes` is.
fn header_len(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes
        .get(3)
        .filter(|_| bytes.starts_with(b"\x1f\x8b\x08"))?;
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += 1 + bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
        }
    }
    at += usize::from(flags & 2 != 0) * 2;
    (at < bytes.len()).then_some(at)
}

/// Where the numbers of a sidecar's header are; see its FORMAT.md.
const SIDECAR_HEADER: usize = 4096;
const SIDECAR_LEN_AT: usize = 80;
const SIDECAR_CRC_AT: usize = 124;

/// Writes the file's length and the checksum of the header.
fn repair_sidecar(bytes: &mut [u8]) {
    let len = bytes.len() as u64;
    if let Some(header) = bytes.get_mut(..SIDECAR_HEADER) {
        header[SIDECAR_LEN_AT..SIDECAR_LEN_AT + 8].copy_from_slice(&len.to_le_bytes());
        header[SIDECAR_CRC_AT..SIDECAR_CRC_AT + 4].fill(0);
        let crc = crc32c::crc32c(header);
        header[SIDECAR_CRC_AT..SIDECAR_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }
}
