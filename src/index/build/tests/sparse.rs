//! Sparse files: every format of the map, and what is wrong with a map.

use super::super::entry::{Attrs, Entry, EntryKind, Leaf, Sparse};
use super::super::place::Tree;
use super::super::report::Report;
use super::super::{BuildError, HeapArenas};
use crate::index::format::ExtentRecord;
use crate::index::testing::{
    Archive, SPARSE_GNU, SPARSE_STAR, Sections, build as build_stream, build_err, content, find,
    options,
};
use crate::index::{Extent, Index, IndexError};
use crate::types::StreamOffset;

fn extent(file_offset: u64, stream: u64, len: u64) -> Extent {
    Extent {
        file_offset,
        stream: StreamOffset(stream),
        len,
    }
}

/// Files called `0`, `1`, ... of 1000 bytes with these extents, which no decoder
/// looked at.
fn build(files: &[&[Extent]]) -> Sections {
    let mut tree = Tree::new(&options(), &mut HeapArenas).unwrap();
    let mut report = Report::new();
    for (number, extents) in files.iter().enumerate() {
        let name = number.to_string();
        let record = |extent: &Extent| ExtentRecord {
            file_offset: extent.file_offset.into(),
            stream: extent.stream.0.into(),
            len: extent.len.into(),
        };
        let pieces: Vec<_> = extents.iter().map(record).collect();
        let entry = Entry {
            path: name.as_bytes(),
            offset: 0,
            kind: EntryKind::Leaf(Leaf::SparseFile(Sparse {
                size: 1000,
                pieces: &pieces,
                start: StreamOffset(0),
            })),
            attrs: Attrs::default(),
            xattrs: [&[], &[]],
        };
        tree.place(&entry, &mut report).unwrap();
    }
    let mut sections = Sections::default();
    tree.finish(&mut report, &mut sections).unwrap();
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
fn extents_from_an_offset_are_those_that_end_behind_it() {
    let many: Vec<_> = (0..300).map(|n| extent(n * 3 + 1, n * 10, 2)).collect();
    let whole = [extent(0, 512, 1000)];
    let index = build(&[&many, &whole, &[]]).open().unwrap();
    for (name, all) in [("0", &many[..]), ("1", &whole), ("2", &[])] {
        let ino = find(&index, name);
        for offset in (0..1005).chain([u64::MAX]) {
            let found = index.extents_from(ino, offset).unwrap();
            let found: Vec<_> = found.map(Result::unwrap).collect();
            let behind = |e: &&Extent| e.file_offset + e.len > offset;
            let wanted: Vec<_> = all.iter().filter(behind).copied().collect();
            assert_eq!(found, wanted, "{name} from {offset}");
        }
    }
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

/// A file `f` and its data, in each format; a file `g` behind it shows that what
/// follows is found.
fn in_each_format(size: u64, map: &[(u64, u64)], data: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let size_text = size.to_string();
    let size_text = size_text.as_bytes();
    let numbers = || map.iter().flat_map(|(offset, len)| [*offset, *len]);
    let list: Vec<_> = numbers().map(|n| n.to_string()).collect();
    let records: Vec<_> = ["GNU.sparse.offset", "GNU.sparse.numbytes"]
        .into_iter()
        .cycle()
        .zip(list.iter().map(|n| n.as_bytes()))
        .collect();
    let v00 = [
        &[
            ("GNU.sparse.size", size_text),
            ("GNU.sparse.numblocks", b"0"),
        ][..],
        &records,
    ]
    .concat();
    let v01 = [
        ("GNU.sparse.size", size_text),
        ("GNU.sparse.numblocks", b"0"),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.map", list.join(",").as_bytes()),
    ]
    .map(|(key, value)| (key, value.to_vec()));
    let v01: Vec<_> = v01
        .iter()
        .map(|(key, value)| (*key, &value[..]))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let v10 = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"f"),
        // Whichever comes last, the name of the sparse file counts.
        ("path", b"GNUSparseFile.0/f"),
        ("GNU.sparse.realsize", size_text),
    ];
    let lines: String = numbers().map(|n| format!("{n}\n")).collect();
    let mut body = format!("{}\n{lines}", map.len()).into_bytes();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(data);
    let new = Archive::default;
    [
        ("0.0", new().pax(b'x', &v00).file("f", data)),
        ("0.1", new().pax(b'x', &v01).file("GNUSparseFile.0/f", data)),
        ("1.0", new().pax(b'x', &v10).file("x", body)),
        ("GNU", new().sparse(&SPARSE_GNU, "f", size, map, data)),
        ("star", new().sparse(&SPARSE_STAR, "f", size, map, data)),
    ]
    .into_iter()
    .map(|(format, archive)| (format, archive.file("g", "behind").end()))
    .collect()
}

