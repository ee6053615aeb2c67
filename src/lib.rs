//! distrofs serves a container image archive as a read-only filesystem without
//! unpacking it.
//!
//! The modules from bottom to top; each names only modules above it in this
//! list (`tests/tidy.rs` checks that):
#![warn(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod budget;
pub mod config;
pub mod fs;
pub mod fuse;
pub mod index;
pub mod metrics;
pub mod source;
pub mod sys;
pub mod types;
