//! An image that was changed afterwards: the index of the image, patches on top
//! of it, and changes of modes on top of those, as one index.
//!
//! Guarantees: the image's archive is not looked at, its tables are copied; what
//! a patch brings goes by the rules of `place`, against the tree as it is then.
//! So links among parents are followed, a directory that a patch only implies
//! keeps its attributes, and a hard link finds its target in the layers below,
//! all of which an index of the patch alone could not know. Therefore a patch's
//! stream is read again here, twice: what a layer removes (`whiteout`) is gone
//! before the first thing that it adds, in whatever order the archive has them.
//! Paths start at the directory that the image serves as its root.
//!
//! ```text
//! index of the image ─► adopt ─► layers: remove, then place ─► modes ─► finish
//!                                 ▲  ▲
//! stream of each patch ───────────┴──┘ (content may be left out)
//! ```
//!
//! Inode numbers of the image stay what they are. Content is found in one
//! stream: that of the image, then those of the patches.

mod adopt;
mod change;
mod layers;
mod whiteout;

use std::fmt;

use super::BuildOptions;
use super::arena::ArenaProvider;
use super::entry::Entry;
use super::error::BuildError;
use super::finish::SectionSink;
use super::limits::Limits;
use super::place::Tree;
use super::report::{Report, WarningKind};
use super::stream::EntryStream;
use crate::index::reader::Index;
use crate::index::summary::Summary;
pub use change::{ModeChange, ModeError, Problem, Unapplied};
pub(super) use layers::Layers;
use whiteout::Meaning;

/// A patch as it goes on top.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    /// Where its stream starts in that of all.
    pub start: u64,
    /// Bytes of its stream.
    pub len: u64,
    /// Bytes of its archive.
    pub archive_bytes: u64,
    /// Whether blocks of zeros are passed over in it.
    pub ignore_zeros: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Derived {
    /// What the image holds now.
    pub summary: Summary,
    /// What was left out or odd, for each patch.
    pub patches: Vec<Report>,
    /// The changes that could not be made in this version of the image.
    pub unapplied: Vec<Unapplied>,
}

/// Builds the index of a changed image. After an error it is of no more use.
pub struct Deriver {
    tree: Tree,
    options: BuildOptions,
    patches: Vec<Report>,
}

impl fmt::Debug for Deriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deriver")
            .field("entries", &self.tree.tables.dirents.len())
            .field("patches", &self.patches.len())
            .finish_non_exhaustive()
    }
}

impl Deriver {
    /// Starts from the index `base` of an image whose stream has `stream_bytes`.
    /// Of the `options` the key and the limits count, the latter for all layers
    /// together; the key must be a new one.
    pub fn new(
        base: &Index,
        stream_bytes: u64,
        options: BuildOptions,
        arenas: &mut dyn ArenaProvider,
    ) -> Result<Self, BuildError> {
        let options = BuildOptions {
            ignore_zeros: base.ignored_zeros(),
            ..options
        };
        let mut tree = Tree::new(&options, arenas)?;
        tree.adopt(base, stream_bytes, arenas)?;
        Ok(Self {
            tree,
            options,
            patches: Vec::new(),
        })
    }