/// The extents without their places in the stream.
fn shape(index: &Index) -> Vec<(u64, u64)> {
    let all = extents(index, "f");
    all.iter().map(|e| (e.file_offset, e.len)).collect()
}

#[test]
fn all_formats_say_the_same() {
    let data: Vec<u8> = (0..=255).cycle().take(3000).collect();
    // More than one header, one extension and one block of text hold.
    let long: Vec<_> = (0..70).map(|n| (n * 1_000_000, 40)).collect();
    for (story, size, map) in [
        (
            "holes everywhere",
            9000,
            &[(512, 100), (2048, 512), (8000, 5)][..],
        ),
        ("data at both ends", 5000, &[(0, 3), (4000, 1000)]),
        (
            "a hole at the end, with GNU tar's mark",
            5000,
            &[(0, 3), (5000, 0)],
        ),
        ("a hole and nothing else", 5000, &[(5000, 0)]),
        ("no piece at all", 5000, &[]),
        ("empty", 0, &[]),
        ("larger than anything else here", 1 << 40, &[(1 << 39, 10)]),
        ("long", 70_000_000, &long),
    ] {
        let pieces: Vec<_> = map.iter().filter(|(_, len)| *len > 0).copied().collect();
        let stored: u64 = map.iter().map(|(_, len)| len).sum();
        let data = &data[..usize::try_from(stored).unwrap()];
        for (format, stream) in in_each_format(size, map, data) {
            let story = format!("{story}, {format}");
            let (index, built) = build_stream(&stream);
            assert!(built.report.is_empty(), "{story}");
            let inode = index.inode(find(&index, "f")).unwrap();
            assert_eq!((inode.size, inode.allocated), (size, stored), "{story}");
            assert_eq!(shape(&index), pieces, "{story}");
            let found: Vec<u8> = extents(&index, "f")
                .iter()
                .flat_map(|e| {
                    let start = usize::try_from(e.stream.0).unwrap();
                    &stream[start..start + usize::try_from(e.len).unwrap()]
                })
                .copied()
                .collect();
            assert_eq!(found, data, "{story}");
            assert_eq!(content(&index, find(&index, "g"), &stream), "behind");
            assert_eq!(built.summary.entries, 2, "{story}");
        }
    }
}

/// What makes seeking for a hole cheap: no two extents touch.
#[test]
fn pieces_that_touch_become_one() {
    for (format, stream) in
        in_each_format(30, &[(0, 5), (5, 5), (10, 0), (10, 5), (20, 1)], &[1; 16])
    {
        let (index, _) = build_stream(&stream);
        assert_eq!(shape(&index), [(0, 15), (20, 1)], "{format}");
    }
    for (format, stream) in in_each_format(15, &[(0, 5), (5, 5), (10, 5)], &[1; 15]) {
        let (index, _) = build_stream(&stream);
        let inode = index.inode(find(&index, "f")).unwrap();
        assert_eq!(inode.allocated, 15, "{format}");
        assert_eq!(index.summary().content_bytes, 15 + 6);
    }
}

#[test]
fn maps_that_contradict_themselves_are_errors() {
    for (story, size, map, stored) in [
        ("overlap", 100, &[(0, 10), (9, 10)][..], 20),
        ("descending", 100, &[(50, 10), (0, 10)], 20),
        ("behind the end", 100, &[(95, 10)], 10),
        ("more data than there is", 100, &[(0, 10), (20, 10)], 19),
        (
            "overflow",
            100,
            &[(u64::MAX >> 31, 8), (u64::MAX >> 31, 8)],
            16,
        ),
    ] {
        for (format, stream) in in_each_format(size, map, &vec![1; stored]) {
            let error = build_err(&stream);
            let is_about_map =
                matches!(error, BuildError::Header { field, .. } if field == "sparse map");
            assert!(is_about_map, "{story}, {format}: {error}");
            assert!(error.to_string().starts_with("f (offset "), "{error}");
        }
    }
}

