//! Plain types to those of `fuser`.

use std::time::{Duration, SystemTime};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use crate::fs::FileKind;
use crate::fs::{Attr, FsError};
use crate::types::Timestamp;

/// The errno of an error, chosen by the filesystem.
pub(super) fn errno(error: &FsError) -> Errno {
    Errno::from_i32(error.errno())
}

/// The type in a directory entry and in a mode.
pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// All attributes; the one time that an archive knows stands for the others.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    let time = system_time(attr.mtime);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: attr.block_size,
        flags: 0,
    }
}

/// The entry of a name that is not there: with inode 0 and a time to live the
/// kernel remembers that.
pub(super) fn absent() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// A moment; one that the system cannot hold becomes 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let moment = if time.secs < 0 {
        epoch.checked_sub(whole)
    } else {
        epoch.checked_add(whole)
    };
    moment
        .and_then(|moment| moment.checked_add(Duration::from_nanos(time.nanos.into())))
        .unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_beyond_reason() {
        let time = |secs, nanos| system_time(Timestamp { secs, nanos });
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(
            epoch
                .duration_since(time(-1, 300_000_000))
                .unwrap()
                .as_millis(),
            700
        );
        assert_eq!(
            time(1, 5).duration_since(epoch).unwrap(),
            Duration::new(1, 5)
        );
        assert_eq!(
            time(i64::MAX, 999_999_999)
                .duration_since(epoch)
                .unwrap()
                .as_secs(),
            i64::MAX.unsigned_abs()
        );
        assert!(time(i64::MIN, 0) < epoch);
        assert_eq!(time(i64::MAX, u32::MAX), epoch);
    }
}
