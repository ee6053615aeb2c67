//! From a tar stream to the tables of an index.
//!
//! Guarantees: the stream is taken as it comes, in slices of any size, and
//! looked at once; content is passed over without being read. What grows with
//! the archive lives in arenas of the caller, but for a map of 5 to 10 bytes a
//! name. Everything in an archive is taken for hostile: sizes are checked,
//! nothing recurses, and every kind of work is bounded by [`Limits`].
//!
//! ```text
//! slices ─► frame ─► decode ─► place ─► tables ─► finish ─► sections
//!           blocks   entries   rules    arenas    sorting
//! ```
//!
//! Hard links to what comes later wait in `forward` until the end.

mod acl;
mod arena;
mod base64;
mod decode;
mod entry;
mod error;
mod finish;
mod forward;
mod frame;
mod header;
mod limits;
mod pax;
mod place;
mod report;
mod tables;
mod xattr;

use std::fmt;
use std::ops::ControlFlow;

pub use arena::{Arena, ArenaProvider, HeapArenas};
pub use error::BuildError;
pub use finish::SectionSink;
pub use limits::Limits;
pub use report::{Report, Warning, WarningKind};

use super::escape::EntryName;
use super::summary::Summary;
use arena::bytes_u64;
use decode::{Decoder, Next};
use frame::{Ending, Framer, Piece};
use header::BLOCK_BYTES;
use place::Tree;

/// How to build an index.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Key of the name hash: 16 random bytes, new for every index, so that an
    /// archive cannot be made to have names that collide.
    pub hash_key: [u8; 16],
    /// What the archive may ask for.
    pub limits: Limits,
    /// Whether blocks of zeros are passed over instead of ending the archive,
    /// as `tar --ignore-zeros` does: for archives that were joined.
    pub ignore_zeros: bool,
    /// Bytes of the archive as it is stored, if that is known: what its
    /// expanding is measured against.
    pub archive_bytes: Option<u64>,
}