/// Less than is there may be asked for: GNU tar does the same.
#[test]
fn data_that_no_piece_asks_for_are_passed_over() {
    for (format, stream) in in_each_format(100, &[(10, 5)], &[1; 700]) {
        let (index, _) = build_stream(&stream);
        assert_eq!(shape(&index), [(10, 5)], "{format}");
        assert_eq!(content(&index, find(&index, "g"), &stream), "behind");
    }
}

#[test]
fn a_size_without_a_map_makes_a_hole_at_the_end() {
    let stream = Archive::default()
        .pax(b'x', &[("GNU.sparse.realsize", b"10")])
        .file("f", "12")
        .end();
    let (index, _) = build_stream(&stream);
    assert_eq!(shape(&index), [(0, 2)]);
    assert_eq!(index.inode(find(&index, "f")).unwrap().size, 10);
}

#[test]
fn what_cannot_be_understood_is_an_error_and_not_a_guess() {
    let with = |records: &[(&str, &[u8])], body: &str| {
        let all = [&[("GNU.sparse.realsize", &b"1000"[..])], records].concat();
        build_err(&Archive::default().pax(b'x', &all).file("f", body).end()).to_string()
    };
    let map = |map: &[u8]| with(&[("GNU.sparse.map", map)], "1");
    for bad in [
        &b"1"[..],
        b"1,2,3",
        b"1,x",
        b"1,,",
        b"-1,1",
        b"99999999999999999999,1",
    ] {
        assert!(map(bad).contains("GNU.sparse"), "{bad:?}");
    }
    assert!(with(&[("GNU.sparse.numbytes", b"1")], "1").contains("GNU.sparse"));
    let one = ("GNU.sparse.major", &b"1"[..]);
    for text in [
        "",
        "1",
        "1\n0\n",
        "\n",
        "x\n",
        "1\n-1\n1\n",
        "18446744073709551616\n",
        "9223372036854775808\n0\n1\n",
        &"0".repeat(512),
    ] {
        let error = with(&[one], text);
        assert!(error.contains("sparse map"), "{text}: {error}");
    }
    let version = with(&[("GNU.sparse.major", b"2")], "0\n");
    assert!(
        version.contains("this version of sparse files"),
        "{version}"
    );
    let size = Archive::default()
        .pax(b'x', &[("GNU.sparse.size", b"9223372036854775808")])
        .file("f", "");
    assert!(build_err(&size.end()).to_string().contains("real size"));
}

/// In a global header such records would describe every file behind it; GNU tar
/// refuses them too.
#[test]
fn global_headers_make_nothing_sparse() {
    let stream = Archive::default()
        .pax(
            b'g',
            &[("GNU.sparse.size", b"1000"), ("GNU.sparse.map", b"0,1")],
        )
        .file("f", "12")
        .end();
    let (index, _) = build_stream(&stream);
    assert_eq!(content(&index, find(&index, "f"), &stream), "12");
    assert!(build_stream(&stream).1.report.is_empty());
}

/// What has no content has no holes either.
#[test]
fn records_of_sparse_files_mean_nothing_for_other_types() {
    let stream = Archive::default()
        .pax(
            b'x',
            &[("GNU.sparse.size", b"1000"), ("GNU.sparse.map", b"0,1")],
        )
        .dir("d")
        .pax(
            b'x',
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")],
        )
        .symlink("l", "d")
        .file("f", "1")
        .end();
    let (index, _) = build_stream(&stream);
    assert_eq!(index.summary().entries, 3);
    assert_eq!(index.inode(find(&index, "f")).unwrap().size, 1);
}

#[test]
fn content_of_a_hard_link_to_a_sparse_file_is_an_error() {
    let stream = Archive::default()
        .sparse(&SPARSE_GNU, "f", 5000, &[(0, 1)], b"1")
        .with(crate::index::testing::Head::link(b'1', "h", "f"), "22")
        .end();
    let error = build_err(&stream);
    assert!(matches!(error, BuildError::Unsupported { .. }), "{error}");
}
