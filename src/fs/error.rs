//! What can go wrong, and the number that the program behind the kernel gets.
//!
//! This is the only file that chooses an errno: [`FsError::errno`] matches
//! exhaustively, with the reason beside each choice that could be doubted.

use crate::index::IndexError;
use crate::source::SourceError;

/// Why a request was not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The index could not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The bytes of a file could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The index file is not what it was.
    #[error(
        "the index file was overwritten or truncated while it was in use: unmount, make it again with `distrofs index --force`, and mount again"
    )]
    IndexChanged,
    /// Nothing of that name.
    #[error("no such file")]
    NotFound,
    /// A name longer than any file can have.
    #[error("the name is too long")]
    NameTooLong,
    /// No data, or nothing at all, at that offset or behind it.
    #[error("no such offset in the file")]
    NoSuchOffset,
    /// Not an operation on that kind of file.
    #[error("the argument makes no sense for this file")]
    Invalid,
    /// The inode has no extended attribute of that name.
    #[error("no such attribute")]
    NoAttribute,
    /// The attribute is longer than the caller's buffer.
    #[error("the attribute does not fit")]
    BufferTooSmall,
    /// The names of all attributes are longer than Linux can list.
    #[error("too many attributes to list")]
    ListTooLong,
    /// Something was to be changed.
    #[error("an image cannot be changed")]
    ReadOnly,
    /// The kernel is to do without this kind of request from now on.
    #[error("not needed")]
    NotNeeded,
    /// An ioctl that is not ours.
    #[error("no such ioctl")]
    NoIoctl,
    /// The caller may not ask that.
    #[error("not permitted")]
    NotPermitted,
    /// Somebody else records what is read, or this recording is over.
    #[error("another recording is under way, or this one is over")]
    NotNow,
    /// The report of a mount is longer than an ioctl can carry.
    #[error("the report is too long")]
    AnswerTooLong,
    /// The answer took too long.
    #[error("no answer in time: the disk under the archive may be failing; see the kernel's log")]
    Deadline,
    /// Reading the image ended the process too often.
    #[error("the image is not read any more: reading it ended the worker again and again")]
    Buried,
    /// A bug; the request was dropped and the others go on.
    #[error("the request hit a bug in distrofs: please report it")]
    Panicked,
}

impl FsError {
    /// The number for the kernel.
    pub fn errno(&self) -> i32 {
        match self {
            FsError::Index(error) => index_errno(error),
            FsError::Source(error) => source_errno(error),
            FsError::NotFound => libc::ENOENT,
            FsError::NameTooLong => libc::ENAMETOOLONG,
            // lseek(2): whence is SEEK_DATA or SEEK_HOLE beyond the end.
            FsError::NoSuchOffset => libc::ENXIO,
            FsError::Invalid => libc::EINVAL,
            FsError::NoAttribute => libc::ENODATA,
            FsError::BufferTooSmall => libc::ERANGE,
            FsError::ListTooLong => libc::E2BIG,
            FsError::ReadOnly => libc::EROFS,
            // The kernel remembers it, for each kind of request, and answers by
            // itself from then on.
            FsError::NotNeeded => libc::ENOSYS,
            // Not ENOSYS: overlayfs and lsattr(1) take only this for "has none".
            FsError::NoIoctl => libc::ENOTTY,
            FsError::NotPermitted => libc::EPERM,
            FsError::NotNow => libc::EBUSY,
            FsError::AnswerTooLong => libc::EOVERFLOW,
            FsError::IndexChanged | FsError::Deadline | FsError::Buried | FsError::Panicked => {
                libc::EIO
            }
        }
    }

    /// Whether it is the archive, the index or this program that failed, and
    /// not the question: to be counted and logged.
    pub fn is_failure(&self) -> bool {
        self.errno() == libc::EIO
    }
}

fn index_errno(error: &IndexError) -> i32 {
    match error {
        IndexError::Corrupt { .. } => libc::EIO,
        // The kernel asks only for inodes that it was told of: this one is from
        // a file handle (NFS, overlayfs) of another version of the image.
        IndexError::NoInode(_) => libc::ESTALE,
        // The kernel knows the kind and asks accordingly: a handmade request.
        IndexError::WrongKind { .. } => libc::EINVAL,
    }
}

fn source_errno(error: &SourceError) -> i32 {
    match error {
        // What the disk said (ENOSPC, EACCES, ...) is about the archive, and
        // would mislead whoever reads a file of the image.
        SourceError::Io { .. }
        | SourceError::Truncated { .. }
        | SourceError::Inflate { .. }
        | SourceError::Checksum { .. }
        | SourceError::Tables { .. }
        | SourceError::Part { .. }
        // Reads are clamped to the file before: the index points outside.
        | SourceError::OutOfRange { .. } => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ino;

    #[test]
    fn only_failures_are_eio() {
        assert!(FsError::IndexChanged.is_failure());
        assert!(FsError::from(SourceError::Tables { what: "span" }).is_failure());
        assert!(
            FsError::from(IndexError::Corrupt {
                what: "inode",
                number: 3
            })
            .is_failure()
        );
        for error in [FsError::ReadOnly, FsError::NotFound, FsError::NoIoctl] {
            assert!(!error.is_failure(), "{error}");
        }
        assert_eq!(FsError::from(IndexError::NoInode(7)).errno(), libc::ESTALE);
        let wrong = IndexError::WrongKind {
            ino: Ino::ROOT,
            wanted: "regular file",
        };
        assert_eq!(FsError::from(wrong).errno(), libc::EINVAL);
    }
}
