//! `distrofs serve` when reading one image ends workers: it alone is not read any
//! more, and others are served all along.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use common::archive::tar as pack;
use common::program::{eventually, run};
use common::service::Service;
use common::strace::Strace;
use rustix::process::{Pid, Signal, kill_process};

const S: u32 = 30_000;
const SOON: Duration = Duration::from_secs(20);
const EIO: Option<i32> = Some(5);

/// Longer than what has to happen meanwhile, and not for ever: whatever becomes of a
/// test, its processes can end.
const HANG: &str = "pread64:delay_enter=40000000";

const FILES: usize = 24;
const FILE_BYTES: usize = 300_000;

/// Bytes that nothing can compress, other ones for each seed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    std::iter::repeat_with(next).take(FILE_BYTES).collect()
}

fn content(image: u64, file: usize) -> Vec<u8> {
    noise(image * 1000 + file as u64 + 1)
}

/// An archive of files that are all noise.
fn archive(service: &Service, name: &str, image: u64) -> PathBuf {
    let tree = service.path().join(format!("tree-{name}"));
    fs::create_dir(&tree).expect("make a directory");
    for file in 0..FILES {
        fs::write(tree.join(file.to_string()), content(image, file)).expect("write a file");
    }
    let archive = service.path().join(format!("{name}.tgz"));
    pack(&tree, &archive, &["-z"]);
    archive
}

/// Where the store has an archive.
fn stored(service: &Service, archive: &Path) -> PathBuf {
    let bytes = fs::metadata(archive).expect("look at an archive").len();
    let mut pending = vec![service.path().join("containers/.distrofs/stores")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).expect("read the store") {
            let entry = entry.expect("read the store");
            let found = entry.metadata().expect("look at the store");
            if found.is_dir() {
                pending.push(entry.path());
            } else if found.len() == bytes {
                return entry.path();
            }
        }
    }
    panic!("the archive is not in the store");
}

/// Keeps the kernel from answering all by itself.
fn forget_pages() {
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
}

fn next_worker(service: &Service, last: Pid) -> Pid {
    let mut next = None;
    let found = eventually(SOON, || {
        next = service.worker(S).filter(|pid| *pid != last);
        next.is_some()
    });
    assert!(found, "no worker: {}", service.log());
    next.expect("a worker")
}

/// Says that something is over when it is dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads all files from their beginning, and compares them.
fn check(held: &[File], image: u64) {
    for (file, mut open) in held.iter().enumerate() {
        let mut bytes = Vec::new();
        open.rewind().expect("go to the beginning");
        open.read_to_end(&mut bytes).expect("read what is held");
        assert!(bytes == content(image, file), "file {file} is another one");
    }
}

fn hold(at: &Path) -> Vec<File> {
    let open = |file: usize| File::open(at.join(file.to_string())).expect("open a file");
    (0..FILES).map(open).collect()
}

/// Has the worker fault when it reads `archive`, and reads files of `poison` until it
/// did so three times. Which was read last, and how.
fn poison(service: &Service, archive: &Path, poison: &Path) -> Option<std::io::Error> {
    let mut worker = service.worker(S).expect("a worker");
    for file in 0..FILES {
        let traced = Strace::inject(worker, archive, "pread64:signal=SIGABRT");
        assert!(traced.is_some(), "the worker is gone: {}", service.log());
        forget_pages();
        let read = fs::read(poison.join(file.to_string()));
        if let Ok(bytes) = &read {
            assert!(*bytes == content(1, file), "file {file} is another one");
        }
        worker = match read {
            Ok(_) => next_worker(service, worker),
            Err(error) => return Some(error),
        };
    }
    None
}

fn tombstones(service: &Service) -> Vec<serde_json::Value> {
    let status = service.status(S);
    let all = status["tombstones"].as_array().expect("a list");
    all.clone()
}

