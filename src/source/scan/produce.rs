//! The producing side of a scan: reads the archive once from start to end,
//! decodes it, and chooses the places where spans start.
//!
//! Guarantees: memory is one input buffer and one decoder, however long the
//! blocks and members are. A span starts only where at least one byte follows,
//! so no span is empty.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::gzip::bit_before;
use super::super::gzip::input::Input;
use super::super::gzip::member::{self, FrameError, Next};
use super::super::{ReadAt, SourceError};
use super::error::ArchiveError;
use super::feed::{CHUNK_BYTES, Feed, Halt, MemberEnd, What};
use crate::sys::inflate::{Inflate, Status, Stop, WINDOW_BYTES};

/// Compressed bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Length of the spans of an uncompressed archive. Reading can begin anywhere
/// there, so it only keeps the table small.
pub(super) const PLAIN_SPAN_BYTES: u64 = 1024 * 1024;
/// How far behind the reading the archive is forgotten. The other thread reads
/// behind checkpoints again, up to [`super::feed::CHUNKS`] chunks later.
const FORGET_LAG_BYTES: u64 = 4 * 1024 * 1024;
/// How much is forgotten at a time.
const FORGET_STEP_BYTES: u64 = 1024 * 1024;

/// What the producing side knows at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Produced {
    pub(super) members: u64,
    pub(super) garbage_at: Option<u64>,
}

/// The archive as the producing side reads it: reports progress, and lets go
/// of what is read.
pub(super) struct Watched<'a> {
    pub(super) archive: &'a dyn ReadAt,
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
    pub(super) forgotten: AtomicU64,
}

