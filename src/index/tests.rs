//! Tests of reading: resolving paths, damage, and that `verify` finds what it
//! says it finds.

use std::ops::Range;
use std::sync::Arc;

use super::format::{name_hash, section};
use super::testing::{Archive, Head, KEY, Sections, build, build_cut, find, options};
use super::{FileKind, Index, IndexError, ResolveError};
use crate::types::{Ino, Region};

/// One of everything, small. Inodes in order: root, `a`, `a/b`, `a/b/f`, `l`,
/// `null`, `g`. Names in order: `a` `l` `null` `g` `h`; `b`; `f`.
fn sample() -> (Sections, u64) {
    let stream = Archive::default()
        .dir("a")
        .dir("a/b")
        .pax(
            b'x',
            &[("SCHILY.xattr.user.x", b"1"), ("SCHILY.xattr.user.y", b"2")],
        )
        .file("a/b/f", "content")
        .symlink("l", "a/b")
        .head(&Head {
            device: Some((1, 3)),
            ..Head::new(b'3', "null")
        })
        .file("g", "2")
        .hard_link("h", "g")
        .end();
    let (sections, _) = build_cut(options(), &stream, 1 << 20).unwrap();
    sections
        .open()
        .unwrap()
        .verify(stream.len().try_into().unwrap())
        .unwrap();
    (sections, stream.len().try_into().unwrap())
}

/// The bytes of version 1, field by field as the specification has them.
#[test]
fn the_bytes_are_those_of_the_specification() {
    let head = Head {
        uid: 0x0102,
        gid: 0x0304,
        mtime: 0x0506_0708,
        ..Head::new(b'0', "dir/f")
    };
    let stream = Archive::default().with(head, "hello").end();
    let (sections, _) = build_cut(options(), &stream, 512).unwrap();
    let part = |id: u32| &sections.bytes[sections.ranges[&id].clone()];
    let file = [
        &[5, 0, 0, 0, 0, 0, 0, 0][..], // size
        &[0, 2, 0, 0, 0, 0, 0, 0],     // data: 512 of the stream
        &[8, 7, 6, 5, 0, 0, 0, 0],     // seconds
        &[0, 0, 0, 0],                 // nanoseconds
        &[2, 1, 0, 0],                 // uid
        &[4, 3, 0, 0],                 // gid
        &[1, 0, 0, 0],                 // links
        &[0xff, 0xff, 0xff, 0xff],     // no attributes
        &[0xa4, 0x81],                 // 0o100644
        &[0, 0],                       // flags
    ];
    assert_eq!(part(section::INODES)[96..], file.concat());
    assert_eq!(
        part(section::DIRENTS),
        [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]
    );
    let dirs = [[0, 1, 1, 1], [1, 1, 1, 2]].map(|record| record.map(le).concat());
    assert_eq!(part(section::DIRS), dirs.concat());
    let hash = |name: &[u8], dirent| [name_hash(&KEY, name).to_le_bytes(), le(dirent)].concat();
    assert_eq!(
        part(section::HASHES),
        [hash(b"dir", 0), hash(b"f", 1)].concat()
    );
    assert_eq!(part(section::NAMES), b"\x03dir\x01f");
    let meta = [1, 1].map(le).concat();
    assert_eq!(part(section::META)[..8], meta);
    assert_eq!(part(section::META)[8..24], KEY);
    let counts = [
        3, 2, 2, 0, 0, 0x0304, 6, 0, 0, 0, 3, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0,
    ];
    assert_eq!(part(section::META)[24..], counts.map(le).concat());
    for empty in [section::EXTENTS, section::XATTRS, section::SPARSE] {
        assert_eq!(part(empty), b"");
    }
    assert_eq!(section::ALL.len(), sections.ranges.len());
}

