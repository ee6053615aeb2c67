//! For the tests of this module: an image made in code and kept in memory.

use std::sync::Arc;

use super::Subject;
use crate::index::testing::build;
use crate::source::{ReadAt, SourceError};
use crate::types::Ino;

/// One entry of an archive.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    path: &'a str,
    typeflag: u8,
    mode: u32,
    owner: (u32, u32),
    mtime: u64,
    target: &'a str,
    body: &'a [u8],
}

impl<'a> Node<'a> {
    fn new(typeflag: u8, path: &'a str, mode: u32) -> Self {
        Self {
            path,
            typeflag,
            mode,
            owner: (0, 0),
            mtime: 1000,
            target: "",
            body: b"",
        }
    }

    pub(super) fn file(path: &'a str, mode: u32, body: &'a [u8]) -> Self {
        Self {
            body,
            ..Self::new(b'0', path, mode)
        }
    }

    pub(super) fn dir(path: &'a str, mode: u32) -> Self {
        Self::new(b'5', path, mode)
    }

    pub(super) fn link(path: &'a str, target: &'a str) -> Self {
        Self {
            target,
            ..Self::new(b'2', path, 0o777)
        }
    }

    pub(super) fn fifo(path: &'a str, mode: u32) -> Self {
        Self::new(b'6', path, mode)
    }

    pub(super) fn device(path: &'a str, mode: u32) -> Self {
        Self::new(b'3', path, mode)
    }

    pub(super) fn owned(self, uid: u32, gid: u32) -> Self {
        Self {
            owner: (uid, gid),
            ..self
        }
    }

    pub(super) fn at(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    fn write(&self, stream: &mut Vec<u8>) {
        // GNU: a long name as the content of an entry of its own.
        let name = [self.path.as_bytes(), b"\0"].concat();
        header(stream, b'L', &Node::new(b'L', "././@LongLink", 0), &name);
        header(stream, self.typeflag, self, self.body);
    }
}

fn header(stream: &mut Vec<u8>, typeflag: u8, node: &Node<'_>, body: &[u8]) {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &node.path.as_bytes()[..node.path.len().min(100)]);
    put(100, format!("{:07o}\0", node.mode).as_bytes());
    put(108, format!("{:07o}\0", node.owner.0).as_bytes());
    put(116, format!("{:07o}\0", node.owner.1).as_bytes());
    put(124, format!("{:011o}\0", body.len()).as_bytes());
    put(136, format!("{:011o}\0", node.mtime).as_bytes());
    put(156, &[typeflag]);
    put(157, node.target.as_bytes());
    put(257, b"ustar  \0");
    put(148, b"        ");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    stream.extend_from_slice(&block);
    stream.extend_from_slice(body);
    stream.resize(stream.len().next_multiple_of(512), 0);
}

/// The image of an archive with these entries.
pub(super) fn subject(nodes: &[Node<'_>]) -> Subject {
    let mut stream = Vec::new();
    nodes.iter().for_each(|node| node.write(&mut stream));
    stream.resize(stream.len() + 1024, 0);
    let (index, _) = build(&stream);
    Subject::new(index, Arc::new(Memory(stream)), Ino::ROOT, Arc::default()).unwrap()
}

struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let at = usize::try_from(at).unwrap();
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
        Ok(())
    }
}
