//! All files that an image is served from, as they are handed from one process to
//! another: who serves an image opens nothing by a path.
//!
//! An image as it was uploaded has its archive and its index. One that was changed
//! has its derived index, then the archive and its index, then each patch and its
//! index, the lowest first.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::derived::{DerivedIndex, Part};
use super::{Archive, Image, OpenedIndex, StoreError};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::source::{BlockSource, Decoders};
use crate::types::{Digest, Region};

/// The files of an image.
#[derive(Debug)]
pub struct ImageFiles(Vec<OwnedFd>);

/// What is served from them.
pub struct Served {
    /// What is in the image.
    pub index: Index,
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
    /// The indexes, mapped.
    pub regions: Vec<Arc<dyn Region>>,
    /// How long those are.
    pub index_bytes: u64,
    /// How long all archives are.
    pub archive_bytes: u64,
    /// The archives that it is made of.
    pub archives: Vec<Digest>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served")
            .field("archives", &self.archives)
            .finish_non_exhaustive()
    }
}

/// An archive and its index.
struct Pair(Archive, OpenedIndex);

impl Pair {
    fn part(&self) -> Part<'_> {
        Part {
            archive: &self.0,
            index: &self.1,
        }
    }
}

impl ImageFiles {
    /// Those of an archive that is served as it was uploaded; `index` is the file of
    /// its index.
    pub fn of_archive(archive: &Archive, index: File) -> Result<ImageFiles, StoreError> {
        Ok(ImageFiles(vec![cloned(archive)?, index.into()]))
    }

    /// Those of an image that was changed: the file of its derived index, and each
    /// archive with the file of its index.
    pub fn of_derived(
        derived: File,
        parts: Vec<(Archive, File)>,
    ) -> Result<ImageFiles, StoreError> {
        let mut files = vec![derived.into()];
        for (archive, index) in parts {
            files.extend([cloned(&archive)?, index.into()]);
        }
        Ok(ImageFiles(files))
    }

    /// Those that another process handed over, if there are as many as there must be.
    pub fn received(files: Vec<OwnedFd>) -> Option<ImageFiles> {
        (files.len() >= 2).then_some(ImageFiles(files))
    }

    /// To be handed over.
    pub fn borrowed(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// Opens version `version` of the image that is called `name`.
    pub fn open(
        &self,
        name: &Path,
        version: Digest,
        decoders: &Decoders,
        metrics: &Arc<Metrics>,
    ) -> Result<Served, StoreError> {
        let (derived, pairs) = match self.0.len() % 2 {
            0 => (None, &self.0[..]),
            _ => (self.0.first(), &self.0[1..]),
        };
        let pairs = pairs.chunks_exact(2).map(|pair| {
            let archive = Archive::from_file(Arc::new(opened(&pair[0])?), name)?;
            Ok(Pair(archive, OpenedIndex::of(opened(&pair[1])?, name)?))
        });
        let pairs: Vec<_> = pairs.collect::<Result<_, StoreError>>()?;
        let derived = derived.map(|file| DerivedIndex::of(opened(file)?, name));
        let derived = derived.transpose()?;
        let archives = pairs.iter().map(|Pair(_, index)| index.digest());
        let archives: Vec<Digest> = archives.collect();
        let made_of = derived.as_ref().map(DerivedIndex::version);
        if made_of.or(archives.first().copied()) != Some(version) {
            let name = name.to_owned();
            return Err(StoreError::OtherFiles { name, version });
        }
        let (index, source): (Index, Arc<dyn BlockSource>) = match (&derived, &pairs[..]) {
            (Some(derived), pairs) => {
                let parts = pairs.iter().map(Pair::part);
                let opened = derived.open(parts, decoders, metrics)?;
                (opened.index, opened.source)
            }
            (None, [Pair(archive, index), ..]) => {
                let image = Image::sharing(archive, index, decoders, metrics)?;
                (image.index, image.source)
            }
            (None, []) => {
                let name = name.to_owned();
                return Err(StoreError::OtherFiles { name, version });
            }
        };
        let sidecars = pairs.iter().map(|Pair(_, index)| &index.sidecar);
        let sidecars = sidecars.chain(derived.iter().map(|derived| &derived.sidecar));
        let archive_bytes = pairs
            .iter()
            .map(|Pair(archive, _)| archive.metadata().len());
        Ok(Served {
            index,
            source,
            index_bytes: sidecars.clone().map(|sidecar| sidecar.len()).sum(),
            regions: sidecars.map(|sidecar| sidecar.region()).collect(),
            archive_bytes: archive_bytes.sum(),
            archives,
        })
    }
}

fn cloned(archive: &Archive) -> Result<OwnedFd, StoreError> {
    let file = archive.file().try_clone().map_err(no_descriptor)?;
    Ok(file.into())
}

fn opened(file: &OwnedFd) -> Result<File, StoreError> {
    Ok(file.try_clone().map_err(no_descriptor)?.into())
}

fn no_descriptor(cause: std::io::Error) -> StoreError {
    StoreError::System {
        doing: "open a file once more",
        cause,
    }
}
