//! The rules of placing entries. What must come out was taken from GNU tar 1.34
//! (`tar -xp` as root in an empty directory), except where said.

use super::super::WarningKind;
use crate::index::testing::{Archive, Head, build, find, tree};
use crate::types::{Ino, Timestamp};

/// Builds `archive` and compares the tree, and the kinds of warnings.
fn check(story: &str, archive: Archive, wanted: &[&str], warned: &[WarningKind]) {
    let stream = archive.end();
    let (index, built) = build(&stream);
    assert_eq!(tree(&index, &stream), wanted, "{story}");
    let met: Vec<_> = built.report.warnings().map(|w| w.kind).collect();
    assert_eq!(met, warned, "{story}");
}

fn new() -> Archive {
    Archive::default()
}

fn dir700(name: &str) -> Head {
    Head {
        mode: 0o700,
        ..Head::new(b'5', name)
    }
}

#[test]
fn a_directory_replaces_whatever_is_no_directory() {
    check(
        "over a link to a directory, with a child after it",
        new()
            .dir("usr")
            .symlink("bin", "usr")
            .head(&dir700("bin"))
            .file("bin/y", "2"),
        &["bin d700 n2", "bin/y f644 n1 2", "usr d755 n2"],
        &[],
    );
    check(
        "over a link to a file",
        new().file("f", "1").symlink("l", "f").dir("l"),
        &["f f644 n1 1", "l d755 n2"],
        &[],
    );
    check(
        "over a dangling link",
        new().symlink("l", "no").dir("l"),
        &["l d755 n2"],
        &[],
    );
    check(
        "over a file",
        new().file("f", "1").dir("f"),
        &["f d755 n2"],
        &[],
    );
}

#[test]
fn a_directory_over_a_directory_changes_attributes_and_keeps_entries() {
    check(
        "again, with another mode",
        new().dir("d").file("d/x", "1").head(&dir700("d/")),
        &["d d700 n2", "d/x f644 n1 1"],
        &[],
    );
}

#[test]
fn a_file_replaces_files_links_and_empty_directories() {
    check(
        "a link is replaced, not followed",
        new().file("f", "1").symlink("l", "f").file("l", "2"),
        &["f f644 n1 1", "l f644 n1 2"],
        &[],
    );
    check(
        "nor a link to a directory",
        new().dir("d").symlink("l", "d").file("l", "2"),
        &["d d755 n2", "l f644 n1 2"],
        &[],
    );
    check(
        "empty directory",
        new().dir("d").file("d", "2"),
        &["d f644 n1 2"],
        &[],
    );
    check(
        "link over it",
        new().dir("d").symlink("d", "x"),
        &["d l777 n1 x"],
        &[],
    );
    check(
        "fifo",
        new().file("d", "1").head(&Head::new(b'6', "d")),
        &["d p644 n1"],
        &[],
    );
}

#[test]
fn nothing_replaces_a_directory_that_has_entries() {
    let full = || new().file("f", "1").dir("d").file("d/x", "2");
    let left = &["d d755 n2", "d/x f644 n1 2", "f f644 n1 1"];
    let warned = &[WarningKind::DirectoryNotEmpty];
    check("file", full().file("d", "3"), left, warned);
    check("link", full().symlink("d", "x"), left, warned);
    check("hard link", full().hard_link("d", "f"), left, warned);
}

#[test]
fn parents_that_are_links_are_followed() {
    check(
        "a merged /usr",
        new()
            .dir("usr")
            .dir("usr/bin")
            .symlink("bin", "usr/bin")
            .file("bin/x", "1"),
        &[
            "bin l777 n1 usr/bin",
            "usr d755 n3",
            "usr/bin d755 n2",
            "usr/bin/x f644 n1 1",
        ],
        &[],
    );
    check(
        "missing directories are made behind it",
        new().dir("d").symlink("l", "d").file("l/n/x", "1"),
        &["d d755 n3", "d/n d755 n2", "d/n/x f644 n1 1", "l l777 n1 d"],
        &[],
    );
    // GNU tar fails on the next two: it makes such links last.
    check(
        "an absolute link leads into the image",
        new().dir("usr").symlink("bin", "/usr").file("bin/x", "1"),
        &["bin l777 n1 /usr", "usr d755 n2", "usr/x f644 n1 1"],
        &[],
    );
    check(
        "and `..` never out of it",
        new()
            .dir("usr")
            .dir("a")
            .symlink("a/b", "../../../usr")
            .file("a/b/x", "1"),
        &[
            "a d755 n2",
            "a/b l777 n1 ../../../usr",
            "usr d755 n2",
            "usr/x f644 n1 1",
        ],
        &[],
    );
}

