//! Start profiles over real mounts: what is recorded once is prefetched the next time.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::archive::{Packing, debian_tgz, tar};
use common::mount::Mount;
use common::program::{binary, distrofs, eventually, run, wait};
use common::service::Service;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

const FILES: u64 = 20;
const FILE_BYTES: usize = 300_000;

/// What the start of these tests reads.
const READ: [u64; 3] = [17, 3, 4];

/// An image of files that do not compress to nothing.
fn archive(dir: &Path, name: &str, seed: u64) -> PathBuf {
    let tree = dir.join(format!("{name}-tree"));
    fs::create_dir(&tree).expect("make a directory");
    for file in 0..FILES {
        fs::write(tree.join(format!("file{file}")), content(file, seed)).expect("write");
    }
    let (plain, packed) = (dir.join(format!("{name}-tar")), dir.join(name));
    tar(&tree, &plain, &[]);
    Packing::Gzip.pack(&plain, &packed);
    packed
}

fn content(file: u64, seed: u64) -> Vec<u8> {
    let mut state = file * 1000 + seed;
    let bytes = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'a' + u8::try_from(state >> 60).expect("four bits")
    });
    bytes.take(FILE_BYTES).collect()
}

fn start(mount: &Mount, seed: u64) {
    for file in READ {
        let read = fs::read(mount.path().join(format!("file{file}"))).expect("read");
        assert!(read == content(file, seed), "file{file} is another one");
    }
}

fn counter(mount: &Mount, name: &str) -> u64 {
    mount.stats().counters[name]
}

/// `distrofs profile record` of a mount; ended when it is dropped.
struct Recording(Child);

impl Recording {
    fn of(mount: &Path) -> Recording {
        let mut child = Command::new(binary())
            .args(["profile", "record", "--json"])
            .arg(mount)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start recording");
        let mut said = String::new();
        let stderr = child.stderr.as_mut().expect("its errors");
        BufReader::new(stderr).read_line(&mut said).expect("read");
        assert!(said.contains("recording until"), "{said}");
        Recording(child)
    }

    fn end(mut self) -> Value {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a process"));
        kill_process(pid.expect("a process"), Signal::INT).expect("send a signal");
        let status = wait(&mut self.0, LIMIT).expect("recording ends");
        assert!(status.success());
        let out = self.0.stdout.take().expect("its output");
        serde_json::from_reader(out).expect("JSON")
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        common::attempt(self.0.kill());
        common::attempt(self.0.wait());
    }
}

/// Records the start of an image.
fn recorded(archive: &Path, seed: u64) -> Value {
    let mount = Mount::new(archive, ["--no-profile"]);
    let recording = Recording::of(mount.path());
    start(&mount, seed);
    let told = recording.end();
    mount.end();
    told
}

/// Mounts, and waits until so many spans were prefetched.
fn warmed(archive: &Path, spans: u64) -> Mount {
    let mount = Mount::new(archive, [""; 0]);
    let is_warm = eventually(LIMIT, || counter(&mount, "profile_spans") == spans);
    assert!(is_warm, "{:?}", mount.stats().counters);
    mount
}

#[test]
fn what_a_start_reads_is_there_for_the_next() {
    let dir = common::temp_dir();
    let archive = archive(dir.path(), "image.tgz", 1);
    let told = recorded(&archive, 1);
    let spans = told["spans"].as_u64().expect("spans");
    let read = READ.len() as u64 * FILE_BYTES as u64;
    let bytes = told["bytes"].as_u64().expect("bytes");
    assert!(bytes >= read && bytes < read * 2, "{told}");
    assert!(spans >= 3 && spans < told["span_count"].as_u64().expect("all") / 2);
    assert_eq!(
        (&told["fits"], &told["command"]),
        (&true.into(), &Value::Null)
    );

    let mount = warmed(&archive, spans);
    assert_eq!(counter(&mount, "cache_miss_blocks"), 0);
    start(&mount, 1);
    let counters = mount.stats().counters;
    // The last spans may have been on their way.
    let missed = counters["cache_miss_blocks"] + counters["cache_joined_blocks"];
    assert!(missed <= 16, "{counters:?}");
    let blocks = told["blocks"].as_u64().expect("blocks");
    assert!(
        counters["profile_hit_blocks"] + missed >= blocks,
        "{counters:?}"
    );
    mount.end();

    for off in [&["--no-profile"][..], &["--tune", "profile=off"]] {
        let mount = Mount::new(&archive, off);
        start(&mount, 1);
        let counters = mount.stats().counters;
        assert_eq!(counters["profile_spans"], 0);
        assert!(counters["cache_miss_blocks"] > 0);
        mount.end();
    }
}

