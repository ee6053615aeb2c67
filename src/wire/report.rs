//! How everything is doing, as `distrofs status --json` prints it: documented in
//! `docs/json.md`.

use serde::{Deserialize, Serialize};

use super::{ImagePath, Version};

/// All homes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// One of each.
    pub homes: Vec<HomeStatus>,
    /// Lines in the logs of containers.
    #[serde(default)]
    pub lines: Lines,
    /// What is known of containers.
    #[serde(default)]
    pub decisions: Decided,
}

/// What the registry decided, as far as it is known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// For how many containers.
    pub containers: u64,
    /// What the registry called that state; none before it said anything.
    pub revision: Option<u64>,
    /// Alarms that wait for the registry.
    pub alarms_waiting: u64,
}

/// What became of lines for the logs of containers, since the service was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Those that were written.
    pub written: u64,
    /// Those that could not be: a container without a log, for example.
    pub failed: u64,
    /// Those that were not tried: there were too many.
    pub dropped: u64,
}

/// Views that containers attached, since the service was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Views {
    /// How many were handed out.
    pub attached: u64,
    /// How many were wanted and could not be.
    pub refused: u64,
    /// To how many containers they were handed out.
    pub containers: u64,
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
    /// Views of its images.
    #[serde(default)]
    pub views: Views,
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
