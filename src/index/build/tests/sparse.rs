//! Files of several extents. No format of them is decoded yet; the tables and
//! the reader hold them already.

use super::super::HeapArenas;
use super::super::entry::{Attrs, Entry, EntryKind, Leaf};
use super::super::place::Tree;
use super::super::report::Report;
use crate::index::testing::{Sections, find, options};
use crate::index::{Extent, Index, IndexError};
use crate::types::StreamOffset;

fn extent(file_offset: u64, stream: u64, len: u64) -> Extent {
    Extent {
        file_offset,
        stream: StreamOffset(stream),
        len,
    }
}

/// Files called `0`, `1`, ... of 1000 bytes with these extents.
pub(crate) fn build(files: &[&[Extent]]) -> Sections {
    let mut tree = Tree::new(&options(), &mut HeapArenas).unwrap();
    let mut report = Report::new();
    for (number, extents) in files.iter().enumerate() {
        let name = number.to_string();
        let entry = Entry {
            path: name.as_bytes(),
            offset: 0,
            kind: EntryKind::Leaf(Leaf::File {
                size: 1000,
                extents,
            }),
            attrs: Attrs::default(),
            xattrs: [&[], &[]],
        };
        tree.place(&entry, &mut report).unwrap();
    }
    let mut sections = Sections::default();
    tree.finish(&mut sections).unwrap();
    sections
}

fn extents(index: &Index, path: &str) -> Vec<Extent> {
    let all = index.extents(find(index, path)).unwrap();
    all.collect::<Result<_, IndexError>>().unwrap()
}

#[test]
fn holes_are_what_lies_between_extents() {
    let files: [&[Extent]; 4] = [
        &[extent(0, 512, 1000)],
        &[
            extent(0, 2048, 10),
            extent(100, 2058, 20),
            extent(120, 3000, 880),
        ],
        &[],
        &[extent(1, 5000, 999)],
    ];
    let index = build(&files).open().unwrap();
    index.verify(5999).unwrap();
    assert!(index.verify(5998).is_err());
    for (number, wanted) in files.iter().enumerate() {
        assert_eq!(extents(&index, &number.to_string()), *wanted);
        let inode = index.inode(find(&index, &number.to_string())).unwrap();
        assert_eq!(inode.size, 1000);
        assert_eq!(inode.allocated, wanted.iter().map(|e| e.len).sum::<u64>());
    }
    assert_eq!(index.summary().content_bytes, 1000 + 910 + 999);
}

#[test]
fn extents_that_contradict_themselves_are_found() {
    let bad: [&[Extent]; 4] = [
        &[extent(0, 0, 10), extent(9, 100, 10)],
        &[extent(500, 0, 10), extent(0, 100, 10)],
        &[extent(995, 0, 10), extent(1005, 100, 10)],
        &[extent(5, 0, 0)],
    ];
    for extents in bad {
        let index = build(&[extents]).open().unwrap();
        assert!(index.verify(u64::MAX).is_err(), "{extents:?}");
    }
    let index = build(&[bad[0]]).open().unwrap();
    assert!(
        index
            .extents(find(&index, "0"))
            .unwrap()
            .any(|e| e.is_err())
    );
}
