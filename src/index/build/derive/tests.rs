//! Patches on top of images: what the random tests of `build::tests::model`
//! do not reach.

use super::*;
use crate::index::build::{HeapArenas, Limits};
use crate::index::testing::{
    Archive, GNU, Head, KEY, SPARSE_GNU, Sections, build, build_cut, content, derive, derive_cut,
    find, options, tree,
};
use crate::index::{FileKind, Index};
use crate::types::Ino;

fn change(path: &str, mode: u32) -> ModeChange {
    ModeChange::new(path.as_bytes(), mode).unwrap()
}

/// The names of a directory, in listing order.
fn names(index: &Index, dir: &str) -> Vec<String> {
    let dirents = index.dirents(find(index, dir), 0).unwrap();
    let name = |dirent: crate::index::Dirent<'_>| String::from_utf8_lossy(dirent.name).into_owned();
    dirents.map(|dirent| name(dirent.unwrap())).collect()
}

/// A system that is merged into `usr`, in one enclosing directory.
fn enclosed() -> Vec<u8> {
    Archive::default()
        .dir("image/")
        .dir("image/etc/")
        .dir("image/usr/")
        .dir("image/usr/lib/")
        .file("image/usr/lib/libc.so", "old")
        .symlink("image/lib", "usr/lib")
        .symlink("image/abs", "/usr/lib")
        .file("beside", "")
        .end()
}

/// Bases with one enclosing directory serve that one: owners know no paths but
/// those in it.
#[test]
fn paths_start_at_the_served_root_and_it_stays() {
    let base = Archive::default()
        .dir("image/etc/")
        .dir("image/bin/")
        .file("image/etc/passwd", "old");
    let base = base.end();
    let patch = Archive::default()
        .file("etc/passwd", "new")
        .dir("image/")
        .symlink("up", "../../../etc/passwd")
        .file(".wh.bin", "")
        .end();
    let (index, _, stream) = derive(&base, &[patch], &[change("/", 0o700)]);
    let root = index.summary().root.unwrap();
    assert_eq!(root, find(&index, "image"));
    assert_eq!(index.inode(root).unwrap().perm, 0o700);
    assert_eq!(
        tree(&index, &stream),
        [
            "image d700 n4",
            "image/etc d755 n2",
            "image/etc/passwd f644 n1 new",
            "image/image d755 n2",
            "image/up l777 n1 ../../../etc/passwd",
        ]
    );
}

/// A patch whose archive names no parents must not replace the links that a
/// merged system has there, nor touch the attributes of its directories.
#[test]
fn implied_parents_are_those_of_the_image() {
    let base = Archive::default()
        .head(&Head {
            mode: 0o1777,
            uid: 7,
            ..Head::new(b'5', "usr/lib")
        })
        .symlink("lib", "usr/lib")
        .file("usr/lib/a", "a")
        .end();
    let patch = Archive::default()
        .file("lib/.wh.a", "")
        .file("lib/b", "b")
        .file("new/c", "c")
        .end();
    let (index, derived, stream) = derive(&base, &[patch], &[]);
    assert!(derived.patches[0].is_empty(), "{:?}", derived.patches);
    assert_eq!(
        tree(&index, &stream),
        [
            "lib l777 n1 usr/lib",
            "new d755 n2",
            "new/c f644 n1 c",
            "usr d755 n3",
            "usr/lib d1777 n2",
            "usr/lib/b f644 n1 b",
        ]
    );
    assert_eq!(index.inode(find(&index, "usr/lib")).unwrap().uid, 7);
}

#[test]
fn what_replaces_what() {
    let base = Archive::default()
        .dir("dir/")
        .dir("dir/sub/")
        .file("dir/sub/deep", "deep")
        .file("file", "file")
        .symlink("link", "dir")
        .hard_link("other", "dir/sub/deep")
        .end();
    let patch = Archive::default()
        .file("dir", "now a file")
        .dir("file/")
        .file("file/in", "in")
        .dir("link/")
        .file("link/in", "in")
        .end();
    let (index, derived, stream) = derive(&base, &[patch], &[]);
    assert!(derived.patches[0].is_empty());
    assert_eq!(
        tree(&index, &stream),
        [
            "dir f644 n1 now a file",
            "file d755 n2",
            "file/in f644 n1 in",
            "link d755 n2",
            "link/in f644 n1 in",
            "other f644 n1 deep",
        ]
    );
    assert_eq!(derived.summary.inodes, 7);
    assert_eq!(derived.summary.hard_links, 0);
}

