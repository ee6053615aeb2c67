//! Frames and numbers.

/// What a trace begins with.
pub(super) const MAGIC: &[u8; 8] = b"DFSTRACE";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const FRAME_HEADER_BYTES: usize = 12;

/// The longest payload: the table of an image of 1 TB at 256 KiB a span.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Origin,
    Image,
    Reads,
    End,
}

impl Kind {
    pub(super) fn code(self) -> u8 {
        match self {
            Kind::Origin => b'M',
            Kind::Image => b'I',
            Kind::Reads => b'R',
            Kind::End => b'E',
        }
    }

    pub(super) fn parse(code: u8) -> Option<Kind> {
        let all = [Kind::Origin, Kind::Image, Kind::Reads, Kind::End];
        all.into_iter().find(|kind| kind.code() == code)
    }
}

pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// What is in front of a payload.
pub(super) fn frame_header(kind: Kind, payload: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[0] = kind.code();
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[8..].copy_from_slice(&checksum(kind, payload).to_le_bytes());
    header
}

pub(super) fn checksum(kind: Kind, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind.code()]), payload)
}

/// Appends a varint.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a zigzag varint.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// What a zigzag number is.
pub(super) fn signed(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Takes a payload apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Cursor(payload)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// How much is left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.0.split_first().ok_or("a record without an end")?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self
            .0
            .split_at_checked(len)
            .ok_or("a text without an end")?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A varint.
    pub(super) fn number(&mut self) -> Result<u64, &'static str> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number of more than 64 bits")
    }

    /// A varint of 32 bits.
    pub(super) fn small(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.number()?).map_err(|_| "a number of more than 32 bits")
    }
}
