//! Which reads reached a serving process: written down, and read again.
//!
//! Guarantees: writing never outgrows its bound and recording never keeps a reader
//! waiting, what has no place is counted; a trace that was cut off, damaged or is
//! something else is an error that says so, and never a wrong record.
#![doc = include_str!("FORMAT.md")]

mod error;
mod frame;
mod read;
mod record;
mod recorder;
pub mod watch;
mod write;

pub use error::TraceError;
pub use read::{Records, Trace, decoded_image};
pub use record::{Outcome, Read};
pub use recorder::{Asked, FETCHED_BYTES, Fetched, NOTED_BYTES, Recorder, Watched, fetched};
pub use write::{Totals, TraceWriter, encoded_image};

/// Where a trace comes from, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The program that recorded or made it, with its version.
    pub program: String,
    /// When it was begun, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<u64>,
    /// How much the cache of the serving process held at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// What was cached at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// How many decoders could wait where they stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoders: Option<u32>,
    /// What made it, to be typed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// An image that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracedImage {
    /// SHA-256 of its archive; zeros if there is none.
    pub digest: [u8; 32],
    /// What it is called, for people.
    pub name: String,
    /// How long its uncompressed stream is.
    pub stream_bytes: u64,
    /// How long its archive is.
    pub archive_bytes: u64,
    /// Where its spans begin, in the order of the stream; the first at 0 unless the
    /// stream is empty.
    pub spans: Vec<SpanStart>,
}

/// Where a span begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanStart {
    /// Offset in the uncompressed stream.
    pub stream: u64,
    /// Offset in the archive.
    pub archive: u64,
}

#[cfg(test)]
mod tests;