/// Whatever the order in the archive, and each of the names in a layer of its
/// own too.
#[test]
fn a_whiteout_removes_what_is_below_and_not_what_comes_with_it() {
    let base = Archive::default()
        .dir("d/")
        .file("d/old", "old")
        .file("f", "old")
        .end();
    let remove = |archive: Archive| archive.file(".wh.d", "").file(".wh.f", "");
    let add = |archive: Archive| archive.file("d/new", "new").file("f", "new");
    let expected = ["d d755 n2", "d/new f644 n1 new", "f f644 n1 new"];
    for patches in [
        vec![add(remove(Archive::default())).end()],
        vec![remove(add(Archive::default())).end()],
        vec![
            remove(Archive::default()).end(),
            add(Archive::default()).end(),
        ],
    ] {
        let (index, _, stream) = derive(&base, &patches, &[]);
        assert_eq!(tree(&index, &stream), expected);
    }
    let opaque = Archive::default()
        .file("d/new", "new")
        .file("d/.wh..wh..opq", "")
        .file("made/.wh..wh..opq", "")
        .file(".wh.f", "");
    let (index, derived, stream) = derive(&base, &[opaque.end()], &[]);
    assert!(derived.patches[0].is_empty());
    assert_eq!(tree(&index, &stream), expected[..2]);
}

#[test]
fn an_opaque_root_hides_everything_and_stays_the_root() {
    let patch = Archive::default()
        .file("only", "this")
        .file(".wh..wh..opq", "")
        .end();
    let (index, derived, stream) = derive(&enclosed(), &[patch], &[]);
    assert_eq!(tree(&index, &stream), ["only f644 n1 this"]);
    assert_eq!(derived.summary.entries, 1);
    assert_eq!(derived.summary.directories, 1);
}

#[test]
fn whiteouts_that_mean_nothing_remove_nothing_and_are_told() {
    let base = Archive::default()
        .dir("a/")
        .file("a/b", "b")
        .file(".wh.ordinary", "in the image")
        .dir(".wh.dir/")
        .symlink("to", ".wh.dir")
        .end();
    let (before, _) = build(&base);
    let expected = tree(&before, &base);
    let patch = Archive::default()
        .file(".wh.", "")
        .file(".wh..", "")
        .file(".wh...", "")
        .file("a/.wh...", "")
        .file(".wh.a/b", "")
        .file(".wh.dir/x", "")
        .file(".wh..wh.ordinary", "")
        .dir(".wh..wh.plnk/")
        .file(".wh..wh.plnk/1.2", "")
        .file("../.wh.a", "")
        .file("a/../.wh.a", "")
        .file("missing/.wh.x", "")
        .file("a/b/.wh.x", "")
        .file(".wh.missing", "")
        .hard_link("linked", ".wh.gone")
        .end();
    let (index, derived, stream) = derive(&base, &[patch], &[]);
    assert_eq!(tree(&index, &stream), expected);
    let count = |kind| derived.patches[0].count(kind);
    assert_eq!(count(WarningKind::BadWhiteout), 9);
    assert_eq!(count(WarningKind::DotDot), 2);
    assert_eq!(count(WarningKind::NothingToRemove), 3);
    assert_eq!(count(WarningKind::LinkTargetMissing), 1);
}