#[test]
fn parents_that_lead_nowhere_leave_the_entry_out() {
    check(
        "dangling",
        new()
            .symlink("bin", "usr")
            .file("bin/x", "1")
            .file("bin/y/z", "1"),
        &["bin l777 n1 usr"],
        &[WarningKind::ParentNotFound],
    );
    check(
        "circle",
        new()
            .symlink("l", "l")
            .symlink("a", "b")
            .symlink("b", "a")
            .file("l/x", "")
            .file("a/x", ""),
        &["a l777 n1 b", "b l777 n1 a", "l l777 n1 l"],
        &[WarningKind::ParentNotFound],
    );
    check(
        "a file",
        new()
            .file("f", "1")
            .file("f/x", "2")
            .dir("f/y")
            .symlink("l", "f")
            .file("l/x", "3"),
        &["f f644 n1 1", "l l777 n1 f"],
        &[WarningKind::ParentNotDirectory],
    );
}

#[test]
fn forty_links_are_followed_and_not_one_more() {
    for (links, arrives) in [(40, true), (41, false)] {
        let mut archive = new().dir("l0");
        for n in 1..=links {
            archive = archive.symlink(&format!("l{n}"), &format!("l{}", n - 1));
        }
        let stream = archive.file(&format!("l{links}/x"), "1").end();
        let (index, built) = build(&stream);
        assert_eq!(built.report.is_empty(), arrives);
        assert_eq!(index.resolve(Ino::ROOT, b"l0/x", true).is_ok(), arrives);
    }
}

/// A replaced link must not be walked through because the last parent is known.
#[test]
fn the_remembered_parent_is_forgotten_when_the_way_to_it_changes() {
    check(
        "link replaced by a directory",
        new()
            .dir("d")
            .symlink("l", "d")
            .file("l/x", "1")
            .dir("l")
            .file("l/y", "2"),
        &["d d755 n2", "d/x f644 n1 1", "l d755 n2", "l/y f644 n1 2"],
        &[],
    );
    check(
        "link on the way replaced by another link",
        new()
            .file("a/s/1", "1")
            .file("b/s/1", "1")
            .symlink("l", "a")
            .file("l/s/x", "x")
            .symlink("l", "b")
            .file("l/s/y", "y"),
        &[
            "a d755 n3",
            "a/s d755 n2",
            "a/s/1 f644 n1 1",
            "a/s/x f644 n1 x",
            "b d755 n3",
            "b/s d755 n2",
            "b/s/1 f644 n1 1",
            "b/s/y f644 n1 y",
            "l l777 n1 b",
        ],
        &[],
    );
    check(
        "directory replaced by a file",
        new()
            .dir("d")
            .file("d/../x", "")
            .dir("d/e")
            .file("d/e/f/x", "1")
            .file("d/e/f", "2"),
        &[
            "d d755 n3",
            "d/e d755 n3",
            "d/e/f d755 n2",
            "d/e/f/x f644 n1 1",
        ],
        &[WarningKind::DotDot, WarningKind::DirectoryNotEmpty],
    );
}

#[test]
fn hard_links_share_an_inode() {
    check(
        "once over",
        new()
            .file("f", "1")
            .hard_link("h", "f")
            .hard_link("./d/i", "/./f"),
        &["d d755 n2", "d/i f644 n3 1", "f f644 n3 1", "h f644 n3 1"],
        &[],
    );
    check(
        "to itself",
        new().file("f", "1").hard_link("f", "f"),
        &["f f644 n1 1"],
        &[],
    );
    check(
        "to itself, as nothing",
        new().hard_link("f", "f"),
        &[],
        &[WarningKind::LinkTargetMissing],
    );
    check(
        "to a link, not through it",
        new().file("f", "1").symlink("l", "f").hard_link("h", "l"),
        &["f f644 n1 1", "h l777 n2 f", "l l777 n2 f"],
        &[],
    );
    check(
        "through a linked parent",
        new()
            .file("d/f", "1")
            .symlink("l", "d")
            .hard_link("h", "l/f"),
        &["d d755 n2", "d/f f644 n2 1", "h f644 n2 1", "l l777 n1 d"],
        &[],
    );
    check(
        "over another file and over an empty directory",
        new()
            .file("f", "1")
            .file("g", "2")
            .hard_link("g", "f")
            .dir("d")
            .hard_link("d", "f"),
        &["d f644 n3 1", "f f644 n3 1", "g f644 n3 1"],
        &[],
    );
}

