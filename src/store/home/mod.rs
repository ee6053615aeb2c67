//! A storage home: what a customer drops into `distros/`, and what becomes of it.
//!
//! ```text
//! HOME/distros/            the customer's, who may do anything in it at any time
//!   web.tgz                an upload
//!   web.d/*.tar            layers on top of the image `web`
//!   .rejected/web.tgz      what can never be an image, with web.tgz.reason
//! STORE/                   ours: same user, same filesystem, closed to others
//!   archives/DIGEST        archives by their SHA-256, DIGEST.dfsx their indexes
//!   derived/VERSION.dfsx   indexes of images that were changed afterwards
//!   derived/VERSION.dfsp   start profiles of versions
//!   images/web.json        which versions there are of an image ([`ImageRecord`])
//!   images/.trial          which upload is being indexed (`trial`)
//!   incoming/              what is being taken in (`journal`)
//!   scratch/               what is copied out of an image to be looked at
//!   lock                   held by the process that works in it
//! ```
//!
//! Guarantees:
//! * an upload that is taken in was written by nobody from before its index was
//!   begun until it had left `distros`, and belongs to this process's user;
//! * after a crash or an error at any step, [`Home::recover`] and [`Home::scan`]
//!   finish what was begun, or undo it; an archive is in `distros` or in the store;
//! * in `distros` nothing is reached by a path and no link is followed;
//! * memory is bounded by [`Options`], and by what indexing one archive takes.
//!
//! Not promised: whoever owns an archive can write into it by a descriptor that was
//! opened without access before. What is read then does not match its checksums.
//!
//! No process is managed here, and nothing is mounted. Calls may come from several
//! threads; those that index wait for each other, and none of them for who sends an
//! archive. Lock order: `turn`, `records`, `seen`, `arriving`; only `turn` is held while
//! something is indexed.

mod arrive;
mod compose;
mod error;
mod fault;
mod folder;
mod journal;
mod name;
mod patches;
mod record;
mod reject;
mod scan;
mod take;
#[cfg(test)]
mod tests;
mod trial;
mod verdict;
mod versions;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FlockOperation, flock};

pub use arrive::{Arrival, Incoming};
pub use compose::Composed;
pub use error::HomeError;
pub use folder::{Entry, Folder, Stamp, kind_of};
pub use journal::Unfinished;
pub use name::STATUS;
pub use patches::Patches;
pub use record::{ImageRecord, ModeChange, Patch, Version};
pub use reject::Rejection;
pub use scan::{Scan, Sighting, State};
pub use take::Outcome;
pub use versions::{Images, Swept, Which};

use crate::metrics::Metrics;
use crate::store::IngestOptions;
use crate::types::{Digest, ImagePath};
use journal::Token;
use record::Records;
use scan::Seen;

/// The directory for uploads, in a home.
const DISTROS: &[u8] = b"distros";
const ARCHIVES: &str = "archives";
const IMAGES: &str = "images";
const DERIVED: &str = "derived";
const INCOMING: &str = "incoming";
const SCRATCH: &str = "scratch";
const LOCK: &str = "lock";

/// How a home is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Versions of an image that are kept, unless its record says how many.
    pub keep_versions: u32,
    /// Names in `distros` that are looked at. Stops a directory of millions of
    /// names from filling memory.
    pub names_max: usize,
    /// Images at most. Stops many small ones from filling the memory of whoever
    /// serves them all.
    pub images_max: usize,
    /// How long after a failure of the system an upload is tried again; twice as
    /// long after each one that follows, up to 64 times.
    pub retry_after: Duration,
    /// Archives that are sent at a time.
    pub arriving_max: usize,
    /// How long an archive that is sent is waited for while it is indexed.
    pub stalled_after: Duration,
    /// How often progress is told, at most.
    pub progress_every: Duration,
    /// How to index.
    pub ingest: IngestOptions,
}

impl Options {
    /// What suits most homes, with archives indexed in this way.
    pub fn new(ingest: IngestOptions) -> Self {
        Self {
            keep_versions: 3,
            names_max: 10_000,
            images_max: 1000,
            retry_after: Duration::from_secs(30),
            arriving_max: 2,
            stalled_after: Duration::from_secs(5),
            progress_every: Duration::from_millis(300),
            ingest,
        }
    }
}

/// What a call that indexes needs from its caller.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Where reads are counted.
    pub metrics: &'a Arc<Metrics>,
    /// Told of progress: image, bytes, of how many. Called on other threads.
    pub progress: &'a (dyn Fn(&ImagePath, u64, u64) + Sync),
    /// Set to have the call end soon, with nothing changed.
    pub stop: &'a AtomicBool,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work")
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

