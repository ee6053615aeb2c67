//! [`Subject`]: an image to look at.

use std::io::BufReader;
use std::sync::Arc;

use super::reader::FileReader;
use crate::fs::{FsError, FsOptions, ImageFs, Owner};
use crate::index::{Escaped, FileKind, Index, IndexError, Inode, ResolveError};
use crate::metrics::Metrics;
use crate::source::ReadAt;
use crate::types::Ino;

/// Why an image could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The index could not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A file of the image could not be read.
    #[error("cannot read {path} of the image: {cause}")]
    Content {
        /// Its path, escaped.
        path: String,
        /// Why not.
        cause: std::io::Error,
    },
}

/// An image, and the directory in it that would be the root of a container.
#[derive(Debug)]
pub struct Subject {
    index: Index,
    fs: ImageFs,
    root: Ino,
}

impl Subject {
    /// The image of `index`, whose files' bytes are in `content`; `root` is a
    /// directory in it. What is read is counted in `metrics`.
    pub fn new(
        index: Index,
        content: Arc<dyn ReadAt>,
        root: Ino,
        metrics: Arc<Metrics>,
    ) -> Result<Self, FsError> {
        let options = FsOptions {
            // Inode numbers are then those of the index.
            root: Ino::ROOT,
            owner: Owner::Keep,
            devices: true,
        };
        let fs = ImageFs::new(index.clone(), content, options, metrics)?;
        Ok(Self { index, fs, root })
    }

    /// The index of the image.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The directory that would be the root.
    pub fn root(&self) -> Ino {
        self.root
    }

    /// What `path` leads to after chroot(2) into the root, links followed;
    /// nothing if it leads nowhere.
    pub fn find(&self, path: &[u8]) -> Result<Option<Inode>, IndexError> {
        self.resolve(path, true)
    }

    /// What `path` names: if that is a link, the link.
    pub fn find_unfollowed(&self, path: &[u8]) -> Result<Option<Inode>, IndexError> {
        self.resolve(path, false)
    }

    /// The regular file that `path` leads to, for reading in order.
    pub fn open(&self, path: &[u8]) -> Result<Option<BufReader<FileReader<'_>>>, IndexError> {
        let inode = self.find(path)?;
        let file = inode.filter(|inode| inode.kind == FileKind::Regular);
        Ok(file.map(|inode| self.read(&inode)))
    }

    /// The content of a regular file, for reading in order.
    pub fn read(&self, inode: &Inode) -> BufReader<FileReader<'_>> {
        BufReader::with_capacity(READ_BYTES, FileReader::new(&self.fs, inode.ino, inode.size))
    }

    fn resolve(&self, path: &[u8], follow: bool) -> Result<Option<Inode>, IndexError> {
        match self.index.resolve(self.root, path, follow) {
            Ok(ino) => self.index.inode(ino).map(Some),
            Err(ResolveError::Index(error)) => Err(error),
            Err(
                ResolveError::NotFound { .. }
                | ResolveError::NotDirectory { .. }
                | ResolveError::TooManyLinks { .. },
            ) => Ok(None),
        }
    }
}

/// Read of a file at a time.
const READ_BYTES: usize = 64 * 1024;

/// An error of reading `path`.
pub(super) fn unreadable(path: &[u8]) -> impl Fn(std::io::Error) -> InspectError {
    move |cause| InspectError::Content {
        path: Escaped(path).to_string(),
        cause,
    }
}