#[test]
fn hard_links_that_cannot_be_made_are_left_out() {
    let missing = WarningKind::LinkTargetMissing;
    check("missing", new().hard_link("h", "no"), &[], &[missing]);
    check(
        "in a directory that has other entries",
        new()
            .file("d/a", "1")
            .hard_link("d/h", "no")
            .file("d/b", "2"),
        &["d d755 n2", "d/a f644 n1 1", "d/b f644 n1 2"],
        &[missing],
    );
    check(
        "what is there stays",
        new()
            .file("f", "1")
            .hard_link("f", "no")
            .hard_link("f", "../f"),
        &["f f644 n1 1"],
        &[missing],
    );
    // GNU tar removes the file first.
    let directory = WarningKind::LinkToDirectory;
    check(
        "nor does a link to a directory remove it",
        new().dir("d").file("f", "1").hard_link("f", "d"),
        &["d d755 n2", "f f644 n1 1"],
        &[directory],
    );
    check(
        "directory",
        new().dir("d").hard_link("h", "d"),
        &["d d755 n2"],
        &[directory],
    );
    check(
        "root",
        new().dir("d").hard_link("h", "/"),
        &["d d755 n2"],
        &[directory],
    );
}

/// No tar can unpack these: the link fails. What they mean is not in doubt.
#[test]
fn hard_links_wait_for_their_target() {
    check(
        "one that comes later",
        new().hard_link("h", "f").file("f", "1"),
        &["f f644 n2 1", "h f644 n2 1"],
        &[],
    );
    let chain = &["a f644 n4 1", "b f644 n4 1", "c f644 n4 1", "f f644 n4 1"];
    for order in [
        ["a", "b", "c"],
        ["c", "b", "a"],
        ["b", "a", "c"],
        ["b", "c", "a"],
    ] {
        let archive = order.iter().fold(new(), |archive, name| match *name {
            "a" => archive.hard_link("a", "b"),
            "b" => archive.hard_link("b", "c"),
            _ => archive.hard_link("c", "f"),
        });
        check("a chain in any order", archive.file("f", "1"), chain, &[]);
    }
    check(
        "through directories that come later too",
        new()
            .hard_link("d/h", "l/f")
            .symlink("l", "e")
            .file("e/f", "1")
            .dir("d"),
        &[
            "d d755 n2",
            "d/h f644 n2 1",
            "e d755 n2",
            "e/f f644 n2 1",
            "l l777 n1 e",
        ],
        &[],
    );
    check(
        "to a symbolic link",
        new().hard_link("h", "l").symlink("l", "x"),
        &["h l777 n2 x", "l l777 n2 x"],
        &[],
    );
    check(
        "to a directory that comes later",
        new().hard_link("h", "d").dir("d"),
        &["d d755 n2"],
        &[WarningKind::LinkToDirectory],
    );
}

#[test]
fn circles_of_hard_links_are_left_out() {
    let missing = &[WarningKind::LinkTargetMissing];
    check(
        "circle, and a way into it",
        new()
            .hard_link("a", "b")
            .hard_link("b", "c")
            .hard_link("c", "b")
            .file("f", "1"),
        &["f f644 n1 1"],
        missing,
    );
    check(
        "what is there stays, and can be linked to",
        new()
            .file("b", "1")
            .hard_link("a", "b")
            .hard_link("b", "c")
            .hard_link("c", "d")
            .hard_link("d", "c"),
        &["a f644 n2 1", "b f644 n2 1"],
        missing,
    );
    let (_, built) = build(&new().hard_link("a", "b").hard_link("b", "a").end());
    assert_eq!(built.report.count(WarningKind::LinkTargetMissing), 2);
    assert_eq!((built.summary.entries, built.summary.inodes), (0, 1));
}

