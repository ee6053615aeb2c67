//! What a mount tells about itself, once and while it is watched.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::archive::{Packing, tar};
use common::mount::{Mount, MountPoint};
use common::program::{binary, distrofs, eventually, run, wait};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(20);

fn archive(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    fs::create_dir(&tree).expect("make a directory");
    fs::write(tree.join("file"), vec![b'x'; 1_000_000]).expect("write");
    let (plain, packed) = (dir.join("tar"), dir.join("image.tgz"));
    tar(&tree, &plain, &[]);
    Packing::Gzip.pack(&plain, &packed);
    packed
}

#[test]
fn memory_image_and_requests_are_reported() {
    let dir = common::temp_dir();
    let archive = archive(dir.path());
    let mount = Mount::new(&archive, ["--memory", "32M"]);
    fs::read(mount.path().join("file")).expect("read");
    let report = run(distrofs(["stats", "--json"]).arg(mount.path()))
        .ok()
        .json();
    let number = |path: &str| {
        let value = report.pointer(path).and_then(serde_json::Value::as_u64);
        value.unwrap_or_else(|| panic!("no {path} in {report}"))
    };
    assert_eq!(number("/memory/budget_bytes"), 32 << 20);
    for kind in ["blocks", "decoders", "buffers"] {
        let (used, limit) = (
            number(&format!("/memory/{kind}/used")),
            number(&format!("/memory/{kind}/limit")),
        );
        assert!(
            used <= limit && limit < 32 << 20,
            "{kind}: {used} of {limit}"
        );
    }
    assert!(number("/memory/blocks/used") > 0);
    assert!(number("/memory/peak_bytes") >= number("/memory/resident_bytes"));
    assert!(number("/memory/resident_bytes") > 1 << 20);
    let index = archive.with_file_name("image.tgz.dfsx");
    assert_eq!(
        number("/memory/index_mapped_bytes"),
        fs::metadata(index).expect("stat").len()
    );
    assert_eq!(
        report["image"]["archive"],
        archive.to_str().expect("a plain name")
    );
    assert_eq!(number("/image/entries"), 1);
    assert_eq!(number("/image/content_bytes"), 1_000_000);
    assert!(report["uptime_seconds"].as_f64().is_some_and(|s| s > 0.0));
    assert_eq!(number("/counters/served_bytes"), 1_000_000);
    let of_read = |key: &str| number(&format!("/requests/read/{key}"));
    assert!(of_read("count") > 0);
    let percentiles = ["p50_us", "p90_us", "p99_us", "max_us"].map(of_read);
    assert!(percentiles.is_sorted(), "{percentiles:?}");
    let said = run(distrofs(["stats"]).arg(mount.path())).ok();
    for word in [
        "blocks were there",
        "decoded for",
        "resident at most",
        "served_bytes",
        "p90 us",
    ] {
        assert!(said.stdout.contains(word), "no {word:?}: {said:#?}");
    }
    mount.end();
}

#[test]
fn what_is_no_mount_has_no_statistics() {
    let dir = common::temp_dir();
    for watch in [&[][..], &["--watch"]] {
        run(distrofs(["stats"]).arg(dir.path()).args(watch)).refused(1, &["not a distrofs mount"]);
    }
    run(distrofs(["stats", "--watch=0"]).arg(dir.path())).refused(2, &["give 0.1"]);
}

struct Watching {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Watching {
    fn start(mut command: Command, dir: &Path) -> Self {
        let (out, err) = (dir.join("out"), dir.join("err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("make a file"))
            .stderr(File::create(&err).expect("make a file"))
            .spawn()
            .expect("start");
        Self { child, out, err }
    }

    fn until(&self, word: &str, times: usize) {
        let said = || fs::read_to_string(&self.out).unwrap_or_default();
        let seen = eventually(LIMIT, || said().matches(word).count() >= times);
        assert!(seen, "not {times} times {word:?}: {}", said());
    }

    #[track_caller]
    fn ends(mut self) -> String {
        let status = wait(&mut self.child, LIMIT).expect("it goes on");
        let said = fs::read_to_string(&self.err).expect("read");
        assert_eq!(status.code(), Some(0), "{said}");
        said
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        common::attempt(self.child.kill());
        common::attempt(self.child.wait());
    }
}

fn watch(options: &[&str], point: &Path) -> Command {
    let mut command = distrofs(["stats", "--watch=0.1"]);
    command.args(options).arg(point);
    command
}

#[test]
fn a_watch_goes_on_until_a_signal_comes() {
    let dir = common::temp_dir();
    let mount = Mount::new(&archive(dir.path()), [""; 0]);
    for (signal, options, word) in [
        (Signal::INT, &[][..], "per second"),
        (Signal::TERM, &["--json"], "\n"),
    ] {
        let watching = Watching::start(watch(options, mount.path()), dir.path());
        watching.until(word, 3);
        let pid = i32::try_from(watching.child.id()).expect("a number");
        kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("kill");
        let out = watching.out.clone();
        assert_eq!(watching.ends(), "");
        let said = fs::read_to_string(out).expect("read");
        assert!(!said.contains('\x1b'), "no terminal to redraw");
        if options == ["--json"] {
            let is_json = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
            assert!(said.lines().all(is_json), "{said}");
        }
    }
    mount.end();
}

/// A watcher holds the mount open while it asks, so an unmount may have to be
/// tried again.
fn unmount_when_free(point: &Path) {
    let gone = eventually(LIMIT, || unmount(point, UnmountFlags::empty()).is_ok());
    assert!(gone, "cannot unmount {}", point.display());
}

#[test]
fn a_watch_ends_with_its_mount() {
    let dir = common::temp_dir();
    let mount = Mount::new(&archive(dir.path()), [""; 0]);
    let watching = Watching::start(watch(&[], mount.path()), dir.path());
    watching.until("counter", 2);
    unmount_when_free(mount.path());
    assert!(watching.ends().contains("not mounted any more"));
    mount.assert_ends();
}

#[test]
fn on_a_terminal_a_watch_is_redrawn() {
    let dir = common::temp_dir();
    let guard = MountPoint::new();
    run(distrofs(["mount"])
        .arg(archive(dir.path()))
        .arg(guard.path()))
    .ok();
    let line = format!(
        "'{}' stats --watch=0.1 '{}'",
        binary().display(),
        guard.path().display()
    );
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]);
    let watching = Watching::start(command, dir.path());
    watching.until("\x1b[H\x1b[J", 2);
    unmount_when_free(guard.path());
    watching.ends();
    guard.assert_gone();
}
