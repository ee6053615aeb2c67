//! Views that cannot outlive their test.
//!
//! Guarantees: when [`Views`] is dropped, also by a panic, nothing is mounted in
//! its directory any more, whatever was mounted there and whoever did, and the
//! daemons that served images there are gone. What takes longer than `LIMIT` is
//! aborted, so that a test blocked in a system call fails instead of hanging.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::archive::tar;
use super::mount::{END_LIMIT, daemons_below};
use super::program::{Ran, distrofs, eventually, run};

/// No test needs its views for so long.
const LIMIT: Duration = Duration::from_secs(240);

/// The user who owns the archives made here, so that images are his.
pub(crate) const STORAGE: u32 = 30_000;

/// A directory with images, a directory for state, and places for views.
pub(crate) struct Views {
    path: PathBuf,
    over: Option<Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Views {
    #[track_caller]
    pub(crate) fn new() -> Self {
        super::need_real_mounts();
        let dir = super::temp_dir();
        let path = dir.path().canonicalize().expect("resolve the directory");
        let (over, wait) = channel();
        let watched = path.clone();
        let watchdog = spawn(move || {
            if wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{}: views for too long, aborted", watched.display());
                kill_below(&watched);
                unmount_below(&watched);
            }
        });
        Self {
            path,
            over: Some(over),
            watchdog: Some(watchdog),
            _dir: dir,
        }
    }

    /// The directory that all is in.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the views keep their state, if nothing else is said.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Puts the state into memory, for what the disk's filesystem may not have.
    #[track_caller]
    pub(crate) fn keep_state_in_memory(&self, options: &CStr) {
        dir(&self.state(), 0o700);
        mount("none", self.state(), "tmpfs", MountFlags::empty(), options).expect("mount");
    }

    /// A directory of this name, to attach a view on; made if it is not there.
    #[track_caller]
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        let at = self.path.join("at").join(name);
        if fs::symlink_metadata(&at).is_err() {
            fs::create_dir_all(&at).expect("make a directory for a view");
        }
        at
    }

    /// An archive of the tree that `prepare` makes.
    #[track_caller]
    pub(crate) fn archive(&self, name: &str, prepare: impl FnOnce(&Path)) -> PathBuf {
        let tree = self.path.join(format!("{name}.tree"));
        fs::create_dir(&tree).expect("make a directory");
        fs::set_permissions(&tree, PermissionsExt::from_mode(0o755)).expect("set the mode");
        prepare(&tree);
        let archive = self.path.join(name);
        // Renamed in: whoever serves an older one has that still.
        let made = self.path.join(format!("{name}.made"));
        tar(&tree, &made, &["--format=pax"]);
        std::os::unix::fs::chown(&made, Some(STORAGE), Some(STORAGE)).expect("chown");
        fs::rename(&made, &archive).expect("put the archive in its place");
        fs::remove_dir_all(&tree).expect("remove the tree");
        archive
    }

    /// `distrofs view` with these arguments and this directory for state.
    #[track_caller]
    pub(crate) fn view<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        run(distrofs(["view"])
            .args(args)
            .arg("--state")
            .arg(self.state()))
    }

    /// The command for a view at [`at`](Self::at) `name`, but for its options.
    #[track_caller]
    pub(crate) fn up_command(&self, image: &Path, container: u32, name: &str) -> Command {
        let mut command = distrofs(["view", "up", "--container", &container.to_string()]);
        command.arg("--image").arg(image);
        command.arg("--at").arg(self.at(name));
        command.arg("--state").arg(self.state());
        command
    }

    #[track_caller]
    pub(crate) fn try_up(&self, image: &Path, container: u32, name: &str, options: &[&str]) -> Ran {
        run(self.up_command(image, container, name).args(options))
    }

    /// A view; where it is.
    #[track_caller]
    pub(crate) fn up(&self, image: &Path, container: u32, name: &str, options: &[&str]) -> PathBuf {
        self.try_up(image, container, name, options).ok();
        self.at(name)
    }

    #[track_caller]
    pub(crate) fn down(&self, at: &Path) -> Ran {
        self.view([OsStr::new("down"), at.as_os_str()])
    }

    #[track_caller]
    pub(crate) fn reset(&self, image: &Path, container: u32) -> Ran {
        let container = container.to_string();
        let container = OsStr::new(&container);
        let image = image.as_os_str();
        let [option, of] = [OsStr::new("--image"), OsStr::new("--container")];
        self.view([OsStr::new("reset"), option, image, of, container])
    }

    /// What `view list --json` says.
    #[track_caller]
    pub(crate) fn list(&self) -> Vec<serde_json::Value> {
        let listed = self.view(["list", "--json"]).ok().json();
        listed.as_array().expect("a list").clone()
    }

    /// The daemons of images that are mounted here.
    pub(crate) fn daemons(&self) -> Vec<Pid> {
        daemons_below(&self.path)
    }

    /// Where something is mounted in the directory, in the order of mounting.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        mounts_below(&self.path)
    }

    /// Asserts that no view is there and none is remembered, and that no image is
    /// mounted or served any more, or soon so.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert!(
            self.mounts().is_empty(),
            "still mounted: {:?}",
            self.mounts()
        );
        assert!(self.list().is_empty(), "still listed: {:?}", self.list());
        assert!(
            eventually(END_LIMIT, || self.daemons().is_empty()),
            "still served by {:?}",
            self.daemons()
        );
    }

    /// Everything that a container wrote to all images, as names below its
    /// directories.
    #[track_caller]
    pub(crate) fn home(&self, container: u32) -> PathBuf {
        let images = fs::read_dir(self.state().join("images")).expect("read the state");
        let homes = images.map(|image| {
            let image = image.expect("read the state").path();
            image.join("containers").join(container.to_string())
        });
        let homes: Vec<_> = homes.filter(|home| home.is_dir()).collect();
        match &homes[..] {
            [one] => one.clone(),
            others => panic!("one directory of container {container} expected: {others:?}"),
        }
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        unmount_below(&self.path);
        if !eventually(END_LIMIT, || self.daemons().is_empty()) {
            kill_below(&self.path);
        }
        drop(self.over.take());
        if let Some(watchdog) = self.watchdog.take() {
            super::attempt(watchdog.join());
        }
    }
}

