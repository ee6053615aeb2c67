//! The numbers and small traits that more than one layer speaks.
//!
//! Guarantees: a value of one of these types was checked when it was made, so
//! no layer checks it again. Units: every offset and length is in bytes, every
//! time is seconds and nanoseconds since 1970 (negative before).

mod decision;
mod digest;
mod image_of;
mod image_path;

use std::fmt;
use std::ops::Range;

pub use decision::{Decision, Raised};
pub use digest::{Digest, NotADigest};
pub use image_of::{ImageOf, NotAnImage};
pub use image_path::{ImagePath, NameError};

/// Bytes covered by one checksum, and the unit of caching: the last block of a
/// span may be shorter.
pub const BLOCK_BYTES: u32 = 16 * 1024;

/// An inode number: the number of its record plus one, so that the root is 1,
/// as FUSE wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(u32);

impl Ino {
    /// The inode of the top of the archive.
    pub const ROOT: Ino = Ino(1);

    /// The inode with this number, if it is one that a record can have.
    pub fn new(number: u64) -> Option<Ino> {
        u32::try_from(number).ok().filter(|n| *n != 0).map(Ino)
    }

    /// The inode of record `record`.
    pub fn from_record(record: u32) -> Option<Ino> {
        record.checked_add(1).map(Ino)
    }

    /// The record number of this inode.
    pub fn record(self) -> u32 {
        self.0 - 1
    }

    /// The number that the kernel sees.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An offset in the uncompressed archive stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamOffset(pub u64);

impl fmt::Display for StreamOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a block, counted through the whole stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockNo(pub u32);

/// The number of a span: the bytes between two checkpoints of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanNo(pub u32);

/// A moment: seconds since 1970 and nanoseconds of the second (0..1e9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Whole seconds since 1970, rounded down, negative before.
    pub secs: i64,
    /// Nanoseconds to add, below 1,000,000,000.
    pub nanos: u32,
}

/// Bytes that stay where they are while somebody holds the region: an index in
/// memory or a mapped file.
pub trait Region: Send + Sync {
    /// The bytes; the same length for the life of the region.
    fn bytes(&self) -> &[u8];

    /// Whether all that was read until now was what the file held when it was
    /// opened. Asked after reading and before the answer leaves.
    fn intact(&self) -> bool {
        true
    }

    /// Whether the bytes in `range` are those that were once written there.
    /// Asked before anything is concluded from them; cheap when asked again.
    fn vouch(&self, _range: Range<usize>) -> bool {
        true
    }

    /// Says that the bytes in `range` will be read soon, so that they are on
    /// their way meanwhile. Only a hint.
    fn will_need(&self, _range: Range<usize>) {}

    /// Says that nothing will be read for a while, so that no memory is needed.
    fn trim(&self) {}
}

impl Region for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}
/// What a kernel offered at the beginning of a FUSE connection: all that decides
/// what was agreed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KernelOffer {
    /// Minor version of the protocol.
    pub minor: u32,
    /// What it can do (`FUSE_INIT` flags).
    pub flags: u64,
}
