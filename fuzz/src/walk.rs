//! Asks a filesystem everything that it can be asked, and compares.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use distrofs::fs::{Attr, FileKind, FsError, ImageFs, Patience, Whence, XattrAnswer};

use super::image::Opened;
use super::random::Random;

/// The most that is read of one file; of a larger one pieces here and there.
const READ_MAX: u64 = 4 << 20;
/// The most that is read of all files; of those behind only the first bytes.
const READ_ALL_MAX: usize = 32 << 20;
const READ_BEHIND_MAX: u64 = 4096;
/// The most names that any image of these tests has.
const NAMES_MAX: usize = 100_000;
/// And the most bytes of all their paths: a cycle of directories is endless.
const PATHS_MAX: usize = 16 << 20;

/// What a name stands for, with everything that can be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The inode of the directory that the name is in.
    pub parent: u64,
    /// Its attributes.
    pub attr: Attr,
    /// Where a symbolic link leads.
    pub target: Option<Vec<u8>>,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// Names in a directory, in order, with the dots.
    pub names: Vec<(Vec<u8>, Attr)>,
    /// The bytes of a file.
    pub content: Vec<u8>,
}

/// Names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A whole tree, by path; the root is the empty one.
pub type Seen = BTreeMap<Vec<u8>, Node>;

/// Looks at everything. Any error is one.
pub fn see(fs: &ImageFs) -> Result<Seen, String> {
    let mut seen = Seen::new();
    let mut pending = vec![(Vec::new(), 1, 1)];
    let (mut paths, mut read) = (0, 0);
    while let Some((path, parent, ino)) = pending.pop() {
        let most = if read < READ_ALL_MAX {
            READ_MAX
        } else {
            READ_BEHIND_MAX
        };
        let node = node(fs, parent, ino, most).map_err(|e| format!("{}: {e}", shown(&path)))?;
        for (name, attr) in &node.names {
            if name != b"." && name != b".." {
                let mut below = path.clone();
                below.push(b'/');
                below.extend_from_slice(name);
                paths += below.len();
                pending.push((below, ino, attr.ino));
            }
        }
        read += node.content.len();
        seen.insert(path, node);
        if seen.len() + pending.len() > NAMES_MAX || paths > PATHS_MAX {
            return Err("a tree without an end".to_owned());
        }
    }
    Ok(seen)
}

fn node(fs: &ImageFs, parent: u64, ino: u64, most: u64) -> Result<Node, FsError> {
    let attr = fs.getattr(ino)?;
    let is = |kind| attr.kind == kind;
    Ok(Node {
        parent,
        attr,
        target: is(FileKind::Symlink)
            .then(|| fs.readlink(ino))
            .transpose()?,
        xattrs: xattrs(fs, ino)?,
        names: match is(FileKind::Directory) {
            true => names(fs, ino)?,
            false => Vec::new(),
        },
        content: match is(FileKind::Regular) {
            true => content(fs, ino, attr.size.min(most), 100_000)?,
            false => Vec::new(),
        },
    })
}

fn names(fs: &ImageFs, ino: u64) -> Result<Vec<(Vec<u8>, Attr)>, FsError> {
    let mut names = Vec::new();
    fs.readdir(ino, 0, &mut |entry| {
        names.push((entry.name.to_vec(), entry.attr));
        match names.len() > NAMES_MAX {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(names)
}

fn xattrs(fs: &ImageFs, ino: u64) -> Result<Xattrs, FsError> {
    let XattrAnswer::Data(list) = fs.listxattr(ino, 1 << 16)? else {
        return Ok(Vec::new());
    };
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| match fs.getxattr(ino, name, 1 << 20)? {
            XattrAnswer::Data(value) => Ok((name.to_vec(), value)),
            XattrAnswer::Size(_) => Ok((name.to_vec(), Vec::new())),
        })
        .collect()
}

/// The first `len` bytes of a file, in reads of `step`.
fn content(fs: &ImageFs, ino: u64, len: u64, step: usize) -> Result<Vec<u8>, FsError> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let mut at = 0;
    for piece in bytes.chunks_mut(step.max(1)) {
        let got = fs.read(ino, at, piece, Patience::Wait)?;
        assert_eq!(got, Some(piece.len()), "a short read within a file");
        at += piece.len() as u64;
    }
    Ok(bytes)
}

/// How many answers were right, and how many were errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers that are those of the original.
    pub right: u64,
    /// Questions that were refused.
    pub refused: u64,
}

impl Tally {
    /// Counts an answer; a wrong one is the error.
    fn take<T: PartialEq + std::fmt::Debug>(
        &mut self,
        path: &[u8],
        what: &str,
        answer: Result<T, FsError>,
        original: &T,
    ) -> Result<(), String> {
        match answer {
            Ok(answer) if answer == *original => self.right += 1,
            Ok(answer) => {
                let (mut is, mut was) = (format!("{answer:?}"), format!("{original:?}"));
                is.truncate(300);
                was.truncate(300);
                return Err(format!("{}: wrong {what}: {is}, not {was}", shown(path)));
            }
            Err(_) => self.refused += 1,
        }
        Ok(())
    }
}