/// Whiteouts were looked up one after the other: one that removed a link hid
/// from the next what was behind it.
#[test]
fn whiteouts_do_not_depend_on_their_order() {
    let base = Archive::default()
        .file("dir/a", "")
        .file("dir/b", "")
        .file("hidden/c", "")
        .symlink("to/dir", "/dir")
        .symlink("to/hidden", "../hidden")
        .end();
    let mut whiteouts = [
        "to/dir/.wh.a",
        "to/hidden/.wh..wh..opq",
        ".wh.to",
        "to/.wh.dir",
    ];
    for _ in 0..2 {
        let add = |patch: Archive, name: &&str| patch.file(name, "");
        let patch = whiteouts.iter().fold(Archive::default(), add);
        let (index, derived, stream) = derive(&base, &[patch.end()], &[]);
        assert!(derived.patches[0].is_empty(), "{:?}", derived.patches);
        assert_eq!(
            tree(&index, &stream),
            ["dir d755 n2", "dir/b f644 n1 ", "hidden d755 n2"]
        );
        whiteouts.reverse();
    }
}

/// Any type of entry can be a whiteout; what it holds is not looked at.
#[test]
fn whiteouts_of_any_type_never_reach_the_tree() {
    let names = ["a", "b", "c", "d", "e"];
    let base = names.iter().fold(Archive::default(), |base, name| {
        base.file(&format!("{name}/in"), "")
    });
    let patch = Archive::default()
        .dir(".wh.a/")
        .symlink(".wh.b", "/etc")
        .hard_link(".wh.c", "d/in")
        .file(".wh.d", "with content")
        .head(&Head::new(b'6', ".wh.e"));
    let (index, derived, stream) = derive(&base.end(), &[patch.end()], &[]);
    assert_eq!(tree(&index, &stream), [""; 0]);
    assert_eq!(derived.summary.entries, 0);
}

#[test]
fn hard_links_reach_into_the_layers_below() {
    let base = Archive::default()
        .file("a", "a")
        .file("gone", "gone")
        .file("cut/off", "off")
        .end();
    let patch = Archive::default()
        .hard_link("b", "a")
        .hard_link("c", "later")
        .hard_link("lost", "gone")
        .hard_link("lost2", "cut/off")
        .file(".wh.gone", "")
        .file(".wh.cut", "")
        .file("later", "later")
        .end();
    let second = Archive::default()
        .hard_link("d", "c")
        .file("a", "new")
        .end();
    let (index, derived, stream) = derive(&base, &[patch, second], &[]);
    assert_eq!(
        tree(&index, &stream),
        [
            "a f644 n1 new",
            "b f644 n1 a",
            "c f644 n3 later",
            "d f644 n3 later",
            "later f644 n3 later",
        ]
    );
    assert_eq!(
        derived.patches[0].count(WarningKind::LinkTargetMissing),
        2,
        "what a layer removes cannot be linked to, wherever it says so"
    );
}

/// Files are listed in the order of the stream, so that reading a directory
/// reads forwards, patches included.
#[test]
fn what_a_patch_brings_is_listed_behind_what_there_was() {
    let base = ["x", "y", "z"].iter();
    let base = base.fold(Archive::default(), |base, name| base.file(name, "1"));
    let patch = Archive::default().file("x", "2").file("w", "2");
    let (index, ..) = derive(&base.end(), &[patch.end()], &[]);
    assert_eq!(names(&index, ""), ["y", "z", "x", "w"]);
}