#[test]
fn paths_are_resolved_as_under_chroot() {
    let stream = Archive::default()
        .file("usr/bin/sh", "1")
        .symlink("bin", "usr/bin")
        .symlink("abs", "/usr")
        .symlink("up", "../../../usr")
        .symlink("usr/back", "../bin/sh")
        .symlink("loop", "loop")
        .symlink("gone", "no/where")
        .symlink("slash", "usr/")
        .end();
    let (index, _) = build(&stream);
    let usr = find(&index, "usr");
    let sh = find(&index, "usr/bin/sh");
    let follow = |path: &str| index.resolve(Ino::ROOT, path.as_bytes(), true);
    let keep = |path: &str| index.resolve(Ino::ROOT, path.as_bytes(), false);
    for path in ["", "/", ".", "..", "/../..", "usr/..", "bin/../.."] {
        assert_eq!(follow(path), Ok(Ino::ROOT), "{path}");
    }
    for path in [
        "bin/sh",
        "/bin//sh",
        "./up/bin/sh",
        "abs/back",
        "usr/./back",
        "slash/bin/sh",
    ] {
        assert_eq!(follow(path), Ok(sh), "{path}");
    }
    assert_eq!(follow("up"), Ok(usr));
    assert_eq!(
        index.inode(keep("up").unwrap()).unwrap().kind,
        FileKind::Symlink
    );
    assert_eq!(keep("up/"), Ok(usr));
    assert_eq!(keep("up/."), Ok(usr));
    assert!(keep("gone").is_ok() && keep("loop").is_ok());
    for path in ["gone", "no", "bin/no", "usr/../no"] {
        assert!(
            matches!(follow(path), Err(ResolveError::NotFound { .. })),
            "{path}"
        );
    }
    for path in ["bin/sh/", "bin/sh/x", "bin/sh/..", "usr/back/."] {
        assert!(
            matches!(follow(path), Err(ResolveError::NotDirectory { .. })),
            "{path}"
        );
    }
    assert!(matches!(
        follow("loop"),
        Err(ResolveError::TooManyLinks { .. })
    ));
    assert_eq!(
        follow("no\x1b").unwrap_err().to_string(),
        "no\\x1b: no such file or directory in the image"
    );

    // Seen from below, nothing above is there.
    let below = |path: &str| index.resolve(usr, path.as_bytes(), true);
    assert_eq!(below("../../bin/sh"), Ok(sh));
    assert!(matches!(
        below("../abs"),
        Err(ResolveError::NotFound { .. })
    ));
    assert_eq!(below("back"), Ok(sh));
    let not_dir = index.resolve(sh, b"x", true);
    assert!(matches!(
        not_dir,
        Err(ResolveError::Index(IndexError::WrongKind { .. }))
    ));
}

#[test]
fn questions_to_the_wrong_kind_of_inode() {
    let (sections, _) = sample();
    let index = sections.open().unwrap();
    let [dir, file, link] = ["a", "a/b/f", "l"].map(|path| find(&index, path));
    let wrong: fn(IndexError) -> bool = |error| matches!(error, IndexError::WrongKind { .. });
    assert!(wrong(index.lookup(file, b"x").unwrap_err()));
    assert!(wrong(index.parent(link).unwrap_err()));
    assert!(wrong(index.link_target(dir).unwrap_err()));
    assert!(index.dirents(file, 0).is_err_and(wrong));
    assert!(index.extents(link).is_err_and(wrong));
    let nobody = Ino::new(1000).unwrap();
    assert_eq!(index.inode(nobody), Err(IndexError::NoInode(1000)));
    assert_eq!(index.lookup(Ino::ROOT, b"."), Ok(None));
    assert_eq!(index.lookup(Ino::ROOT, b""), Ok(None));
    assert_eq!(index.lookup(Ino::ROOT, &[b'x'; 300]), Ok(None));
}

#[test]
fn tens_of_thousands_of_names_in_one_directory() {
    let mut archive = Archive::default();
    for n in 0..30_000 {
        archive = archive.head(&Head::new(b'6', format!("d/{}", n * 7)));
    }
    let (index, _) = build(&archive.end());
    let dir = find(&index, "d");
    for n in 0..30_000 {
        let name = (n * 7).to_string();
        let found = index.lookup(dir, name.as_bytes()).unwrap();
        assert_eq!(found, Ino::from_record(n + 2), "{name}");
        assert_eq!(index.lookup(dir, format!("{name}x").as_bytes()), Ok(None));
    }
}

/// Asks everything about every inode; an answer must come, errors are counted.
fn ask_everything(index: &Index) -> usize {
    let mut errors = 0;
    let mut note = |failed: bool| errors += usize::from(failed);
    for number in 1..=8 {
        let ino = Ino::new(number).unwrap();
        let Ok(inode) = index.inode(ino) else {
            note(number <= 7);
            continue;
        };
        match inode.kind {
            FileKind::Directory => {
                note(index.parent(ino).is_err());
                note(index.lookup(ino, b"a").is_err());
                note(index.lookup(ino, b"f").is_err());
                match index.dirents(ino, 0) {
                    Ok(all) => all.for_each(|d| note(d.is_err())),
                    Err(_) => note(true),
                }
                // Only that it ends: a name that is not there is no damage.
                drop(index.resolve(ino, b"../a/b/../../l/f", true));
            }
            FileKind::Symlink => note(index.link_target(ino).is_err()),
            FileKind::Regular => match index.extents(ino) {
                Ok(all) => all.for_each(|e| note(e.is_err())),
                Err(_) => note(true),
            },
            _ => {}
        }
        match index.xattrs(ino) {
            Ok(all) => all.for_each(|x| note(x.is_err())),
            Err(_) => note(true),
        }
    }
    errors
}

