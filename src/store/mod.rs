//! Images on disk: an archive, the sidecar index that belongs to it, and how
//! the one is made of the other.
//!
//! Guarantees: an index is used only for the archive that it was made of; one
//! that is stale, damaged or foreign is made again, and the caller is told
//! why. An archive that changes while it is indexed is an error, never an
//! index. An image that was changed afterwards ([`derived`]) has an index of its
//! own, for which the same holds.

mod archive;
pub mod derived;
mod digest;
mod files;
mod growth;
pub mod home;
mod image;
mod ingest;
mod place;
mod profiles;
mod verify;

use std::io;
use std::path::PathBuf;

pub use archive::Archive;
pub use files::{ImageFiles, Served};
pub use image::{Image, OpenedIndex, Reason};
pub use ingest::{IngestOptions, IngestReport};
pub use place::{default_place, places};
pub use profiles::{
    find_profile, keep_profile, profile_places, profile_places_of, read_profile, remove_profiles,
};
pub use verify::{ArchiveReport, BlockReport, Damaged, verify_archive, verify_blocks};

use crate::index::IndexError;
use crate::index::build::BuildError;
use crate::profile::ProfileError;
use crate::sidecar::SidecarError;
use crate::source::SourceError;
use crate::source::scan::ScanError;
use crate::types::Digest;

/// Why an image could not be indexed or opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The archive cannot be opened.
    #[error("cannot open the archive {}: {cause}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is no regular file.
    #[error("{} is a {kind}, not a regular file: give the archive itself", path.display())]
    NotAFile {
        /// The path that was given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file that is not ours stands where the index would go.
    #[error("{} exists and is no index: remove it, or name another place with --index", path.display())]
    NotOurs {
        /// The file in the way.
        path: PathBuf,
    },
    /// It changed while it was read.
    #[error("{} changed while it was indexed: wait until it is uploaded completely, then index it again", path.display())]
    Changed {
        /// The archive.
        path: PathBuf,
    },
    /// The compressed stream is bad.
    #[error("{}: {cause}", path.display())]
    Scan {
        /// The archive.
        path: PathBuf,
        /// Where and why.
        cause: ScanError<BuildError>,
    },
    /// The index could not be built.
    #[error("{}: {cause}", path.display())]
    Build {
        /// The archive.
        path: PathBuf,
        /// Where and why.
        cause: BuildError,
    },
    /// The sidecar file.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    /// The index tables.
    #[error("{}: {cause}", path.display())]
    Index {
        /// The sidecar file.
        path: PathBuf,
        /// What is wrong.
        cause: IndexError,
    },
    /// The source tables.
    #[error("{}: {cause}", path.display())]
    Source {
        /// The sidecar file.
        path: PathBuf,
        /// What is wrong.
        cause: SourceError,
    },
    /// A file that should be a start profile.
    #[error("{}: {cause}", path.display())]
    Profile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        cause: ProfileError,
    },
    /// The file of a start profile.
    #[error("cannot {doing} the start profile {}: {cause}", path.display())]
    ProfileFile {
        /// What was tried.
        doing: &'static str,
        /// Where it is, or should be.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Files that were handed over are not those of the image.
    #[error("the files of {} are not those of its version {}", name.display(), version.short())]
    OtherFiles {
        /// What the image is called.
        name: PathBuf,
        /// The version that they should be of.
        version: Digest,
    },
    /// A helper thread or file could not be had.
    #[error("cannot {doing}: {cause}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}
