//! The producing side of a scan: reads the archive once from start to end,
//! decodes it, and chooses the places where spans start.
//!
//! Guarantees: memory is one input buffer and one decoder, however long the
//! blocks and members are. A span starts only where at least one byte follows,
//! so no span is empty.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::deflate::{Inflate, Status, WINDOW_BYTES};
use super::super::gzip::bit_before;
use super::super::gzip::input::Input;
use super::super::gzip::member::{self, FrameError, Next};
use super::super::{ReadAt, SourceError};
use super::error::ArchiveError;
use super::feed::{CHUNK_BYTES, Feed, Halt, MemberEnd, What};
use super::places::{Place, Places, STEP_BYTES};

/// Compressed bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Length of the spans of an uncompressed archive. Reading can begin anywhere
/// there, so it only keeps the table small.
pub(super) const PLAIN_SPAN_BYTES: u64 = 1024 * 1024;
/// How far behind the reading the archive is forgotten.
const FORGET_LAG_BYTES: u64 = 1024 * 1024;
/// How many ends of members are held.
const ENDS_MAX: usize = 512;
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
                window: Box::default(),
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
        inflate: Inflate::holding(Places::held_max(span_bytes)),
        feed,
        given: 0,
        places: Places::new(span_bytes),
        header: None,
        ends: VecDeque::new(),
        window: Vec::with_capacity(WINDOW_BYTES),
    };
    let produced = gunzip.members()?;
    gunzip.end()?;
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

struct Gunzip<'a> {
    archive: &'a dyn ReadAt,
    input: Input,
    /// Its pending output is what is held until it is known where spans start.
    inflate: Inflate,
    feed: Feed,
    /// Bytes of the stream that were handed over.
    given: u64,
    places: Places,
    /// The header of the block that is being decoded, if somebody asked for it.
    header: Option<Rc<[u8]>>,
    /// Ends of members in what is held, and where in the stream they are.
    ends: VecDeque<(u64, MemberEnd)>,
    window: Vec<u8>,
}

impl Gunzip<'_> {
    /// All members, and what is behind them.
    fn members(&mut self) -> Result<Produced, Halt> {
        let mut produced = Produced::default();
        loop {
            let member_at = self.input.position();
            let next = member::next(&mut self.input, self.archive);
            match next.map_err(|error| frame_error(error, self.archive, member_at))? {
                Next::Member => self.member(member_at)?,
                Next::End => return Ok(produced),
                Next::Garbage(at) => {
                    produced.garbage_at = Some(at);
                    return Ok(produced);
                }
            }
            produced.members += 1;
        }
    }

    /// One member, from behind its header to behind its trailer.
    fn member(&mut self, member_at: u64) -> Result<(), Halt> {
        self.inflate.start_another();
        self.offer(false)?;
        loop {
            let line = self.end_of_known() / STEP_BYTES as u64 * STEP_BYTES as u64;
            let wanted = line + STEP_BYTES as u64 - self.given;
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            let result = self.inflate.inflate(self.input.available(), wanted);
            let (used, status) = result.map_err(|what| ArchiveError::Deflate {
                at: self.input.position(),
                what,
            })?;
            self.input.consume(used);
            self.places.count(line, self.inflate.references());
            self.cut(false)?;
            match status {
                Status::Enough if self.inflate.is_at_symbol() => self.offer(true)?,
                Status::Enough => {}
                Status::Block => self.offer(false)?,
                Status::NeedInput if !self.input.more(self.archive)? => {
                    let at = self.archive.len();
                    return Err(ArchiveError::Truncated { at, member_at }.into());
                }
                Status::NeedInput => {}
                Status::End => break,
            }
        }
        let trailer_at = self.input.position();
        let trailer = member::trailer(&mut self.input, self.archive)
            .map_err(|error| frame_error(error, self.archive, member_at))?;
        let end = MemberEnd {
            member_at,
            trailer_at,
            crc32: trailer.crc32,
            len: trailer.len,
        };
        self.ends.push_back((self.end_of_known(), end));
        // Members without a byte would pile up.
        self.cut(self.ends.len() >= ENDS_MAX)
    }

    /// Stream offset behind all that was decoded.
    fn end_of_known(&self) -> u64 {
        self.given + self.inflate.pending().len() as u64
    }

    /// Offers this place for a span to start, `inside` of a block or in front of
    /// one.
    fn offer(&mut self, inside: bool) -> Result<(), Halt> {
        if !inside {
            self.header = None;
        }
        let at = self.end_of_known();
        if !self.places.takes(at) {
            return Ok(());
        }
        let archive_bit = bit_before(self.input.position(), self.inflate.held_bits());
        let header = inside.then(|| {
            let header = || self.inflate.block_header().into();
            Rc::clone(self.header.get_or_insert_with(header))
        });
        let place = Place::new(at, archive_bit.ok_or(TOO_LONG)?, header);
        self.places.offer(place, self.inflate.references());
        self.inflate.watch(true);
        Ok(())
    }

    /// Starts spans as far as it is known where, one of them `now` whatever is known,
    /// and hands over what is before the places that are left.
    fn cut(&mut self, mut now: bool) -> Result<(), Halt> {
        while let Some(place) = self.places.choose(self.end_of_known(), now) {
            self.hand_over(place.at)?;
            self.window.clear();
            self.window
                .extend_from_slice(self.inflate.window(WINDOW_BYTES));
            let references = self.inflate.references();
            let is_any = references.clear_unused(place.references_from, place.at, &mut self.window);
            self.places.forget_near(references);
            let window: &[u8] = if is_any { &self.window } else { &[] };
            self.feed.mark(What::Span {
                archive_bit: place.archive_bit,
                header: place.header.as_deref().unwrap_or_default().into(),
                window: window.into(),
            })?;
            now = false;
        }
        self.inflate.watch(self.places.first().is_some());
        self.hand_over(self.places.first().unwrap_or(u64::MAX))
    }

    /// Hands over what is held up to stream offset `until`.
    fn hand_over(&mut self, until: u64) -> Result<(), Halt> {
        let until = until.min(self.end_of_known());
        loop {
            let end = self.ends.front().map_or(u64::MAX, |(at, _)| *at);
            if end <= self.given
                && let Some((_, end)) = self.ends.pop_front()
            {
                self.feed.mark(What::Member(end))?;
                continue;
            }
            let left = until.min(end) - self.given;
            if left == 0 {
                return Ok(());
            }
            let space = self.feed.space()?;
            let pending = self.inflate.pending();
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let n = left.min(space.len()).min(pending.len());
            space[..n].copy_from_slice(&pending[..n]);
            self.feed.wrote(n);
            self.inflate.take(n);
            self.given += n as u64;
        }
    }

    /// Hands over all that is held.
    fn end(&mut self) -> Result<(), Halt> {
        while self.places.is_overdue(self.end_of_known()) {
            let before = self.given;
            self.cut(true)?;
            if self.given == before {
                break;
            }
        }
        self.hand_over(u64::MAX)
    }
}
