//! Why an archive could not be indexed.
//!
//! Guarantees: a message names the entry and the offset in the uncompressed
//! stream, says what to do, and holds nothing that drives a terminal.

use std::io;

use crate::index::error::IndexError;
use crate::index::escape::EntryName;

/// Why an archive could not be indexed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The archive asks for more than the limits allow.
    #[error(
        "{entry} (offset {offset}): {value} is more than the limit of {max} for {limit}; if the \
         archive is to be trusted, raise that limit"
    )]
    Limit {
        /// Which limit, as its field is called.
        limit: &'static str,
        /// What the archive asks for.
        value: u64,
        /// What is allowed.
        max: u64,
        /// The entry.
        entry: EntryName,
        /// Offset of its header in the stream.
        offset: u64,
    },
    /// The stream ends inside of an entry.
    #[error(
        "the archive ends at offset {offset}, inside of {entry}: it is truncated, upload it again"
    )]
    Truncated {
        /// Where the stream ends.
        offset: u64,
        /// The entry that is not complete.
        entry: EntryName,
    },
    /// The first block is no tar header.
    #[error("not a tar archive: there is no tar header at offset {offset}")]
    NotTar {
        /// Where a header was expected.
        offset: u64,
    },
    /// A later block is no tar header.
    #[error(
        "no valid tar header at offset {offset}, behind {after}: the archive is damaged, compare \
         it with the original"
    )]
    Checksum {
        /// Where a header was expected.
        offset: u64,
        /// The entry before it.
        after: EntryName,
    },
    /// A field of a header does not hold what it must.
    #[error(
        "{entry} (offset {offset}): the header's field `{field}` is invalid: the archive is damaged or was made by a faulty program"
    )]
    Header {
        /// Which field.
        field: &'static str,
        /// The entry.
        entry: EntryName,
        /// Offset of its header in the stream.
        offset: u64,
    },
    /// An extended header does not hold what it must.
    #[error(
        "the extended header at offset {offset} is invalid ({what}): the archive is damaged or was made by a faulty program"
    )]
    Pax {
        /// What is wrong.
        what: &'static str,
        /// Offset of the extended header in the stream.
        offset: u64,
    },
    /// The entry needs something that would be served wrongly.
    #[error("{entry} (offset {offset}): {what} cannot be read yet: make the archive again without")]
    Unsupported {
        /// What it needs.
        what: &'static str,
        /// The entry.
        entry: EntryName,
        /// Offset of its header in the stream.
        offset: u64,
    },
    /// The caller left out a part of the stream.
    #[error("internal error: the stream was given from offset {got}, expected {expected}")]
    Gap {
        /// Where the next byte was expected.
        expected: u64,
        /// Where it was.
        got: u64,
    },
    /// No more room for the builder's tables.
    #[error("no room for the table of {what}: {cause}; free some space and index again")]
    Arena {
        /// Which table.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The builder's tables lost what was written into them.
    #[error(
        "the temporary table of {what} was damaged at record {number}: the disk is full or failing; index again"
    )]
    Scratch {
        /// Which table.
        what: &'static str,
        /// Which record.
        number: u64,
    },
    /// The index of the image below cannot be read.
    #[error("cannot read the index of the image: {0}")]
    Base(#[from] IndexError),
    /// The parts do not fit together.
    #[error(
        "{value} {what} are more than the {max} that an image can have: put them together in \
         one patch"
    )]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        value: u64,
        /// What is allowed.
        max: u64,
    },
    /// The finished tables could not be written.
    #[error("cannot write the index: {0}")]
    Write(#[from] io::Error),
}