#[test]
fn attributes_and_holes_of_both_are_kept() {
    let xattr = |name: &str, value: &'static [u8]| (format!("SCHILY.xattr.{name}"), value);
    let (one, two) = (xattr("user.one", b"1"), xattr("user.two", b"2"));
    let base = Archive::default()
        .pax(b'x', &[(&one.0, one.1)])
        .dir("d/")
        .pax(b'x', &[(&one.0, one.1)])
        .file("f", "f")
        .sparse(&SPARSE_GNU, "holes", 5000, &[(1000, 3)], b"abc")
        .end();
    let patch = Archive::default()
        .file("first", "to be elsewhere")
        .sparse(&SPARSE_GNU, "more", 9000, &[(0, 2), (8000, 1)], b"xyz")
        .pax(b'x', &[(&two.0, two.1)])
        .head(&Head {
            mode: 0o700,
            uid: 77,
            mtime: 2000,
            magic: GNU,
            ..Head::new(b'5', "d/")
        })
        .end();
    let (index, derived, stream) = derive(&base, &[patch], &[]);
    let dir = find(&index, "d");
    let xattrs = |ino| index.xattrs(ino).unwrap().map(|x| x.unwrap().name.to_vec());
    assert_eq!(
        xattrs(dir).collect::<Vec<_>>(),
        [&b"user.one"[..], b"user.two"]
    );
    assert_eq!(xattrs(find(&index, "f")).count(), 1);
    let inode = index.inode(dir).unwrap();
    assert_eq!((inode.perm, inode.uid, inode.mtime.secs), (0o700, 77, 2000));
    assert_eq!(
        (derived.summary.max_owner, derived.summary.with_xattrs),
        (77, 2)
    );
    for (name, at, byte) in [("holes", 1000, 'a'), ("more", 8000, 'z')] {
        let text = content(&index, find(&index, name), &stream);
        assert_eq!(text.chars().nth(at), Some(byte));
        assert!(index.inode(find(&index, name)).unwrap().allocated <= 3);
    }
}

#[test]
fn modes_change_last_and_only_what_is_named() {
    let base = Archive::default()
        .dir("var/")
        .file("var/f", "")
        .hard_link("g", "var/f")
        .symlink("l", "var")
        .symlink("out", "../../etc")
        .end();
    let patch = Archive::default().dir("var/").dir("late/").end();
    let changes = [
        change("var", 0o777),
        change("/var", 0o1777),
        change("g", 0o4711),
        change("late/", 0),
        change("l", 0o600),
        change("l/f", 0o600),
        change("out/passwd", 0o600),
        change("g/x", 0o600),
        change("none", 0o600),
    ];
    let (index, derived, stream) = derive(&base, &[patch], &changes);
    assert_eq!(
        tree(&index, &stream),
        [
            "g f4711 n2 ",
            "l l777 n1 var",
            "late d0 n2",
            "out l777 n1 ../../etc",
            "var d1777 n2",
            "var/f f4711 n2 ",
        ]
    );
    let told: Vec<_> = derived
        .unapplied
        .iter()
        .map(|u| (&u.path[..], u.problem))
        .collect();
    assert_eq!(
        told,
        [
            (&b"l"[..], Problem::IsLink),
            (b"l/f", Problem::BehindLink),
            (b"out/passwd", Problem::BehindLink),
            (b"g/x", Problem::NotDirectory),
            (b"none", Problem::NotFound),
        ]
    );
    let shown = derived.unapplied[4].to_string();
    assert_eq!(
        shown,
        "/none: not in this version of the image, mode not changed"
    );
}

#[test]
fn inodes_of_the_image_keep_their_numbers() {
    let base = enclosed();
    let (before, _) = build(&base);
    let patch = Archive::default().file(".wh.abs", "").file("beside2", "");
    let (after, ..) = derive(&base, &[patch.end()], &[change("beside", 0o600)]);
    for path in ["image", "image/usr/lib/libc.so", "beside"] {
        assert_eq!(find(&before, path), find(&after, path));
    }
    assert_eq!(
        after.inode(find(&after, "image/lib")).unwrap().kind,
        FileKind::Symlink
    );
    assert_eq!(
        after.inode(Ino::ROOT).unwrap().mtime,
        before.inode(Ino::ROOT).unwrap().mtime
    );
}

fn failed(limits: Limits, patches: &[Vec<u8>], changes: &[ModeChange]) -> BuildError {
    let base = enclosed();
    let (index, _) = build(&base);
    let options = BuildOptions {
        limits,
        ..options()
    };
    let derived = derive_cut(options, (&index, &base), patches, changes, 1000);
    derived.map(|_| ()).unwrap_err()
}