impl BuildOptions {
    /// The default limits for an archive of unknown size.
    pub fn new(hash_key: [u8; 16]) -> Self {
        Self {
            hash_key,
            limits: Limits::default(),
            ignore_zeros: false,
            archive_bytes: None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Built {
    /// What the image holds.
    pub summary: Summary,
    /// What was left out or changed.
    pub report: Report,
}

/// Builds an index from the bytes of a tar stream, in order. After an error it
/// is of no more use.
pub struct Builder {
    framer: Framer,
    decoder: Decoder,
    tree: Tree,
    report: Report,
    options: BuildOptions,
    stream_bytes_max: u64,
    ended: bool,
    /// Whether the end of the archive was found to be not that of the stream.
    is_more_known: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("offset", &self.framer.offset())
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// A builder that keeps its tables in arenas from `arenas`.
    pub fn new(options: BuildOptions, arenas: &mut dyn ArenaProvider) -> Result<Self, BuildError> {
        let archive_bytes = options.archive_bytes.unwrap_or(u64::MAX);
        Ok(Self {
            framer: Framer::new(),
            decoder: Decoder::new(&options, arenas)?,
            tree: Tree::new(&options, arenas)?,
            report: Report::new(),
            stream_bytes_max: options.limits.stream_bytes_max(archive_bytes).0,
            options,
            ended: false,
            is_more_known: false,
        })
    }

    /// Takes the next bytes of the stream, which start at `stream_offset`.
    /// Breaks when the archive has ended: what follows is not part of it. It may
    /// be given all the same, and should be: it is looked at for a second
    /// archive, and counts for the limits.
    pub fn push(
        &mut self,
        stream_offset: u64,
        bytes: &[u8],
    ) -> Result<ControlFlow<()>, BuildError> {
        self.check_expansion(stream_offset, bytes.len())?;
        if self.ended {
            self.look_behind_end(bytes);
            return Ok(ControlFlow::Break(()));
        }
        self.framer.expect(stream_offset, bytes.len())?;
        let mut rest = bytes;
        let mut at = stream_offset;
        while let Some(piece) = self.framer.feed(at, &mut rest) {
            at = self.framer.offset();
            match piece {
                Piece::Text => {
                    let next = self.decoder.text(self.framer.text())?;
                    self.follow(next)?;
                }
                Piece::Block => self.block(at.saturating_sub(bytes_u64(BLOCK_BYTES)))?,
            }
            if self.ended {
                self.look_behind_end(rest);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Names placed so far.
    pub fn entries(&self) -> u64 {
        self.tree.tables.dirents.len().into()
    }

    /// Ends the building and hands the sections to `out`. An archive without
    /// end marker is complete if it ends between two entries.
    pub fn finish(mut self, out: &mut dyn SectionSink) -> Result<Built, BuildError> {
        if !self.ended {
            self.end_of_stream()?;
        }
        if self.decoder.is_announced() {
            let last = self.decoder.last_path();
            self.report.add(WarningKind::UnusedHeader, last);
        }
        let mut report = self.report;
        let summary = self.tree.finish(&mut report, out)?;
        Ok(Built { summary, report })
    }

    /// Takes the block that starts at `offset`.
    fn block(&mut self, offset: u64) -> Result<(), BuildError> {
        if self.decoder.is_undecided() {
            let content = self.decoder.decide(Some(self.framer.block()));
            self.place()?;
            if let Some(rest) = content {
                self.framer.pass_over(rest);
                return Ok(());
            }
        }
        let block = self.framer.block();
        let next = self.decoder.block(offset, block, &mut self.report)?;
        self.follow(next)
    }

    /// Does what the decoder wants next.
    fn follow(&mut self, next: Next) -> Result<(), BuildError> {
        match next {
            Next::Block => {}
            Next::End { more } => {
                self.ended = true;
                self.is_more_known = more;
            }
            Next::Text(len) => self.framer.gather(len),
            Next::Content(len) => {
                self.decoder.entry_done();
                self.framer.pass_over(len);
            }
            Next::Entry(len) => {
                self.place()?;
                self.framer.pass_over(len);
            }
        }
        Ok(())
    }

    fn place(&mut self) -> Result<(), BuildError> {
        self.tree.place(&self.decoder.entry(), &mut self.report)?;
        self.decoder.entry_done();
        Ok(())
    }

    /// Reports data behind the end of the archive; once is enough.
    fn look_behind_end(&mut self, bytes: &[u8]) {
        let is_zero = |bytes: &[u8]| bytes.iter().fold(0, |any, byte| any | byte) == 0;
        if !self.is_more_known && !bytes.chunks(4096).all(is_zero) {
            self.is_more_known = true;
            let last = self.decoder.last_path();
            self.report.add(WarningKind::BehindEnd, last);
        }
    }

    fn check_expansion(&self, offset: u64, len: usize) -> Result<(), BuildError> {
        let end = offset.saturating_add(bytes_u64(len));
        if end <= self.stream_bytes_max {
            return Ok(());
        }
        let (limits, archive) = (&self.options.limits, self.options.archive_bytes);
        let archive = archive.unwrap_or(u64::MAX).max(1);
        let entry = self.decoder.entry();
        Err(match limits.stream_bytes_max(archive) {
            (max, limit @ "expanded_bytes_max") => entry.limit(limit, end, max),
            (_, limit) => entry.limit(limit, end.div_ceil(archive), limits.ratio_max),
        })
    }

    fn end_of_stream(&mut self) -> Result<(), BuildError> {
        let offset = self.framer.offset();
        let last = self.decoder.last_path();
        if !self.decoder.is_started() {
            return Err(BuildError::NotTar { offset: 0 });
        }
        if self.framer.ending() == Ending::Inside {
            return Err(BuildError::Truncated {
                offset,
                entry: EntryName::new(last),
            });
        }
        if !self.options.ignore_zeros || !self.decoder.is_after_zero() {
            self.report.add(WarningKind::MissingEnd, last);
        }
        if self.decoder.is_undecided() {
            self.decoder.decide(None);
            self.place()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
