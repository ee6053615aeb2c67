//! `distrofs serve` is replaced by another build while containers run.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use common::archive::debian_tgz;
use common::load::{Order, walk};
use common::mapping::Mapping;
use common::program::{binary, eventually, run};
use common::service::Service;
use distrofs::sys::packets::{Listener, Packets};
use rustix::mm::ProtFlags;
use rustix::process::Pid;

const S: u32 = 30_000;
const SOON: Duration = Duration::from_secs(20);

fn sum(path: &Path) -> std::io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = [0; 64 * 1024];
    let mut file = File::open(path)?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Checksums of all regular files of the image, from a tree that `tar` made.
fn expected(service: &Service) -> BTreeMap<PathBuf, u32> {
    let tree = service.path().join("tree");
    fs::create_dir(&tree).expect("make a directory");
    let mut tar = Command::new("tar");
    tar.args(["--exclude=./dev/*", "--exclude=dev/*", "-xzf"]);
    run(tar.arg(debian_tgz()).arg("-C").arg(&tree)).ok();
    let all = walk(&tree, Order::DirectoryFirst).files.into_iter();
    let sum = |(path, _): (PathBuf, u64)| {
        let sum = sum(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let path = path.strip_prefix(&tree).expect("below the tree").to_owned();
        (path, sum)
    };
    all.map(sum).collect()
}

/// Says that something is over when it is dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Walks and reads all of an image from four threads, while `disturb` runs and for at
/// least one whole pass after it; how many files were read.
fn read_during(root: &Path, expected: &BTreeMap<PathBuf, u32>, disturb: impl FnOnce()) -> u64 {
    let (is_over, read) = (AtomicBool::new(false), AtomicU64::new(0));
    let work = |number: usize| {
        let mut passes_after = 0;
        while passes_after < 1 {
            passes_after += u32::from(is_over.load(Ordering::Relaxed));
            // `walk` panics on any error.
            assert_eq!(
                walk(root, Order::DirectoryFirst).files.len(),
                expected.len()
            );
            for (path, sum_expected) in expected.iter().skip(number * 500) {
                let found = sum(&root.join(path));
                let found = found.unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
                assert_eq!(found, *sum_expected, "{}", path.display());
                read.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || work(number));
        }
        let _over = Over(&is_over);
        disturb();
    });
    read.load(Ordering::Relaxed)
}

/// Keeps the kernel from answering all by itself.
fn forget_pages() {
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
}

/// The program that is at a path now, or was.
fn program_of(process: Pid) -> PathBuf {
    let exe = format!("/proc/{}/exe", process.as_raw_nonzero());
    fs::read_link(exe).expect("look at a process")
}

/// Puts another file of the same content in the place of the program.
fn replace(program: &Path) {
    let name = program.file_name().expect("a name");
    let new = program.with_file_name("new");
    fs::create_dir_all(&new).expect("make a directory");
    let new = new.join(name);
    fs::copy(binary(), &new).expect("copy the program");
    fs::rename(&new, program).expect("replace the program");
}

/// The program is replaced three times. Each time the supervisor hands over, and the
/// next one relieves the worker: the mounts stay, and no operation fails.
#[test]
fn the_program_is_replaced_and_containers_never_notice() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    let name = binary().file_name().expect("a name").to_owned();
    let program = service.path().join("bin").join(name);
    fs::create_dir(service.path().join("bin")).expect("make a directory");
    replace(&program);
    service.set_program(program.clone());
    let expected = expected(&service);
    service.start();
    let at = service.distros(S).join("debian");
    let held = File::open(at.join("usr/bin/perl")).expect("open a file");
    let mapped = Mapping::new(&held, ProtFlags::READ).expect("map a file");
    let mounts = service.mounts();
    let read = read_during(&at, &expected, || {
        for _ in 0..3 {
            let before = service.worker(S).expect("a worker");
            replace(&program);
            forget_pages();
            service.hand_over();
            // Nobody supervises, and all is served.
            assert_eq!(service.worker(S), Some(before));
            forget_pages();
            sleep(Duration::from_millis(200));
            service.start();
            let is_new = || {
                service
                    .worker(S)
                    .is_some_and(|pid| program_of(pid) == program)
            };
            assert!(eventually(SOON, is_new), "{}", service.log());
            assert_ne!(service.worker(S), Some(before));
            forget_pages();
        }
        // Of the same build: the worker stays.
        let before = service.worker(S);
        service.hand_over();
        service.start();
        assert_eq!(service.worker(S), before);
    });
    println!("{read} files read");
    assert!(read > 4 * 500, "only {read} files were read");
    assert_eq!(service.mounts(), mounts, "nothing was mounted again");
    assert_eq!(mapped.first(), 0x7f);
    assert_eq!(service.status(S)["tombstones"], serde_json::json!([]));
    drop((mapped, held));
    service.stop();
    let gone = eventually(SOON, || service.worker(S).is_none());
    assert!(
        gone && service.mounts().is_empty(),
        "{:?}",
        service.mounts()
    );
}

/// A worker of a version that is not understood is told to end when nobody needs it
/// any more, and is in nobody's way.
#[test]
fn a_worker_that_is_not_understood_is_left_to_its_users() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    let workers = service.run_dir().join("workers");
    fs::create_dir_all(&workers).expect("make a directory");
    let listener = Listener::bind(&workers.join(format!("{S}.sock")), 0o600).expect("listen");
    let told = std::thread::spawn(move || {
        let supervisor: Packets = listener.accept().expect("a supervisor");
        for text in [
            r#"{"Hello":{"protocol":9999,"pid":1,"is_hungry":true}}"#,
            r#"{"Offer":{"path":"debian","color":"red"}}"#,
            r#"{"Song":["la","la"]}"#,
        ] {
            supervisor.send(text.as_bytes(), &[]).expect("tell it");
        }
        let mut told = Vec::new();
        while let Ok(Some(packet)) = supervisor.receive() {
            told.push(String::from_utf8(packet.bytes).expect("text"));
        }
        told
    });
    service.start();
    assert_eq!(told.join().expect("it ends"), [r#""Drain""#]);
    let log = service.log();
    assert!(
        log.contains("another version cannot be understood"),
        "{log}"
    );
    let at = service.distros(S).join("debian");
    assert!(fs::read(at.join("bin/bash")).is_ok(), "{log}");
    service.stop();
}
