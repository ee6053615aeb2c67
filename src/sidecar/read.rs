//! Opening a sidecar file.
//!
//! Guarantees: opening reads a thousandth of the file; nothing of a file that is
//! not this program's, of another version or cut short is ever used. A damaged
//! page is found when it is used: the region does not vouch for it.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::header::{self, HEADER_BYTES, Identity, Section};
use super::pages::{Paged, SECTION_PAGES};
use crate::sys::map::Map;
use crate::types::Region;

/// Why a sidecar file cannot be used. All but [`Io`](Self::Io) are mended by
/// making it again.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// It could not be read or written.
    #[error("cannot {doing} the index {}: {cause}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is no sidecar file at all.
    #[error("the file is not an index made by distrofs")]
    Foreign,
    /// Another version of this program made it.
    #[error("the index has format version {found}, this program reads {known}")]
    Version {
        /// The version in the file.
        found: u32,
        /// The version of this program.
        known: u32,
    },
    /// It is truncated or was changed.
    #[error("the index is damaged ({what})")]
    Damaged {
        /// Where the contradiction is.
        what: &'static str,
    },
}

/// An open sidecar file.
#[derive(Clone)]
pub struct Sidecar {
    region: Arc<dyn Region>,
    identity: Identity,
    sections: Arc<[Section]>,
}

impl Sidecar {
    /// Opens and checks the sidecar at `path`.
    pub fn open(path: &Path) -> Result<Self, SidecarError> {
        let failed = |cause| SidecarError::Io {
            doing: "open",
            path: path.to_owned(),
            cause,
        };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        Self::of(file, path)
    }

    /// Checks the sidecar that is open as `file`, and is called `name`.
    pub fn of(file: File, name: &Path) -> Result<Self, SidecarError> {
        let map = Map::open(file).map_err(|cause| SidecarError::Io {
            doing: "open",
            path: name.to_owned(),
            cause,
        })?;
        Self::from_region(Arc::new(map))
    }

    /// Checks a sidecar that is in memory already.
    pub fn from_region(region: Arc<dyn Region>) -> Result<Self, SidecarError> {
        let header::Parsed { identity, sections } = header::parse(region.bytes())?;
        let paged = Paged::new(region, &sections).ok_or(SidecarError::Damaged {
            what: "checksums of its pages",
        })?;
        Ok(Self {
            region: Arc::new(paged),
            identity,
            sections: sections.into(),
        })
    }

    /// The archive that it was made of.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// All bytes of the file, for tables that are read in place.
    pub fn region(&self) -> Arc<dyn Region> {
        Arc::clone(&self.region)
    }

    /// Where section `id` lies in the region.
    pub fn section(&self, id: u32) -> Option<Range<usize>> {
        let section = self.sections.iter().find(|s| s.id.get() == id)?;
        let start = usize::try_from(section.offset.get()).ok()?;
        Some(start..start.checked_add(usize::try_from(section.len.get()).ok()?)?)
    }

    /// Begins to read all sections but those `except`, in the order of the
    /// file, as far as all together have at most `max_bytes`: to be called when
    /// it is known that they will be used here and there. Does not wait.
    pub fn read_ahead(&self, except: &[u32], max_bytes: u64) {
        let mut left = max_bytes;
        for section in self.sections.iter() {
            let (id, len) = (section.id.get(), section.len.get());
            if !except.contains(&id)
                && len <= left
                && let Some(range) = self.section(id)
            {
                self.region.will_need(range);
                left -= len;
            }
        }
    }

    /// Size of the file in bytes.
    pub fn len(&self) -> u64 {
        self.region.bytes().len() as u64
    }

    /// Whether the file has no byte, which a valid one never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads everything and compares every section's and every page's checksum.
    pub fn verify(&self) -> Result<(), SidecarError> {
        let right = |section: &Section| {
            let bytes = self
                .section(section.id.get())
                .and_then(|r| self.region.bytes().get(r));
            bytes.is_some_and(|bytes| crc32c::crc32c(bytes) == section.crc.get())
        };
        if !self.sections.iter().all(right) || !self.region.intact() {
            return Err(SidecarError::Damaged {
                what: "section checksum",
            });
        }
        // Behind this only what lies between the sections can be wrong.
        let pages = self.section(SECTION_PAGES).map(|pages| pages.start);
        match pages.is_some_and(|end| self.region.vouch(HEADER_BYTES..end)) {
            true => Ok(()),
            false => Err(SidecarError::Damaged {
                what: "page checksum",
            }),
        }
    }
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sidecar")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
