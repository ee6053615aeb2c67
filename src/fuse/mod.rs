//! The adapter between the kernel and the filesystem; the only user of `fuser`.
//!
//! Guarantees: metadata and cached reads are answered where they arrive, reads
//! that have to wait by a bounded pool, so that one stuck read blocks nobody;
//! every request is counted and gets one answer, EIO at the latest when its
//! deadline passes or when it panics; nothing can be changed.
//!
//! Lock order: each of the small locks here is taken alone, and none is held
//! while a filesystem is asked or an answer is sent.

mod adapter;
mod adopt;
mod buffers;
mod burst;
mod convert;
mod deadline;
mod invalidate;
mod negotiate;
mod pool;
mod progress;
mod quiet;
mod reads;
mod refuse;
mod session;
mod spin;
mod tombstone;

pub use buffers::Buffers;
pub use progress::Oldest;
pub use session::{Answers, Connection, Means, SessionError, SessionHandle, serve};
pub use tombstone::Tombstone;
