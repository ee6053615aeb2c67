//! From a tar stream to the tables of an index.
//!
//! Guarantees: the stream is taken as it comes, in slices of any size, and
//! looked at once; content is passed over without being read. What grows with
//! the archive lives in arenas of the caller, but for a map of 5 to 10 bytes a
//! name. Everything in an archive is taken for hostile: sizes are checked,
//! nothing recurses, and every kind of work is bounded by [`Limits`].
//!
//! ```text
//!         ╭─── stream ───╮
//! slices ─► frame ─► decode ─► place ─► tables ─► finish ─► sections
//!           blocks   entries   rules    arenas    sorting
//! ```
//!
//! Hard links to what comes later wait in `forward` until the end. An image with
//! patches on top is made from its index and the patches' streams: `derive`.

mod acl;
mod arena;
mod base64;
mod decode;
mod derive;
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
mod stream;
mod tables;
mod xattr;

use std::fmt;
use std::ops::ControlFlow;

pub use arena::{Arena, ArenaProvider, HeapArenas};
pub use derive::{
    Derived, Deriver, ModeChange, ModeError, Pass, Patch, Problem, Unapplied, Wanted,
    check_changes, check_patches,
};
pub use error::BuildError;
pub use finish::SectionSink;
pub use limits::Limits;
pub use report::{Report, Warning, WarningKind};

use super::summary::Summary;
use entry::Entry;
use place::Tree;
use stream::EntryStream;

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
    stream: EntryStream,
    tree: Tree,
    report: Report,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("offset", &self.stream.offset())
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// A builder that keeps its tables in arenas from `arenas`.
    pub fn new(options: BuildOptions, arenas: &mut dyn ArenaProvider) -> Result<Self, BuildError> {
        Ok(Self {
            stream: EntryStream::new(options, arenas)?,
            tree: Tree::new(&options, arenas)?,
            report: Report::new(),
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
        let tree = &mut self.tree;
        let sink = &mut |entry: &Entry<'_>, report: &mut Report| tree.place(entry, report);
        self.stream
            .push(stream_offset, bytes, &mut self.report, sink)
    }

    /// Names placed so far.
    pub fn entries(&self) -> u64 {
        self.tree.tables.dirents.len().into()
    }

    /// Ends the building and hands the sections to `out`. An archive without
    /// end marker is complete if it ends between two entries.
    pub fn finish(self, out: &mut dyn SectionSink) -> Result<Built, BuildError> {
        let Self {
            mut stream,
            mut tree,
            mut report,
        } = self;
        let sink = &mut |entry: &Entry<'_>, report: &mut Report| tree.place(entry, report);
        stream.finish(&mut report, sink)?;
        let summary = tree.finish(&mut report, out)?;
        Ok(Built { summary, report })
    }
}

#[cfg(test)]
mod tests;