/// Three times the worker dies of its own while it reads one image. Who reads that one
/// gets errors, and nobody else notices: not those who read another image all the
/// time, nor those who get a new version of this one.
#[test]
fn an_image_that_ends_workers_becomes_a_tombstone_and_others_are_served() {
    let mut service = Service::new(&[S]);
    let (bad, good) = (archive(&service, "bad", 1), archive(&service, "good", 2));
    service.upload(S, &bad, "bad.tgz");
    service.upload(S, &good, "good.tgz");
    service.start();
    let at = |name: &str| service.distros(S).join(name);
    let held = hold(&at("good"));
    let of_bad = File::open(at("bad").join("23")).expect("open a file");
    let is_over = AtomicBool::new(false);
    let failed = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                check(&held, 2);
                forget_pages();
            }
        });
        let _over = Over(&is_over);
        poison(&service, &stored(&service, &bad), &at("bad"))
    });
    let failed = failed.unwrap_or_else(|| panic!("it is read still: {}", service.log()));
    assert_eq!(failed.raw_os_error(), EIO);
    assert_eq!(service.status(S)["restarts"], 3, "{}", service.log());
    // All of it fails, whatever the kernel knew.
    forget_pages();
    for path in ["5", "none", "."] {
        let found = fs::metadata(at("bad").join(path)).map(|found| found.ino());
        let error = found.err().and_then(|error| error.raw_os_error());
        assert!(error == EIO || path == ".", "{path}: {error:?}");
    }
    let read = of_bad.read_at(&mut [0; 10], 0);
    assert_eq!(read.map_err(|error| error.raw_os_error()), Err(EIO));
    check(&held, 2);
    // It is said what to do.
    let [tombstone] = &tombstones(&service)[..] else {
        panic!("no tombstone: {}", service.status(S));
    };
    assert_eq!(tombstone["path"], "bad");
    let why = tombstone["why"].as_str().expect("a text");
    assert!(
        why.contains("3 times") && why.contains("new version"),
        "{why}"
    );
    let images = service.status(S)["images"].clone();
    for image in images.as_array().expect("a list") {
        assert_eq!(image["is_tombstone"], image["path"] == "bad", "{images}");
    }
    let shown = run(common::program::distrofs(["status", "--run"]).arg(service.run_dir()));
    assert!(shown.ok().stdout.contains("tombstone: reading it ended"));
    assert!(service.log().contains("all who use it get errors"));
    service
        .attached(30_001, "30000/bad", "")
        .refused(1, &["not read any more", "new version"]);
    // It stays dead when the worker is another one, and others stay served.
    let worker = service.worker(S).expect("a worker");
    kill_process(worker, Signal::KILL).expect("kill the worker");
    next_worker(&service, worker);
    let read = of_bad.read_at(&mut [0; 10], 0);
    assert_eq!(read.map_err(|error| error.raw_os_error()), Err(EIO));
    check(&held, 2);
    // A new version is served, next to the dead one.
    service.upload(S, &archive(&service, "better", 3), "bad.tgz");
    let is_new = || fs::read(at("bad").join("3")).is_ok_and(|bytes| bytes == content(3, 3));
    assert!(eventually(SOON, is_new), "{}", service.log());
    let read = of_bad.read_at(&mut [0; 10], 0);
    assert_eq!(read.map_err(|error| error.raw_os_error()), Err(EIO));
    assert!(tombstones(&service).is_empty(), "{}", service.status(S));
    check(&hold(&at("bad")), 3);
    drop((of_bad, held));
    service.stop();
    let gone = eventually(SOON, || service.worker(S).is_none());
    assert!(
        gone && service.mounts().is_empty(),
        "{:?}",
        service.mounts()
    );
}

/// Who sends a worker such a signal does not say of which thread. If it works on one
/// image only, that is the reason.
#[test]
fn a_worker_that_is_ended_while_it_reads_one_image_counts_against_it() {
    let mut service = Service::new(&[S]);
    let bad = archive(&service, "bad", 1);
    service.upload(S, &bad, "bad.tgz");
    service.start();
    let (at, stored) = (service.distros(S).join("bad"), stored(&service, &bad));
    for file in 0..FILES {
        let worker = service.worker(S).expect("a worker");
        let strace = Strace::inject(worker, &stored, HANG).expect("a worker");
        forget_pages();
        let read = std::thread::scope(|scope| {
            let hung = scope.spawn(|| fs::read(at.join(file.to_string())));
            // Most probably it hangs by then; there are more files if not.
            sleep(Duration::from_millis(100));
            kill_process(worker, Signal::ABORT).expect("end the worker");
            // It keeps threads that it delays from ending.
            drop(strace);
            next_worker(&service, worker);
            hung.join().expect("it ends")
        });
        match read {
            Ok(bytes) => assert!(bytes == content(1, file), "file {file} is another one"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), EIO);
                break;
            }
        }
    }
    assert_eq!(tombstones(&service).len(), 1, "{}", service.status(S));
    service.stop();
}

