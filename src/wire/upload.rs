//! An archive on its way to a worker, over a stream socket.
//!
//! Who sends it writes frames: four bytes, little-endian, say how many bytes follow,
//! at most [`FRAME_BYTES_MAX`]. A frame of no bytes is the end, after which it is
//! whole; a stream that ends without it is given up. Then, or as soon as nothing more
//! is needed to know, the worker writes a [`Received`] as JSON and closes.

use serde::{Deserialize, Serialize};

use super::Version;

/// The most bytes of a frame.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;

/// What a worker may say at the end, in bytes.
pub const RECEIVED_BYTES_MAX: usize = 64 << 10;

/// What became of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Received {
    /// It is the current version of its image: new starts get it.
    Taken {
        /// The SHA-256 of it.
        version: Version,
        /// Size of the archive.
        bytes: u64,
        /// Names in it.
        entries: u64,
        /// What its owner should know, a line each.
        notes: Vec<String>,
    },
    /// It can never be an image.
    Rejected {
        /// Why not.
        reason: String,
    },
    /// It was not taken in, and may be another time.
    Failed {
        /// Why not, and what to do.
        reason: String,
    },
}
