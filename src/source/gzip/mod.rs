//! gzip (RFC 1952) as a sequence of members, and random access into them.
//!
//! Invariants: a stream offset counts the output of all members together;
//! decoding starts at the first bit of a deflate block, or of a symbol in one,
//! with the bytes before it that it may refer to (its window), or at a member's
//! start without any.

pub(crate) mod decoder;
pub(crate) mod input;
pub(crate) mod member;
pub(crate) mod window;

/// `archive_bit` of a place in the archive: the first bit of byte `at`, less
/// `unused` bits of the bytes before it.
pub(crate) fn bit_before(at: u64, unused: u32) -> Option<u64> {
    at.checked_mul(8)?.checked_sub(u64::from(unused))
}