/// Asks for everything of `original` and compares each answer with it: the same
/// or an error, as a kernel would that knows all inodes already.
pub fn compare(fs: &ImageFs, original: &Seen, random: &mut Random) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for (path, node) in original {
        let ino = node.attr.ino;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(b".");
        let name = if path.is_empty() { b"." } else { name };
        let found = fs.lookup(node.parent, name);
        tally.take(path, "lookup", found, &Some(node.attr))?;
        tally.take(path, "getattr", fs.getattr(ino), &node.attr)?;
        tally.take(path, "xattrs", xattrs(fs, ino), &node.xattrs)?;
        match node.attr.kind {
            FileKind::Directory => {
                tally.take(path, "listing", names(fs, ino), &node.names)?;
                let absent = format!("absent {}", random.number());
                tally.take(path, "lookup", fs.lookup(ino, absent.as_bytes()), &None)?;
                let above = fs.lookup(ino, b"..").map(|attr| attr.map(|a| a.ino));
                tally.take(path, "..", above, &Some(node.parent))?;
            }
            FileKind::Symlink => {
                let target = fs.readlink(ino).map(Some);
                tally.take(path, "target", target, &node.target)?;
            }
            FileKind::Regular => file(fs, path, node, random, &mut tally)?,
            _ => {}
        }
    }
    let statfs = fs.statfs().map(|s| s.files);
    // Nothing to compare with: it must only answer.
    drop(statfs);
    Ok(tally)
}

/// Reads a file in pieces: after an error the others are still to be right.
fn file(
    fs: &ImageFs,
    path: &[u8],
    node: &Node,
    random: &mut Random,
    tally: &mut Tally,
) -> Result<(), String> {
    let step = 1 + random.below(64 * 1024);
    let mut at = 0;
    for original in node.content.chunks(step) {
        let mut piece = vec![0xa5; step];
        let read = fs.read(node.attr.ino, at, &mut piece, Patience::Wait);
        let read = read.map(|len| {
            piece.truncate(len.unwrap_or(0));
            piece
        });
        tally.take(path, "content", read, &original.to_vec())?;
        at += original.len() as u64;
    }
    Ok(())
}

/// Checks an image against the stream that it was just made of: every question
/// has an answer, and files are what their extents say.
pub fn consistent(image: &Opened, stream: &[u8], stream_len: u64) -> Result<(), String> {
    let verified = image.index.verify(stream_len);
    verified.map_err(|e| format!("a new index does not verify: {e}"))?;
    let seen = see(&image.fs)?;
    for (path, node) in &seen {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", shown(path));
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(b".");
        if !path.is_empty() {
            let found = image.fs.lookup(node.parent, name).map_err(|e| failed(&e))?;
            if found != Some(node.attr) {
                return Err(failed(&"listing and lookup differ"));
            }
        }
        if node.attr.kind == FileKind::Regular {
            let wanted = by_extents(image, node, stream).map_err(|e| failed(&e))?;
            if wanted.is_some_and(|wanted| wanted != node.content) {
                return Err(failed(&"its bytes are not those of the archive"));
            }
            ends(&image.fs, node).map_err(|e| failed(&e))?;
        }
    }
    Ok(())
}

/// Reads, seeks and asks at the far end of a file.
fn ends(fs: &ImageFs, node: &Node) -> Result<(), FsError> {
    let (ino, size) = (node.attr.ino, node.attr.size);
    let mut piece = [0; 5000];
    for at in [size.saturating_sub(3000), size / 2, size, u64::MAX] {
        fs.read(ino, at, &mut piece, Patience::Wait)?;
    }
    for offset in [0, i64::try_from(size / 2).unwrap_or(i64::MAX)] {
        for whence in [Whence::Data, Whence::Hole] {
            match fs.lseek(ino, offset, whence) {
                Ok(_) | Err(FsError::NoSuchOffset) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The bytes that a file's extents name, if they are in what is kept of the
/// stream; as much as was read of the file.
fn by_extents(image: &Opened, node: &Node, stream: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut wanted = vec![0; node.content.len()];
    let ino = distrofs::types::Ino::new(node.attr.ino).ok_or("no such inode")?;
    for extent in image.index.extents(ino).map_err(|e| e.to_string())? {
        let extent = extent.map_err(|e| e.to_string())?;
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (to, from) = (number(extent.file_offset), number(extent.stream.0));
        let Some(room) = wanted.get_mut(to..) else {
            continue;
        };
        let len = room.len().min(number(extent.len));
        let Some(bytes) = stream.get(from..from.saturating_add(len)) else {
            return Ok(None);
        };
        room[..len].copy_from_slice(bytes);
    }
    Ok(Some(wanted))
}

fn shown(path: &[u8]) -> String {
    match path.is_empty() {
        true => "/".to_owned(),
        false => path.escape_ascii().to_string(),
    }
}
