//! What the index answers with: inodes, names, extents, attributes.
//!
//! Plain values and borrowed bytes, already checked against the tables that
//! they came from. Every offset and size is in bytes.

use crate::types::{Ino, StreamOffset, Timestamp};

/// What kind of file an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// An inode as the archive describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Its type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub perm: u16,
    /// Owner in the archive.
    pub uid: u32,
    /// Group in the archive.
    pub gid: u32,
    /// Names of a file; 2 plus subdirectories for a directory.
    pub nlink: u32,
    /// Bytes of content, or of the link target.
    pub size: u64,
    /// Bytes of content that are not holes.
    pub allocated: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// Device number as `makedev(3)` of Linux packs it, 0 for all but devices.
    pub rdev: u32,
}

/// A run of file content that is contiguous in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file it starts.
    pub file_offset: u64,
    /// Where in the uncompressed stream its bytes are.
    pub stream: StreamOffset,
    /// How many bytes.
    pub len: u64,
}

/// A directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// Its position in the directory, from 0, in archive order.
    pub position: u32,
    /// Its name: 1 to 255 bytes, never `.` or `..`, no slash, no NUL.
    pub name: &'a [u8],
    /// The inode that it names.
    pub ino: Ino,
}

/// An extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xattr<'a> {
    /// Full name, with its namespace.
    pub name: &'a [u8],
    /// Any bytes.
    pub value: &'a [u8],
}
