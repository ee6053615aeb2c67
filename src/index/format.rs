//! The bytes of an index: the specification, then every record as a type whose
//! size and offsets are asserted. No other place describes them.
//!
#![doc = include_str!("FORMAT.md")]

use siphasher::sip::SipHasher13;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::node::FileKind;

/// The version of these tables; a reader refuses every other.
pub const VERSION: u32 = 1;

/// Section ids, as the container of sections knows them.
pub mod section {
    /// Version, counts, hash key, summary.
    pub const META: u32 = 0x101;
    /// One record per inode.
    pub const INODES: u32 = 0x102;
    /// One record per name, grouped by directory.
    pub const DIRENTS: u32 = 0x103;
    /// One record per directory.
    pub const DIRS: u32 = 0x104;
    /// One record per name, sorted by hash within each directory.
    pub const HASHES: u32 = 0x105;
    /// Names and link targets.
    pub const NAMES: u32 = 0x106;
    /// Pieces of sparse files.
    pub const EXTENTS: u32 = 0x107;
    /// Sets of extended attributes.
    pub const XATTRS: u32 = 0x108;
    /// One record per sparse file.
    pub const SPARSE: u32 = 0x109;
    /// All of them.
    pub const ALL: [u32; 9] = [
        META, INODES, DIRENTS, DIRS, HASHES, NAMES, EXTENTS, XATTRS, SPARSE,
    ];
}

/// The longest name of a directory entry, as everywhere on Linux.
pub const NAME_BYTES_MAX: usize = 255;

/// The longest name of an extended attribute (`XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;

/// The most names of one directory that may share a hash. With a key that no
/// archive can know, three already never happen.
pub(super) const EQUAL_HASHES_MAX: usize = 64;

/// The type bits of a mode.
pub(super) const KIND_MASK: u16 = 0o170_000;

/// The permission bits of a mode.
pub(super) const PERM_MASK: u16 = 0o7777;

/// Inode flag: `data` is the number of a record in SPARSE.
pub(super) const FLAG_SPARSE: u16 = 1;

/// META flag: blocks of zeros did not end the archive.
pub(super) const META_IGNORED_ZEROS: u32 = 1;

/// The `xattrs` of an inode that has none.
pub(super) const NO_XATTRS: u32 = u32::MAX;

/// First record of META, and its only one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct MetaRecord {
    pub(super) version: U32,
    pub(super) root: U32,
    pub(super) hash_key: [u8; 16],
    pub(super) inode_count: U32,
    pub(super) dirent_count: U32,
    pub(super) dir_count: U32,
    pub(super) sparse_count: U32,
    pub(super) extent_count: U32,
    pub(super) max_owner: U32,
    pub(super) names_bytes: U64,
    pub(super) xattrs_bytes: U64,
    pub(super) live_inodes: U64,
    pub(super) files: U64,
    pub(super) directories: U64,
    pub(super) symlinks: U64,
    pub(super) devices: U64,
    pub(super) hard_links: U64,
    pub(super) content_bytes: U64,
    pub(super) with_xattrs: U64,
    pub(super) flags: U32,
    pub(super) reserved: U32,
}

/// A record of INODES.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct InodeRecord {
    pub(super) size: U64,
    pub(super) data: U64,
    pub(super) mtime_secs: I64,
    pub(super) mtime_nanos: U32,
    pub(super) uid: U32,
    pub(super) gid: U32,
    pub(super) nlink: U32,
    pub(super) xattrs: U32,
    pub(super) mode: U16,
    pub(super) flags: U16,
}

impl InodeRecord {
    pub(super) fn kind(&self) -> Option<FileKind> {
        kind_of_mode(self.mode.get() & KIND_MASK)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == Some(FileKind::Directory)
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.flags.get() & FLAG_SPARSE != 0
    }

    pub(super) fn has_xattrs(&self) -> bool {
        self.xattrs.get() != NO_XATTRS
    }
}

/// A record of DIRENTS.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DirentRecord {
    pub(super) ino: U32,
    pub(super) name: U32,
}

/// A record of DIRS.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DirRecord {
    pub(super) first: U32,
    pub(super) count: U32,
    pub(super) parent: U32,
    pub(super) ino: U32,
}

/// A record of HASHES.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct HashRecord {
    pub(super) hash: U32,
    pub(super) dirent: U32,
}

/// A record of SPARSE.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SparseRecord {
    pub(super) allocated: U64,
    pub(super) first: U32,
    pub(super) count: U32,
}

/// A record of EXTENTS.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ExtentRecord {
    pub(super) file_offset: U64,
    pub(super) stream: U64,
    pub(super) len: U64,
}

