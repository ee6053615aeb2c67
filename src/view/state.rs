//! What is kept on disk: the layers of containers, by image, and which views there
//! are.
//!
//! Layout: `lock`; `images/KEY/` for each image, KEY a digest of its path, with
//! `path`, `mounts/` (archives that are mounted for views) and
//! `containers/UID/` (`version`, `view`, and what `layers` keeps); `views/KEY`, KEY a
//! digest of the directory, a record each (JSON).
//!
//! Guarantees: only its owner can look into it. A record is there before its view
//! is, so that none is ever forgotten; whether its view still is there is asked
//! from the kernel.
//!
//! Locks, to be taken in this order: an image's ([`Turn`]), while it is indexed and
//! mounted; a container's (`Home`), while a view of it is made; the records'
//! (`Records`), for a moment: no image is asked for anything meanwhile.

use std::ffi::{CString, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ViewError;
use super::dir::{Dir, key_of};

/// Others may not even look.
const PRIVATE: u32 = 0o700;
const OTHERS_MAY_WRITE: u32 = 0o022;
const OTHERS: u32 = 0o077;
/// A record is a few paths.
const RECORD_BYTES_MAX: u64 = 64 * 1024;
const LOCK: &str = "lock";
const VIEWS: &str = "views";
const IMAGES: &str = "images";
const MOUNTS: &str = "mounts";
const CONTAINERS: &str = "containers";
const VIEW: &str = "view";

/// A directory for state.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    dir: Dir,
}

/// The directory of a container's layers above an image, where nobody else works.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) dir: Dir,
    _lock: File,
}

/// The records of views, which nobody else reads or writes.
#[derive(Debug)]
pub(super) struct Records<'a> {
    state: &'a State,
    views: Dir,
    _lock: File,
}

/// A view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it is attached.
    pub at: OsString,
    /// The archive.
    pub image: OsString,
    /// The user of the container.
    pub container: u32,
    /// `paths`, `tree` or `none`.
    pub writable: String,
    /// The kernel's number of the mount.
    pub mount_id: u64,
    /// Where the image is mounted if that was done for views.
    pub image_mount: Option<OsString>,
    /// When it was made, in seconds since 1970.
    pub made: u64,
}

/// The last view of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastView {
    /// Where it was attached.
    pub(super) at: OsString,
    /// Device numbers of what had its writable layers, if that is known.
    pub(super) devices: Option<Vec<u64>>,
}

/// The turn of one process to index and mount an image.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    image: Dir,
    _lock: File,
}

impl Turn {
    /// A directory to mount the archive on, of which `name` tells versions and
    /// owners.
    pub fn mount_point(&self, name: &str) -> Result<PathBuf, ViewError> {
        let made = self.image.make(MOUNTS).and_then(|at| at.make(name));
        made.map_err(failed(&self.path, "make a directory to mount on"))?;
        Ok(self.path.join(MOUNTS).join(name))
    }
}

impl State {
    /// Opens the state at `path`, making it if need be.
    pub fn open(path: &Path) -> Result<State, ViewError> {
        let (path, dir) = directory(path)?;
        // It tells that the directory is one for state.
        dir.lock_file(LOCK).map_err(failed(&path, "make a file"))?;
        Ok(State { path, dir })
    }

    /// Waits for the turn to index and mount an archive for views.
    pub fn turn(&self, archive: &Path) -> Result<Turn, ViewError> {
        let lock = |dir: &Dir| lock(dir, FlockOperation::LockExclusive);
        self.turn_by(archive, lock)
            .map_err(self.failed("take the lock of an image"))
    }

    /// The same, or nothing if another process has it.
    pub(super) fn try_turn(&self, archive: &Path) -> Result<Option<Turn>, ViewError> {
        let lock = |dir: &Dir| lock(dir, FlockOperation::NonBlockingLockExclusive);
        match self.turn_by(archive, lock) {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(None),
            turn => turn
                .map(Some)
                .map_err(self.failed("take the lock of an image")),
        }
    }

    fn turn_by(
        &self,
        archive: &Path,
        lock: impl FnOnce(&Dir) -> io::Result<File>,
    ) -> io::Result<Turn> {
        let image = self.image(archive)?;
        Ok(Turn {
            path: self.path.join(IMAGES).join(key_of(archive)),
            _lock: lock(&image)?,
            image,
        })
    }