    /// Puts a patch on top of all before. `read` is called for each pass, to
    /// push the patch's stream from its start.
    pub fn patch<E: From<BuildError>>(
        &mut self,
        patch: Patch,
        arenas: &mut dyn ArenaProvider,
        read: &mut dyn FnMut(&mut Pass<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        check_patches(self.patches.len().saturating_add(1), &self.options.limits)?;
        let end = patch.start.checked_add(patch.len);
        end.ok_or(BuildError::TooMany {
            what: "bytes",
            value: u64::MAX,
            max: u64::MAX,
        })?;
        let options = BuildOptions {
            archive_bytes: Some(patch.archive_bytes),
            ignore_zeros: patch.ignore_zeros,
            ..self.options
        };
        let mut report = Report::new();
        for stage in [Stage::Remove, Stage::Add] {
            self.tree.begin_layer();
            let mut pass = Pass {
                stream: EntryStream::new(options, arenas)?,
                len: patch.len,
                report: Report::new(),
                placer: Placer {
                    tree: &mut self.tree,
                    stage,
                    start: patch.start,
                    path: Vec::new(),
                    removed: Report::new(),
                },
            };
            read(&mut pass)?;
            report.join(&pass.finish()?);
        }
        self.patches.push(report);
        Ok(())
    }

    /// Changes modes and hands all sections to `out`.
    pub fn finish(
        mut self,
        changes: &[ModeChange],
        out: &mut dyn SectionSink,
    ) -> Result<Derived, BuildError> {
        check_changes(changes, &self.options.limits)?;
        let mut unapplied = Vec::new();
        for change in changes {
            if let Some(problem) = self.tree.change_mode(change)? {
                let path = change.path().to_vec();
                unapplied.push(Unapplied { path, problem });
            }
        }
        // Links that waited were made at the end of their layer.
        let summary = self.tree.finish(&mut Report::new(), out)?;
        Ok(Derived {
            summary,
            patches: self.patches,
            unapplied,
        })
    }
}

/// Fails if these are more patches than an image can have.
pub fn check_patches(count: usize, limits: &Limits) -> Result<(), BuildError> {
    check_count("patches", count, limits.layers_max.into())
}

/// Fails if these are more changes of modes than an image can have.
pub fn check_changes(changes: &[ModeChange], limits: &Limits) -> Result<(), BuildError> {
    let bytes = changes.iter().map(|change| change.path().len());
    let bytes = bytes.fold(0, usize::saturating_add);
    check_count(
        "changes of modes",
        changes.len(),
        limits.mode_changes_max.into(),
    )?;
    let max = limits.mode_change_bytes_max.into();
    check_count("bytes of paths whose modes change", bytes, max)
}

fn check_count(what: &'static str, have: usize, max: u64) -> Result<(), BuildError> {
    let value = u64::try_from(have).unwrap_or(u64::MAX);
    match value > max {
        true => Err(BuildError::TooMany { what, value, max }),
        false => Ok(()),
    }
}

/// What a pass over a patch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Removes what its whiteouts name.
    Remove,
    /// Places everything else.
    Add,
}

/// One pass over a patch's stream.
pub struct Pass<'a> {
    stream: EntryStream,
    /// Bytes of the patch's stream.
    len: u64,
    /// What the stream has that is odd; found by each pass.
    report: Report,
    placer: Placer<'a>,
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("stage", &self.placer.stage)
            .field("offset", &self.stream.offset())
            .finish_non_exhaustive()
    }
}

/// What a pass has to be given next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The bytes from this offset of the patch's stream on; those before it, if
    /// it is further than the last ones reached, are content and may be left
    /// out.
    From(u64),
    /// Nothing: the archive has ended.
    Nothing,
}

impl Pass<'_> {
    /// Takes the bytes of the patch's stream from `stream_offset` on, which is
    /// where the last ones ended or up to what was wanted then.
    pub fn push(&mut self, stream_offset: u64, bytes: &[u8]) -> Result<Wanted, BuildError> {
        self.stream.jump(stream_offset);
        let placer = &mut self.placer;
        let sink = &mut |entry: &Entry<'_>, report: &mut Report| placer.take(entry, report);
        let flow = self
            .stream
            .push(stream_offset, bytes, &mut self.report, sink)?;
        Ok(match flow.is_break() {
            true => Wanted::Nothing,
            false => Wanted::From(self.stream.wanted()),
        })
    }

    /// Ends the pass; what is to be told of it.
    fn finish(self) -> Result<Report, BuildError> {
        let Self {
            mut stream,
            len,
            mut report,
            mut placer,
        } = self;
        // Content may be left out up to the very end, and padding need not be
        // there.
        stream.jump(len);
        let sink = &mut |entry: &Entry<'_>, report: &mut Report| placer.take(entry, report);
        stream.finish(&mut report, sink)?;
        match placer.stage {
            Stage::Remove => {
                placer.tree.take_all_away()?;
                Ok(placer.removed)
            }
            Stage::Add => {
                placer.tree.link_forward(&mut report)?;
                Ok(report)
            }
        }
    }
}

/// Does with entries what a pass is for.
struct Placer<'a> {
    tree: &'a mut Tree,
    stage: Stage,
    start: u64,
    /// Of the entry at hand, in its plain form.
    path: Vec<u8>,
    removed: Report,
}

impl Placer<'_> {
    fn take(&mut self, entry: &Entry<'_>, report: &mut Report) -> Result<(), BuildError> {
        match (self.stage, whiteout::meaning(entry.path, &mut self.path)) {
            (Stage::Add, Meaning::Entry) => self.tree.place(&entry.moved(self.start), report),
            (Stage::Add, Meaning::Nothing) => {
                report.add(WarningKind::BadWhiteout, entry.path);
                Ok(())
            }
            (Stage::Remove, Meaning::Remove { parent, name }) => {
                self.tree.remove(entry, parent, name, &mut self.removed)
            }
            (Stage::Remove, Meaning::Opaque { parent }) => self.tree.hide(entry, parent),
            (Stage::Remove, Meaning::Entry | Meaning::Nothing)
            | (Stage::Add, Meaning::Remove { .. } | Meaning::Opaque { .. }) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