pub(crate) fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let unescaped = targets.map(|target| {
        let target = target.replace("\\040", " ").replace("\\134", "\\");
        PathBuf::from(target)
    });
    unescaped.filter(|at| at.starts_with(path)).collect()
}

pub(crate) fn unmount_below(path: &Path) {
    // Each is gone, or cannot be unmounted, after so many times.
    for _ in 0..1000 {
        let Some(last) = mounts_below(path).pop() else {
            return;
        };
        if let Err(error) = unmount(&last, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", last.display());
        }
    }
}

pub(crate) fn kill_below(path: &Path) {
    for pid in daemons_below(path) {
        super::attempt(kill_process(pid, Signal::KILL));
    }
}

/// Runs `job` in a thread as a user of no other group, and of no capability
/// unless it is root. Paths lead through directories that only root may enter:
/// the job should work below an open one.
#[track_caller]
pub(crate) fn as_user<T: Send>(user: u32, job: impl FnOnce() -> T + Send) -> T {
    let change = || {
        rustix::thread::set_thread_groups(&[])?;
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    let done = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            change().expect("become another user");
            job()
        });
        thread.join()
    });
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a script of the shell in a directory as a user of no other group.
#[track_caller]
pub(crate) fn sh_as(user: u32, dir: &Path, script: &str) -> Ran {
    let mut command = Command::new("setpriv");
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    command.args(ids).arg("--clear-groups").current_dir(dir);
    run(command.args(["sh", "-euc", script]))
}

/// Writes a file of this mode, whatever the umask is.
#[track_caller]
pub(crate) fn file(path: &Path, mode: u32, content: &[u8]) {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).expect("make directories");
    }
    fs::write(path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set the mode");
}

/// Makes a directory of this mode, whatever the umask is.
#[track_caller]
pub(crate) fn dir(path: &Path, mode: u32) {
    fs::create_dir_all(path).expect("make directories");
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set the mode");
}

/// A directory, to work below of.
#[track_caller]
pub(crate) fn open(path: &Path) -> fs::File {
    let mut options = fs::File::options();
    let opened = options.read(true).custom_flags(libc::O_DIRECTORY);
    opened
        .open(path)
        .unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
}
