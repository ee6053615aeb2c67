//! For the tests of this module: archives made byte by byte, and the index of
//! one in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use super::build::{
    BuildError, BuildOptions, Builder, Built, Derived, Deriver, HeapArenas, ModeChange, Pass,
    Patch, SectionSink, Wanted,
};
use super::{FileKind, Index, IndexError};
use crate::types::Ino;

pub(super) const KEY: [u8; 16] = *b"0123456789abcdef";

/// A header block in the making: a ustar regular file unless said otherwise.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) name: Vec<u8>,
    pub(super) prefix: Vec<u8>,
    pub(super) typeflag: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) link: Vec<u8>,
    pub(super) device: Option<(u32, u32)>,
    pub(super) magic: [u8; 8],
}

pub(super) const USTAR: [u8; 8] = *b"ustar\x0000";
pub(super) const GNU: [u8; 8] = *b"ustar  \0";
pub(super) const V7: [u8; 8] = [0; 8];

impl Head {
    pub(super) fn new(typeflag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            prefix: Vec::new(),
            typeflag,
            mode: if typeflag == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1000,
            link: Vec::new(),
            device: None,
            magic: USTAR,
        }
    }

    pub(super) fn link(typeflag: u8, name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        Self {
            link: to.as_ref().to_vec(),
            ..Self::new(typeflag, name)
        }
    }

    pub(super) fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.uid).as_bytes());
        put(116, format!("{:07o}\0", self.gid).as_bytes());
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(156, &[self.typeflag]);
        put(157, &self.link);
        put(257, &self.magic);
        if let Some((major, minor)) = self.device {
            put(329, format!("{major:07o}\0").as_bytes());
            put(337, format!("{minor:07o}\0").as_bytes());
        }
        put(345, &self.prefix);
        sign(&mut block);
        block
    }
}