#[test]
fn a_waiting_link_takes_its_turn() {
    check(
        "it replaces what was there",
        new().file("h", "0").hard_link("h", "f").file("f", "1"),
        &["f f644 n2 1", "h f644 n2 1"],
        &[],
    );
    check(
        "what comes after it replaces it",
        new()
            .hard_link("h", "f")
            .file("h", "2")
            .file("f", "1")
            .hard_link("d", "f")
            .dir("d"),
        &["d d755 n2", "f f644 n1 1", "h f644 n1 2"],
        &[],
    );
    check(
        "so does another one",
        new()
            .hard_link("h", "f")
            .hard_link("h", "g")
            .file("f", "1")
            .file("g", "2"),
        &["f f644 n1 1", "g f644 n2 2", "h f644 n2 2"],
        &[],
    );
    check(
        "a directory of its name is a directory",
        new()
            .dir("d")
            .hard_link("d", "f")
            .file("d/x", "2")
            .file("f", "1"),
        &["d d755 n2", "d/x f644 n1 2", "f f644 n1 1"],
        &[WarningKind::LinkTargetMissing],
    );
    check(
        "the directory it is in may be gone",
        new().hard_link("d/h", "f").file("d", "2").file("f", "1"),
        &["d f644 n1 2", "f f644 n1 1"],
        &[WarningKind::ParentNotDirectory],
    );
    check(
        "nor may it be walked through",
        new()
            .dir("e")
            .symlink("l", "e")
            .hard_link("l", "f")
            .hard_link("h", "l/x")
            .file("e/x", "2")
            .file("f", "1"),
        &["e d755 n2", "e/x f644 n1 2", "f f644 n2 1", "l f644 n2 1"],
        &[WarningKind::LinkTargetMissing],
    );
}

/// As in archives that `pax -o linkdata` makes. libarchive's rule, but a header
/// found where the content would be is a header, as for GNU tar and Python.
#[test]
fn content_of_a_hard_link_is_that_of_the_file() {
    let with = |content: &str| {
        let link = Head::link(b'1', "h", "f");
        new().file("f", "1").with(link, content).file("g", "3")
    };
    check(
        "the last one counts",
        with("22"),
        &["f f644 n2 22", "g f644 n1 3", "h f644 n2 22"],
        &[],
    );
    let long = "2".repeat(1500);
    let line = |name: &str| format!("{name} f644 n2 {long}");
    check(
        "of several blocks",
        with(&long),
        &[&line("f"), "g f644 n1 3", &line("h")],
        &[],
    );
    let inner = String::from_utf8(Archive::default().file("i", "4").bytes).unwrap();
    check(
        "what looks like a header is one",
        with(&inner),
        &["f f644 n2 1", "g f644 n1 3", "h f644 n2 1", "i f644 n1 4"],
        &[],
    );
    let size = inner.len().to_string();
    let link = Head::link(b'1', "h", "f");
    let archive = new()
        .file("f", "1")
        .pax(b'x', &[("size", size.as_bytes())])
        .head(&link)
        .body(inner.as_bytes())
        .file("g", "3");
    let (index, _) = build(&archive.end());
    let f = index.inode(find(&index, "f")).unwrap();
    assert_eq!(
        (f.size, f.nlink),
        (1024, 2),
        "unless a size of its own says so"
    );
    check(
        "of a symbolic link it is nothing",
        new()
            .symlink("l", "x")
            .with(Head::link(b'1', "h", "l"), "22"),
        &["h l777 n2 x", "l l777 n2 x"],
        &[],
    );
    check(
        "what comes later counts",
        new().with(Head::link(b'1', "h", "f"), "22").file("f", "1"),
        &["f f644 n2 1", "h f644 n2 1"],
        &[],
    );
    check(
        "and a link that is left out changes nothing",
        new()
            .file("f", "1")
            .file("d/x", "2")
            .with(Head::link(b'1', "d", "f"), "22"),
        &["d d755 n2", "d/x f644 n1 2", "f f644 n1 1"],
        &[WarningKind::DirectoryNotEmpty],
    );
}

/// The other names of a file that is replaced keep the old content.
#[test]
fn a_replaced_file_lives_on_under_its_other_names() {
    let stream = new()
        .file("f", "1")
        .hard_link("h", "f")
        .file("f", "22")
        .file("f", "333")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(tree(&index, &stream), ["f f644 n1 333", "h f644 n1 1"]);
    assert_eq!((built.summary.files, built.summary.inodes), (2, 3));
    assert_eq!((built.summary.entries, built.summary.hard_links), (2, 0));
    assert_eq!(built.summary.content_bytes, 4);
    // The middle one has no name left and counts nowhere.
    assert_eq!(index.inode(Ino::new(3).unwrap()).unwrap().nlink, 0);
}

#[test]
fn the_order_of_a_directory_is_that_of_the_archive() {
    let stream = new()
        .file("b", "")
        .file("a/2", "")
        .file("c", "")
        .file("a/1", "")
        .file("b", "x")
        .end();
    let (index, _) = build(&stream);
    let names = |dir, from| -> Vec<_> {
        let all = index.dirents(dir, from).unwrap();
        all.map(|d| d.map(|d| (d.position, d.name)).unwrap())
            .collect()
    };
    assert_eq!(names(Ino::ROOT, 0), [(0, &b"b"[..]), (1, b"a"), (2, b"c")]);
    assert_eq!(names(Ino::ROOT, 2), [(2, &b"c"[..])]);
    assert_eq!(names(Ino::ROOT, 3), []);
    assert_eq!(names(Ino::ROOT, u32::MAX), []);
    assert_eq!(names(find(&index, "a"), 0), [(0, &b"2"[..]), (1, b"1")]);
}

