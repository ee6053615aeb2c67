//! Why text is no report.

use thiserror::Error;

/// Why text is no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// More text than is read at all.
    #[error("the report is {bytes} bytes long; at most {most} are read. Write fewer points")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// No JSON, or JSON of another shape; the source says in which line.
    #[error("this is no report: {0}. Correct it there")]
    Shape(#[from] serde_json::Error),
    /// More of something than is drawn.
    #[error("{place}: there are {found}, at most {most} are shown. Split it")]
    TooMany {
        /// Where in the report.
        place: String,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Two lengths that belong together differ.
    #[error("{place}: there are {found}, but {expected} are expected. Make them equal")]
    Length {
        /// Where in the report.
        place: String,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
}
