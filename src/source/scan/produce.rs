//! The producing side of a scan: reads the archive once from start to end,
//! decodes it, and chooses the places where spans start.
//!
//! Guarantees: memory is one input buffer and one decoder, however long the
//! blocks and members are. A span starts only where at least one byte follows,
//! so no span is empty.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::gzip::input::Input;
use super::super::gzip::member::{self, FrameError, Next};
use super::super::gzip::{Checkpoint, bit_before};
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
            let checkpoint = Checkpoint {
                archive_bit,
                header_bits: 0,
            };
            feed.mark(What::Span {
                checkpoint,
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
    let cuts = Cuts::new(span_bytes);
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

/// Chooses where spans start: at the first boundary of blocks that makes a span
/// long enough; if a quarter more passes without one, inside of the block, in
/// front of any symbol.
struct Cuts {
    span_bytes: u64,
    /// Bytes since the last span started.
    since: u64,
    /// Where the next span will start if a byte follows.
    pending: Option<Place>,
    /// Whether the first span was offered.
    started: bool,
    /// The first bit of the current block, and the bytes that came out of it.
    block_bit: u64,
    block_bytes: u64,
    /// Bytes of input looked at closely without finding a place, and how long
    /// the span must get before the next look.
    looked: u32,
    look_again_at: u64,
}

/// Bytes of input looked at for a place between two symbols before giving up
/// for a while: a symbol has at most 48 bits, but a stored block has none.
const LOOK_BYTES_MAX: u32 = 64;
/// How much later to look again.
const LOOK_AGAIN_BYTES: u64 = 16 * 1024;

#[derive(Clone, Copy)]
struct Place {
    checkpoint: Checkpoint,
    window: usize,
}

/// How to decode on.
enum Pace {
    /// So many bytes, or to the end of the block.
    Free(u64),
    /// One byte of input, to see whether it ends a symbol.
    Close,
}

impl Cuts {
    fn new(span_bytes: u64) -> Self {
        Self {
            span_bytes: span_bytes.max(1),
            since: 0,
            pending: None,
            started: false,
            block_bit: 0,
            block_bytes: 0,
            looked: 0,
            look_again_at: 0,
        }
    }

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

    fn pace(&self) -> Pace {
        let since = if self.pending.is_some() {
            0
        } else {
            self.since
        };
        let longest = self.span_bytes.saturating_add(self.span_bytes / 4);
        match longest.max(self.look_again_at).checked_sub(since) {
            None | Some(0) if self.block_bytes > 0 => Pace::Close,
            None | Some(0) => Pace::Free(1),
            Some(missing) => Pace::Free(missing),
        }
    }

    /// Looked at a byte closely, without finding a place.
    fn found_none(&mut self) {
        self.looked += 1;
        if self.looked >= LOOK_BYTES_MAX {
            self.looked = 0;
            self.look_again_at = self.since.saturating_add(LOOK_AGAIN_BYTES);
        }
    }

    /// A block starts at `bit`.
    fn block(&mut self, bit: u64) {
        (self.block_bit, self.block_bytes) = (bit, 0);
    }

    /// A span starts.
    fn restart(&mut self) {
        (self.since, self.looked, self.look_again_at) = (0, 0, 0);
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
        self.boundary(0, 0)?;
        let mut member_bytes: u64 = 0;
        loop {
            let pace = self.cuts.pace();
            let space = self.feed.space()?;
            let (input, most) = match pace {
                Pace::Free(most) => (self.input.available(), most),
                Pace::Close => (first_byte(self.input.available()), u64::MAX),
            };
            let most = usize::try_from(most).unwrap_or(usize::MAX).min(space.len());
            let result = self
                .inflate
                .inflate(input, &mut space[..most], Stop::AtBlock);
            let progress = result.map_err(|what| self.deflate_error(what))?;
            self.input.consume(progress.consumed);
            if progress.produced > 0 {
                self.wrote(progress.produced)?;
                member_bytes += progress.produced as u64;
            }
            match progress.status {
                Status::OutputFull | Status::Symbols | Status::BlockEnd { last: true, .. } => {}
                Status::BlockEnd {
                    unused_bits,
                    last: false,
                } => {
                    self.boundary(unused_bits, member_bytes)?;
                }
                Status::NeedInput => {
                    if matches!(pace, Pace::Close) {
                        self.between_symbols(member_bytes);
                    }
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

    /// A block starts at the input's position, less `unused` bits.
    fn boundary(&mut self, unused: u8, member_bytes: u64) -> Result<(), Halt> {
        let archive_bit = bit_before(self.input.position(), unused).ok_or(TOO_LONG)?;
        self.cuts.block(archive_bit);
        let checkpoint = Checkpoint {
            archive_bit,
            header_bits: 0,
        };
        self.offer(checkpoint, member_bytes);
        Ok(())
    }

    /// Offers the input's position if it is between two symbols.
    fn between_symbols(&mut self, member_bytes: u64) {
        let place = || {
            let unused = self.inflate.between_symbols()?;
            let archive_bit = bit_before(self.input.position(), 0)?.checked_sub(unused)?;
            let header_bits = archive_bit.checked_sub(self.cuts.block_bit)?;
            let header_bits = u32::try_from(header_bits).ok().filter(|bits| *bits > 0)?;
            Some(Checkpoint {
                archive_bit,
                header_bits,
            })
        };
        match place() {
            Some(checkpoint) => self.offer(checkpoint, member_bytes),
            None => self.cuts.found_none(),
        }
    }

    fn offer(&mut self, checkpoint: Checkpoint, member_bytes: u64) {
        let window = usize::try_from(member_bytes)
            .unwrap_or(usize::MAX)
            .min(WINDOW_BYTES);
        self.cuts.offer(Place { checkpoint, window });
    }

    /// Hands `n` written bytes over, in front of which a span may start.
    fn wrote(&mut self, n: usize) -> Result<(), Halt> {
        if let Some(Place { checkpoint, window }) = self.cuts.pending.take() {
            self.feed.mark(What::Span { checkpoint, window })?;
            self.cuts.restart();
        }
        self.feed.wrote(n);
        self.cuts.since += n as u64;
        self.cuts.block_bytes += n as u64;
        Ok(())
    }

    fn deflate_error(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Deflate {
            at: self.input.position(),
            what,
        }
    }
}

fn first_byte(input: &[u8]) -> &[u8] {
    &input[..input.len().min(1)]
}