/// Writes the checksum of a header block into it.
pub(super) fn sign(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Where a header of a sparse file has what, and how its numbers end.
pub(super) struct SparseFields {
    magic: [u8; 8],
    pieces: usize,
    more: usize,
    real_size: usize,
    end: char,
}

pub(super) const SPARSE_GNU: SparseFields = SparseFields {
    magic: GNU,
    pieces: 386,
    more: 482,
    real_size: 483,
    end: '\0',
};

pub(super) const SPARSE_STAR: SparseFields = SparseFields {
    magic: USTAR,
    pieces: 356,
    more: 355,
    real_size: 452,
    end: ' ',
};

/// A number as GNU tar writes those that are too large for octal digits.
fn base_256(number: u64) -> Vec<u8> {
    let mut field = vec![0; 12];
    let bytes = number.to_le_bytes();
    for (to, from) in field.iter_mut().rev().zip(bytes) {
        *to = from;
    }
    field[0] = 0x80;
    field
}

/// An archive in the making.
#[derive(Clone, Default)]
pub(super) struct Archive {
    pub(super) bytes: Vec<u8>,
}

impl Archive {
    pub(super) fn head(mut self, head: &Head) -> Self {
        self.bytes.extend_from_slice(&head.block());
        self
    }

    /// Content, padded to whole blocks.
    pub(super) fn body(mut self, body: &[u8]) -> Self {
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn with(self, head: Head, body: impl AsRef<[u8]>) -> Self {
        let size = body.as_ref().len().try_into().unwrap();
        self.head(&Head { size, ..head }).body(body.as_ref())
    }

    pub(super) fn file(self, name: &str, body: impl AsRef<[u8]>) -> Self {
        self.with(Head::new(b'0', name), body)
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.head(&Head::new(b'5', name))
    }

    pub(super) fn symlink(self, name: &str, to: &str) -> Self {
        self.head(&Head::link(b'2', name, to))
    }

    pub(super) fn hard_link(self, name: &str, to: &str) -> Self {
        self.head(&Head::link(b'1', name, to))
    }

    /// A sparse file in the format of old GNU tar, or of star.
    pub(super) fn sparse(
        mut self,
        fields: &SparseFields,
        name: &str,
        size: u64,
        map: &[(u64, u64)],
        data: &[u8],
    ) -> Self {
        let mut head = Head::new(b'S', name);
        head.size = data.len().try_into().unwrap();
        head.magic = fields.magic;
        let mut block = head.block();
        let text = |number: u64| match number >> 33 {
            0 => format!("{number:011o}{}", fields.end).into_bytes(),
            _ => base_256(number),
        };
        let piece = |(offset, len): &(u64, u64)| [text(*offset), text(*len)].concat();
        let map: Vec<_> = map.iter().map(piece).collect();
        let (own, rest) = map.split_at(map.len().min(4));
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(fields.pieces, &own.concat());
        put(fields.more, &[u8::from(!rest.is_empty())]);
        put(fields.real_size, &text(size));
        if fields.magic == USTAR {
            put(476, b"00000001750 00000001750 ");
        }
        sign(&mut block);
        self.bytes.extend_from_slice(&block);
        let mut extensions = rest.chunks(21).peekable();
        while let Some(pieces) = extensions.next() {
            let mut block = pieces.concat();
            block.resize(512, 0);
            block[504] = u8::from(extensions.peek().is_some());
            self.bytes.extend_from_slice(&block);
        }
        self.body(data)
    }

    /// An extended header of type `x` or `g`.
    pub(super) fn pax(self, typeflag: u8, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        self.with(Head::new(typeflag, "PaxHeaders/x"), body)
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.body(&[0; 1024]).bytes
    }
}

/// A PAX record; its length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len += 1;
    }
    let mut out = format!("{len} {key}=").into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

/// An index in memory.
#[derive(Default, Clone)]
pub(super) struct Sections {
    pub(super) bytes: Vec<u8>,
    pub(super) ranges: BTreeMap<u32, Range<usize>>,
}

impl SectionSink for Sections {
    fn section(
        &mut self,
        id: u32,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = self.bytes.len();
        write(&mut self.bytes)?;
        assert!(self.ranges.insert(id, start..self.bytes.len()).is_none());
        Ok(())
    }
}

impl Sections {
    pub(super) fn open(&self) -> Result<Index, IndexError> {
        let ranges = self.ranges.clone();
        Index::open(Arc::new(self.bytes.clone()), &|id| ranges.get(&id).cloned())
    }
}

pub(super) fn options() -> BuildOptions {
    BuildOptions::new(KEY)
}

/// Builds from slices of `cut` bytes.
pub(super) fn build_cut(
    options: BuildOptions,
    stream: &[u8],
    cut: usize,
) -> Result<(Sections, Built), BuildError> {
    let mut builder = Builder::new(options, &mut HeapArenas)?;
    let mut at = 0;
    for slice in stream.chunks(cut) {
        if builder.push(at, slice)?.is_break() {
            break;
        }
        at += u64::try_from(slice.len()).unwrap();
    }
    let mut sections = Sections::default();
    let built = builder.finish(&mut sections)?;
    Ok((sections, built))
}

/// Builds, verifies and opens.
pub(crate) fn build(stream: &[u8]) -> (Index, Built) {
    let (sections, built) = build_cut(options(), stream, 1 << 20).unwrap();
    let index = sections.open().unwrap();
    index.verify(stream.len().try_into().unwrap()).unwrap();
    assert_eq!(index.summary(), built.summary);
    (index, built)
}

pub(super) fn build_err(stream: &[u8]) -> BuildError {
    build_cut(options(), stream, 1 << 20)
        .map(|_| ())
        .unwrap_err()
}

/// Pushes slices of at most `cut` bytes, and leaves out content that may be.
fn push_all(pass: &mut Pass<'_>, stream: &[u8], cut: usize) -> Result<(), BuildError> {
    let mut at = 0;
    while let Some(rest) = stream.get(at..).filter(|rest| !rest.is_empty()) {
        let slice = &rest[..rest.len().min(cut)];
        match pass.push(at.try_into().unwrap(), slice)? {
            Wanted::From(next) => at = next.try_into().unwrap(),
            Wanted::Nothing => break,
        }
    }
    Ok(())
}

/// Builds the index of an image with patches on top.
pub(super) fn derive_cut(
    options: BuildOptions,
    base: (&Index, &[u8]),
    patches: &[Vec<u8>],
    changes: &[ModeChange],
    cut: usize,
) -> Result<(Sections, Derived), BuildError> {
    let (index, stream) = base;
    let mut start = stream.len().try_into().unwrap();
    let mut deriver = Deriver::new(index, start, options, &mut HeapArenas)?;
    for patch in patches {
        let len = patch.len().try_into().unwrap();
        let about = Patch {
            start,
            len,
            archive_bytes: len,
            ignore_zeros: false,
        };
        deriver.patch(about, &mut HeapArenas, &mut |pass| {
            push_all(pass, patch, cut)
        })?;
        start += len;
    }
    let mut sections = Sections::default();
    let derived = deriver.finish(changes, &mut sections)?;
    Ok((sections, derived))
}

/// Derives, verifies and opens; also the joined stream.
pub(super) fn derive(
    base: &[u8],
    patches: &[Vec<u8>],
    changes: &[ModeChange],
) -> (Index, Derived, Vec<u8>) {
    let (index, _) = build(base);
    let options = BuildOptions::new(*b"another key here");
    let derived = derive_cut(options, (&index, base), patches, changes, 700);
    let (sections, derived) = derived.unwrap();
    let stream = [base.to_vec(), patches.concat()].concat();
    let index = sections.open().unwrap();
    index.verify(stream.len().try_into().unwrap()).unwrap();
    assert_eq!(index.summary(), derived.summary);
    (index, derived, stream)
}

/// The whole tree, one line for each name, sorted: path, type, mode, links, and
/// the content or target. Also checks that lookup and listing agree.
pub(super) fn tree(index: &Index, stream: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![(Ino::ROOT, String::new())];
    while let Some((dir, path)) = pending.pop() {
        for (position, dirent) in (0..).zip(index.dirents(dir, 0).unwrap()) {
            let dirent = dirent.unwrap();
            assert_eq!(dirent.position, position);
            assert_eq!(index.lookup(dir, dirent.name).unwrap(), Some(dirent.ino));
            let path = format!("{path}{}", String::from_utf8_lossy(dirent.name));
            let inode = index.inode(dirent.ino).unwrap();
            let (letter, tail) = match inode.kind {
                FileKind::Regular => ('f', format!(" {}", content(index, dirent.ino, stream))),
                FileKind::Symlink => {
                    let target = index.link_target(dirent.ino).unwrap();
                    ('l', format!(" {}", String::from_utf8_lossy(target)))
                }
                FileKind::Directory => {
                    assert_eq!(index.parent(dirent.ino).unwrap(), dir);
                    pending.push((dirent.ino, format!("{path}/")));
                    ('d', String::new())
                }
                FileKind::Fifo => ('p', String::new()),
                FileKind::Socket => ('s', String::new()),
                FileKind::CharDevice => ('c', format!(" {:x}", inode.rdev)),
                FileKind::BlockDevice => ('b', format!(" {:x}", inode.rdev)),
            };
            lines.push(format!(
                "{path} {letter}{:o} n{}{tail}",
                inode.perm, inode.nlink
            ));
        }
    }
    lines.sort();
    lines
}

/// The content of a file as its extents give it.
pub(super) fn content(index: &Index, ino: Ino, stream: &[u8]) -> String {
    let size = usize::try_from(index.inode(ino).unwrap().size).unwrap();
    let mut bytes = vec![0; size];
    for extent in index.extents(ino).unwrap() {
        let extent = extent.unwrap();
        let [to, from, len] =
            [extent.file_offset, extent.stream.0, extent.len].map(|n| usize::try_from(n).unwrap());
        bytes[to..to + len].copy_from_slice(&stream[from..from + len]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn find(index: &Index, path: &str) -> Ino {
    index.resolve(Ino::ROOT, path.as_bytes(), false).unwrap()
}
