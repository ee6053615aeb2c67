//! What becomes of uploads, without other users: those are in `tests/ingest.rs`.

mod arriving;
mod faults;
mod patches;
mod taking;
mod versions;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;
use crate::metrics::Metrics;
use crate::sys::lease::unwritten;

/// A home with its store, in a directory of its own.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("home/distros")).unwrap();
        Place { dir }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A path in `distros`.
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("home/distros").join(name)
    }

    fn upload(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), bytes).unwrap();
        unwritten(&self.at(name));
    }

    fn home(&self) -> Home {
        self.home_with(|_| {})
    }

    fn home_with(&self, change: impl FnOnce(&mut Options)) -> Home {
        let mut options = Options::new(IngestOptions {
            span_bytes: 256 << 10,
            ignore_zeros: false,
        });
        options.retry_after = Duration::ZERO;
        change(&mut options);
        let directory = File::open(self.dir.path().join("home")).unwrap();
        let home = Home::open(directory.into(), &self.store(), options).unwrap();
        assert_eq!(home.recover().unwrap(), []);
        home
    }

    /// Names in `distros` and in the directories of the store.
    fn names(&self, directory: &str) -> Vec<String> {
        names(&match directory {
            "distros" => self.at(""),
            other => self.store().join(other),
        })
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Takes in all that is finished; what came of each, by name.
fn take_all(home: &Home) -> Vec<(String, Outcome)> {
    let scan = home.scan().unwrap();
    let finished = scan.sightings.iter().filter(|s| s.state == State::Finished);
    let taken = finished.map(|s| {
        let name = String::from_utf8_lossy(&s.name).into_owned();
        (name, take(home, s))
    });
    taken.collect()
}

fn take(home: &Home, sighting: &Sighting) -> Outcome {
    work(|work| home.take(sighting, work))
}

fn work<T>(job: impl FnOnce(Work<'_>) -> T) -> T {
    job(Work {
        metrics: &Arc::new(Metrics::default()),
        progress: &|_, _, _| {},
        stop: &AtomicBool::new(false),
    })
}

fn path(name: &str) -> ImagePath {
    ImagePath::new(name.as_bytes()).unwrap()
}

/// What is served as this image now: the digest of the archive in the store.
fn current(home: &Home, name: &str) -> Option<Digest> {
    let record = home.image(&path(name)).ok()?;
    assert!(home.open_image(&record.current).is_ok());
    Some(record.current)
}

/// A tar archive with one file of this content.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut archive = entry(content);
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// One entry without an end behind it.
fn entry(content: &[u8]) -> Vec<u8> {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, b"file");
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = block.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive
}

/// The same bytes as one gzip member of stored blocks.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    let mut chunks = bytes.chunks(60_000).peekable();
    while let Some(chunk) = chunks.next() {
        let len = u16::try_from(chunk.len()).unwrap();
        packed.push(u8::from(chunks.peek().is_none()));
        packed.extend_from_slice(&len.to_le_bytes());
        packed.extend_from_slice(&(!len).to_le_bytes());
        packed.extend_from_slice(chunk);
    }
    packed.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    packed.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
    packed
}
