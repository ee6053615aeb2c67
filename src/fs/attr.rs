//! What stat(2) says about an inode, and who owns it.

use crate::index::{FileKind, Inode};
use crate::types::{Ino, Timestamp};

/// How an image is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsOptions {
    /// The directory that becomes the root.
    pub root: Ino,
    /// Who owns the files.
    pub owner: Owner,
    /// Whether device nodes are there; they are hidden otherwise.
    pub devices: bool,
}

/// Who owns the files of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whom the archive names.
    Keep,
    /// One owner for all. Privileges that the archive gives to files for its
    /// own owners (capabilities, ACLs) are hidden then.
    Squash {
        /// User of all files.
        uid: u32,
        /// Group of all files.
        gid: u32,
    },
}

/// The attributes of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The number that the kernel sees: 1 for the root.
    pub ino: u64,
    /// Its type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub perm: u16,
    /// How many names it has.
    pub nlink: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Allocated size, in units of 512 bytes.
    pub blocks: u64,
    /// The size of reads that suits it, in bytes, a power of two.
    pub block_size: u32,
    /// Last modification; archives know no other time.
    pub mtime: Timestamp,
    /// Device number of a device node.
    pub rdev: u32,
}

/// The block size of everything but large directories, and of statfs.
pub(super) const BLOCK_SIZE: u32 = 4096;

/// The most that a C library takes for its directory buffer (glibc: 1 MiB),
/// and the most that one request can bring.
const DIR_BUFFER_MAX: u32 = 1024 * 1024;

/// What an entry takes in a READDIRPLUS answer: 152 bytes and a name, with
/// room for long names.
const DIR_ENTRY_BYTES: u32 = 256;

impl Attr {
    /// The attributes of `inode`, shown under the number `ino`. `entries` is
    /// how many a directory has.
    pub(super) fn of(inode: &Inode, ino: u64, owner: Owner, entries: u32) -> Attr {
        let (uid, gid) = match owner {
            Owner::Keep => (inode.uid, inode.gid),
            Owner::Squash { uid, gid } => (uid, gid),
        };
        let directory = inode.kind == FileKind::Directory;
        let regular = inode.kind == FileKind::Regular;
        Attr {
            ino,
            kind: inode.kind,
            perm: inode.perm,
            nlink: inode.nlink,
            uid,
            gid,
            size: if directory {
                BLOCK_SIZE.into()
            } else {
                inode.size
            },
            blocks: if regular {
                inode.allocated.div_ceil(512)
            } else {
                0
            },
            block_size: if directory {
                directory_buffer(entries)
            } else {
                BLOCK_SIZE
            },
            mtime: inode.mtime,
            rdev: inode.rdev,
        }
    }
}

/// A buffer in which a whole directory comes with one request, attributes
/// included. C libraries take the block size of a directory as a hint for it;
/// without, the kernel asks for what is beyond 32 KiB by READDIR, and then
/// looks up every name.
fn directory_buffer(entries: u32) -> u32 {
    let wanted = entries.saturating_add(2).saturating_mul(DIR_ENTRY_BYTES);
    wanted.clamp(BLOCK_SIZE, DIR_BUFFER_MAX).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(kind: FileKind) -> Inode {
        Inode {
            ino: Ino::ROOT,
            kind,
            perm: 0o4755,
            uid: 7,
            gid: 8,
            nlink: 2,
            size: 10_000,
            allocated: 513,
            mtime: Timestamp { secs: -1, nanos: 5 },
            rdev: 0,
        }
    }

    #[test]
    fn a_file_keeps_what_the_archive_says() {
        let attr = Attr::of(&inode(FileKind::Regular), 9, Owner::Keep, 0);
        assert_eq!((attr.ino, attr.perm, attr.uid, attr.gid), (9, 0o4755, 7, 8));
        assert_eq!((attr.size, attr.blocks, attr.block_size), (10_000, 2, 4096));
        assert_eq!(attr.mtime, Timestamp { secs: -1, nanos: 5 });
    }

    #[test]
    fn one_owner_for_all() {
        let owner = Owner::Squash {
            uid: 1000,
            gid: 1001,
        };
        for kind in [FileKind::Regular, FileKind::Directory, FileKind::Symlink] {
            let attr = Attr::of(&inode(kind), 9, owner, 0);
            assert_eq!((attr.uid, attr.gid), (1000, 1001));
        }
    }

    #[test]
    fn a_directory_of_any_size_has_a_sane_buffer() {
        let buffer = |entries| Attr::of(&inode(FileKind::Directory), 1, Owner::Keep, entries);
        assert_eq!(
            (buffer(0).size, buffer(0).blocks, buffer(0).block_size),
            (4096, 0, 4096)
        );
        assert_eq!(buffer(1000).block_size, 256 * 1024);
        assert_eq!(buffer(u32::MAX).block_size, 1024 * 1024);
    }
}