/// No change of a byte makes anything panic or run on, and an index that
/// `verify` lets pass answers every question.
#[test]
fn every_flipped_byte_is_survived() {
    let (sections, stream_len) = sample();
    let mut refused = 0;
    for at in 0..sections.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = sections.clone();
            damaged.bytes[at] ^= flip;
            let Ok(index) = damaged.open() else {
                refused += 1;
                continue;
            };
            let errors = ask_everything(&index);
            match index.verify(stream_len) {
                Ok(()) => assert_eq!(errors, 0, "byte {at} ^ {flip:x}"),
                Err(_) => refused += 1,
            }
        }
    }
    // Owners, times, permissions, targets and values can be anything.
    assert!(
        refused > sections.bytes.len(),
        "{refused} of {} bytes",
        sections.bytes.len()
    );
}

#[test]
fn every_truncation_is_refused_when_opening() {
    let (sections, _) = sample();
    for len in 0..sections.bytes.len() {
        let mut cut = sections.clone();
        cut.bytes.truncate(len);
        assert!(cut.open().is_err(), "{len}");
    }
    for (id, range) in &sections.ranges {
        let mut without = sections.clone();
        without.ranges.remove(id);
        assert!(without.open().is_err(), "{id:x} missing");
        for other in [
            range.start..range.end + 1,
            range.start..range.end.wrapping_sub(1),
            Range { start: 9, end: 2 },
        ] {
            let mut moved = sections.clone();
            moved.ranges.insert(*id, other.clone());
            assert!(moved.open().is_err(), "{id:x} at {other:?}");
        }
    }
}

/// Overwrites bytes of the sample's sections and expects `verify` to fail about
/// `what`.
fn finds(what: &str, story: &str, changes: &[(u32, usize, &[u8])]) {
    finds_in(sample(), what, story, changes);
}

fn finds_in(
    (mut sections, stream_len): (Sections, u64),
    what: &str,
    story: &str,
    changes: &[(u32, usize, &[u8])],
) {
    for (id, at, bytes) in changes {
        let start = sections.ranges[id].start + at;
        sections.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }
    let found = sections.open().and_then(|index| index.verify(stream_len));
    match found {
        Err(IndexError::Corrupt { what: found, .. }) => assert_eq!(found, what, "{story}"),
        other => panic!("{story}: {other:?}"),
    }
}

