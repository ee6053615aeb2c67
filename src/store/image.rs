//! An archive opened together with its index.
//!
//! Guarantees: the index was made of this very archive, or of one with the same
//! SHA-256.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ingest::{IngestOptions, IngestReport, ingest};
use super::{Archive, StoreError, default_place, digest, places};
use crate::budget::MemoryBudget;
use crate::index::{Index, IndexError};
use crate::metrics::Metrics;
use crate::sidecar::{Sidecar, SidecarError};
use crate::source::{Decoders, StreamSource};
use crate::types::{Digest, Ino};

/// Why an index had to be made.
#[derive(Debug)]
pub enum Reason {
    /// There was none.
    Missing,
    /// It was asked for.
    Forced,
    /// The archive is another one than it was made of.
    Stale,
    /// It was made of another image, or with other patches or modes.
    Recipe,
    /// It was made with zeros ignored, and they are not to be, or the reverse.
    Zeros,
    /// The file cannot be used.
    Unusable(SidecarError),
    /// Its tables cannot.
    Tables(IndexError),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Missing => f.write_str("there was no index"),
            Reason::Forced => f.write_str("as asked"),
            Reason::Stale => f.write_str("the archive changed since it was indexed"),
            Reason::Recipe => f.write_str("the image, its patches or its modes changed"),
            Reason::Zeros => f.write_str("it was made with another choice of --ignore-zeros"),
            Reason::Unusable(error) => error.fmt(f),
            Reason::Tables(IndexError::Corrupt { what, number }) => {
                write!(f, "the index is damaged ({what} {number})")
            }
            Reason::Tables(error) => write!(f, "the index is damaged: {error}"),
        }
    }
}

/// An index that belongs to an archive.
#[derive(Debug)]
pub struct OpenedIndex {
    /// Where it is.
    pub place: PathBuf,
    /// The file.
    pub sidecar: Sidecar,
    /// Why and with what result it was made just now; `None` if it was there.
    pub made: Option<(Reason, IngestReport)>,
}

impl OpenedIndex {
    /// An index that somebody else opened, who calls it `name`, and knows that it
    /// belongs to the archive.
    pub fn of(file: File, name: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            place: name.to_owned(),
            sidecar: Sidecar::of(file, name)?,
            made: None,
        })
    }

    /// The digest of the archive that it was made of.
    pub fn digest(&self) -> Digest {
        Digest::new(self.sidecar.identity().sha256)
    }

    /// Whether it was made with zeros ignored. Fails if its tables are not even
    /// good for the root, without which nothing can be served.
    pub(super) fn ignored_zeros(&self) -> Result<bool, IndexError> {
        Ok(usable_index(&self.sidecar)?.ignored_zeros())
    }
}

/// An archive ready to be served.
#[derive(Debug)]
pub struct Image {
    /// What is in it.
    pub index: Index,
    /// Its bytes.
    pub source: Arc<StreamSource>,
}

