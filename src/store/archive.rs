//! An archive file, opened once and never by name again.
//!
//! Guarantees: a regular file; its attributes are those of the descriptor that
//! is read, so a file renamed over the path later changes nothing.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::StoreError;
use crate::metrics::Metrics;
use crate::source::ArchiveFile;

/// An open archive.
#[derive(Clone, Debug)]
pub struct Archive {
    path: PathBuf,
    real: PathBuf,
    file: Arc<File>,
    opened: Metadata,
}

impl Archive {
    /// Opens the archive at `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |cause| StoreError::Archive {
            path: path.to_owned(),
            cause,
        };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        if !opened.is_file() {
            return Err(StoreError::NotAFile {
                path: path.to_owned(),
                kind: kind_of(&opened),
            });
        }
        let real = path.canonicalize().map_err(failed)?;
        let path = std::path::absolute(path).map_err(failed)?;
        Ok(Self {
            path,
            real,
            file: Arc::new(file),
            opened,
        })
    }

    /// The same, called `name` in messages.
    #[must_use]
    pub fn called(self, name: &Path) -> Self {
        let path = name.to_owned();
        Self { path, ..self }
    }

    /// An archive that is open already; `path` is what it is called in messages. Of
    /// what it is named elsewhere nothing is known, so its index has to be given.
    pub fn from_file(file: Arc<File>, path: &Path) -> Result<Self, StoreError> {
        let opened = file.metadata().map_err(|cause| StoreError::Archive {
            path: path.to_owned(),
            cause,
        })?;
        if !opened.is_file() {
            return Err(StoreError::NotAFile {
                path: path.to_owned(),
                kind: kind_of(&opened),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            real: path.to_owned(),
            file,
            opened,
        })
    }

    /// Where it was found, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same without links, as it was then.
    pub fn real_path(&self) -> &Path {
        &self.real
    }

    /// Its attributes when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.opened
    }

    /// The open file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Its bytes, for a source.
    pub(super) fn source(&self, metrics: &Arc<Metrics>) -> Result<ArchiveFile, StoreError> {
        let failed = |cause| StoreError::Archive {
            path: self.path.clone(),
            cause,
        };
        let file = self.file.try_clone().map_err(failed)?;
        ArchiveFile::new(file, Arc::clone(metrics)).map_err(failed)
    }

    /// Whether it still has the size and time that it was opened with.
    pub fn unchanged(&self) -> bool {
        let same = |now: Metadata| {
            now.len() == self.opened.len() && now.modified().ok() == self.opened.modified().ok()
        };
        self.file.metadata().is_ok_and(same)
    }
}

fn kind_of(file: &Metadata) -> &'static str {
    let kind = file.file_type();
    if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_block_device() || kind.is_char_device() {
        "device"
    } else {
        "special file"
    }
}
