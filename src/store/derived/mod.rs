#![doc = include_str!("FORMAT.md")]

mod make;
mod recipe;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image::{refuse_foreign, usable_index};
use super::{Archive, Image, OpenedIndex, Reason, StoreError};
use crate::budget::MemoryBudget;
use crate::index::Index;
use crate::index::build::ModeChange;
use crate::metrics::Metrics;
use crate::sidecar::{Sidecar, SidecarError};
use crate::source::{BlockSource, Decoders, Joined, SourceError};
use crate::types::Digest;
use recipe::Recipe;

/// What it was made of.
const SECTION_RECIPE: u32 = 0x401;

/// How long the streams of its archives are.
const SECTION_STREAMS: u32 = 0x402;

/// What the owner was told.
const SECTION_NOTES: u32 = 0x403;

/// An archive with its index, as part of an image.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// Its index.
    pub index: &'a OpenedIndex,
}

/// What an image is made of: an archive, patches on top of it in this order, and
/// changes of modes on top of those.
#[derive(Debug)]
pub struct Derivation<'a> {
    base: Part<'a>,
    patches: &'a [Part<'a>],
    changes: &'a [ModeChange],
    recipe: Recipe,
}

/// The index of an image that was changed.
#[derive(Debug)]
pub struct DerivedIndex {
    /// Where it is.
    pub place: PathBuf,
    /// The file.
    pub sidecar: Sidecar,
    /// Why it was made just now; `None` if it was there.
    pub made: Option<Reason>,
    /// What the owner is to be told, a line each: entries that were left out,
    /// changes that could not be made.
    pub notes: Vec<String>,
}

/// An image that was changed, ready to be served.
pub struct Derived {
    /// What is in it.
    pub index: Index,
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived")
            .field("index", &self.index)
            .field("stream_len", &self.source.len())
            .finish()
    }
}

impl<'a> Derivation<'a> {
    /// An image of `base`. Fails if there are more patches or changes than an
    /// image can have, or if an index is damaged.
    pub fn new(
        base: Part<'a>,
        patches: &'a [Part<'a>],
        changes: &'a [ModeChange],
    ) -> Result<Self, StoreError> {
        let recipe = Recipe::new(base, patches, changes)?;
        Ok(Self {
            base,
            patches,
            changes,
            recipe,
        })
    }

    /// The image, then the patches.
    fn parts(&self) -> impl Iterator<Item = Part<'a>> {
        std::iter::once(self.base).chain(self.patches.iter().copied())
    }

    /// The version of the image: the same whenever it is made of the same.
    pub fn version(&self) -> Digest {
        self.recipe.version()
    }

    /// Finds the index of this image at `place`, or makes it there.
    pub fn index(
        &self,
        place: &Path,
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<DerivedIndex, StoreError> {
        refuse_foreign(place)?;
        let reason = match self.existing_index(place)? {
            Ok(found) => return Ok(found),
            Err(reason) => reason,
        };
        self.make(place, budget, metrics)?;
        let sidecar = Sidecar::open(place)?;
        Ok(DerivedIndex {
            place: place.to_owned(),
            notes: notes(&sidecar),
            sidecar,
            made: Some(reason),
        })
    }

    /// The index of this image that is at `place`, or why there is none that can
    /// be used. Nothing is made.
    pub fn existing_index(&self, place: &Path) -> Result<Result<DerivedIndex, Reason>, StoreError> {
        let sidecar = match Sidecar::open(place) {
            Ok(sidecar) => sidecar,
            Err(SidecarError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err(Reason::Missing));
            }
            Err(error @ SidecarError::Io { .. }) => return Err(error.into()),
            Err(error) => return Ok(Err(Reason::Unusable(error))),
        };
        if section(&sidecar, SECTION_RECIPE).as_deref() != Some(self.recipe.bytes()) {
            return Ok(Err(Reason::Recipe));
        }
        if let Err(error) = usable_index(&sidecar) {
            return Ok(Err(Reason::Tables(error)));
        }
        Ok(Ok(DerivedIndex {
            place: place.to_owned(),
            notes: notes(&sidecar),
            sidecar,
            made: None,
        }))
    }

    /// Opens the tables of `index` over the archives.
    pub fn open(
        &self,
        index: &DerivedIndex,
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<Derived, StoreError> {
        // Each with its own, there would be no room for many.
        let decoders = Decoders::new(budget.clone()).map_err(|cause| StoreError::Source {
            path: self.base.index.place.clone(),
            cause,
        })?;
        index.open(self.parts(), &decoders, metrics)
    }
}

impl DerivedIndex {
    /// An index that somebody else opened, who calls it `name`, and knows that it is
    /// of the archives that it will be opened over.
    pub fn of(file: File, name: &Path) -> Result<Self, StoreError> {
        let sidecar = Sidecar::of(file, name)?;
        Ok(Self {
            place: name.to_owned(),
            notes: notes(&sidecar),
            sidecar,
            made: None,
        })
    }

    /// The version of the image that it is of.
    pub fn version(&self) -> Digest {
        Digest::new(self.sidecar.identity().sha256)
    }

    /// Opens its tables over the archives: the image, then the patches.
    pub fn open<'a>(
        &self,
        parts: impl Iterator<Item = Part<'a>>,
        decoders: &Decoders,
        metrics: &Arc<Metrics>,
    ) -> Result<Derived, StoreError> {
        let open = |part: Part<'_>| -> Result<Arc<dyn BlockSource>, StoreError> {
            Ok(Image::sharing(part.archive, part.index, decoders, metrics)?.source)
        };
        let sources: Vec<_> = parts.map(open).collect::<Result<_, _>>()?;
        let failed = |cause| StoreError::Source {
            path: self.place.clone(),
            cause,
        };
        let lens: Vec<u8> = sources.iter().flat_map(|s| s.len().to_le_bytes()).collect();
        if section(&self.sidecar, SECTION_STREAMS).as_deref() != Some(&lens) {
            let what = "the length of a stream is another one";
            return Err(failed(SourceError::Tables { what }));
        }
        let find = |id| self.sidecar.section(id);
        let tables = Index::open(self.sidecar.region(), &find);
        Ok(Derived {
            index: tables.map_err(|cause| StoreError::Index {
                path: self.place.clone(),
                cause,
            })?,
            source: joined(sources).map_err(failed)?,
        })
    }
}

/// One stream of all; an image without patches needs nothing in between.
fn joined(sources: Vec<Arc<dyn BlockSource>>) -> Result<Arc<dyn BlockSource>, SourceError> {
    match &sources[..] {
        [only] => Ok(Arc::clone(only)),
        _ => Ok(Arc::new(Joined::new(sources)?)),
    }
}

/// The bytes of a section, if they are what was written.
fn section(sidecar: &Sidecar, id: u32) -> Option<Vec<u8>> {
    let (region, range) = (sidecar.region(), sidecar.section(id)?);
    let is_right = region.vouch(range.clone());
    let bytes = region.bytes().get(range)?.to_vec();
    (is_right && region.intact()).then_some(bytes)
}

/// What the owner was told.
fn notes(sidecar: &Sidecar) -> Vec<String> {
    let text = section(sidecar, SECTION_NOTES).unwrap_or_default();
    let lines = String::from_utf8_lossy(&text);
    lines.lines().map(str::to_owned).collect()
}
