//! A daemon that serves within a limit of memory: in the foreground, so that it
//! is a child of the test, and in a control group that would kill it for more.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use super::load::{self, read_all, walk};
use super::mount::{END_LIMIT, MountPoint};
use super::program::{binary, eventually, peak_bytes, wait};

pub(crate) const MIB: u64 = 1024 * 1024;

/// What the daemon is told to stay within.
pub(crate) const BUDGET_BYTES: u64 = 64 * MIB;

/// Mounts in the foreground, indexing in the same process; the process and the
/// mount end with this.
pub(crate) struct Foreground {
    child: Child,
    point: MountPoint,
    _dir: tempfile::TempDir,
}

impl Foreground {
    /// Serves the image; a shell does `before` in the process that becomes the
    /// daemon.
    pub(crate) fn new(archive: &Path, before: &str) -> Self {
        let point = MountPoint::new();
        let dir = super::temp_dir();
        let mut command = Command::new("sh");
        command
            .args(["-ec", &format!("{before}\nexec \"$@\""), "sh"])
            .arg(binary())
            .args(["mount", "--foreground", "--memory", "64M", "--index"])
            .arg(dir.path().join("index"))
            .args([archive, point.path()])
            .stdin(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().expect("start the daemon");
        let limit = Duration::from_secs(60);
        let up = eventually(limit, || {
            point.is_mounted() || child.try_wait().is_ok_and(|s| s.is_some())
        });
        assert!(
            up && point.is_mounted(),
            "no mount within {limit:?}: {:?}",
            child.try_wait()
        );
        Self {
            child,
            point,
            _dir: dir,
        }
    }

    /// Peak resident memory until now.
    pub(crate) fn peak_bytes(&self) -> u64 {
        peak_bytes(self.child.id())
    }

    /// The mount.
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    /// A walk and a full read by eight readers and then by one, in this
    /// process: what it caches is not the daemon's.
    pub(crate) fn read_everything(&self) {
        let walked = walk(self.path(), load::Order::DirectoryFirst);
        let bytes: u64 = walked.files.iter().map(|(_, size)| size).sum();
        assert!(bytes > 80 * MIB, "only {bytes} bytes to read");
        assert_eq!(read_all(&walked.files, 8), bytes);
        drop_caches();
        assert_eq!(read_all(&walked.files, 1), bytes);
    }

    pub(crate) fn end(mut self) {
        unmount(self.point.path(), UnmountFlags::empty()).expect("unmount");
        let status = wait(&mut self.child, END_LIMIT).expect("the daemon ends");
        assert!(status.success(), "the daemon ended with {status}");
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        super::attempt(unmount(self.point.path(), UnmountFlags::DETACH));
        if wait(&mut self.child, END_LIMIT).is_none() {
            super::attempt(self.child.kill());
            super::attempt(self.child.wait());
        }
    }
}

/// So that the second read asks the daemon again.
pub(crate) fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "1").expect("drop the page cache");
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// The group that `distrofs serve` makes below that of a storage container.
pub(crate) const WORKER: &str = "distrofs";

/// A memory control group, of either version, that goes with this value.
pub(crate) struct Group {
    dir: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        let (version, parent) = Self::parent();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("distrofs-test-{}-{number}", std::process::id()));
        fs::create_dir(&dir)
            .unwrap_or_else(|e| panic!("make the control group {}: {e}", dir.display()));
        let group = Self { dir, version };
        let files: &[&str] = match version {
            Version::One => &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
            Version::Two => &["memory.max", "memory.swap.max"],
        };
        // Swap would hide what does not fit; where there is none, no file is.
        for (number, file) in files.iter().enumerate() {
            let bytes = if version == Version::Two && number == 1 {
                0
            } else {
                limit_bytes
            };
            let set = fs::write(group.dir.join(file), bytes.to_string());
            assert!(set.is_ok() || number == 1, "{file}: {set:?}");
        }
        group
    }

    /// Where a group with a memory limit can be made.
    fn parent() -> (Version, PathBuf) {
        let one = Path::new("/sys/fs/cgroup/memory");
        if one.join("memory.limit_in_bytes").exists() {
            return (Version::One, one.to_owned());
        }
        let two = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(two.join("cgroup.controllers")).unwrap_or_default();
        assert!(
            controllers.split_whitespace().any(|name| name == "memory"),
            "no memory controller in /sys/fs/cgroup, neither version 1 nor 2: the limit cannot be tested here"
        );
        fs::write(two.join("cgroup.subtree_control"), "+memory")
            .expect("enable the memory controller");
        (Version::Two, two.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Shell code that puts the shell into the group.
    pub(crate) fn joining(&self) -> String {
        format!("echo $$ > '{}/cgroup.procs'", self.dir.display())
    }

    /// How many processes were killed for using too much.
    pub(crate) fn kills(&self) -> u64 {
        self.kills_in("")
    }

    /// The same in a group below: version 1 counts them where they happen.
    pub(crate) fn kills_in(&self, below: &str) -> u64 {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = self.read(&Path::new(below).join(file).to_string_lossy());
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no oom_kill in {file}: {text}"))
    }

    /// What is charged to it now: page cache stays when its readers are gone.
    pub(crate) fn charged_bytes(&self) -> u64 {
        let file = match self.version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        };
        let text = self.read(file);
        text.trim()
            .parse()
            .unwrap_or_else(|e| panic!("{file}: {e}: {text}"))
    }

    /// How often the limit was met (the kernel then gives back page cache).
    pub(crate) fn report(&self) -> String {
        let (failures, peak) = match self.version {
            Version::One => ("memory.failcnt", "memory.max_usage_in_bytes"),
            Version::Two => ("memory.events", "memory.peak"),
        };
        format!(
            "{failures}: {}; {peak}: {}",
            self.read(failures).replace('\n', " ").trim(),
            self.read(peak).trim()
        )
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_else(|e| format!("{file}: {e}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // They can be removed as soon as the last process in them is gone.
        let below = self.dir.join(WORKER);
        eventually(END_LIMIT, || {
            (!below.exists() || fs::remove_dir(&below).is_ok()) && fs::remove_dir(&self.dir).is_ok()
        });
    }
}
