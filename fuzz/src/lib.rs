//! Hostile input for distrofs: what the fuzz targets, `scripts/torture` and
//! `tests/torture.rs` share.
//!
//! Guarantees: everything is made from a seed, so that a case that failed once
//! fails again; a case takes bounded time and memory, or [`limits`] ends the
//! process and says which case it was. What is checked is always the same:
//! an answer is right or an error, never a panic, a hang or a wrong byte.
//!
//! | module | what |
//! |---|---|
//! | [`random`] | numbers from a seed |
//! | [`archive`] | tar and gzip files, byte by byte |
//! | [`mutate`] | damage, blind and aware of checksums |
//! | [`image`] | archive to index to files, all in memory |
//! | [`walk`] | asks a filesystem everything, and compares |
//! | [`torture`] | one numbered case of flips and cuts |
//! | [`targets`] | what is fuzzed, each a function of bytes |
//! | [`driver`] | mutates, runs, keeps what finds new code |
//! | [`limits`] | time and memory of a case |

pub mod archive;
pub mod driver;
pub mod image;
pub mod limits;
pub mod mutate;
pub mod random;
pub mod targets;
pub mod torture;
pub mod walk;