#[test]
fn a_profile_is_shown_and_removed_and_leaves_nothing() {
    let dir = common::temp_dir();
    let archive = archive(dir.path(), "image.tgz", 1);
    let profile = |command: &str| run(distrofs(["profile", command]).arg(&archive));
    profile("show").refused(1, &["no start profile", "profile record"]);
    profile("rm").refused(1, &["no start profile"]);
    let told = recorded(&archive, 1);
    let place = dir.path().join("image.tgz.dfsp");
    assert_eq!(told["profile"], place.to_str().expect("plain"));
    let shown = profile("show").ok().stdout;
    assert!(
        shown.contains("fits      yes") && shown.contains("spans"),
        "{shown}"
    );
    let as_json = run(distrofs(["profile", "show", "--json"]).arg(&archive)).ok();
    assert_eq!(as_json.json(), told);
    let mount = Mount::new(&archive, [""; 0]);
    let of_mount = run(distrofs(["profile", "show", "--json"]).arg(mount.path())).ok();
    assert_eq!(of_mount.json(), told);
    mount.end();
    profile("rm").ok();
    assert!(!place.exists());
    profile("show").refused(1, &["no start profile"]);
    let names = fs::read_dir(dir.path()).expect("list");
    let mut names: Vec<_> = names
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    let expected = [
        "image.tgz",
        "image.tgz-tar",
        "image.tgz-tree",
        "image.tgz.dfsx",
    ];
    assert_eq!(names, expected);
}

/// Nothing that stands in the place of a profile keeps an image from being mounted.
#[test]
fn what_is_no_profile_of_this_image_is_ignored_and_told() {
    let dir = common::temp_dir();
    let first = archive(dir.path(), "first.tgz", 1);
    let second = archive(dir.path(), "second.tgz", 2);
    recorded(&first, 1);
    let (theirs, place) = (
        dir.path().join("first.tgz.dfsp"),
        dir.path().join("second.tgz.dfsp"),
    );
    let good = fs::read(theirs).expect("read");
    let mut damaged = good.clone();
    damaged[200] ^= 1;
    let long = vec![b' '; 5 << 20];
    for (bytes, why) in [
        (&good[..], "another version"),
        (&damaged, "damaged"),
        (&good[..100], "damaged"),
        (b"", "no start profile"),
        (b"notes", "no start profile"),
        (&long, "longer than"),
    ] {
        fs::write(&place, bytes).expect("write");
        let mount = Mount::new(&second, [""; 0]);
        assert!(
            mount.said.stderr.contains("ignored") && mount.said.stderr.contains(why),
            "{why}: {:?}",
            mount.said
        );
        start(&mount, 2);
        assert_eq!(counter(&mount, "profile_spans"), 0);
        mount.end();
    }
    // Notes of a user are not written over.
    fs::write(&place, "notes").expect("write");
    let mount = Mount::new(&second, [""; 0]);
    let mut record = distrofs(["profile", "record", "--for", "200ms"]);
    record.arg(mount.path());
    start(&mount, 2);
    run(&mut record).refused(1, &[]);
    assert_eq!(fs::read(&place).expect("read"), b"notes");
    mount.end();
}

/// The image in a directory of its own, so that no other test uses its profile.
fn debian(dir: &Path) -> PathBuf {
    let archive = dir.join("debian.tgz");
    fs::hard_link(debian_tgz(), &archive).expect("link");
    archive
}

#[test]
fn a_command_is_recorded_from_its_start() {
    common::need_real_mounts();
    let dir = common::temp_dir();
    let archive = debian(dir.path());
    let record = |options: &[&str], script: &str| {
        let mut command = distrofs(["profile", "record", "--json"]);
        command.args(options).arg(&archive);
        run(command.args(["--", "/bin/sh", "-c", script]))
    };
    let short = record(&[], "exit 3").ok();
    assert!(short.stderr.contains("status: 3"), "{short:?}");
    let long = record(
        &["--env", "A=1"],
        "test $A = 1 && cat /usr/bin/perl > /dev/null",
    )
    .ok();
    let (short, long) = (short.json(), long.json());
    let bytes = |told: &Value| told["bytes"].as_u64().expect("bytes");
    assert!(bytes(&short) > 100_000 && bytes(&long) > bytes(&short) + 3_000_000);
    assert_eq!(short["command"], "/bin/sh -c exit 3");
    // The next start uses it.
    let said = run(distrofs(["run", "-v"])
        .arg(&archive)
        .args(["--", "/bin/true"]))
    .ok();
    assert!(said.stderr.contains("prefetching for a start"), "{said:?}");
    let said = run(distrofs(["run", "-v", "--no-profile"])
        .arg(&archive)
        .args(["--", "/bin/true"]))
    .ok();
    assert!(!said.stderr.contains("prefetching"), "{said:?}");
}

