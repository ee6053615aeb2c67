//! What the kernel asks of the daemon, counted by the daemon: the bounds of a
//! cold and of a warm walk and read, on a small Debian.
//!
//! Counts are the same on a slow and on a fast machine, so these bounds hold
//! what a stopwatch cannot.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::load::{Order, READ_BYTES, Walked, read_all, walk};
use common::mount::Mount;
use common::program::{distrofs, run};
use distrofs::metrics::Snapshot;

/// The image, indexed once for each test.
struct Indexed {
    archive: PathBuf,
    index: PathBuf,
    facts: serde_json::Value,
    _dir: tempfile::TempDir,
}

impl Indexed {
    fn new(archive: PathBuf) -> Self {
        let dir = common::temp_dir();
        let index = dir.path().join("index");
        let made = run(distrofs(["index", "--json", "--index"])
            .arg(&index)
            .arg(&archive))
        .ok();
        Self {
            archive,
            index,
            facts: made.json(),
            _dir: dir,
        }
    }

    fn mount(&self) -> Mount {
        Mount::new(&self.archive, [Path::new("--index"), &self.index])
    }

    fn number(&self, name: &str) -> u64 {
        self.facts[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {}", self.facts))
    }
}

/// What happened between two moments.
struct Spent {
    requests: BTreeMap<String, u64>,
    decoded_bytes: u64,
}

impl Spent {
    /// What `job` made the kernel ask. Asking for the statistics is one ioctl
    /// on the mount itself, which is not counted.
    fn on<T>(mount: &Mount, job: impl FnOnce() -> T) -> (Self, T) {
        let before = mount.stats();
        let result = job();
        let after = mount.stats();
        let count = |s: &Snapshot, name: &str| s.requests.get(name).map_or(0, |r| r.count);
        let decoded = |s: &Snapshot| s.counters["decoded_bytes"];
        let requests = after
            .requests
            .keys()
            .filter(|name| *name != "ioctl")
            .map(|name| (name.clone(), count(&after, name) - count(&before, name)))
            .filter(|(_, spent)| *spent > 0)
            .collect();
        (
            Self {
                requests,
                decoded_bytes: decoded(&after) - decoded(&before),
            },
            result,
        )
    }

    fn of(&self, name: &str) -> u64 {
        self.requests.get(name).copied().unwrap_or(0)
    }

