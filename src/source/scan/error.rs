//! Why an archive could not be scanned: facts, and what to do next.

use std::io;

use super::super::SourceError;
use super::super::kind::Foreign;

/// Why a scan failed; `E` is what the consumer of the stream says.
#[derive(Debug, thiserror::Error)]
pub enum ScanError<E> {
    /// The archive is not as it should be.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The tables could not be written.
    #[error("cannot write the index: {0}")]
    Write(io::Error),
    /// The system has no thread or no memory for the scan.
    #[error("cannot start scanning: {0}")]
    Start(io::Error),
    /// The consumer of the stream gave up.
    #[error("{0}")]
    Consumer(E),
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] SourceError),
    /// It is compressed in a way that cannot be read in place.
    #[error(
        "this is a {name} file, which cannot be read in place: convert it ({advice}) and upload that"
    )]
    Unsupported {
        /// What it is.
        name: &'static str,
        /// How to convert it.
        advice: &'static str,
    },
    /// It ends within a gzip member.
    #[error(
        "the archive ends at offset {at}, inside of the gzip member that starts at {member_at}: it was not uploaded completely; upload it again"
    )]
    Truncated {
        /// Its length.
        at: u64,
        /// Where the unfinished member starts.
        member_at: u64,
    },
    /// A gzip header is wrong.
    #[error(
        "damaged gzip header at archive offset {at} ({what}): compare the archive with the original and upload it again"
    )]
    Header {
        /// Archive offset of what is wrong.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The compressed data is wrong.
    #[error(
        "damaged compressed data at archive offset {at} ({what}): compare the archive with the original and upload it again"
    )]
    Deflate {
        /// Archive offset, near the damage.
        at: u64,
        /// What the decoder says.
        what: &'static str,
    },
    /// A gzip member does not match its checksum.
    #[error(
        "the gzip member at archive offset {member_at} does not match its {what} at offset {trailer_at} (stored {stored:#010x}, found {found:#010x}): compare the archive with the original and upload it again"
    )]
    Checksum {
        /// Where the member starts.
        member_at: u64,
        /// Where its trailer is.
        trailer_at: u64,
        /// CRC-32 or length.
        what: &'static str,
        /// The value in the trailer.
        stored: u32,
        /// The value of what was decoded.
        found: u32,
    },
    /// More than the tables can describe.
    #[error("the archive is too large at stream offset {stream_at}: {what}")]
    TooLarge {
        /// Where in the stream that was found.
        stream_at: u64,
        /// The limit that was hit.
        what: &'static str,
    },
}

impl From<Foreign> for ArchiveError {
    fn from(Foreign { name, advice }: Foreign) -> Self {
        Self::Unsupported { name, advice }
    }
}

impl<E> From<ArchiveError> for ScanError<E> {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}
