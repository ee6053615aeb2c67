//! The cache laboratory: what a cache of another size, another block, another span
//! or another rule would have done with the reads of a trace.
//!
//! Guarantees: everything but [`real`] works from a [`Trace`](crate::trace::Trace)
//! alone; the same trace and the same options give the same figures; memory grows
//! with the spans that are read, not with what a trace claims, and what is too large
//! is an error. Units: bytes and microseconds. No output here: plain types in and out.

pub mod advise;
mod error;
mod layout;
pub mod mrc;
pub mod policy;
mod random;
pub mod real;
pub mod replay;
pub mod seen;
pub mod synth;
#[cfg(test)]
mod testing;
mod times;

pub use error::LabError;
pub use times::Times;