/// A server ends when the time is over, also one that does not want to.
#[test]
fn a_server_is_recorded_for_a_time() {
    common::need_real_mounts();
    let dir = common::temp_dir();
    let archive = debian(dir.path());
    for script in [
        "exec sleep 1000",
        "trap '' TERM; while true; do sleep 1000; done",
    ] {
        let mut command = distrofs(["profile", "record", "--json", "--for", "1s"]);
        command.arg(&archive).args(["--", "/bin/sh", "-c", script]);
        let told = run(&mut command).ok().json();
        assert!(told["spans"].as_u64().expect("spans") > 1, "{told}");
    }
}

#[test]
fn what_cannot_be_recorded_is_told() {
    let dir = common::temp_dir();
    let archive = archive(dir.path(), "image.tgz", 1);
    let record = |target: &Path, more: &[&str]| {
        run(distrofs(["profile", "record", "--for", "50ms"])
            .arg(target)
            .args(more))
    };
    record(&archive, &[]).refused(1, &["a command behind `--`"]);
    let mount = Mount::new(&archive, [""; 0]);
    record(mount.path(), &["--", "true"]).refused(1, &["takes an archive"]);
    record(mount.path(), &[]).refused(1, &["nothing was read"]);
    record(&dir.path().join("none"), &["--", "true"]).refused(1, &["none"]);
    assert!(!dir.path().join("image.tgz.dfsp").exists());
    mount.end();
}

/// A profile is kept by the worker that serves the image: used by the next worker, and
/// whenever a container gets a view.
#[test]
fn a_service_prefetches_at_each_mount_and_view() {
    const S: u32 = 30_000;
    let mut service = Service::new(&[S]);
    let from = archive(service.path(), "web.tgz", 1);
    service.upload(S, &from, "web.tgz");
    service.start();
    let at = service.distros(S).join("web");
    let asked = |command: &str, more: &[&str]| {
        let mut profile = distrofs(["profile", command, "--image", "30000/web", "--run"]);
        run(profile.arg(service.run_dir()).args(more))
    };
    asked("show", &[]).refused(1, &["no start profile", "profile record --image"]);
    asked("record", &[]).refused(1, &["--for"]);
    let told = std::thread::scope(|scope| {
        let recording = scope.spawn(|| asked("record", &["--for", "3s", "--json"]).ok().json());
        while !recording.is_finished() {
            for file in READ {
                read_anew(&at.join(format!("file{file}")), &content(file, 1));
            }
        }
        recording.join().expect("recording ends")
    });
    let spans = told["spans"].as_u64().expect("spans");
    assert!(spans >= 3, "{told}");
    assert_eq!(asked("show", &["--json"]).ok().json(), told);
    let shown = run(distrofs(["image", "show", "30000/web", "--run"]).arg(service.run_dir())).ok();
    assert!(shown.stdout.contains("start profile: "), "{shown:?}");

    // The next worker finds it.
    let warmed = || {
        let served = &service.status(S)["served"][0];
        served["counters"]["profile_spans"].as_u64()
    };
    kill_worker(&service, S);
    assert!(
        eventually(LIMIT, || warmed() == Some(spans)),
        "{}",
        service.log()
    );

    // One that began without gets it with the first view.
    let kept = profile_below(service.path()).expect("a profile");
    let bytes = fs::read(&kept).expect("read");
    asked("rm", &[]).ok();
    asked("rm", &[]).refused(1, &["no start profile"]);
    assert!(!kept.exists());
    kill_worker(&service, S);
    let is_cold = || warmed() == Some(0);
    assert!(eventually(LIMIT, is_cold), "{}", service.log());
    fs::write(&kept, bytes).expect("write");
    std::os::unix::fs::chown(&kept, Some(S), Some(S)).expect("chown");
    service.attached(30_001, "30000/web", "true").ok();
    assert!(
        eventually(LIMIT, || warmed() == Some(spans)),
        "{}",
        service.log()
    );
}

/// Reads a file that the kernel is to hold nothing of before.
fn read_anew(path: &Path, expected: &[u8]) {
    let mut file = fs::File::open(path).expect("open");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("let go");
    let mut read = Vec::new();
    file.read_to_end(&mut read).expect("read");
    assert!(read == expected, "{} is another one", path.display());
}

/// Ends the worker, and waits for the next one.
fn kill_worker(service: &Service, home: u32) {
    let before = service.worker(home).expect("a worker");
    kill_process(before, Signal::KILL).expect("kill the worker");
    let is_there = || service.worker(home).is_some_and(|now| now != before);
    assert!(eventually(LIMIT, is_there), "{}", service.log());
    let at = service.distros(home).join("web/file0");
    assert!(eventually(LIMIT, || fs::metadata(&at).is_ok()));
}

fn profile_below(path: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(path).expect("list");
    entries.into_iter().find_map(|entry| {
        let entry = entry.expect("an entry");
        let path = entry.path();
        match entry.file_type().expect("its type").is_dir() {
            true => profile_below(&path),
            false => path
                .extension()
                .is_some_and(|kind| kind == "dfsp")
                .then_some(path),
        }
    })
}
