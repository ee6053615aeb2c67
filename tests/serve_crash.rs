//! `distrofs serve` when reading one image ends workers: it alone is not read any
//! more, and others are served all along.

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::archive::tar;
use common::program::{eventually, run};
use common::service::Service;
use common::strace::Strace;
use rustix::process::{Pid, Signal, kill_process};

const S: u32 = 30_000;
const SOON: Duration = Duration::from_secs(20);
const EIO: Option<i32> = Some(5);

const FILES: usize = 24;
const FILE_BYTES: usize = 300_000;

/// Bytes that nothing can compress, other ones for each seed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
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
    tar(&tree, &archive, &["-z"]);
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

/// Reads until something else is to be done.
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
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let failed = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                check(&held, 2);
                forget_pages();
            }
        });
        let failed = poison(&service, &stored(&service, &bad), &at("bad"));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        failed
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
