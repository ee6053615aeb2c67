//! `distrofs serve`: what is uploaded is served, whatever dies.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::archive::debian_tgz;
use common::load::{Order, walk};
use common::mapping::Mapping;
use common::program::{eventually, run};
use common::service::Service;
use rustix::mm::ProtFlags;
use rustix::process::{Signal, kill_process};

const S: u32 = 30_000;
const SOON: Duration = Duration::from_secs(20);

/// Checksums of all regular files of a tree.
fn sums(root: &Path) -> BTreeMap<PathBuf, u32> {
    let sum = |(path, _): (PathBuf, u64)| {
        let sum = sum(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let path = path.strip_prefix(root).expect("below the root").to_owned();
        (path, sum)
    };
    walk(root, Order::DirectoryFirst)
        .files
        .into_iter()
        .map(sum)
        .collect()
}

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

/// A tree as exploding the archive would make it.
fn exploded(archive: &Path, at: &Path) {
    fs::create_dir(at).expect("make a directory");
    let mut tar = Command::new("tar");
    tar.args(["--exclude=./dev/*", "--exclude=dev/*", "-xzf"])
        .arg(archive);
    run(tar.arg("-C").arg(at)).ok();
}

#[test]
fn an_archive_is_served_where_it_would_be_exploded() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    let at = service.distros(S).join("debian");
    fs::create_dir(&at).expect("make a directory");
    fs::write(at.join("exploded"), "of before").expect("write a file");
    service.start();
    let served = fs::metadata(at.join("etc/passwd")).expect("look at a file");
    assert_eq!((served.uid(), served.gid()), (S, S));
    assert!(!at.join("exploded").exists());
    // What may be written is written for all; it stays over a restart.
    fs::write(at.join("tmp/new"), "kept").expect("write a file");
    service.stop();
    assert!(
        at.join("exploded").exists(),
        "what was exploded is not back"
    );
    let gone = eventually(SOON, || service.worker(S).is_none());
    assert!(
        gone && service.mounts().is_empty(),
        "{:?}",
        service.mounts()
    );
    service.start();
    assert_eq!(fs::read(at.join("tmp/new")).expect("read"), b"kept");
    service.stop();
}

/// Readers of a whole image, over and over, until told to stop.
struct Readers {
    stop: AtomicBool,
    read: AtomicU64,
}

impl Readers {
    /// Runs `disturb` while four of them read; how many files were read.
    fn during(root: &Path, expected: &BTreeMap<PathBuf, u32>, disturb: impl FnOnce()) -> u64 {
        let readers = Readers {
            stop: AtomicBool::new(false),
            read: AtomicU64::new(0),
        };
        std::thread::scope(|scope| {
            for number in 0..4 {
                let readers = &readers;
                scope.spawn(move || readers.work(root, expected, number));
            }
            disturb();
            readers.stop.store(true, Ordering::Relaxed);
        });
        readers.read.load(Ordering::Relaxed)
    }

    fn work(&self, root: &Path, expected: &BTreeMap<PathBuf, u32>, number: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            // `walk` panics on any error.
            let found = walk(root, Order::DirectoryFirst);
            assert_eq!(found.files.len(), expected.len());
            for (path, sum_expected) in expected.iter().skip(number * 500) {
                let found = sum(&root.join(path));
                let found = found.unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
                assert_eq!(found, *sum_expected, "{}", path.display());
                self.read.fetch_add(1, Ordering::Relaxed);
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

/// Keeps the kernel from answering all by itself.
fn forget_pages() {
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
}

#[test]
fn workers_that_are_killed_lose_nothing() {
    const KILLS: u32 = 31;
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    let tree = service.path().join("tree");
    exploded(&debian_tgz(), &tree);
    let expected = sums(&tree);
    service.start();
    let at = service.distros(S).join("debian");
    let held = File::open(at.join("usr/bin/perl")).expect("open a file");
    let mapped = Mapping::new(&held, ProtFlags::READ).expect("map a file");
    let mut kills = 0;
    let read = Readers::during(&at, &expected, || {
        let began = Instant::now();
        while kills < KILLS {
            if let Some(worker) = service.worker(S) {
                kills += u32::from(kill_process(worker, Signal::KILL).is_ok());
            }
            forget_pages();
            sleep(Duration::from_millis(110));
        }
        println!("{KILLS} kills in {:?}", began.elapsed());
    });
    println!("{read} files read");
    assert!(read > 100, "only {read} files were read");
    assert_eq!(mapped.first(), 0x7f);
    assert_eq!(sums(&at), expected);
    service.stop();
}
