//! The producing side of a scan: reads the archive once from start to end,
//! decodes it, and chooses the places where spans start.
//!
//! Guarantees: memory is one input buffer and one decoder, however long the
//! blocks and members are. A span starts only where at least one byte follows,
//! so no span is empty.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::deflate::{HEADER_BYTES_MAX, Inflate, Status, WANTED_MAX, WINDOW_BYTES};
use super::super::gzip::bit_before;
use super::super::gzip::input::Input;
use super::super::gzip::member::{self, FrameError, Next};
use super::super::{ReadAt, SourceError};
use super::error::ArchiveError;
use super::feed::{CHUNK_BYTES, Feed, Halt, MemberEnd, What};

/// Compressed bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Length of the spans of an uncompressed archive. Reading can begin anywhere
/// there, so it only keeps the table small.
pub(super) const PLAIN_SPAN_BYTES: u64 = 1024 * 1024;
/// How far behind the reading the archive is forgotten.
const FORGET_LAG_BYTES: u64 = 1024 * 1024;
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
                header: Box::default(),
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
    let mut gunzip = Gunzip {
        archive,
        input,
        inflate: Inflate::new(),
        feed,
        cuts: Cuts::new(span_bytes),
        header: Vec::with_capacity(HEADER_BYTES_MAX),
        member_bytes: 0,
        is_watching: false,
        window: Vec::with_capacity(WINDOW_BYTES),
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

/// Chooses where spans start: at the first boundary of blocks that makes a span
/// three quarters as long as it should be; if none comes, inside of a block, in
/// front of the first symbol that makes it as long.
struct Cuts {
    span_bytes: u64,
    /// Bytes since the last span started.
    since: u64,
    /// Where the next span will start if a byte follows.
    pending: Option<Place>,
    /// Whether the first span was offered.
    started: bool,
}

/// Where a span may start.
#[derive(Clone, Copy)]
struct Place {
    archive_bit: u64,
    /// Whether it is inside of a block.
    is_inside: bool,
}

impl Cuts {
    fn new(span_bytes: u64) -> Self {
        Self {
            span_bytes,
            since: 0,
            pending: None,
            started: false,
        }
    }

    /// Offers a place; whether it is taken. One without bytes since the last
    /// one replaces that: it is at the same stream offset and needs less.
    fn offer(&mut self, place: Place) -> bool {
        let early = match place.is_inside {
            false => self.span_bytes / 4,
            true => 0,
        };
        let is_due = self.since >= self.span_bytes - early;
        let takes = !self.started || self.pending.is_some() || is_due;
        if takes {
            self.started = true;
            self.pending = Some(place);
        }
        takes
    }

    /// How many bytes may come before the next place is due.
    fn left(&self) -> u64 {
        match self.pending {
            Some(_) => self.span_bytes,
            None => self.span_bytes.saturating_sub(self.since),
        }
    }
}

struct Gunzip<'a> {
    archive: &'a dyn ReadAt,
    input: Input,
    inflate: Inflate,
    feed: Feed,
    cuts: Cuts,
    /// The header of the block in which the next span may start; empty where it
    /// may start with a block.
    header: Vec<u8>,
    /// Bytes that came out of the current member.
    member_bytes: u64,
    /// Whether what refers to the window of the last span is noted; it is
    /// `window`.
    is_watching: bool,
    window: Vec<u8>,
}

impl Gunzip<'_> {
    /// One member, from behind its header to behind its trailer.
    fn member(&mut self, member_at: u64) -> Result<(), Halt> {
        self.inflate.start(&[]);
        self.member_bytes = 0;
        self.block_starts()?;
        loop {
            let result = self.inflate.inflate(self.input.available(), self.wanted());
            let (used, status) = result.map_err(|what| ArchiveError::Deflate {
                at: self.input.position(),
                what,
            })?;
            self.input.consume(used);
            self.hand_over()?;
            match status {
                Status::Enough => self.between_symbols()?,
                Status::Block => self.block_starts()?,
                Status::NeedInput if !self.input.more(self.archive)? => {
                    let at = self.archive.len();
                    return Err(ArchiveError::Truncated { at, member_at }.into());
                }
                Status::NeedInput => {}
                Status::End => break,
            }
        }
        self.end_window()?;
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

    /// How many bytes to decode at a time: up to the next place that is due, or
    /// to the end of a stored block, if that is in the way.
    fn wanted(&self) -> usize {
        match usize::try_from(self.cuts.left()) {
            Ok(0) if self.inflate.is_at_symbol() => 1,
            Ok(0) | Err(_) => WANTED_MAX,
            Ok(left) => left.min(WANTED_MAX),
        }
    }

    /// Offers this place in front of a block.
    fn block_starts(&mut self) -> Result<(), Halt> {
        self.offer(false)
    }

    /// Offers this place inside of a block, unless that is a stored one.
    fn between_symbols(&mut self) -> Result<(), Halt> {
        match self.inflate.is_at_symbol() {
            true => self.offer(true),
            false => Ok(()),
        }
    }

    fn offer(&mut self, is_inside: bool) -> Result<(), Halt> {
        let archive_bit = bit_before(self.input.position(), self.inflate.held_bits());
        let place = Place {
            archive_bit: archive_bit.ok_or(TOO_LONG)?,
            is_inside,
        };
        // What refers to the window of one place is known before the next.
        if !self.is_watching && self.cuts.offer(place) {
            self.header.clear();
            if is_inside {
                self.header.extend_from_slice(self.inflate.block_header());
            }
            self.inflate.watch();
        }
        Ok(())
    }

    /// Hands over what came out, in front of which a span may start.
    fn hand_over(&mut self) -> Result<(), Halt> {
        if self.inflate.pending().is_empty() {
            return Ok(());
        }
        if let Some(Place { archive_bit, .. }) = self.cuts.pending.take() {
            let window = usize::try_from(self.member_bytes).unwrap_or(usize::MAX);
            self.window.clear();
            self.window.extend_from_slice(self.inflate.window(window));
            self.feed.mark(What::Span {
                archive_bit,
                header: self.header.as_slice().into(),
            })?;
            self.cuts.since = 0;
            self.is_watching = true;
        }
        loop {
            let pending = self.inflate.pending();
            if pending.is_empty() {
                break;
            }
            let space = self.feed.space()?;
            let n = pending.len().min(space.len());
            space[..n].copy_from_slice(&pending[..n]);
            self.feed.wrote(n);
            self.inflate.take(n);
            self.cuts.since += n as u64;
            self.member_bytes += n as u64;
        }
        // Nothing from here on can reach back to before the span.
        if self.cuts.since >= WINDOW_BYTES as u64 {
            self.end_window()?;
        }
        Ok(())
    }

    /// Hands over the window of the span that started last.
    fn end_window(&mut self) -> Result<(), Halt> {
        if !self.is_watching {
            return Ok(());
        }
        self.is_watching = false;
        let is_any = match self.inflate.watched() {
            Some(references) => references.clear_unused(&mut self.window),
            None => !self.window.is_empty(),
        };
        let window: &[u8] = if is_any { &self.window } else { &[] };
        self.feed.mark(What::Window(window.into()))
    }
}