const fn le(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

#[test]
fn verify_finds_damaged_inodes() {
    let inode = |number: usize, field: usize| (number - 1) * 48 + field;
    let one = |what, story, at, bytes: &[u8]| finds(what, story, &[(section::INODES, at, bytes)]);
    one("inode", "no type", inode(4, 44), &[0, 0]);
    one("inode", "unknown type", inode(4, 45), &[0xf0]);
    one("inode", "unknown flag", inode(4, 46), &[2]);
    one("inode", "sparse but nowhere", inode(4, 46), &[1]);
    one("inode", "nanoseconds", inode(4, 24), &le(1_000_000_000));
    one("inode", "links of a file", inode(7, 36), &le(1));
    one("inode", "links of a directory", inode(2, 36), &le(2));
    one(
        "inode",
        "attributes in the middle of a set",
        inode(4, 40),
        &le(1),
    );
    one(
        "inode",
        "content behind the stream",
        inode(4, 8),
        &[0xff; 8],
    );
    one(
        "inode",
        "content longer than the stream",
        inode(4, 0),
        &le(1 << 30),
    );
    one(
        "inode",
        "size is not that of the target",
        inode(5, 0),
        &le(4),
    );
    one("inode", "target outside", inode(5, 8), &le(10_000));
    one("inode", "device number of 64 bits", inode(6, 12), &[1]);
    one("inode", "device with a size", inode(6, 0), &[1]);
    one("inode", "directory with a size", inode(3, 0), &[1]);
    one("summary", "owner above the largest", inode(4, 28), &le(9));
}

#[test]
fn verify_finds_damaged_directories() {
    use section::{DIRENTS, DIRS, HASHES, INODES, META, NAMES};
    finds("directory", "gap before the first", &[(DIRS, 0, &le(1))]);
    finds("directory", "overlap", &[(DIRS, 16, &le(4))]);
    finds(
        "dirent",
        "names its parent's inode",
        &[(DIRS, 16 + 12, &le(1))],
    );
    finds("dirent", "is a file", &[(DIRS, 16 + 12, &le(4))]);
    finds("dirent", "parent is a file", &[(DIRS, 32 + 8, &le(4))]);
    finds("directory", "root in another", &[(DIRS, 8, &le(2))]);
    finds("dirent", "record of another", &[(INODES, 48 + 8, &le(2))]);
    finds(
        "directory",
        "without name but with entries",
        &[(INODES, 48 + 36, &le(0))],
    );
    finds("dirent", "no inode", &[(DIRENTS, 0, &le(0))]);
    finds("dirent", "inode outside", &[(DIRENTS, 0, &le(99))]);
    finds("dirent", "the root", &[(DIRENTS, 0, &le(1))]);
    finds("dirent", "a directory of another", &[(DIRENTS, 8, &le(3))]);
    finds("directory", "a directory twice", &[(DIRENTS, 8, &le(2))]);
    finds(
        "directory",
        "a directory not at all",
        &[(DIRENTS, 0, &le(7))],
    );
    finds("name", "outside", &[(DIRENTS, 4, &le(10_000))]);
    finds("dirent", "slash in a name", &[(NAMES, 1, b"/")]);
    finds("dirent", "dot", &[(NAMES, 1, b".")]);
    finds("hash of dirent", "another name", &[(NAMES, 1, b"z")]);
    finds("hash of dirent", "another key", &[(META, 8, &[0])]);
    finds("hash of dirent", "another hash", &[(HASHES, 0, &le(5))]);
    finds(
        "hash of dirent",
        "of another directory",
        &[(HASHES, 4, &le(6))],
    );
    finds("root inode", "a file served", &[(META, 4, &le(4))]);
    finds("root inode", "none served", &[(META, 4, &le(0))]);
    finds("table version", "version", &[(META, 0, &le(2))]);
    finds("flags", "unknown flag", &[(META, 128, &le(2))]);
    finds("flags", "what has no meaning yet", &[(META, 132, &le(1))]);
    for field in 0..7 {
        finds("summary", "count", &[(META, 64 + field * 8, &[99])]);
    }
    finds("summary", "largest owner", &[(META, 44, &[1])]);
}

/// A directory that was replaced has no entry to give its damage away.
#[test]
fn verify_finds_damaged_directories_without_a_name() {
    let stream = Archive::default()
        .dir("d")
        .file("d", "")
        .file("e", "")
        .end();
    let (sections, _) = build_cut(options(), &stream, 1 << 20).unwrap();
    let orphan = || (sections.clone(), 10_000);
    sections.open().unwrap().verify(10_000).unwrap();
    let one = |story, section, at, number| {
        finds_in(orphan(), "directory", story, &[(section, at, &le(number))]);
    };
    one("parent is a file", section::DIRS, 16 + 8, 3);
    one("no parent", section::DIRS, 16 + 8, 0);
    one("is a file", section::DIRS, 16 + 12, 3);
    one("is the root", section::DIRS, 16 + 12, 1);
    one("has links", section::INODES, 48 + 36, 2);
    let has_entry = [
        (section::DIRS, 4, &le(1)[..]),
        (section::DIRS, 16, &le(1)),
        (section::DIRS, 20, &le(1)),
    ];
    finds_in(orphan(), "directory", "has an entry", &has_entry);
}

#[test]
fn verify_finds_hashes_out_of_order_and_names_given_twice() {
    let (sections, _) = sample();
    let hashes = sections.bytes[sections.ranges[&section::HASHES].clone()].to_vec();
    let swapped = [&hashes[8..16], &hashes[..8]].concat();
    finds("hash of dirent", "order", &[(section::HASHES, 0, &swapped)]);
    let repeated = [&hashes[..8], &hashes[..8]].concat();
    finds(
        "hash of dirent",
        "repeated",
        &[(section::HASHES, 0, &repeated)],
    );

    let stream = Archive::default().file("x", "").file("y", "").end();
    let (mut twice, _) = build_cut(options(), &stream, 512).unwrap();
    let hash = name_hash(&KEY, b"x").to_le_bytes();
    let start = twice.ranges[&section::HASHES].start;
    twice.bytes[start..start + 16].copy_from_slice(&[hash, le(0), hash, le(1)].concat());
    let name = twice.ranges[&section::DIRENTS].start + 8 + 4;
    twice.bytes[name..name + 4].copy_from_slice(&le(0));
    let found = twice.open().unwrap().verify(10_000);
    assert!(matches!(
        found,
        Err(IndexError::Corrupt {
            what: "hash of dirent",
            ..
        })
    ));
}

/// `a` in `b` and `b` in `a`, with a file where `a` was: every link is
/// consistent, only the root is out of reach.
#[test]
fn verify_finds_a_circle_of_directories() {
    let a_is_f = (section::DIRENTS, 0, &le(4)[..]);
    let f_is_a = (section::DIRENTS, 6 * 8, &le(2)[..]);
    let a_in_b = (section::DIRS, 16 + 8, &le(3)[..]);
    finds("dirent", "circle", &[a_is_f, f_is_a, a_in_b]);
}

#[test]
fn verify_finds_damaged_attributes() {
    // Set: count, then {value_len, name_len, "user.x", "1"}, {.. "user.y", "2"}.
    let one = |story, at, bytes: &[u8]| {
        finds("attribute set", story, &[(section::XATTRS, at, bytes)]);
    };
    one("none", 0, &le(0));
    one("too many", 0, &le(3));
    one("one left over", 0, &le(1));
    one("value too long", 4, &le(100));
    one("name too long", 8, &[200]);
    one("NUL in the name", 14, &[0]);
    one("same name twice", 26, b"x");
    one("descending names", 14, b"z");
}

/// The position behind the last possible entry counted over its end.
#[test]
fn a_directory_can_be_listed_from_any_position() {
    let (sections, _) = sample();
    let index = sections.open().unwrap();
    for (position, left) in [(0, 5), (4, 1), (5, 0), (u32::MAX - 1, 0), (u32::MAX, 0)] {
        let listed = index.dirents(Ino::ROOT, position).unwrap();
        assert_eq!(listed.count(), left, "from {position}");
    }
}

/// Bytes of which one is damaged, and known to be.
struct Damaged {
    bytes: Vec<u8>,
    at: usize,
}

impl Region for Damaged {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn vouch(&self, range: Range<usize>) -> bool {
        !range.contains(&self.at)
    }
}

/// Everything that can be asked, each with its answer.
fn answers(index: &Index) -> Vec<Result<String, IndexError>> {
    let mut all = Vec::new();
    let mut add = |answer: Result<String, IndexError>| all.push(answer);
    for ino in (1..=8).filter_map(Ino::new) {
        add(index.inode(ino).map(|inode| format!("{inode:?}")));
        add(index.parent(ino).map(|parent| parent.to_string()));
        add(index.link_target(ino).map(|t| format!("{t:?}")));
        for name in ["a", "b", "f", "g", "h", "l", "null", "none"] {
            let found = index.lookup(ino, name.as_bytes());
            add(found.map(|found| format!("{found:?}")));
        }
        let listed = index.dirents(ino, 0).and_then(Iterator::collect);
        add(listed.map(|all: Vec<_>| format!("{all:?}")));
        let extents = index.extents(ino).and_then(Iterator::collect);
        add(extents.map(|all: Vec<_>| format!("{all:?}")));
        let xattrs = index.xattrs(ino).and_then(Iterator::collect);
        add(xattrs.map(|all: Vec<_>| format!("{all:?}")));
    }
    add(Ok(format!("{:?}", index.summary())));
    all
}

/// An index with a flipped bit on its disk served one file's bytes under the
/// name of another: its own bounds were all right.
#[test]
fn nothing_is_concluded_from_bytes_that_are_not_vouched_for() {
    let (sections, _) = sample();
    let right = answers(&sections.open().unwrap());
    for at in 0..sections.bytes.len() {
        for value in [0, sections.bytes[at] ^ 1, sections.bytes[at] ^ 0x80] {
            let mut bytes = sections.bytes.clone();
            bytes[at] = value;
            let ranges = sections.ranges.clone();
            let region = Arc::new(Damaged { bytes, at });
            let Ok(index) = Index::open(region, &|id| ranges.get(&id).cloned()) else {
                continue;
            };
            for (found, right) in answers(&index).iter().zip(&right) {
                match found {
                    Ok(found) => assert_eq!(Ok(found), right.as_ref(), "byte {at}"),
                    Err(IndexError::Corrupt { .. }) => {}
                    Err(other) => assert_eq!(Err(other), right.as_ref(), "byte {at}"),
                }
            }
        }
    }
}