/// While it works on nothing, nobody knows.
#[test]
fn who_is_killed_while_nothing_is_read_is_nobodys_fault() {
    let mut service = Service::new(&[S]);
    service.upload(S, &archive(&service, "good", 2), "good.tgz");
    service.start();
    let held = hold(&service.distros(S).join("good"));
    for _ in 0..5 {
        let worker = service.worker(S).expect("a worker");
        kill_process(worker, Signal::ABORT).expect("end the worker");
        next_worker(&service, worker);
        forget_pages();
        check(&held, 2);
    }
    assert!(tombstones(&service).is_empty(), "{}", service.status(S));
    drop(held);
    service.stop();
}

/// One disk hangs, and with it one archive: who reads that gets an error when the time
/// is over, which is counted, and nobody else waits.
#[test]
fn a_disk_that_hangs_is_an_error_in_time_and_holds_nobody_up() {
    let mut service = Service::new(&[S]);
    service.set("tune=[\"read_deadline_s=1\"]");
    let (slow, good) = (archive(&service, "slow", 1), archive(&service, "good", 2));
    service.upload(S, &slow, "slow.tgz");
    service.upload(S, &good, "good.tgz");
    service.start();
    let at = |name: &str| service.distros(S).join(name);
    let worker = service.worker(S).expect("a worker");
    let errors = |path: &str| {
        let status = service.status(S);
        let served = status["served"].as_array().expect("a list").iter();
        let image = served.clone().find(|image| image["path"] == path);
        let count = &image.expect("the image")["counters"]["deadline_errors"];
        count.as_u64().expect("a number")
    };
    let held = hold(&at("good"));
    let strace = Strace::inject(worker, &stored(&service, &slow), HANG).expect("a worker");
    forget_pages();
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| fs::read(at("slow").join("9")));
        for _ in 0..3 {
            check(&held, 2);
            forget_pages();
        }
        let error = hung.join().expect("it ends").expect_err("it is an error");
        assert_eq!(error.raw_os_error(), EIO);
    });
    check(&held, 2);
    assert!(errors("slow") > 0, "{}", service.status(S));
    assert_eq!(errors("good"), 0, "{}", service.status(S));
    drop(strace);
    let is_well = || fs::read(at("slow").join("9")).is_ok_and(|bytes| bytes == content(1, 9));
    assert!(eventually(SOON, is_well), "{}", service.log());
    assert_eq!(service.worker(S), Some(worker));
    assert!(tombstones(&service).is_empty(), "{}", service.status(S));
    drop(held);
    service.stop();
}

/// Has a system call about a connection of FUSE be the last of each worker that is
/// started from now on.
fn poison_connections(service: &Service, call: &str) -> Strace {
    let fault = format!("{call}:signal=SIGABRT");
    let strace = Strace::inject(service.supervisor(), Path::new("/dev/fuse"), &fault);
    let worker = service.worker(S).expect("a worker");
    kill_process(worker, Signal::KILL).expect("kill the worker");
    next_worker(service, worker);
    strace.expect("a supervisor")
}

/// A worker that goes on with an image may die before any request is answered. The
/// connection of who uses it is kept all the same; and whoever restarts the service
/// gets the image tried again.
#[test]
fn an_image_that_ends_workers_when_it_is_opened_again_becomes_a_tombstone() {
    let mut service = Service::new(&[S]);
    service.upload(S, &archive(&service, "bad", 1), "bad.tgz");
    service.start();
    let held = hold(&service.distros(S).join("bad"));
    let strace = poison_connections(&service, "dup3");
    let is_dead = || tombstones(&service).len() == 1 && service.status(S)["worker"].is_u64();
    assert!(eventually(SOON, is_dead), "{}", service.log());
    drop(strace);
    forget_pages();
    let read = held[0].read_at(&mut [0; 10], 0);
    assert_eq!(read.map_err(|error| error.raw_os_error()), Err(EIO));
    let worker = service.worker(S).expect("a worker");
    service.hand_over();
    let read = held[0].read_at(&mut [0; 10], 0);
    assert_eq!(read.map_err(|error| error.raw_os_error()), Err(EIO));
    service.start();
    next_worker(&service, worker);
    let is_read = || held[0].read_at(&mut [0; 10], 0).is_ok();
    assert!(eventually(SOON, is_read), "{}", service.log());
    check(&held, 1);
    assert!(tombstones(&service).is_empty(), "{}", service.status(S));
    drop(held);
    service.stop();
}

