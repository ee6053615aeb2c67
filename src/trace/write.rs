//! Writing a trace, within a bound.

use std::io::Write;

use super::frame::{FRAME_HEADER_BYTES, HEADER_BYTES, Kind, frame_header, header, put};
use super::record::{Before, RECORD_BYTES_MAX, Read};
use super::{Origin, TraceError, TracedImage};

/// Reads are written in frames of about this size.
const FRAME_BYTES: usize = 64 << 10;

/// What is kept free for the last frame.
const END_BYTES: u64 = FRAME_HEADER_BYTES as u64 + 30;

/// How much a trace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that are in it.
    pub records: u64,
    /// Records that found no room.
    pub left_out: u64,
    /// How long was recorded, in microseconds.
    pub duration_us: u64,
}

/// Writes a trace. What was not finished by [`TraceWriter::finish`] is cut off.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    to: W,
    bytes: u64,
    bytes_max: u64,
    images: u32,
    payload: Vec<u8>,
    in_payload: u64,
    before: Before,
    totals: Totals,
}

impl<W: Write> TraceWriter<W> {
    /// Begins a trace of at most `bytes_max`.
    pub fn new(to: W, origin: &Origin, bytes_max: u64) -> Result<Self, TraceError> {
        let mut writer = Self {
            to,
            bytes: HEADER_BYTES as u64,
            bytes_max: bytes_max.saturating_sub(END_BYTES),
            images: 0,
            payload: Vec::with_capacity(FRAME_BYTES + RECORD_BYTES_MAX),
            in_payload: 0,
            before: Before::default(),
            totals: Totals::default(),
        };
        writer.to.write_all(&header())?;
        let origin = serde_json::to_vec(origin).map_err(std::io::Error::from)?;
        writer.frame(Kind::Origin, &origin)?;
        Ok(writer)
    }

    /// Describes an image, whose number in reads is answered.
    pub fn image(&mut self, image: &TracedImage) -> Result<u32, TraceError> {
        let number = self.images;
        self.flush()?;
        let payload = encoded_image(number, image);
        let end = FRAME_HEADER_BYTES + payload.len() + FRAME_HEADER_BYTES + RECORD_BYTES_MAX;
        if self.bytes + end as u64 > self.bytes_max {
            return Err(TraceError::NoRoom);
        }
        self.frame(Kind::Image, &payload)?;
        self.images += 1;
        Ok(number)
    }

    /// Appends a read; answers whether there was room.
    pub fn read(&mut self, read: &Read) -> Result<bool, TraceError> {
        let end = self.payload.len() + RECORD_BYTES_MAX + FRAME_HEADER_BYTES;
        if self.totals.left_out > 0 || self.bytes + end as u64 > self.bytes_max {
            self.left_out(1);
            return Ok(false);
        }
        self.before.encode(read, &mut self.payload);
        self.in_payload += 1;
        if self.payload.len() >= FRAME_BYTES {
            self.flush()?;
        }
        Ok(true)
    }

    /// Says that so many records were lost before they came here.
    pub fn left_out(&mut self, records: u64) {
        self.totals.left_out += records;
    }

    /// Whether nothing more is taken.
    pub fn is_full(&self) -> bool {
        let end = self.payload.len() + RECORD_BYTES_MAX + FRAME_HEADER_BYTES;
        self.bytes + end as u64 > self.bytes_max
    }

    /// Ends the trace, which is whole then.
    pub fn finish(mut self, duration_us: u64) -> Result<(W, Totals), TraceError> {
        self.flush()?;
        self.totals.duration_us = duration_us;
        let mut payload = Vec::new();
        for number in [self.totals.records, self.totals.left_out, duration_us] {
            put(&mut payload, number);
        }
        self.frame(Kind::End, &payload)?;
        self.to.flush()?;
        Ok((self.to, self.totals))
    }

    fn flush(&mut self) -> Result<(), TraceError> {
        if self.payload.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.payload);
        self.frame(Kind::Reads, &payload)?;
        self.payload = payload;
        self.payload.clear();
        self.totals.records += std::mem::take(&mut self.in_payload);
        self.before = Before::default();
        Ok(())
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), TraceError> {
        self.to.write_all(&frame_header(kind, payload))?;
        self.to.write_all(payload)?;
        self.bytes += (FRAME_HEADER_BYTES + payload.len()) as u64;
        Ok(())
    }
}

/// An image in the form of a frame, with its number.
pub fn encoded_image(number: u32, image: &TracedImage) -> Vec<u8> {
    let mut payload = Vec::with_capacity(128 + 6 * image.spans.len());
    put(&mut payload, number.into());
    payload.extend_from_slice(&image.digest);
    put(&mut payload, image.name.len() as u64);
    payload.extend_from_slice(image.name.as_bytes());
    put(&mut payload, image.stream_bytes);
    put(&mut payload, image.archive_bytes);
    put(&mut payload, image.spans.len() as u64);
    let (mut stream, mut archive) = (0, 0);
    for span in &image.spans {
        put(&mut payload, span.stream.saturating_sub(stream));
        put(&mut payload, span.archive.saturating_sub(archive));
        (stream, archive) = (span.stream, span.archive);
    }
    payload
}
