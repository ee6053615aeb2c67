//! What is kept on disk: the layers of containers, by image, and which views there
//! are.
//!
//! Layout: `lock`; `images/KEY/` for each image, KEY a digest of its path, with
//! `path`, `mounts/` (archives that are mounted for views) and
//! `containers/UID/` (`version`, `view`, and what `layers` keeps); `views/KEY`, KEY a
//! digest of the directory, a record each (JSON).
//!
//! Guarantees: only its owner can look into it; while a [`State`] is open, no
//! other process has it open. A record is there before its view is, so that none
//! is ever forgotten; whether its view still is there is asked from the kernel.

use std::ffi::OsString;
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

/// A directory for state, to be worked in by this process alone.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    pub(super) dir: Dir,
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
    /// Opens the state at `path`, making it if need be; waits for others to be done
    /// with it.
    pub fn open(path: &Path) -> Result<State, ViewError> {
        let (path, dir) = directory(path)?;
        let lock = lock(&dir).map_err(failed(&path, "take the lock"))?;
        Ok(State {
            path,
            dir,
            _lock: lock,
        })
    }

    /// Waits for the turn to index and mount an archive for views, without the state
    /// being open: that takes its time, and others are to go on.
    pub fn turn(path: &Path, archive: &Path) -> Result<Turn, ViewError> {
        let (path, dir) = directory(path)?;
        let key = key_of(archive);
        let taken = || {
            let image = dir.make(IMAGES)?.make(&key)?;
            lock(&image).map(|lock| (image, lock))
        };
        let (image, lock) = taken().map_err(failed(&path, "take the lock of an image"))?;
        Ok(Turn {
            path: path.join(IMAGES).join(key),
            image,
            _lock: lock,
        })
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

    /// Where a container's layers above an image are.
    pub(super) fn home(&self, image: &Path, container: u32) -> Result<Dir, ViewError> {
        let containers = self.image(image).and_then(|at| at.make(CONTAINERS));
        let home = containers.and_then(|at| at.make(&container.to_string()));
        home.map_err(self.failed("make the directory of a container"))
    }

    /// The last view of a container. Its layers are in use until found not to be, as
    /// processes may outlast a view that was detached.
    pub(super) fn last_view(&self, home: &Dir) -> Result<Option<LastView>, ViewError> {
        let read = home.read(VIEW, RECORD_BYTES_MAX);
        let bytes = read.map_err(self.failed("read which view a container has"))?;
        Ok(bytes.map(|bytes| understood(&bytes).unwrap_or_default()))
    }

    /// Notes that view.
    pub(super) fn note_view(&self, home: &Dir, view: &LastView) -> Result<(), ViewError> {
        let write = || home.write(VIEW, &serde_json::to_vec(view)?);
        write().map_err(self.failed("note which view a container has"))
    }

    /// Removes them.
    pub(super) fn remove_home(&self, image: &Path, container: u32) -> Result<(), ViewError> {
        let containers = self.image(image).and_then(|at| at.make(CONTAINERS));
        containers
            .and_then(|at| at.remove(&container.to_string()))
            .map_err(self.failed("remove what a container wrote"))
    }

    /// All records, by where their views are.
    pub(super) fn records(&self) -> Result<Vec<Record>, ViewError> {
        let failed = self.failed("read the records of views");
        let views = self.dir.make(VIEWS).map_err(&failed)?;
        let mut records = Vec::new();
        for name in views.names().map_err(&failed)? {
            // Other names are of files that are being written.
            if let Ok(name) = name.to_str()
                && !name.contains('.')
                && let Some(record) = read(&views, name).map_err(&failed)?
            {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.at.cmp(&b.at));
        Ok(records)
    }

    /// The record of the view at `at`.
    pub(super) fn record(&self, at: &Path) -> Result<Option<Record>, ViewError> {
        let views = self.dir.make(VIEWS);
        let record = views.and_then(|views| read(&views, &key_of(at)));
        record.map_err(self.failed("read the record of a view"))
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), ViewError> {
        let write = || {
            let bytes = serde_json::to_vec(record)?;
            let views = self.dir.make(VIEWS)?;
            views.write(&key_of(Path::new(&record.at)), &bytes)
        };
        write().map_err(self.failed("write the record of a view"))
    }

    pub(super) fn remove_record(&self, at: &Path) -> Result<(), ViewError> {
        let views = self.dir.make(VIEWS);
        let removed = views.and_then(|views| views.remove(&key_of(at)));
        removed.map_err(self.failed("remove the record of a view"))
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

/// Waits for the lock of a directory of ours.
fn lock(dir: &Dir) -> io::Result<File> {
    let lock = dir.lock_file(LOCK)?;
    flock(&lock, FlockOperation::LockExclusive)?;
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
        for at in ["/v/2", "/v/1", "/v/2"] {
            state.write_record(&record(at)).unwrap();
        }
        assert_eq!(state.records().unwrap(), [record("/v/1"), record("/v/2")]);
        assert_eq!(
            state.record(Path::new("/v/2")).unwrap(),
            Some(record("/v/2"))
        );
        state.remove_record(Path::new("/v/2")).unwrap();
        state.remove_record(Path::new("/v/2")).unwrap();
        // A machine that lost its power may leave that.
        state.write_record(&record("/v/3")).unwrap();
        state
            .dir
            .sub(b"views")
            .unwrap()
            .write(&key_of(Path::new("/v/3")), b"")
            .unwrap();
        assert_eq!(state.records().unwrap(), [record("/v/1")]);
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
    fn only_one_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = State::open(&path).unwrap();
        let file = File::open(path.join("lock")).unwrap();
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(state);
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}