impl Archive {
    /// Finds the index of this archive, or makes it: at `place`, or in the
    /// default places. With `force` it is made anew in any case.
    pub fn index(
        &self,
        place: Option<&Path>,
        options: IngestOptions,
        force: bool,
        metrics: &Arc<Metrics>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<OpenedIndex, StoreError> {
        if let Some(named) = place {
            refuse_foreign(named)?;
        }
        let reason = if force {
            Reason::Forced
        } else {
            match self.existing_index(place)? {
                Ok(found) => match found.ignored_zeros() {
                    Ok(zeros) if zeros == options.ignore_zeros => return Ok(found),
                    Ok(_) => Reason::Zeros,
                    Err(error) => Reason::Tables(error),
                },
                Err((_, why)) => why,
            }
        };
        let place = place.map_or_else(|| default_place(self.path()), Path::to_owned);
        let report = ingest(self.into(), &place, options, metrics, progress, &|| true)?;
        let sidecar = Sidecar::open(&place)?;
        Ok(OpenedIndex {
            place,
            sidecar,
            made: Some((reason, report)),
        })
    }

    /// The index of this archive that is there, at `place` or in the default
    /// places, or why there is none that can be used. Nothing is made.
    pub fn existing_index(
        &self,
        place: Option<&Path>,
    ) -> Result<Result<OpenedIndex, (PathBuf, Reason)>, StoreError> {
        let candidates = place.map_or_else(|| places(self.path()), |p| vec![p.to_owned()]);
        let mut unusable = None;
        for place in candidates {
            match self.existing(&place)? {
                Ok(sidecar) => {
                    return Ok(Ok(OpenedIndex {
                        place,
                        sidecar,
                        made: None,
                    }));
                }
                Err(Reason::Missing) => {}
                Err(why) => unusable = Some((place, why)),
            }
        }
        let missing = || (default_place(self.path()), Reason::Missing);
        Ok(Err(unusable.unwrap_or_else(missing)))
    }

    /// The index at `place`, or why it cannot be used.
    fn existing(&self, place: &Path) -> Result<Result<Sidecar, Reason>, StoreError> {
        let sidecar = match Sidecar::open(place) {
            Ok(sidecar) => sidecar,
            Err(SidecarError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err(Reason::Missing));
            }
            Err(error @ SidecarError::Io { .. }) => return Err(error.into()),
            Err(error) => return Ok(Err(Reason::Unusable(error))),
        };
        let identity = sidecar.identity();
        if identity.same_file(self.metadata()) {
            return Ok(Ok(sidecar));
        }
        if !identity.same_size(self.metadata()) {
            return Ok(Err(Reason::Stale));
        }
        let sha256 =
            digest::whole(self.file(), self.metadata().len(), &|_| {}).map_err(|cause| {
                StoreError::Archive {
                    path: self.path().to_owned(),
                    cause,
                }
            })?;
        Ok(if sha256 == identity.sha256 {
            Ok(sidecar)
        } else {
            Err(Reason::Stale)
        })
    }
}

/// The tables of a sidecar, if they are good at least for the root, without
/// which nothing can be served.
pub(super) fn usable_index(sidecar: &Sidecar) -> Result<Index, IndexError> {
    let index = Index::open(sidecar.region(), &|id| sidecar.section(id))?;
    index.inode(Ino::ROOT)?;
    index.lookup(Ino::ROOT, b"bin")?;
    Ok(index)
}

/// A place that the user named may hold something of theirs: a typing error
/// must not cost them the archive.
pub(super) fn refuse_foreign(place: &Path) -> Result<(), StoreError> {
    let holds_something = std::fs::metadata(place).is_ok_and(|file| file.len() > 0);
    match Sidecar::open(place) {
        Err(SidecarError::Foreign) if holds_something => Err(StoreError::NotOurs {
            path: place.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Image {
    /// Opens the tables of `index` over `archive`.
    pub fn open(
        archive: &Archive,
        index: &OpenedIndex,
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let decoders = Decoders::new(budget.clone());
        let decoders = decoders.map_err(|cause| StoreError::Source {
            path: index.place.clone(),
            cause,
        })?;
        Self::sharing(archive, index, &decoders, metrics)
    }

    /// The same with decoders that other images use, too.
    pub fn sharing(
        archive: &Archive,
        index: &OpenedIndex,
        decoders: &Decoders,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let sidecar = &index.sidecar;
        let find = |id| sidecar.section(id);
        let file = archive.source(metrics)?;
        let source = StreamSource::open(
            Arc::new(file),
            sidecar.region(),
            &find,
            decoders,
            Arc::clone(metrics),
        )
        .map_err(|cause| StoreError::Source {
            path: index.place.clone(),
            cause,
        })?;
        let index = Index::open(sidecar.region(), &find).map_err(|cause| StoreError::Index {
            path: index.place.clone(),
            cause,
        })?;
        Ok(Self {
            index,
            source: Arc::new(source),
        })
    }
}
