//! Makes the index of an image that was changed.
//!
//! Guarantees: of the image only the tables are read. Of a patch every byte that
//! counts comes from its verified blocks, so it is the one that was indexed; its
//! content is passed over where blocks can be left out. Memory is that of
//! indexing an archive: the tables are beside the index, in files.

use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::super::ingest::{Sink, Spills, make_directory, new_hash_key, note};
use super::{
    Derivation, Image, Part, SECTION_NOTES, SECTION_RECIPE, SECTION_STREAMS, SidecarError,
    StoreError,
};
use crate::budget::MemoryBudget;
use crate::index::build::{
    BuildError, BuildOptions, Derived as Merged, Deriver, Pass, Patch, Wanted,
};
use crate::metrics::Metrics;
use crate::sidecar::{Identity, SectionWriter, SidecarWriter};
use crate::source::{BlockSource, SourceError};

impl Derivation<'_> {
    /// Makes the index and writes it to `place`.
    pub(super) fn make(
        &self,
        place: &Path,
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<(), StoreError> {
        make_directory(place)?;
        let writer = SidecarWriter::new(place, self.mode());
        let mut sections = Vec::new();
        let (lens, merged) = self.merge(&writer, &mut sections, budget, metrics)?;
        let notes: Vec<u8> = self.notes(&merged).into_bytes();
        let lens_bytes: Vec<u8> = lens.iter().flat_map(|len| len.to_le_bytes()).collect();
        for (id, bytes) in [
            (SECTION_RECIPE, self.recipe.bytes()),
            (SECTION_STREAMS, &lens_bytes),
            (SECTION_NOTES, &notes),
        ] {
            let mut section = writer.section(id)?;
            section.write_all(bytes).map_err(|cause| SidecarError::Io {
                doing: "write",
                path: place.to_owned(),
                cause,
            })?;
            sections.push(section);
        }
        let identity = Identity {
            archive_bytes: lens.iter().fold(0, |sum, len| sum.saturating_add(*len)),
            mtime: (0, 0),
            inode: 0,
            sha256: *self.version().bytes(),
        };
        writer.finish(&identity, sections)?;
        Ok(())
    }

    /// Merges all parts; the lengths of their streams, and what came of it.
    fn merge(
        &self,
        writer: &SidecarWriter,
        sections: &mut Vec<SectionWriter>,
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<(Vec<u64>, Merged), StoreError> {
        let failed = |part: Part<'_>, cause| StoreError::Build {
            path: part.archive.path().to_owned(),
            cause,
        };
        let mut spills = Spills(writer);
        let image = Image::open(self.base.archive, self.base.index, budget, metrics)?;
        let mut lens = vec![image.source.len()];
        let options = BuildOptions::new(new_hash_key()?);
        let deriver = Deriver::new(&image.index, image.source.len(), options, &mut spills);
        let mut deriver = deriver.map_err(|cause| failed(self.base, cause))?;
        for part in self.patches {
            let Image { index, source } = Image::open(part.archive, part.index, budget, metrics)?;
            let patch = Patch {
                start: lens.iter().fold(0, |sum, len| sum.saturating_add(*len)),
                len: source.len(),
                archive_bytes: part.archive.metadata().len(),
                ignore_zeros: index.ignored_zeros(),
            };
            let read = &mut |pass: &mut Pass<'_>| feed(&*source, pass);
            let done = deriver.patch(patch, &mut spills, read);
            done.map_err(|cause| match cause {
                Unread::Build(cause) => failed(*part, cause),
                Unread::Source(cause) => StoreError::Source {
                    path: part.archive.path().to_owned(),
                    cause,
                },
            })?;
            lens.push(source.len());
        }
        let mut sink = Sink { writer, sections };
        let merged = deriver.finish(self.changes, &mut sink);
        Ok((lens, merged.map_err(|cause| failed(self.base, cause))?))
    }

    /// Names of all archives are in the index: only who may read all may read
    /// it.
    fn mode(&self) -> u32 {
        let modes = self.parts().map(|part| part.archive.metadata().mode());
        modes.fold(0o666, |all, mode| all & mode)
    }

    /// What is worth telling the owner, a line each.
    fn notes(&self, merged: &Merged) -> String {
        let mut notes = String::new();
        for (part, report) in self.patches.iter().zip(&merged.patches) {
            let name = part.archive.path().file_name().unwrap_or_default();
            let name = crate::index::EntryName::new(name.as_encoded_bytes());
            for warning in report.warnings() {
                notes.push_str(&format!("patch {name}: {}\n", note(warning)));
            }
        }
        for unapplied in &merged.unapplied {
            notes.push_str(&format!("{unapplied}\n"));
        }
        notes
    }
}

/// Why a patch could not be read.
enum Unread {
    Build(BuildError),
    Source(SourceError),
}

impl From<BuildError> for Unread {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<SourceError> for Unread {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Pushes the stream of a patch, without the blocks that only hold content and
/// need not be decoded to get at others.
fn feed(source: &dyn BlockSource, pass: &mut Pass<'_>) -> Result<(), Unread> {
    let mut at = 0;
    while at < source.len() {
        let from = at;
        let mut failed = None;
        source.produce(source.block_at(at)?.no, &mut |block, bytes| {
            let before = at.saturating_sub(block.start);
            let rest = usize::try_from(before).ok().and_then(|n| bytes.get(n..));
            let Some(rest) = rest.filter(|rest| !rest.is_empty() && block.start <= at) else {
                return ControlFlow::Continue(());
            };
            at = match pass.push(at, rest) {
                Ok(Wanted::From(next)) => next,
                Ok(Wanted::Nothing) => u64::MAX,
                Err(error) => {
                    failed = Some(error);
                    u64::MAX
                }
            };
            match at > block.end() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if at <= from {
            let what = "a span without its blocks";
            return Err(SourceError::Tables { what }.into());
        }
    }
    Ok(source.intact()?)
}
