//! Why an index could not answer.

use crate::types::Ino;

/// Why an index could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A record contradicts the tables around it.
    #[error("the index is damaged ({what} {number}): make it again with `distrofs index --force`")]
    Corrupt {
        /// The kind of record.
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// There is no such inode.
    #[error("no inode {0} in the index")]
    NoInode(u64),
    /// The inode is of another kind than the question needs.
    #[error("inode {ino} is not a {wanted}")]
    WrongKind {
        /// The inode.
        ino: Ino,
        /// What it would have to be.
        wanted: &'static str,
    },
}

/// A record that contradicts the tables around it.
pub(super) fn corrupt(what: &'static str, number: impl Into<u64>) -> IndexError {
    IndexError::Corrupt {
        what,
        number: number.into(),
    }
}