    #[track_caller]
    fn at_most(&self, name: &str, bound: u64) {
        let spent = self.of(name);
        assert!(
            spent <= bound,
            "{spent} {name} requests, at most {bound} expected: {:?}",
            self.requests
        );
    }
}

/// How often a warm load is tried.
/// What is decoded ahead by a thread that gets no processor for long is decoded in
/// vain: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const WARM_TRIES: usize = 10;

/// Asserts that `job` can be done without asking the daemon for anything.
///
/// The kernel may drop what it caches at any time (another program drops the
/// caches, or the machine reclaims idle memory by itself) and then has to ask
/// for that again. So the load is repeated until nothing was dropped meanwhile;
/// what is asked for every time fails every try.
#[track_caller]
fn assert_asks_nothing(mount: &Mount, what: &str, job: impl Fn()) {
    let mut asked = Vec::new();
    for _ in 0..WARM_TRIES {
        let (spent, ()) = Spent::on(mount, &job);
        if spent.requests.is_empty() {
            assert_eq!(spent.decoded_bytes, 0, "{what}: decoded, but not asked for");
            return;
        }
        asked.push(spent.requests);
    }
    panic!("{what} asked each time for {asked:?}");
}

/// Asserts that a tree was walked that is a Debian, and not nothing.
#[track_caller]
fn assert_is_debian(walked: &Walked) {
    assert!(
        walked.entries > 5_000 && walked.files.len() > 3_000,
        "too small: {} entries",
        walked.entries
    );
}

/// Walks twice; what the first walk asked for is the answer.
#[track_caller]
fn first_walk(order: Order) -> (Spent, Walked) {
    let image = Indexed::new(common::archive::debian_tgz());
    let mount = image.mount();
    let (first, walked) = Spent::on(&mount, || walk(mount.path(), order));
    assert_is_debian(&walked);
    println!(
        "first walk, {order:?}: {} entries in {} directories: {:?}",
        walked.entries, walked.directories, first.requests
    );
    assert_asks_nothing(&mount, "the second walk", || {
        assert_eq!(walk(mount.path(), order).entries, walked.entries);
    });
    first.at_most("lookup", walked.entries / 100);
    first.at_most("getattr", 10);
    mount.end();
    (first, walked)
}

/// `find`, `ls -l`, `du`, `tar`: a directory is read to its end before its
/// entries' turn. One request brings its names and attributes; the kernel then
/// needs one empty answer to know that it has them all (`fs/fuse/readdir.c`
/// completes its cache on nothing else), which it asks for by READDIR.
#[test]
fn a_walk_asks_once_for_each_directory_and_then_never_again() {
    let _alone = alone();
    let (first, walked) = first_walk(Order::DirectoryFirst);
    let slack = walked.entries / 100;
    first.at_most("readdirplus", walked.directories * 12 / 10 + slack);
    first.at_most("readdir", walked.directories + slack);
}

/// A program that looks at each entry as it is named. Having seen that
/// attributes are wanted, the kernel asks for the empty answer by READDIRPLUS:
/// the same two requests under another name.
#[test]
fn an_interleaved_walk_asks_no_more_in_all() {
    let _alone = alone();
    let (first, walked) = first_walk(Order::Interleaved);
    let asked = first.of("readdirplus") + first.of("readdir");
    let bound = walked.directories * 2 + walked.entries / 100;
    assert!(asked <= bound, "{asked} requests, at most {bound} expected");
}

/// The first full read of an image, `threads` files at a time, may decode
/// `decoded_percent` of the archive.
#[track_caller]
fn assert_first_read(archive: PathBuf, threads: usize, decoded_percent: u64) {
    let image = Indexed::new(archive);
    let mount = image.mount();
    let walked = walk(mount.path(), Order::DirectoryFirst);
    assert_is_debian(&walked);
    let (first, bytes) = Spent::on(&mount, || read_all(&walked.files, threads));
    let stream = image.number("stream_bytes");
    println!(
        "first read, {threads} threads: {} files, {bytes} bytes, {:?}; decoded {} of {stream} bytes ({:.3})",
        walked.files.len(),
        first.requests,
        first.decoded_bytes,
        first.decoded_bytes as f64 / stream as f64,
    );
    assert_eq!(
        bytes,
        walked.files.iter().map(|(_, size)| size).sum::<u64>()
    );
    let chunk = READ_BYTES as u64;
    first.at_most("open", 1);
    let larger = walked
        .files
        .iter()
        .map(|(_, size)| *size)
        .filter(|size| *size > chunk);
    let chunks: u64 = larger.map(|size| size.div_ceil(chunk)).sum();
    first.at_most("read", walked.inodes * 12 / 10 + chunks);
    assert!(
        first.decoded_bytes <= stream * decoded_percent / 100,
        "decoded {} of {stream} bytes, at most {decoded_percent} % expected",
        first.decoded_bytes
    );
    assert_asks_nothing(&mount, "the second read", || {
        assert_eq!(read_all(&walked.files, threads), bytes);
    });
    mount.end();
}

#[test]
fn a_full_read_asks_once_for_each_file_and_decodes_once() {
    let _alone = alone();
    assert_first_read(common::archive::debian_tgz(), 1, 105);
}

#[test]
fn eight_readers_share_what_is_decoded() {
    let _alone = alone();
    assert_first_read(common::archive::debian_tgz(), 8, 110);
}

#[test]
fn a_plain_archive_is_read_once() {
    let _alone = alone();
    assert_first_read(common::archive::debian_tar(), 1, 105);
}

#[test]
fn the_index_is_small() {
    let _alone = alone();
    let image = Indexed::new(common::archive::debian_tgz());
    let (index, archive) = (image.number("index_bytes"), image.number("archive_bytes"));
    assert_eq!(index, image.index.metadata().expect("stat the index").len());
    assert_eq!(
        archive,
        image.archive.metadata().expect("stat the archive").len()
    );
    println!(
        "index {index} of {archive} bytes ({:.4})",
        index as f64 / archive as f64
    );
    assert!(
        index * 100 <= archive * 4,
        "the index has {index} bytes, the archive {archive}"
    );
}