#[test]
fn names_are_cleaned_and_impossible_ones_left_out() {
    check(
        "spellings",
        new()
            .file("./a", "1")
            .file("/b", "2")
            .file(".//c/.//d", "3")
            .dir("./e/."),
        &[
            "a f644 n1 1",
            "b f644 n1 2",
            "c d755 n2",
            "c/d f644 n1 3",
            "e d755 n2",
        ],
        &[],
    );
    check(
        "dot-dot is never resolved",
        new()
            .file("../a", "")
            .file("a/../b", "")
            .dir("..")
            .file("c..", "")
            .file("..d", ""),
        &["..d f644 n1 ", "c.. f644 n1 "],
        &[WarningKind::DotDot],
    );
    let long = "x".repeat(256);
    check(
        "too long, with NUL, nothing at all",
        new()
            .pax(b'x', &[("path", long.as_bytes())])
            .file("y", "")
            .pax(b'x', &[("path", b"a\0b")])
            .file("y", "")
            .file("", "")
            .file("./", ""),
        &[],
        &[WarningKind::BadName],
    );
    check(
        "links without a target",
        new()
            .symlink("a", "")
            .pax(b'x', &[("linkpath", b"a\0b")])
            .symlink("b", "x"),
        &[],
        &[WarningKind::BadLink],
    );
}

#[test]
fn missing_parents_look_like_the_entry_that_needed_them() {
    let head = Head {
        uid: 7,
        gid: 8,
        mtime: 99,
        mode: 0o600,
        ..Head::new(b'0', "a/b/c")
    };
    let later = Head {
        uid: 5,
        mode: 0o711,
        ..Head::new(b'5', "a")
    };
    let (index, _) = build(&new().with(head, "1").head(&later).end());
    let parent = index.inode(find(&index, "a/b")).unwrap();
    assert_eq!((parent.perm, parent.uid, parent.gid), (0o755, 7, 8));
    assert_eq!(parent.mtime, Timestamp { secs: 99, nanos: 0 });
    let given_later = index.inode(find(&index, "a")).unwrap();
    assert_eq!((given_later.perm, given_later.uid), (0o711, 5));
}

#[test]
fn the_root_is_what_its_entry_says_or_plain() {
    let (index, _) = build(
        &new()
            .head(&Head {
                mtime: 50,
                uid: 9,
                ..Head::new(b'0', "a")
            })
            .end(),
    );
    let root = index.inode(Ino::ROOT).unwrap();
    assert_eq!(
        (root.perm, root.uid, root.gid, root.mtime.secs),
        (0o755, 0, 0, 50)
    );
    let head = Head {
        mode: 0o1777,
        uid: 3,
        mtime: 60,
        ..Head::new(b'5', "./")
    };
    let (index, built) = build(&new().file("a", "").head(&head).end());
    let root = index.inode(Ino::ROOT).unwrap();
    assert_eq!((root.perm, root.uid, root.mtime.secs), (0o1777, 3, 60));
    assert_eq!(built.summary.entries, 1);
}

#[test]
fn a_single_enclosing_root_filesystem_is_what_is_served() {
    let served = |archive: Archive| {
        let (index, built) = build(&archive.end());
        let root = built.summary.root.unwrap();
        match root == Ino::ROOT {
            true => "top",
            false if root == find(&index, "img") => "img",
            false => "other",
        }
    };
    let image = || new().dir("img/etc").dir("img/usr");
    assert_eq!(served(image()), "img");
    assert_eq!(
        served(new().dir("img/etc").symlink("img/bin", "usr/bin")),
        "img"
    );
    assert_eq!(served(new().dir("img/.old_root")), "img");
    assert_eq!(served(image().file("README", "")), "top");
    assert_eq!(served(new().dir("img/etc")), "top");
    assert_eq!(served(new().file("img/etc", "").dir("img/usr")), "top");
    assert_eq!(served(new().dir("img/etc").file("img/bin", "")), "top");
    assert_eq!(
        served(new().dir(".old_root/etc").dir(".old_root/usr")),
        "top"
    );
    assert_eq!(served(new().dir("etc").dir("usr")), "top");
    assert_eq!(served(new().file("img", "")), "top");
    assert_eq!(served(new().dir("etc")), "top");
}
