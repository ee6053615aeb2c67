//! Tables of an index, damaged in any way: every call of the reader.

use std::sync::Arc;

use distrofs::fs::{FsOptions, ImageFs, Owner};
use distrofs::index::{Index, IndexError};
use distrofs::metrics::Metrics;
use distrofs::source::{ReadAt, SourceError};
use distrofs::types::Ino;

use super::super::archive::{Head, Tar, image};
use super::super::image::{Sections, ingest};
use super::super::walk::see;
use super::container;

/// Bytes of the stream that the tables speak of.
const STREAM_LEN: u64 = 1 << 20;
/// Inodes that are asked for, at most: tables of more are asked for the first.
const INODES_MAX: u64 = 3000;
/// Things of one inode that are looked at, at most.
const PIECES_MAX: usize = 3000;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let small = Tar::default()
        .dir("d/")
        .file("d/f", "content")
        .link(b'1', "h", "d/f")
        .link(b'2', "s", "d")
        .entry(&Head::new(b'6', "p"), &[])
        .pax(b'x', &[("SCHILY.xattr.user.a", b"b")])
        .file("x", "y")
        .end();
    let of = |tar: &[u8]| {
        let made = ingest(tar, 1 << 20).unwrap_or_else(|e| panic!("a seed: {e}"));
        let mut sections = Sections::default();
        for (id, place) in &made.sections.places {
            if *id < 0x200 {
                sections.add(*id, &made.sections.bytes[place.clone()]);
            }
        }
        container::pack(&sections)
    };
    vec![of(&small), of(&Tar::default().end_of_one()), of(&image(2))]
}

impl Tar {
    /// The smallest archive that there is.
    fn end_of_one(self) -> Vec<u8> {
        self.file("f", "").end()
    }
}

pub(super) fn run(input: &[u8]) {
    let sections = container::unpack(input);
    let find = |id| sections.places.get(&id).cloned();
    let Ok(index) = Index::open(Arc::new(sections.bytes.clone()), &find) else {
        return;
    };
    let verified = index.verify(STREAM_LEN).is_ok();
    let mut damage = None;
    for number in 1..=INODES_MAX {
        let Some(ino) = Ino::new(number) else { break };
        match ask(&index, ino) {
            Ok(()) => {}
            Err(IndexError::NoInode(_)) if index.inode(ino).is_err() => break,
            Err(error) => damage = Some(error),
        }
    }
    for path in ["", "/", "d/f", "s/../s/f", "usr/lib/soft", "/./d//."] {
        for follow in [false, true] {
            drop(index.resolve(Ino::ROOT, path.as_bytes(), follow));
        }
    }
    if let (true, Some(error)) = (verified, &damage) {
        panic!("the index verifies, and yet: {error}");
    }
    let options = FsOptions {
        root: index.summary().root.unwrap_or(Ino::ROOT),
        owner: Owner::Keep,
        devices: true,
    };
    let metrics = Arc::new(Metrics::default());
    let Ok(fs) = ImageFs::new(index, Arc::new(Zeros), options, metrics) else {
        assert!(!verified, "the index verifies, and yet there is no root");
        return;
    };
    let seen = see(&fs);
    if let (true, Err(error)) = (verified, seen) {
        panic!("the index verifies, and yet: {error}");
    }
}

/// Every question about one inode.
fn ask(index: &Index, ino: Ino) -> Result<(), IndexError> {
    let inode = index.inode(ino)?;
    let mut worst = Ok(());
    let mut keep = |result: Result<(), IndexError>| {
        if let Err(error @ IndexError::Corrupt { .. }) = result {
            worst = Err(error);
        }
    };
    keep(index.link_target(ino).map(drop));
    keep(index.parent(ino).map(drop));
    keep(
        index
            .xattrs(ino)
            .and_then(|all| all.take(PIECES_MAX).try_for_each(|one| one.map(drop))),
    );
    keep(index.extents(ino).and_then(|all| {
        all.take(PIECES_MAX).try_for_each(|one| {
            let one = one?;
            assert!(
                one.file_offset + one.len <= inode.size,
                "an extent behind the end"
            );
            Ok(())
        })
    }));
    for position in [0, 1, u32::MAX] {
        keep(index.dirents(ino, position).and_then(|all| {
            all.take(PIECES_MAX).try_for_each(|one| {
                let one = one?;
                index.lookup(ino, one.name).map(drop)
            })
        }));
    }
    keep(index.lookup(ino, b"not there").map(drop));
    worst
}

/// A stream of zeros.
struct Zeros;

impl ReadAt for Zeros {
    fn len(&self) -> u64 {
        STREAM_LEN
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let (len, stream_len) = (buf.len() as u64, STREAM_LEN);
        if at.checked_add(len).is_none_or(|end| end > stream_len) {
            return Err(SourceError::OutOfRange {
                at,
                len,
                stream_len,
            });
        }
        buf.fill(0);
        Ok(())
    }
}