#[test]
fn what_goes_on_top_is_limited() {
    let small = Archive::default().file("f", "f").end();
    let changes = vec![change("lib", 0o755); 100_000];
    let error = failed(Limits::default(), &[], &changes);
    assert_eq!(
        error.to_string(),
        "100000 changes of modes are more than the 10000 that an image can have: put them \
         together in one patch"
    );
    let error = failed(Limits::default(), &vec![small.clone(); 65], &[]);
    assert!(
        error
            .to_string()
            .starts_with("65 patches are more than the 64 "),
        "{error}"
    );
    let limits = Limits {
        entries_max: 9,
        ..Limits::default()
    };
    let two = Archive::default().file("f", "f").file("g", "g").end();
    assert!(matches!(
        failed(limits, &[small, two], &[]),
        BuildError::Limit {
            limit: "entries_max",
            ..
        }
    ));
}

/// One name that many layers and many entries replace costs each the same.
#[test]
fn names_that_come_and_go_do_not_slow_down() {
    let again = (0..10_000).fold(Archive::default(), |patch, n| {
        patch.file(".wh.f", "").file("f", n.to_string())
    });
    let patches = vec![again.end(); 3];
    let (index, derived, stream) = derive(&enclosed(), &patches, &[]);
    assert_eq!(content(&index, find(&index, "f"), &stream), "9999");
    assert_eq!(derived.summary.entries, 9);
}

#[test]
fn a_patch_that_is_cut_is_refused() {
    let patch = Archive::default().file("f", [b'x'; 3000]).end();
    let error = failed(Limits::default(), &[patch[..2000].to_vec()], &[]);
    assert!(matches!(error, BuildError::Truncated { .. }), "{error}");
    // What an index alone would be made of is good enough on top, too.
    let unpadded = patch[..512 + 3000].to_vec();
    let (index, derived, stream) = derive(&enclosed(), &[unpadded], &[]);
    assert_eq!(content(&index, find(&index, "f"), &stream).len(), 3000);
    assert_eq!(derived.patches[0].count(WarningKind::MissingEnd), 1);
    let error = failed(Limits::default(), &[vec![1; 600]], &[]);
    assert!(matches!(error, BuildError::NotTar { .. }), "{error}");
}

/// The tables of the image are bytes of a file that its owner may write.
#[test]
fn no_damage_of_the_image_reaches_beyond_it() {
    let base = Archive::default()
        .dir("d/")
        .file("d/f", "content")
        .symlink("l", "d/f")
        .sparse(&SPARSE_GNU, "s", 5000, &[(1000, 3)], b"abc")
        .end();
    let (sections, _) = build_cut(options(), &base, 1 << 20).unwrap();
    let patch = Archive::default().file("d/g", "g").file(".wh.l", "").end();
    let len = base.len() as u64;
    let mut refused = 0;
    for at in 0..sections.bytes.len() {
        for bit in [0, 7] {
            let mut changed = Sections::clone(&sections);
            changed.bytes[at] ^= 1 << bit;
            let Ok(index) = changed.open() else { continue };
            let base = (&index, &base[..]);
            let derived = derive_cut(options(), base, std::slice::from_ref(&patch), &[], 4096);
            let Ok((derived, _)) = derived else {
                refused += 1;
                continue;
            };
            let derived = derived.open().unwrap();
            let inodes = (1..).map_while(|n| derived.inode(Ino::new(n)?).ok());
            for inode in inodes.filter(|inode| inode.kind == FileKind::Regular) {
                let extents = derived.extents(inode.ino).unwrap();
                let patched = index.inode(inode.ino).is_err();
                // Only what the patch brought is behind the image's stream.
                for extent in extents.filter_map(Result::ok).filter(|_| !patched) {
                    assert!(extent.stream.0 + extent.len <= len, "byte {at}");
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn the_key_of_the_names_is_a_new_one() {
    let base = enclosed();
    let (index, _) = build(&base);
    let other = BuildOptions::new([9; 16]);
    assert_ne!(other.hash_key, KEY);
    let deriver = Deriver::new(&index, base.len() as u64, other, &mut HeapArenas).unwrap();
    assert_eq!(deriver.tree.tables.hash_key, [9; 16]);
}
