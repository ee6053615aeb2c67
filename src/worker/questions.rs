//! What owners and administrators ask a worker, through the supervisor, which does
//! not read it.

use serde::{Deserialize, Serialize};

use crate::serving::report::Report;
use crate::wire::ImagePath;

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Question {
    /// How what is served is doing: a [`WorkerReport`].
    Report,
}

/// What is answered instead if it cannot be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// Why not, and what to do.
    pub error: String,
}

/// How what is served is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Each mount.
    pub images: Vec<ImageReport>,
}

/// How a mount is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageReport {
    /// Its number.
    pub mount: u32,
    /// Where in `distros/`.
    pub path: ImagePath,
    /// Counters, requests and memory.
    #[serde(flatten)]
    pub report: Report,
}
