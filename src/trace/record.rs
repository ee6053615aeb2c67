//! One read, and its form in a frame.

use super::frame::{Cursor, put, put_signed, signed};

/// How the blocks of a read were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Blocks that were cached.
    pub hits: u32,
    /// Blocks that another reader was decoding already.
    pub joined: u32,
    /// Blocks that had to be decoded.
    pub misses: u32,
}

/// A read, or a piece of one whose file lies in several places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// When it arrived, in microseconds since the recording began.
    pub at_us: u64,
    /// Which image.
    pub image: u32,
    /// Which file.
    pub ino: u64,
    /// From where in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
    /// From where in the image's uncompressed stream; nothing for a hole.
    pub stream: Option<u64>,
    /// Whether it is a further piece of the read before.
    pub continues: bool,
    /// How its blocks were found.
    pub outcome: Outcome,
    /// How long it took until it was answered, in microseconds; 0 for a further piece.
    pub us: u32,
}

const SAME_IMAGE: u8 = 1;
const SAME_FILE: u8 = 2;
const FOLLOWS: u8 = 4;
const STREAM_FOLLOWS: u8 = 8;
const CONTINUES: u8 = 16;
const HOLE: u8 = 32;
const KNOWN: u8 = SAME_IMAGE | SAME_FILE | FOLLOWS | STREAM_FOLLOWS | CONTINUES | HOLE;

/// The longest that a record can get.
pub(super) const RECORD_BYTES_MAX: usize = 1 + 11 * 10;

/// What records of a frame leave out because the one before says it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    at_us: u64,
    image: u32,
    ino: u64,
    end: u64,
    stream_end: u64,
    /// Whether there is one.
    is_some: bool,
}

impl Before {
    /// Appends a record.
    pub(super) fn encode(&mut self, read: &Read, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (bit, holds) in [
            (SAME_IMAGE, read.image == self.image),
            (SAME_FILE, read.ino == self.ino),
            (FOLLOWS, read.offset == self.end),
            (STREAM_FOLLOWS, read.stream == Some(self.stream_end)),
            (CONTINUES, read.continues),
            (HOLE, read.stream.is_none()),
        ] {
            flags |= if holds { bit } else { 0 };
        }
        let lacks = |bit| flags & bit == 0;
        out.push(flags);
        if lacks(SAME_IMAGE) {
            put(out, read.image.into());
        }
        if lacks(SAME_FILE) {
            put(out, read.ino);
        }
        if lacks(FOLLOWS) {
            put(out, read.offset);
        }
        put(out, read.len.into());
        if lacks(STREAM_FOLLOWS)
            && let Some(stream) = read.stream
        {
            put_signed(out, stream.wrapping_sub(self.stream_end).cast_signed());
        }
        // The first of a frame has its time, also if the read began in the one before.
        if lacks(CONTINUES) || !self.is_some {
            put_signed(out, read.at_us.wrapping_sub(self.at_us).cast_signed());
            put(out, read.us.into());
        }
        if lacks(HOLE) {
            let Outcome {
                hits,
                joined,
                misses,
            } = read.outcome;
            for count in [hits, joined, misses] {
                put(out, count.into());
            }
        }
        self.remember(read);
    }

    /// The next record.
    pub(super) fn decode(&mut self, from: &mut Cursor<'_>) -> Result<Read, &'static str> {
        let flags = from.byte()?;
        if flags & !KNOWN != 0 {
            return Err("an unknown flag");
        }
        let has = |bit| flags & bit != 0;
        let mut read = Read {
            at_us: self.at_us,
            image: self.image,
            ino: self.ino,
            offset: self.end,
            continues: has(CONTINUES),
            ..Read::default()
        };
        if !has(SAME_IMAGE) {
            read.image = from.small()?;
        }
        if !has(SAME_FILE) {
            read.ino = from.number()?;
        }
        if !has(FOLLOWS) {
            read.offset = from.number()?;
        }
        read.len = from.small()?;
        read.stream = match (has(HOLE), has(STREAM_FOLLOWS)) {
            (true, _) => None,
            (false, true) => Some(self.stream_end),
            (false, false) => Some(
                self.stream_end
                    .wrapping_add(signed(from.number()?).cast_unsigned()),
            ),
        };
        if !has(CONTINUES) || !self.is_some {
            let since = signed(from.number()?).cast_unsigned();
            read.at_us = self.at_us.wrapping_add(since);
            read.us = from.small()?;
        }
        if !has(HOLE) {
            read.outcome = Outcome {
                hits: from.small()?,
                joined: from.small()?,
                misses: from.small()?,
            };
        }
        let len = u64::from(read.len);
        let is_long = |start: u64| start.checked_add(len).is_none();
        if is_long(read.offset) || read.stream.is_some_and(is_long) {
            return Err("a read beyond all offsets");
        }
        self.remember(&read);
        Ok(read)
    }

    fn remember(&mut self, read: &Read) {
        let len = u64::from(read.len);
        *self = Before {
            at_us: read.at_us,
            image: read.image,
            ino: read.ino,
            end: read.offset.wrapping_add(len),
            stream_end: read
                .stream
                .map_or(self.stream_end, |at| at.wrapping_add(len)),
            is_some: true,
        };
    }
}
