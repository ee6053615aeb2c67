//! The read-only filesystem in plain types.
//!
//! Guarantees: it knows neither FUSE nor caches nor compression, and keeps no
//! state per inode or per open file, so that any number of threads may ask, and
//! a restarted daemon answers for inodes that the kernel already knows. No
//! answer leaves before the index was found intact.

mod attr;
mod content;
mod error;
mod image;
mod xattr;

pub use attr::{Attr, FsOptions, Owner};
pub use content::{Patience, Whence};
pub use error::FsError;
pub use image::{DirEntry, ImageFs, StatFs};
pub use xattr::XattrAnswer;

/// What kind of file an attribute speaks of.
pub use crate::index::FileKind;