/// A storage home and its store.
#[derive(Debug)]
pub struct Home {
    home: Folder,
    store: PathBuf,
    archives: Folder,
    derived: Folder,
    incoming: Folder,
    scratch: Folder,
    records: Mutex<Records>,
    /// Held by who takes something in.
    turn: Mutex<()>,
    /// Those who wait for it.
    waiting: AtomicUsize,
    /// Archives that are being sent.
    arriving: Mutex<BTreeSet<Token>>,
    /// Uploads that were tried, by name.
    seen: Mutex<HashMap<Vec<u8>, Seen>>,
    options: Options,
    /// Whose uploads are taken.
    user: u32,
    _lock: File,
}

impl Home {
    /// Opens the home whose directory is `home`, with its store at `store`, which is
    /// made if need be. [`recover`](Self::recover) is to be called next.
    pub fn open(home: OwnedFd, store: &Path, options: Options) -> Result<Home, HomeError> {
        let failed = |doing| {
            move |cause| HomeError::Store {
                doing,
                path: store.to_owned(),
                cause,
            }
        };
        let home = Folder::from(home);
        let folder = open_store(store)?;
        let same = || io::Result::Ok(folder.own_stat()?.st_dev == home.own_stat()?.st_dev);
        if !same().map_err(failed("look at"))? {
            let path = store.to_owned();
            return Err(HomeError::OtherFilesystem { path });
        }
        let lock = folder.lock_file(LOCK).map_err(failed("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let path = store.to_owned();
            return Err(HomeError::InUse { path });
        }
        let make = |name| folder.make(name).map_err(failed("make a directory in"));
        Ok(Home {
            home,
            archives: make(ARCHIVES)?,
            derived: make(DERIVED)?,
            incoming: make(INCOMING)?,
            scratch: make(SCRATCH)?,
            records: Mutex::new(Records(make(IMAGES)?)),
            store: std::path::absolute(store).map_err(failed("find"))?,
            turn: Mutex::new(()),
            waiting: AtomicUsize::new(0),
            arriving: Mutex::default(),
            seen: Mutex::default(),
            options,
            user: rustix::process::geteuid().as_raw(),
            _lock: lock,
        })
    }

    /// Waits until nobody else takes something in.
    fn wait_for_turn(&self) -> MutexGuard<'_, ()> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = self.turn.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    /// The directory for uploads as it is now.
    pub fn distros(&self) -> Result<Folder, HomeError> {
        let opened = self.home.sub(DISTROS);
        opened.map_err(|cause| HomeError::Distros { cause })
    }

    /// Where the archive is in the store, whether there is one or not.
    pub fn archive_path(&self, digest: &Digest) -> PathBuf {
        self.store.join(ARCHIVES).join(digest.to_string())
    }

    /// Where its index is.
    pub fn index_path(&self, digest: &Digest) -> PathBuf {
        self.store.join(ARCHIVES).join(index_name(digest))
    }

    /// Where the index of a version is, of an image that was changed.
    fn derived_path(&self, version: &Digest) -> PathBuf {
        self.store.join(DERIVED).join(index_name(version))
    }

    /// Where start profiles of versions are kept, beside indexes, by
    /// [`profile_name`]. They go with the indexes of versions that nobody uses.
    pub fn profiles_path(&self) -> PathBuf {
        self.store.join(DERIVED)
    }

    /// A directory for what is needed for a moment; nothing in it is kept when the home
    /// is opened again.
    pub fn scratch_path(&self) -> PathBuf {
        self.store.join(SCRATCH)
    }

    /// How it is kept.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// The name of an archive's index beside it.
fn index_name(digest: &Digest) -> String {
    format!("{digest}{INDEX}")
}

/// The ending of indexes.
const INDEX: &str = ".dfsx";

/// The ending of start profiles.
const PROFILE: &str = ".dfsp";

/// The name of the start profile of a version.
pub fn profile_name(version: &Digest) -> String {
    format!("{version}{PROFILE}")
}

/// Seconds since 1970; a clock before that is at its start.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The store, made for nobody else if it is not there.
fn open_store(path: &Path) -> Result<Folder, HomeError> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |doing| {
        move |cause| HomeError::Store {
            doing,
            path: path.to_owned(),
            cause,
        }
    };
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(failed("make"))?;
    let folder = Folder::open(path).map_err(failed("open"))?;
    let stat = folder.own_stat().map_err(failed("look at"))?;
    let user = rustix::process::geteuid().as_raw();
    let mode = stat.st_mode & 0o777;
    if stat.st_uid != user || mode & 0o077 != 0 {
        return Err(HomeError::NotPrivate {
            path: path.to_owned(),
            owner: stat.st_uid,
            mode,
            user,
        });
    }
    Ok(folder)
}