/// What stands before each attribute of a set in XATTRS; name and value follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct XattrHead {
    pub(super) value_len: U32,
    pub(super) name_len: u8,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<MetaRecord>() == 136);
    assert!(offset_of!(MetaRecord, hash_key) == 8);
    assert!(offset_of!(MetaRecord, inode_count) == 24);
    assert!(offset_of!(MetaRecord, max_owner) == 44);
    assert!(offset_of!(MetaRecord, names_bytes) == 48);
    assert!(offset_of!(MetaRecord, with_xattrs) == 120);
    assert!(offset_of!(MetaRecord, flags) == 128);
    assert!(offset_of!(MetaRecord, reserved) == 132);
    assert!(size_of::<InodeRecord>() == 48);
    assert!(offset_of!(InodeRecord, data) == 8);
    assert!(offset_of!(InodeRecord, mtime_secs) == 16);
    assert!(offset_of!(InodeRecord, mtime_nanos) == 24);
    assert!(offset_of!(InodeRecord, uid) == 28);
    assert!(offset_of!(InodeRecord, gid) == 32);
    assert!(offset_of!(InodeRecord, nlink) == 36);
    assert!(offset_of!(InodeRecord, xattrs) == 40);
    assert!(offset_of!(InodeRecord, mode) == 44);
    assert!(offset_of!(InodeRecord, flags) == 46);
    assert!(size_of::<DirentRecord>() == 8);
    assert!(offset_of!(DirentRecord, name) == 4);
    assert!(size_of::<DirRecord>() == 16);
    assert!(offset_of!(DirRecord, count) == 4);
    assert!(offset_of!(DirRecord, parent) == 8);
    assert!(offset_of!(DirRecord, ino) == 12);
    assert!(size_of::<HashRecord>() == 8);
    assert!(offset_of!(HashRecord, dirent) == 4);
    assert!(size_of::<SparseRecord>() == 16);
    assert!(offset_of!(SparseRecord, first) == 8);
    assert!(offset_of!(SparseRecord, count) == 12);
    assert!(size_of::<ExtentRecord>() == 24);
    assert!(offset_of!(ExtentRecord, stream) == 8);
    assert!(offset_of!(ExtentRecord, len) == 16);
    assert!(size_of::<XattrHead>() == 5);
    assert!(offset_of!(XattrHead, name_len) == 4);
};

/// The kind that the type bits of a mode stand for.
pub(super) fn kind_of_mode(bits: u16) -> Option<FileKind> {
    Some(match bits {
        0o100_000 => FileKind::Regular,
        0o040_000 => FileKind::Directory,
        0o120_000 => FileKind::Symlink,
        0o010_000 => FileKind::Fifo,
        0o140_000 => FileKind::Socket,
        0o020_000 => FileKind::CharDevice,
        0o060_000 => FileKind::BlockDevice,
        _ => return None,
    })
}

/// The type bits of a mode for a kind.
pub(super) fn mode_of_kind(kind: FileKind) -> u16 {
    match kind {
        FileKind::Regular => 0o100_000,
        FileKind::Directory => 0o040_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Fifo => 0o010_000,
        FileKind::Socket => 0o140_000,
        FileKind::CharDevice => 0o020_000,
        FileKind::BlockDevice => 0o060_000,
    }
}

/// The hash of a name: the low half of SipHash-1-3 (Aumasson and Bernstein,
/// 2012) under the index's own key.
pub(super) fn name_hash(key: &[u8; 16], name: &[u8]) -> u32 {
    let hash = SipHasher13::new_with_key(key).hash(name);
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}

/// Whether bytes can be the name of a directory entry.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

/// Whether bytes can be the name of an extended attribute.
pub(super) fn is_xattr_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= XATTR_NAME_BYTES_MAX && !name.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_mode_bits_are_inverse() {
        for bits in (0..=0o17_u16).map(|b| b << 12) {
            if let Some(kind) = kind_of_mode(bits) {
                assert_eq!(mode_of_kind(kind), bits);
            }
        }
    }

    /// The first two vectors of the SipHash-1-3 reference (`vectors_sip13`),
    /// low halves: key 00..0f, input of 0 and 1 bytes.
    #[test]
    fn the_hash_is_that_of_the_specification() {
        let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(
            name_hash(&key, &[]),
            u32::from_le_bytes([0xdc, 0xc4, 0x0f, 0x05])
        );
        assert_eq!(
            name_hash(&key, &[0]),
            u32::from_le_bytes([0x93, 0xca, 0x57, 0x7d])
        );
    }

    #[test]
    fn names_that_no_directory_can_hold_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(!is_name(bad), "{bad:?}");
        }
        for good in [&b"a"[..], b"...", b"\xff\n", &[b'x'; 255]] {
            assert!(is_name(good), "{good:?}");
        }
    }
}
