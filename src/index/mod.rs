//! Path to extents: what an archive holds, as an immutable table read in place.
//!
//! Guarantees: this module knows no compression and does no I/O; it reads any
//! byte slice, checks every bound, and answers [`IndexError::Corrupt`] rather
//! than panic. Inode numbers are record numbers plus one; nothing is kept per
//! inode.
//!
//! | module | what |
//! |---|---|
//! | [`format`](mod@format) | the tables on disk, and their specification |
//! | [`build`] | from a tar stream to those tables |
//! | `reader`, `tables` | [`Index`]: from the tables to answers |
//! | `verify` | checks every invariant of the specification |
//! | `resolve`, `walk` | from a path to an inode, within the image |

use std::ops::Range;

pub mod build;
pub mod format;

mod error;
mod escape;
mod node;
mod reader;
mod resolve;
mod summary;
mod tables;
mod verify;
mod walk;

pub use error::IndexError;
pub use escape::{EntryName, Escaped};
pub use node::{Dirent, Extent, FileKind, Inode, Xattr};
pub use reader::Index;
pub use resolve::ResolveError;
pub use summary::Summary;

/// Finds a section of the region by its id.
pub type FindSection<'a> = &'a dyn Fn(u32) -> Option<Range<usize>>;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
