//! The frame of a member: its header, its trailer, and what may lie between
//! one member and the next (RFC 1952).
//!
//! Guarantees: any header is parsed in constant memory, however long its
//! fields; every flag of the RFC is understood, and the header's own checksum
//! verified where it has one. What follows a member is told as gzip(1) does:
//! zeros to the end of the file are padding, anything else but a member is
//! garbage to be ignored with a warning.

use super::super::{ReadAt, SourceError};
use super::input::Input;

/// First two bytes of a member.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The only compression method.
const METHOD_DEFLATE: u8 = 8;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0b1110_0000;

/// What is found where a member could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A header; its code starts at the input's position.
    Member,
    /// Nothing, or zeros up to the end.
    End,
    /// Something else, from this archive offset on.
    Garbage(u64),
}

/// Why a header or a trailer could not be read.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The input ended within.
    Cut,
    /// It contradicts the RFC, at this archive offset.
    Bad(u64, &'static str),
    /// The archive could not be read.
    Source(SourceError),
}

impl From<SourceError> for FrameError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// The end of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// CRC-32 of its output.
    pub(crate) crc32: u32,
    /// Length of its output, modulo 2^32.
    pub(crate) len: u32,
}

/// Steps over the header of the member that starts here, if one does.
pub(crate) fn next(input: &mut Input, archive: &dyn ReadAt) -> Result<Next, FrameError> {
    let at = input.position();
    match input.peek(archive)? {
        None => return Ok(Next::End),
        Some(0) => return padding(input, archive, at),
        Some(_) => {}
    }
    for magic in MAGIC {
        match input.take(archive)? {
            Some(byte) if byte == magic => {}
            _ => return Ok(Next::Garbage(at)),
        }
    }
    let mut header = Header {
        input,
        archive,
        crc: flate2::Crc::new(),
    };
    header.crc.update(&MAGIC);
    header.parse()?;
    Ok(Next::Member)
}

/// Steps over the trailer of a member.
pub(crate) fn trailer(input: &mut Input, archive: &dyn ReadAt) -> Result<Trailer, FrameError> {
    let mut bytes = [0; 8];
    for byte in &mut bytes {
        *byte = input.take(archive)?.ok_or(FrameError::Cut)?;
    }
    let [a, b, c, d, e, f, g, h] = bytes;
    Ok(Trailer {
        crc32: u32::from_le_bytes([a, b, c, d]),
        len: u32::from_le_bytes([e, f, g, h]),
    })
}

/// What zeros from offset `at` on are: padding if they reach the end.
fn padding(input: &mut Input, archive: &dyn ReadAt, at: u64) -> Result<Next, FrameError> {
    while input.fill(archive)? {
        let bytes = input.available();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros < bytes.len() {
            return Ok(Next::Garbage(at));
        }
        input.consume(zeros);
    }
    Ok(Next::End)
}

/// A header in the middle of being read; `crc` covers what was.
struct Header<'a> {
    input: &'a mut Input,
    archive: &'a dyn ReadAt,
    crc: flate2::Crc,
}

impl Header<'_> {
    /// All behind the magic.
    fn parse(&mut self) -> Result<(), FrameError> {
        let at = self.input.position();
        if self.byte()? != METHOD_DEFLATE {
            return Err(FrameError::Bad(at, "unknown gzip compression method"));
        }
        let flags = self.byte()?;
        if flags & FLAGS_RESERVED != 0 {
            return Err(FrameError::Bad(at + 1, "unknown gzip header flags"));
        }
        // Modification time, extra flags, operating system.
        self.skip(6)?;
        if flags & FLAG_EXTRA != 0 {
            let len = u16::from_le_bytes([self.byte()?, self.byte()?]);
            self.skip(len)?;
        }
        for text in [FLAG_NAME, FLAG_COMMENT] {
            if flags & text != 0 {
                while self.byte()? != 0 {}
            }
        }
        if flags & FLAG_HEADER_CRC != 0 {
            let [low, high, ..] = self.crc.sum().to_le_bytes();
            let at = self.input.position();
            if [self.byte()?, self.byte()?] != [low, high] {
                return Err(FrameError::Bad(
                    at,
                    "gzip header does not match its checksum",
                ));
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, FrameError> {
        let byte = self.input.take(self.archive)?.ok_or(FrameError::Cut)?;
        self.crc.update(&[byte]);
        Ok(byte)
    }

    fn skip(&mut self, len: u16) -> Result<(), FrameError> {
        for _ in 0..len {
            self.byte()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::MemoryArchive;
    use super::*;

    fn next_of(bytes: &[u8]) -> (Result<Next, FrameError>, u64) {
        let archive = MemoryArchive::new(bytes.to_vec());
        let mut input = Input::new(7);
        input.set_limit(archive.len());
        let next = next(&mut input, &archive);
        (next, input.position())
    }

    /// A header with all optional fields.
    fn full_header(crc: bool) -> Vec<u8> {
        let flags = if crc { 0x1f } else { 0x1d };
        let mut bytes = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3, 6, 0];
        bytes.extend_from_slice(b"extra!name\0a comment\0");
        if crc {
            let sum = crc32fast::hash(&bytes).to_le_bytes();
            bytes.extend_from_slice(&sum[..2]);
        }
        bytes
    }

    #[test]
    fn all_fields_are_stepped_over() {
        for crc in [false, true] {
            let bytes = full_header(crc);
            let (next, position) = next_of(&bytes);
            assert_eq!(
                (next.unwrap(), position),
                (Next::Member, bytes.len() as u64)
            );
            for len in 2..bytes.len() {
                assert!(matches!(next_of(&bytes[..len]).0, Err(FrameError::Cut)));
            }
        }
        let flate2 = flate2::GzBuilder::new()
            .filename("f")
            .comment("c")
            .extra(vec![7; 300]);
        let packed = flate2
            .write(Vec::new(), flate2::Compression::default())
            .finish()
            .unwrap();
        assert_eq!(next_of(&packed).0.unwrap(), Next::Member);
    }

    #[test]
    fn wrong_headers_are_refused_where_they_are_wrong() {
        let mut bytes = full_header(true);
        bytes[15] ^= 1;
        let at = bytes.len() as u64 - 2;
        assert!(matches!(next_of(&bytes).0, Err(FrameError::Bad(found, _)) if found == at));
        assert!(matches!(
            next_of(&[0x1f, 0x8b, 7, 0]).0,
            Err(FrameError::Bad(2, _))
        ));
        assert!(matches!(
            next_of(&[0x1f, 0x8b, 8, 0x20]).0,
            Err(FrameError::Bad(3, _))
        ));
    }

    #[test]
    fn what_follows_a_member_is_told_as_gzip_does() {
        assert_eq!(next_of(b"").0.unwrap(), Next::End);
        assert_eq!(next_of(&[0; 100]).0.unwrap(), Next::End);
        assert_eq!(next_of(b"garbage").0.unwrap(), Next::Garbage(0));
        assert_eq!(next_of(&[0x1f]).0.unwrap(), Next::Garbage(0));
        assert_eq!(
            next_of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0x8b]).0.unwrap(),
            Next::Garbage(0)
        );
    }

    #[test]
    fn trailers_are_little_endian() {
        let archive = MemoryArchive::new(vec![1, 0, 0, 0, 2, 1, 0, 0]);
        let mut input = Input::new(3);
        input.set_limit(8);
        assert_eq!(
            trailer(&mut input, &archive).unwrap(),
            Trailer { crc32: 1, len: 258 }
        );
        assert!(matches!(
            trailer(&mut input, &archive),
            Err(FrameError::Cut)
        ));
    }
}
