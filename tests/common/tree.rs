//! Two directory trees, compared in everything a program could see.
//!
//! Compared: names, type, mode, owner, size, modification time to the
//! nanosecond, device number, link target, link count, which names are one
//! inode, extended attributes, content. Not compared: sizes of directories,
//! which every filesystem counts in its own way.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How many differences a failed comparison names.
const NAMED_MAX: usize = 20;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Type and permission bits, as in `st_mode`.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// 0 for directories.
    pub(crate) size: u64,
    pub(crate) mtime: (i64, i64),
    pub(crate) links: u64,
    pub(crate) device: u64,
    pub(crate) target: Option<PathBuf>,
    pub(crate) xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first name, in order of names, of the same inode.
    pub(crate) same_as: PathBuf,
}

impl Node {
    /// Whether this is a device node.
    pub(crate) fn is_device(&self) -> bool {
        matches!(self.mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
    }

    fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }
}

/// All names of a tree, relative to its root, which is the empty name.
pub(crate) type Tree = BTreeMap<PathBuf, Node>;

/// Looks at everything in a tree but the contents of files.
#[track_caller]
pub(crate) fn tree(root: &Path) -> Tree {
    let mut found = BTreeMap::new();
    let mut inodes = HashMap::new();
    let mut dirs = vec![PathBuf::new()];
    add(root, PathBuf::new(), &mut found, &mut inodes);
    while let Some(dir) = dirs.pop() {
        let at = root.join(&dir);
        for entry in fs::read_dir(&at).unwrap_or_else(|e| panic!("read {}: {e}", at.display())) {
            let name = dir.join(entry.expect("read a directory").file_name());
            if add(root, name.clone(), &mut found, &mut inodes) {
                dirs.push(name);
            }
        }
    }
    name_links(&mut found, &inodes);
    found
}

/// Adds one name; whether it is a directory.
fn add(root: &Path, name: PathBuf, tree: &mut Tree, inodes: &mut HashMap<PathBuf, u64>) -> bool {
    let path = root.join(&name);
    let meta = path
        .symlink_metadata()
        .unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
    inodes.insert(name.clone(), meta.ino());
    tree.insert(name, node(&path, &meta));
    meta.is_dir()
}

fn node(path: &Path, meta: &Metadata) -> Node {
    let kind = meta.file_type();
    let device = kind.is_char_device() || kind.is_block_device();
    Node {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        size: if kind.is_dir() { 0 } else { meta.len() },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        links: meta.nlink(),
        device: if device { meta.rdev() } else { 0 },
        target: kind
            .is_symlink()
            .then(|| fs::read_link(path).expect("read a link")),
        xattrs: xattrs(path),
        same_as: PathBuf::new(),
    }
}

fn name_links(tree: &mut Tree, inodes: &HashMap<PathBuf, u64>) {
    let mut first = HashMap::new();
    for (name, node) in tree {
        node.same_as
            .clone_from(first.entry(inodes[name]).or_insert_with(|| name.clone()));
    }
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => panic!("list the attributes of {}: {e}", path.display()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        let name = OsString::from_vec(name.to_vec());
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, name.as_bytes(), &mut value[..])
            .unwrap_or_else(|e| panic!("read {name:?} of {}: {e}", path.display()));
        value.truncate(length);
        found.insert(name, value);
    }
    found
}

/// Asserts that the tree at `seen` is the one at `expected`. `adjust` changes
/// what is expected where something else is on purpose.
#[track_caller]
pub(crate) fn assert_same(
    what: &str,
    expected: &Path,
    seen: &Path,
    adjust: impl FnOnce(&mut Tree),
) {
    let mut wanted = tree(expected);
    adjust(&mut wanted);
    let found = tree(seen);
    let mut differences: Vec<String> = differences(&wanted, &found).collect();
    for (name, node) in &wanted {
        let readable = node.is_file() && node.same_as == *name && found.contains_key(name);
        if let Some(at) = readable
            .then(|| first_difference(&expected.join(name), &seen.join(name)))
            .flatten()
        {
            differences.push(format!(
                "{}: content differs from byte {at} on",
                name.display()
            ));
        }
    }
    assert!(
        wanted.len() > 1,
        "{what}: nothing to compare at {}",
        expected.display()
    );
    assert!(differences.is_empty(), "{what}: {}", listed(&differences));
}

fn differences<'a>(wanted: &'a Tree, found: &'a Tree) -> impl Iterator<Item = String> + 'a {
    let missing = wanted
        .iter()
        .filter_map(|(name, want)| match found.get(name) {
            None => Some(format!("{}: missing", name.display())),
            Some(got) if got != want => Some(format!(
                "{}:\n  expected {want:?}\n  found    {got:?}",
                name.display()
            )),
            Some(_) => None,
        });
    let extra = found.keys().filter(|name| !wanted.contains_key(*name));
    missing.chain(extra.map(|name| format!("{}: should not be there", name.display())))
}

fn listed(differences: &[String]) -> String {
    let named = &differences[..differences.len().min(NAMED_MAX)];
    format!("{} differences\n{}", differences.len(), named.join("\n"))
}

/// Where two files begin to differ.
fn first_difference(a: &Path, b: &Path) -> Option<u64> {
    let open =
        |path: &Path| File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let (mut left, mut right, mut at) = (open(a), open(b), 0);
    let (mut one, mut other) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    loop {
        let n = fill(&mut left, &mut one, a);
        let m = fill(&mut right, &mut other, b);
        if one[..n] != other[..m] {
            let same = one[..n]
                .iter()
                .zip(&other[..m])
                .take_while(|(x, y)| x == y)
                .count();
            return Some(at + same as u64);
        }
        if n == 0 {
            return None;
        }
        at += n as u64;
    }
}

fn fill(file: &mut File, buffer: &mut [u8], path: &Path) -> usize {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) => panic!("read {}: {e}", path.display()),
        }
    }
    length
}
