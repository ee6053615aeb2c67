#![doc = include_str!("FORMAT.md")]

mod header;
mod pages;
mod read;
mod write;

pub use header::Identity;
pub use read::{Sidecar, SidecarError};
pub use write::{SectionWriter, SidecarWriter};