    /// Waits until nobody else reads or writes records.
    pub(super) fn lock_records(&self) -> Result<Records<'_>, ViewError> {
        let locked = || {
            let lock = lock(&self.dir, FlockOperation::LockExclusive)?;
            Ok(Records {
                state: self,
                views: self.dir.make(VIEWS)?,
                _lock: lock,
            })
        };
        locked().map_err(self.failed("take the lock"))
    }

    pub(super) fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> ViewError {
        failed(&self.path, doing)
    }

    fn image(&self, image: &Path) -> io::Result<Dir> {
        let at = self.dir.make(IMAGES)?.make(&key_of(image))?;
        if at.kind(b"path")?.is_none() {
            at.write("path", image.as_os_str().as_bytes())?;
        }
        Ok(at)
    }

    /// Where a container's layers above an image are. Waits until nobody else works
    /// there.
    pub(super) fn home(&self, image: &Path, name: &str) -> Result<Home, ViewError> {
        let made = || loop {
            let dir = self.image(image)?.make(CONTAINERS)?.make(name)?;
            let lock = match lock(&dir, FlockOperation::LockExclusive) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // Whoever had it may have removed it all.
            if rustix::fs::fstat(&lock)?.st_nlink > 0 {
                return Ok(Home { dir, _lock: lock });
            }
        };
        made().map_err(self.failed("make the directory of a container"))
    }

    /// The highest number of those homes that are called `prefix` and a number.
    pub(super) fn last_home(&self, image: &Path, prefix: &str) -> Result<u32, ViewError> {
        let names = || self.image(image)?.make(CONTAINERS)?.names();
        let names = names().map_err(self.failed("list the directories of containers"))?;
        let number = |name: &CString| name.to_str().ok()?.strip_prefix(prefix)?.parse().ok();
        Ok(names.iter().filter_map(number).max().unwrap_or(0))
    }

    /// The last view of a container. Its layers are in use until found not to be, as
    /// processes may outlast a view that was detached.
    pub(super) fn last_view(&self, home: &Home) -> Result<Option<LastView>, ViewError> {
        let read = home.dir.read(VIEW, RECORD_BYTES_MAX);
        let bytes = read.map_err(self.failed("read which view a container has"))?;
        Ok(bytes.map(|bytes| understood(&bytes).unwrap_or_default()))
    }

    /// Notes that view.
    pub(super) fn note_view(&self, home: &Home, view: &LastView) -> Result<(), ViewError> {
        let write = || home.dir.write(VIEW, &serde_json::to_vec(view)?);
        write().map_err(self.failed("note which view a container has"))
    }

    /// Removes the layers of a container whose directory the caller has.
    pub(super) fn remove_home(&self, image: &Path, name: &str) -> Result<(), ViewError> {
        let containers = self.image(image).and_then(|at| at.make(CONTAINERS));
        containers
            .and_then(|at| at.remove(name))
            .map_err(self.failed("remove what a container wrote"))
    }
}

impl Records<'_> {
    /// All records, by where their views are.
    pub(super) fn all(&self) -> Result<Vec<Record>, ViewError> {
        let failed = self.state.failed("read the records of views");
        let mut records = Vec::new();
        for name in self.views.names().map_err(&failed)? {
            // Other names are of files that are being written.
            if let Ok(name) = name.to_str()
                && !name.contains('.')
                && let Some(record) = read(&self.views, name).map_err(&failed)?
            {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.at.cmp(&b.at));
        Ok(records)
    }

    /// The record of the view at `at`.
    pub(super) fn at(&self, at: &Path) -> Result<Option<Record>, ViewError> {
        read(&self.views, &key_of(at)).map_err(self.state.failed("read the record of a view"))
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), ViewError> {
        let write = || {
            let bytes = serde_json::to_vec(record)?;
            self.views.write(&key_of(Path::new(&record.at)), &bytes)
        };
        write().map_err(self.state.failed("write the record of a view"))
    }

    pub(super) fn remove(&self, at: &Path) -> Result<(), ViewError> {
        let removed = self.views.remove(&key_of(at));
        removed.map_err(self.state.failed("remove the record of a view"))
    }
}

fn read(views: &Dir, name: &str) -> io::Result<Option<Record>> {
    let Some(bytes) = views.read(name, RECORD_BYTES_MAX)? else {
        return Ok(None);
    };
    Ok(understood(&bytes))
}

/// What is in a file of ours. They do not outlast a crash of the machine for sure,
/// and nor do the mounts that they tell of: one that is cut short says nothing.
fn understood<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let parsed = serde_json::from_slice(bytes);
    if let Err(error) = &parsed {
        tracing::warn!(%error, "a record of a view was cut short and is left out");
    }
    parsed.ok()
}