impl ReadAt for Watched<'_> {
    fn len(&self) -> u64 {
        self.archive.len()
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        self.archive.read_exact_at(at, buf)?;
        (self.progress)(at + buf.len() as u64);
        let done = at.saturating_sub(FORGET_LAG_BYTES);
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        if done >= forgotten + FORGET_STEP_BYTES {
            self.archive.forget(forgotten..done);
            self.forgotten.store(done, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Feeds an archive that is the stream itself.
pub(super) fn plain(archive: &dyn ReadAt, mut feed: Feed) -> Result<Produced, Halt> {
    let mut at = 0;
    while at < archive.len() {
        // Chunks divide spans, so that each span starts with a chunk.
        const { assert!(PLAIN_SPAN_BYTES.is_multiple_of(CHUNK_BYTES as u64)) };
        let space = feed.space()?;
        let left = usize::try_from(archive.len() - at).unwrap_or(usize::MAX);
        let len = space.len().min(left);
        archive.read_exact_at(at, &mut space[..len])?;
        if at.is_multiple_of(PLAIN_SPAN_BYTES) {
            let archive_bit = bit_before(at, 0).ok_or(TOO_LONG)?;
            feed.mark(What::Span {
                archive_bit,
                window: 0,
            })?;
        }
        feed.wrote(len);
        at += len as u64;
    }
    feed.finish()?;
    Ok(Produced::default())
}

/// Feeds the output of all members of a gzip archive.
pub(super) fn gzip(archive: &dyn ReadAt, span_bytes: u64, feed: Feed) -> Result<Produced, Halt> {
    let mut input = Input::new(READ_BYTES);
    input.set_limit(archive.len());
    let inflate = Inflate::new().map_err(|what| ArchiveError::Deflate { at: 0, what })?;
    let cuts = Cuts {
        span_bytes: span_bytes.max(1),
        since: 0,
        pending: None,
        started: false,
    };
    let mut gunzip = Gunzip {
        archive,
        input,
        inflate,
        feed,
        cuts,
    };
    let mut produced = Produced::default();
    loop {
        let member_at = gunzip.input.position();
        let next = member::next(&mut gunzip.input, archive);
        match next.map_err(|error| frame_error(error, archive, member_at))? {
            Next::Member => gunzip.member(member_at)?,
            Next::End => break,
            Next::Garbage(at) => {
                produced.garbage_at = Some(at);
                break;
            }
        }
        produced.members += 1;
    }
    gunzip.feed.finish()?;
    Ok(produced)
}

const TOO_LONG: ArchiveError = ArchiveError::TooLarge {
    stream_at: 0,
    what: "its length in bits has more than 64 bits",
};

fn frame_error(error: FrameError, archive: &dyn ReadAt, member_at: u64) -> ArchiveError {
    match error {
        FrameError::Cut => ArchiveError::Truncated {
            at: archive.len(),
            member_at,
        },
        FrameError::Bad(at, what) => ArchiveError::Header { at, what },
        FrameError::Source(error) => ArchiveError::Read(error),
    }
}

/// Chooses where spans start.
struct Cuts {
    span_bytes: u64,
    /// Bytes since the last span started.
    since: u64,
    /// Where the next span will start if a byte follows.
    pending: Option<Place>,
    /// Whether the first span was offered.
    started: bool,
}

#[derive(Clone, Copy)]
struct Place {
    archive_bit: u64,
    window: usize,
}

impl Cuts {
    /// Offers a place to start a span. One without bytes since the last offer
    /// replaces that: it is at the same stream offset and needs less. The start
    /// of a member needs no window, so it may come a quarter early.
    fn offer(&mut self, place: Place) {
        let early = if place.window == 0 {
            self.span_bytes / 4
        } else {
            0
        };
        let is_due = self.since >= self.span_bytes - early;
        if !self.started || self.pending.is_some() || is_due {
            self.started = true;
            self.pending = Some(place);
        }
    }

    /// How to decode on: freely up to the last byte that a span must have, then
    /// to the end of the block. The last byte itself is not decoded freely: a
    /// block may end right behind it, and a free decoder with no room left goes
    /// on into the next one.
    fn stop(&self) -> (Stop, u64) {
        let since = if self.pending.is_some() {
            0
        } else {
            self.since
        };
        match self.span_bytes.saturating_sub(since) {
            0 | 1 => (Stop::AtBlock, u64::MAX),
            missing => (Stop::Run, missing - 1),
        }
    }
}

struct Gunzip<'a> {
    archive: &'a dyn ReadAt,
    input: Input,
    inflate: Inflate,
    feed: Feed,
    cuts: Cuts,
}

impl Gunzip<'_> {
    /// One member, from behind its header to behind its trailer.
    fn member(&mut self, member_at: u64) -> Result<(), Halt> {
        self.inflate
            .reset()
            .map_err(|what| self.deflate_error(what))?;
        self.offer(0, 0)?;
        let mut member_bytes: u64 = 0;
        loop {
            let (stop, most) = self.cuts.stop();
            let space = self.feed.space()?;
            let most = usize::try_from(most).unwrap_or(usize::MAX).min(space.len());
            let result = self
                .inflate
                .inflate(self.input.available(), &mut space[..most], stop);
            let progress = result.map_err(|what| self.deflate_error(what))?;
            self.input.consume(progress.consumed);
            if progress.produced > 0 {
                self.wrote(progress.produced)?;
                member_bytes += progress.produced as u64;
            }
            match progress.status {
                Status::OutputFull | Status::BlockEnd { last: true, .. } => {}
                Status::BlockEnd {
                    unused_bits,
                    last: false,
                } => {
                    self.offer(unused_bits, member_bytes)?;
                }
                Status::NeedInput => {
                    if !self.input.fill(self.archive)? {
                        let at = self.archive.len();
                        return Err(ArchiveError::Truncated { at, member_at }.into());
                    }
                }
                Status::StreamEnd => break,
            }
        }
        let trailer_at = self.input.position();
        let trailer = member::trailer(&mut self.input, self.archive)
            .map_err(|error| frame_error(error, self.archive, member_at))?;
        let (crc32, len) = (trailer.crc32, trailer.len);
        self.feed.mark(What::Member(MemberEnd {
            member_at,
            trailer_at,
            crc32,
            len,
        }))
    }

    /// Offers the input's position, less `unused` bits, as a start of a span.
    fn offer(&mut self, unused: u8, member_bytes: u64) -> Result<(), Halt> {
        let archive_bit = bit_before(self.input.position(), unused).ok_or(TOO_LONG)?;
        let window = usize::try_from(member_bytes)
            .unwrap_or(usize::MAX)
            .min(WINDOW_BYTES);
        self.cuts.offer(Place {
            archive_bit,
            window,
        });
        Ok(())
    }

    /// Hands `n` written bytes over, in front of which a span may start.
    fn wrote(&mut self, n: usize) -> Result<(), Halt> {
        if let Some(Place {
            archive_bit,
            window,
        }) = self.cuts.pending.take()
        {
            self.feed.mark(What::Span {
                archive_bit,
                window,
            })?;
            self.cuts.since = 0;
        }
        self.feed.wrote(n);
        self.cuts.since += n as u64;
        Ok(())
    }

    fn deflate_error(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Deflate {
            at: self.input.position(),
            what,
        }
    }
}
