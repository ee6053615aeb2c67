//! Why something could not be done in a home: facts, and what to do next.

use std::io;
use std::path::PathBuf;

use crate::index::build::ModeError;
use crate::store::StoreError;
use crate::types::{Digest, ImagePath};

/// Why something could not be done in a home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The directory of the store cannot be used.
    #[error("cannot {doing} the store {}: {cause}", path.display())]
    Store {
        /// What was tried.
        doing: &'static str,
        /// The store.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Others could change or see what is in the store.
    #[error(
        "the store {} belongs to user {owner} and has mode {mode:03o}: it must belong to user {user} and be closed to others (chown {user}, chmod 700)", path.display()
    )]
    NotPrivate {
        /// The store.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
        /// Who uses it.
        user: u32,
    },
    /// Uploads cannot be moved into it.
    #[error(
        "the store {} is on another filesystem than the home: uploads are moved into it, so put it on the same one", path.display()
    )]
    OtherFilesystem {
        /// The store.
        path: PathBuf,
    },
    /// Another process works in it.
    #[error("the store {} is in use by another process: wait until that has ended", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// The directory for uploads cannot be used.
    #[error(
        "cannot open the directory distros of the home: {cause}; it must be a directory itself, not a link"
    )]
    Distros {
        /// What the system said.
        cause: io::Error,
    },
    /// No room.
    #[error(
        "no room on the disk to {doing} ({cause}): remove files or images that are not needed, or ask for more room; it goes on by itself then"
    )]
    Full {
        /// What was tried.
        doing: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Any other failure of the system.
    #[error("cannot {doing}: {cause}")]
    Io {
        /// What was tried, and with what.
        doing: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The record of an image cannot be used.
    #[error(
        "the record {file} of an image cannot be used ({what}): put it back from a backup, or move it away and upload the image again"
    )]
    Record {
        /// The file, in the store.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// There would be more to a record than is read again.
    #[error(
        "the record of the image {path} would have more than {max} bytes: have fewer changes, or upload an image that has them"
    )]
    RecordTooLong {
        /// The image.
        path: ImagePath,
        /// What is allowed.
        max: usize,
    },
    /// There is no such image.
    #[error("there is no image {path}")]
    NoImage {
        /// Its name.
        path: ImagePath,
    },
    /// There is no such version.
    #[error("the image {path} has no version {wanted}")]
    NoVersion {
        /// The image.
        path: ImagePath,
        /// What was asked for.
        wanted: String,
    },
    /// More than one version is meant.
    #[error("several versions of the image {path} begin with {wanted}: give more digits")]
    Ambiguous {
        /// The image.
        path: ImagePath,
        /// What was asked for.
        wanted: String,
    },
    /// The current version is not to be removed alone.
    #[error(
        "{version} is the current version of the image {path}: go back to another one first, or remove the image"
    )]
    Current {
        /// The image.
        path: ImagePath,
        /// The version, shortened.
        version: String,
    },
    /// An archive of the store is not there, or not whole.
    #[error("the archive {digest} in the store is {what}: upload the image again")]
    Lost {
        /// The archive.
        digest: Digest,
        /// What is wrong.
        what: &'static str,
    },
    /// A mode that nothing can have, or that nothing in an image can be given.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// An archive or index.
    #[error(transparent)]
    Archive(#[from] StoreError),
}

impl HomeError {
    /// The error for a failure of the system.
    pub(super) fn of(doing: impl Into<String>, cause: io::Error) -> HomeError {
        let doing = doing.into();
        match is_full(&cause) {
            true => HomeError::Full { doing, cause },
            false => HomeError::Io { doing, cause },
        }
    }

    /// The same, to be mapped.
    pub(super) fn doing(what: &str) -> impl Fn(io::Error) -> HomeError {
        move |cause| HomeError::of(what, cause)
    }
}

/// Whether there is no room on the disk, or no more of it for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