/// Whether a directory was not made for state: it must not be closed to others.
fn holds_something_else(dir: &Dir) -> io::Result<bool> {
    Ok(dir.kind(LOCK.as_bytes())?.is_none() && !dir.names()?.is_empty())
}

fn failed(state: &Path, doing: &'static str) -> impl Fn(io::Error) -> ViewError {
    let state = state.to_owned();
    move |cause| ViewError::State {
        state: state.clone(),
        doing,
        cause,
    }
}

/// The directory for state at `path`, which is made if need be, and is closed to
/// others.
fn directory(path: &Path) -> Result<(PathBuf, Dir), ViewError> {
    let failed = |doing| failed(path, doing);
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(PRIVATE).create(path);
    made.map_err(failed("make the directory"))?;
    let path = path.canonicalize().map_err(failed("find the directory"))?;
    let dir = Dir::open(&path).map_err(failed("open the directory"))?;
    let stat = dir.stat().map_err(failed("look at the directory"))?;
    let owner = geteuid().as_raw();
    if stat.st_uid != owner || stat.st_mode & OTHERS_MAY_WRITE != 0 {
        return Err(ViewError::OpenState { state: path, owner });
    }
    if stat.st_mode & OTHERS != 0 {
        if holds_something_else(&dir).map_err(failed("read the directory"))? {
            return Err(ViewError::NotState(path));
        }
        // It was made by hand.
        rustix::fs::fchmod(&dir, rustix::fs::Mode::from_raw_mode(PRIVATE))
            .map_err(|cause| failed("close the directory to others")(cause.into()))?;
    }
    Ok((path, dir))
}

/// The lock of a directory of ours.
fn lock(dir: &Dir, how: FlockOperation) -> io::Result<File> {
    let lock = dir.lock_file(LOCK)?;
    flock(&lock, how)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn record(at: &str) -> Record {
        Record {
            at: at.into(),
            image: std::os::unix::ffi::OsStringExt::from_vec(b"/a\xff.tgz".to_vec()),
            container: 30_001,
            writable: "paths".into(),
            mount_id: u64::MAX,
            image_mount: None,
            made: 5,
        }
    }

    #[test]
    fn records_stay_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("new/state")).unwrap();
        let records = state.lock_records().unwrap();
        for at in ["/v/2", "/v/1", "/v/2"] {
            records.write(&record(at)).unwrap();
        }
        assert_eq!(records.all().unwrap(), [record("/v/1"), record("/v/2")]);
        assert_eq!(records.at(Path::new("/v/2")).unwrap(), Some(record("/v/2")));
        records.remove(Path::new("/v/2")).unwrap();
        records.remove(Path::new("/v/2")).unwrap();
        // A machine that lost its power may leave that.
        records.write(&record("/v/3")).unwrap();
        let key = key_of(Path::new("/v/3"));
        records.views.write(&key, b"").unwrap();
        assert_eq!(records.all().unwrap(), [record("/v/1")]);
    }

    #[test]
    fn a_directory_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        let mode = |mode| fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o777);
        let refused = State::open(&path).unwrap_err();
        assert!(matches!(refused, ViewError::OpenState { .. }), "{refused}");
        mode(0o755);
        drop(State::open(&path).unwrap());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn each_lock_keeps_others_out_of_its_own_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state")).unwrap();
        let (a, b) = (Path::new("/a.tgz"), Path::new("/b.tgz"));
        let turn = state.turn(a).unwrap();
        assert!(state.try_turn(a).unwrap().is_none());
        assert!(state.try_turn(b).unwrap().is_some());
        let home = state.home(a, "30001").unwrap();
        let _other = state.home(a, "30002").unwrap();
        let records = state.lock_records().unwrap();
        assert!(lock(&state.dir, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(records);
        assert!(lock(&state.dir, FlockOperation::NonBlockingLockExclusive).is_ok());
        drop(turn);
        assert!(state.try_turn(a).unwrap().is_some());
        // Who waited for one that was removed gets one that is there.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| state.home(a, "30001").unwrap());
            state.remove_home(a, "30001").unwrap();
            drop(home);
            waiting.join().unwrap().dir.write("file", b"x").unwrap();
        });
        let home = state.home(a, "30001").unwrap();
        assert!(home.dir.read("file", 1).unwrap().is_some());
    }
}
