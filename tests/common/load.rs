//! The fixed loads whose requests are counted: a walk and a full read.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// How much one `read` asks for.
pub(crate) const READ_BYTES: usize = 128 * 1024;

/// When a walk asks for the attributes of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// As soon as it is named, while the directory is still being read.
    Interleaved,
    /// After the directory was read to its end, as `find` and `ls` do.
    DirectoryFirst,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Names, the root not counted.
    pub(crate) entries: u64,
    /// Directories, with the root.
    pub(crate) directories: u64,
    /// Regular files and their sizes, in the order in which they were met.
    pub(crate) files: Vec<(PathBuf, u64)>,
    /// How many regular files there are when hard links count once.
    pub(crate) inodes: u64,
}

/// Reads all directories of a tree and asks for every entry's attributes.
pub(crate) fn walk(root: &Path, order: Order) -> Walked {
    let mut walked = Walked::default();
    let mut links = std::collections::HashSet::new();
    walk_dir(root, order, &mut |path, meta| {
        walked.entries += 1;
        if meta.is_dir() {
            walked.directories += 1;
        } else if meta.is_file() {
            walked.inodes += u64::from(links.insert(meta.ino()));
            walked.files.push((path, meta.len()));
        }
    });
    walked.directories += 1;
    walked
}

/// Depth first, as deep as the trees of these tests go.
fn walk_dir(dir: &Path, order: Order, found: &mut dyn FnMut(PathBuf, Metadata)) {
    let stream = fs::read_dir(dir).unwrap_or_else(|e| panic!("read {}: {e}", dir.display()));
    let names = stream.map(|entry| {
        entry
            .unwrap_or_else(|e| panic!("in {}: {e}", dir.display()))
            .path()
    });
    let mut visit = |path: PathBuf| {
        let meta = path
            .symlink_metadata()
            .unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
        let below = meta.is_dir().then(|| path.clone());
        found(path, meta);
        if let Some(dir) = below {
            walk_dir(&dir, order, found);
        }
    };
    match order {
        Order::Interleaved => names.for_each(visit),
        Order::DirectoryFirst => names.collect::<Vec<_>>().into_iter().for_each(&mut visit),
    }
}

/// Reads files to their ends, `threads` at a time; how many bytes that was.
pub(crate) fn read_all(files: &[(PathBuf, u64)], threads: usize) -> u64 {
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let reader = || {
        let mut buffer = vec![0; READ_BYTES];
        while let Some((path, _)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            bytes.fetch_add(read_file(path, &mut buffer), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(reader);
        }
    });
    bytes.into_inner()
}

fn read_file(path: &Path, buffer: &mut [u8]) -> u64 {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let mut bytes = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return bytes,
            Ok(n) => bytes += n as u64,
            Err(e) => panic!("read {} at {bytes}: {e}", path.display()),
        }
    }
}
