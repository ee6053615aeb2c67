//! How everything is doing, as `distrofs status --json` prints it: documented in
//! `docs/json.md`.

use serde::{Deserialize, Serialize};

use super::{ImagePath, Version};

/// All homes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// One of each.
    pub homes: Vec<HomeStatus>,
}

/// One home, as the supervisor sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HomeStatus {
    /// The user of the storage container.
    pub home: u32,
    /// The process of its worker; none while the next one is started.
    pub worker: Option<u32>,
    /// How often a worker was started in place of one that died.
    pub restarts: u64,
    /// Memory of the worker's control group, in bytes; none without one.
    pub memory_bytes: Option<u64>,
    /// What that group may take, and what the worker stays within.
    pub memory_limit_bytes: u64,
    /// Processes in the storage container's group that are not ours: it should run
    /// none.
    pub other_processes: u64,
    /// What is mounted.
    pub images: Vec<ImageStatus>,
    /// Versions that are not read any more, mounted or not.
    #[serde(default)]
    pub tombstones: Vec<Tombstone>,
}

/// A mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageStatus {
    /// Where in `distros/`.
    pub path: ImagePath,
    /// Which version.
    pub version: Version,
    /// Whether new starts get it; if not, containers have it still.
    pub is_current: bool,
    /// Its number.
    pub mount: u32,
    /// Whether it is not read any more: everything that is asked of it fails with
    /// EIO.
    #[serde(default)]
    pub is_tombstone: bool,
}

/// A version that is not read any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Where in `distros/`.
    pub path: ImagePath,
    /// Which version.
    pub version: Version,
    /// Why, and what to do.
    pub why: String,
}
