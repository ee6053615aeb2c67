//! What is served for an image: its current version, with the patches and changed
//! modes that belong on top of it.
//!
//! Guarantees: the files that are given belong together, and stay what they are
//! whatever happens to the store.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::Home;
use super::error::HomeError;
use super::record::ImageRecord;
use crate::budget::MemoryBudget;
use crate::index::build::ModeChange;
use crate::metrics::Metrics;
use crate::store::derived::{Derivation, Part};
use crate::store::{Archive, ImageFiles, OpenedIndex};
use crate::types::Digest;

/// An image as it is to be served.
#[derive(Debug)]
pub struct Composed {
    /// A digest of all that it is made of.
    pub version: Digest,
    /// The files to serve it from.
    pub files: ImageFiles,
    /// What its owner is to be told, a line each: entries of patches that were left
    /// out, changes that could not be made.
    pub notes: Vec<String>,
}

impl Home {
    /// Puts the current version of an image together.
    pub fn compose(
        &self,
        record: &ImageRecord,
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<Composed, HomeError> {
        let base = self.open_image(&record.current)?;
        let layers = record.patches.iter().map(|patch| {
            let (archive, index) = self.open_image(&patch.sha256)?;
            Ok((archive.called(Path::new(&patch.name)), index))
        });
        let layers: Vec<_> = layers.collect::<Result<_, HomeError>>()?;
        // Once more, for those who serve it.
        let index_of = |(archive, index): &(Archive, OpenedIndex)| {
            let file = File::open(self.index_path(&index.digest()));
            file.map(|file| (archive.clone(), file))
                .map_err(HomeError::doing("open an index"))
        };
        if layers.is_empty() && record.changes.is_empty() {
            let (archive, index) = index_of(&base)?;
            return Ok(Composed {
                version: record.current,
                files: ImageFiles::of_archive(&archive, index)?,
                notes: Vec::new(),
            });
        }

        let patches: Vec<_> = layers.iter().map(part_of).collect();
        let changes = record.changes.iter();
        let changes = changes.map(|c| ModeChange::new(c.path.as_bytes(), c.mode));
        let changes: Vec<_> = changes.collect::<Result<_, _>>()?;
        let derivation = Derivation::new(part_of(&base), &patches, &changes)?;
        let version = derivation.version();
        let place = self.derived_path(&version);
        let index = derivation.index(&place, budget, metrics)?;
        let derived = File::open(&place).map_err(HomeError::doing("open a derived index"))?;
        let parts = std::iter::once(&base).chain(&layers).map(index_of);
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        Ok(Composed {
            version,
            files: ImageFiles::of_derived(derived, parts)?,
            notes: index.notes,
        })
    }

    /// Removes the indexes of changed images, and the start profiles of versions, that
    /// are not among `kept`.
    pub fn forget_derived(&self, kept: &dyn Fn(&Digest) -> bool) -> Result<u64, HomeError> {
        let failed = HomeError::doing("remove an index that is not needed");
        let mut bytes = 0;
        let (entries, _) = self.derived.entries(usize::MAX).map_err(&failed)?;
        for entry in entries {
            let name = std::str::from_utf8(&entry.name).ok();
            let digits = name.and_then(|name| {
                let index = name.strip_suffix(super::INDEX);
                index.or_else(|| name.strip_suffix(super::PROFILE))
            });
            let version = digits.and_then(|digits| digits.parse().ok());
            if version.is_some_and(|version| kept(&version)) {
                continue;
            }
            let stamp = self.derived.stamp(&entry.name).map_err(&failed)?;
            self.derived.remove(&entry.name).map_err(&failed)?;
            bytes += stamp.map_or(0, |stamp| stamp.bytes());
        }
        Ok(bytes)
    }
}

fn part_of((archive, index): &(Archive, OpenedIndex)) -> Part<'_> {
    Part { archive, index }
}
