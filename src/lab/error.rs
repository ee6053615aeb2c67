//! Why the laboratory cannot answer.

use crate::source::SourceError;
use crate::trace::TraceError;

/// Why the laboratory cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A setting that makes no sense.
    #[error("{what} of {found} bytes: it must be {must}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What was given.
        found: u64,
        /// What it must be.
        must: &'static str,
    },
    /// The trace names more than is simulated.
    #[error(
        "the trace has {what} of {found}, and at most {most} is possible here: record it again with distrofs"
    )]
    TooLarge {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much.
        found: u64,
        /// The most.
        most: u64,
    },
    /// There is nothing to simulate.
    #[error("the trace holds no read of an image: record one while something is read")]
    Empty,
    /// What cannot be had by a real replay.
    #[error("a real replay cannot have {what}: leave out `--real` to simulate it")]
    NotReal {
        /// What.
        what: &'static str,
    },
    /// The archive is not the one that was read.
    #[error(
        "image {image} of the trace is another one ({what}): give the archive with which it was recorded"
    )]
    OtherImage {
        /// Which image of the trace.
        image: u32,
        /// In what it differs.
        what: &'static str,
    },
    /// The archive could not be read.
    #[error("while replaying: {0}")]
    Source(#[from] SourceError),
    /// The trace could not be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A thread could not be started or failed.
    #[error("a thread of the laboratory failed: {0}")]
    Thread(std::io::Error),
}
