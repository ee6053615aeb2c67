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
//! Room is left for sparse files: an entry already carries a list of extents,
//! and the tables hold them; only the decoding of GNU's formats is missing.

mod arena;
mod base64;
mod decode;
mod entry;
mod error;
mod finish;
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
    ended: bool,
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
        Ok(Self {
            framer: Framer::new(),
            decoder: Decoder::new(options.limits),
            tree: Tree::new(&options, arenas)?,
            report: Report::new(),
            ended: false,
        })
    }

    /// Takes the next bytes of the stream, which start at `stream_offset`.
    /// Breaks when the archive has ended: what follows is not part of it.
    pub fn push(
        &mut self,
        stream_offset: u64,
        bytes: &[u8],
    ) -> Result<ControlFlow<()>, BuildError> {
        if self.ended {
            return Ok(ControlFlow::Break(()));
        }
        self.framer.expect(stream_offset, bytes.len())?;
        let mut rest = bytes;
        let mut at = stream_offset;
        while let Some(piece) = self.framer.feed(at, &mut rest) {
            at = self.framer.offset();
            match piece {
                Piece::Text => self.decoder.text(self.framer.text())?,
                Piece::Block => {
                    if self.block(at - bytes_u64(BLOCK_BYTES))?.is_break() {
                        self.ended = true;
                        return Ok(ControlFlow::Break(()));
                    }
                }
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
        let summary = self.tree.finish(out)?;
        Ok(Built {
            summary,
            report: self.report,
        })
    }

    /// Takes the block that starts at `offset`.
    fn block(&mut self, offset: u64) -> Result<ControlFlow<()>, BuildError> {
        let block = self.framer.block();
        match self.decoder.block(offset, block, &mut self.report)? {
            Next::Block => {}
            Next::End => return Ok(ControlFlow::Break(())),
            Next::Text(len) => self.framer.gather(len),
            Next::Content(len) => {
                self.decoder.entry_done();
                self.framer.pass_over(len);
            }
            Next::Entry(len) => {
                self.tree.place(&self.decoder.entry(), &mut self.report)?;
                self.decoder.entry_done();
                self.framer.pass_over(len);
            }
        }
        Ok(ControlFlow::Continue(()))
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
        self.report.add(WarningKind::MissingEnd, last);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
