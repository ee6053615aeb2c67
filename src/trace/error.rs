//! Why a trace cannot be read or written.

use std::io;

/// Why a trace cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is something else.
    #[error("this is not a trace: make one with `distrofs lab record` or `distrofs lab synth`")]
    Foreign,
    /// Its format is another.
    #[error(
        "the trace is of format {found}, and this program knows format {known}: read it with the program that wrote it, or record it again"
    )]
    Version {
        /// What it says.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// It ends too early.
    #[error(
        "the trace was cut off after {records} records, at byte {at}: recording it was interrupted; `--partial` takes what is there"
    )]
    Truncated {
        /// How many whole records there are.
        records: u64,
        /// Where it ends.
        at: u64,
    },
    /// It contradicts itself.
    #[error("the trace is damaged at byte {at} ({what}): copy or record it again")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What was found.
        what: &'static str,
    },
    /// What describes its images is longer than it may be.
    #[error("the images have no room in a trace of that size: give it more with --max")]
    NoRoom,
    /// The system refused.
    #[error("cannot read or write a trace: {0}")]
    Io(#[from] io::Error),
}