/// A version that ends workers before it is ever served is not served, and what was
/// served before it is.
#[test]
fn an_image_that_ends_workers_when_it_is_new_is_not_served() {
    let mut service = Service::new(&[S]);
    service.start();
    let strace = poison_connections(&service, "read");
    service.upload(S, &archive(&service, "bad", 1), "bad.tgz");
    let is_dead = || tombstones(&service).len() == 1 && service.status(S)["worker"].is_u64();
    assert!(eventually(SOON, is_dead), "{}", service.log());
    drop(strace);
    assert_eq!(service.status(S)["images"], serde_json::json!([]));
    assert!(!service.distros(S).join("bad/0").exists());
    service
        .attached(30_001, "30000/bad", "")
        .refused(1, &["not read any more"]);
    service.upload(S, &archive(&service, "better", 3), "bad.tgz");
    let at = service.distros(S).join("bad/3");
    let is_new = || fs::read(&at).is_ok_and(|bytes| bytes == content(3, 3));
    assert!(eventually(SOON, is_new), "{}", service.log());
    assert!(tombstones(&service).is_empty(), "{}", service.status(S));
    service.stop();
}

/// An archive of one large file, which takes a while to index.
fn large(service: &Service) -> PathBuf {
    const TIMES: u64 = 8;
    let packed = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).expect("compress");
        gzip.finish().expect("compress")
    };
    // The file is the Debian image, again and again.
    let bytes = fs::metadata(common::archive::debian_tar()).expect("look at the image");
    let mut header = tar::Header::new_gnu();
    header.set_path("images").expect("a path");
    header.set_mode(0o644);
    header.set_size(bytes.len() * TIMES);
    header.set_cksum();
    let archive = service.path().join("large.tgz");
    let mut file = File::create(&archive).expect("make an archive");
    let mut add = |bytes: &[u8]| file.write_all(bytes).expect("write an archive");
    add(&packed(header.as_bytes()));
    let image = fs::read(common::archive::debian_tgz()).expect("read the image");
    (0..TIMES).for_each(|_| add(&image));
    add(&packed(&[0; 1024]));
    archive
}

#[test]
fn an_upload_that_ends_workers_is_put_aside_and_others_are_taken_in() {
    let mut service = Service::new(&[S]);
    service.start();
    let good = archive(&service, "good", 1);
    let rejected = service.distros(S).join(".rejected/deadly.tgz");
    let worker = |service: &Service| service.worker(S).map(Pid::as_raw_nonzero);
    let deadly = large(&service);
    service.upload(S, &deadly, "deadly.tgz");
    // What is being indexed has a name that none had before.
    let incoming = service
        .path()
        .join("containers/.distrofs/stores/30000/incoming");
    let names = || -> BTreeSet<OsString> {
        let entries = fs::read_dir(&incoming).expect("read a directory");
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        names.collect()
    };
    let mut seen = BTreeSet::new();
    let mut deaths = 0;
    while deaths < 9 && !rejected.exists() {
        let indexes = || names().iter().any(|name| !seen.contains(name));
        if !eventually(SOON, || rejected.exists() || indexes()) || rejected.exists() {
            break;
        }
        seen.extend(names());
        let last = worker(&service);
        kill_process(service.worker(S).expect("a worker"), Signal::ABORT).expect("end it");
        deaths += 1;
        let is_another = || worker(&service).is_some_and(|worker| Some(worker) != last);
        assert!(
            eventually(SOON, is_another),
            "death {deaths}: {}",
            service.log()
        );
    }
    assert!(deaths >= 3, "{deaths}: {}", service.log());
    let is_aside = eventually(SOON, || rejected.exists());
    assert!(is_aside, "{}", service.log());
    let reason = service.distros(S).join(".rejected/deadly.tgz.reason");
    let reason = fs::read_to_string(reason).expect("read the reason");
    assert!(reason.contains("again and again"), "{reason}");
    service.upload(S, &good, "good.tgz");
    let file = service.distros(S).join("good/7");
    let is_served = || fs::read(&file).is_ok_and(|bytes| bytes == content(1, 7));
    assert!(eventually(SOON, is_served), "{}", service.log());
    service.stop();
}
