//! The dialects of tar: what each way of saying a thing comes to.

use super::super::WarningKind;
use crate::index::testing::{
    Archive, GNU, Head, USTAR, V7, build, build_cut, content, find, options, sign, tree,
};
use crate::index::{Index, Inode};
use crate::types::Timestamp;

fn new() -> Archive {
    Archive::default()
}

fn inode(index: &Index, path: &str) -> Inode {
    index.inode(find(index, path)).unwrap()
}

fn xattrs(index: &Index, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = index.xattrs(find(index, path)).unwrap();
    all.map(|x| x.map(|x| (x.name.to_vec(), x.value.to_vec())).unwrap())
        .collect()
}

fn pair(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.to_vec())
}

#[test]
fn v7_has_no_directories_but_slashes() {
    let v7 = |typeflag, name: &str| Head {
        magic: V7,
        ..Head::new(typeflag, name)
    };
    let stream = new()
        .head(&v7(0, "d/"))
        .with(v7(0, "d/f"), "12")
        .head(&v7(b'0', "e/"))
        .end();
    let (index, _) = build(&stream);
    assert_eq!(
        tree(&index, &stream),
        ["d d644 n2", "d/f f644 n1 12", "e d644 n2"]
    );
}

#[test]
fn ustar_prefixes_count_and_gnu_ones_are_times() {
    let head = Head {
        prefix: b"some/dir".to_vec(),
        ..Head::new(b'0', "f")
    };
    let gnu = Head {
        magic: GNU,
        prefix: b"14000000000".to_vec(),
        ..Head::new(b'0', "g")
    };
    let (index, _) = build(&new().with(head, "1").with(gnu, "2").end());
    find(&index, "some/dir/f");
    find(&index, "g");
}

#[test]
fn gnu_long_names_and_links() {
    let name = format!("{}/{}", "d".repeat(200), "n".repeat(255));
    let link = "l".repeat(300);
    let long = |typeflag| Head {
        magic: GNU,
        ..Head::new(typeflag, "././@LongLink")
    };
    let stream = new()
        .with(long(b'K'), link.clone() + "\0")
        .with(long(b'L'), name.clone() + "\0")
        .symlink("short", "short")
        .file("next", "1")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(
        index.link_target(find(&index, &name)).unwrap(),
        link.as_bytes()
    );
    assert_eq!(content(&index, find(&index, "next"), &stream), "1");
    assert!(built.report.is_empty());
}

#[test]
fn base_256_numbers() {
    let mut stream = new().file("f", "x").end();
    stream[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 0x3b, 0x9a, 0xca]);
    stream[136..148].copy_from_slice(&[0xff; 12]);
    stream[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    sign(&mut stream[..512]);
    let (index, _) = build(&stream);
    let f = inode(&index, "f");
    assert_eq!((f.uid, f.size, f.mtime.secs), (0x3b_9aca, 1, -1));
}

#[test]
fn pax_overrides_the_header() {
    let stream = new()
        .pax(
            b'x',
            &[
                ("path", "long/näme\nwith newline".as_bytes()),
                ("size", b"3"),
                ("uid", b"4000000000"),
                ("gid", b"1000000"),
                ("mtime", b"-1.25"),
                ("atime", b"1"),
                ("comment", b"anything"),
            ],
        )
        .head(&Head::new(b'0', "short"))
        .body(b"abc")
        .pax(
            b'x',
            &[("linkpath", b"to/somewhere"), ("mtime", b"12.000000001")],
        )
        .symlink("l", "x")
        .end();
    let (index, built) = build(&stream);
    let f = inode(&index, "long/näme\nwith newline");
    assert_eq!((f.size, f.uid, f.gid), (3, 4_000_000_000, 1_000_000));
    assert_eq!(
        f.mtime,
        Timestamp {
            secs: -2,
            nanos: 750_000_000
        }
    );
    assert_eq!(content(&index, f.ino, &stream), "abc");
    assert_eq!(
        index.link_target(find(&index, "l")).unwrap(),
        b"to/somewhere"
    );
    assert_eq!(inode(&index, "l").mtime, Timestamp { secs: 12, nanos: 1 });
    assert_eq!(
        inode(&index, "l").uid,
        0,
        "the first entry's header is spent"
    );
    assert_eq!(built.summary.max_owner, 4_000_000_000);
}

#[test]
fn global_headers_are_defaults_until_taken_back() {
    let stream = new()
        .pax(
            b'g',
            &[
                ("uid", b"7"),
                ("mtime", b"5.5"),
                ("SCHILY.xattr.user.g", b"1"),
            ],
        )
        .file("a", "")
        .pax(b'x', &[("uid", b"8"), ("SCHILY.xattr.user.l", b"2")])
        .file("b", "")
        .pax(b'x', &[("uid", b""), ("mtime", b"")])
        .file("c", "")
        .pax(b'g', &[("uid", b"")])
        .file("d", "")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(
        ["a", "b", "c", "d"].map(|f| inode(&index, f).uid),
        [7, 8, 0, 0]
    );
    assert_eq!(
        ["a", "b", "c", "d"].map(|f| inode(&index, f).mtime.secs),
        [5, 5, 1000, 5]
    );
    assert_eq!(xattrs(&index, "a"), [pair("user.g", b"1")]);
    assert_eq!(
        xattrs(&index, "b"),
        [pair("user.g", b"1"), pair("user.l", b"2")]
    );
    assert_eq!(built.summary.with_xattrs, 4);
}

#[test]
fn extended_attributes_hold_any_bytes() {
    let binary = b"\x01\0\0\x02\n\0=\xff";
    let stream = new()
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.security.capability", binary),
                ("SCHILY.xattr.user.a", b""),
            ],
        )
        .file("a", "")
        .pax(b'x', &[("LIBARCHIVE.xattr.user.%61%20", b"AQAA")])
        .file("b", "")
        .file("none", "")
        .end();
    let (index, _) = build(&stream);
    let wanted = [pair("security.capability", binary), pair("user.a", b"")];
    assert_eq!(xattrs(&index, "a"), wanted);
    assert_eq!(xattrs(&index, "b"), [pair("user.a ", b"\x01\0\0")]);
    assert_eq!(xattrs(&index, "none"), []);
}

#[test]
fn attributes_that_would_steer_overlays_are_dropped() {
    let stream = new()
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.redirect", b"/x"),
                ("LIBARCHIVE.xattr.trusted%2Eoverlay.metacopy", b""),
                ("SCHILY.xattr.", b"nameless"),
            ],
        )
        .dir("d")
        .pax(b'x', &[("SCHILY.xattr.user.overlay", b"kept")])
        .dir("e")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(xattrs(&index, "d"), []);
    assert_eq!(xattrs(&index, "e"), [pair("user.overlay", b"kept")]);
    assert_eq!(built.report.count(WarningKind::OverlayXattr), 3);
    assert_eq!(built.report.count(WarningKind::BadXattr), 1);
    assert_eq!(built.report.left_out(), 0);
}

#[test]
fn attributes_of_a_repeated_directory_add_up_and_equal_sets_are_stored_once() {
    let set = |archive: Archive, name: &'static str, value: &'static [u8]| {
        archive.pax(b'x', &[(name, value)])
    };
    let a = "SCHILY.xattr.user.a";
    let archive = set(new(), a, b"1").dir("d");
    let archive = set(archive, "SCHILY.xattr.user.b", b"2").dir("d").dir("d");
    let mut archive = set(archive, a, b"3").dir("d");
    let (index, _) = build(&archive.clone().end());
    assert_eq!(
        xattrs(&index, "d"),
        [pair("user.a", b"3"), pair("user.b", b"2")]
    );

    archive = new();
    for n in 0..10 {
        archive = set(archive, a, b"same").file(&format!("f{n}"), "");
    }
    let (sections, _) = build_cut(options(), &archive.end(), 1 << 20).unwrap();
    let stored = sections.ranges[&crate::index::format::section::XATTRS].len();
    assert_eq!(stored, 4 + 5 + "user.a".len() + "same".len());
}

#[test]
fn devices_and_fifos() {
    let device = |typeflag, name: &str, device| Head {
        device: Some(device),
        ..Head::new(typeflag, name)
    };
    let stream = new()
        .head(&device(b'3', "null", (1, 3)))
        .head(&device(b'4', "sda", (8, 0)))
        .head(&device(b'3', "odd", (4096, 0)))
        .head(&Head::new(b'6', "pipe"))
        .end();
    let (index, built) = build(&stream);
    assert_eq!(
        tree(&index, &stream),
        ["null c644 n1 103", "pipe p644 n1", "sda b644 n1 800"]
    );
    assert_eq!(built.report.count(WarningKind::BadDevice), 1);
    assert_eq!(built.summary.devices, 2);
}

/// Some writers put a size on entries that have no content.
#[test]
fn sizes_of_links_and_directories_mean_nothing() {
    let sized = |typeflag, name: &str| Head {
        size: 512,
        ..Head::link(typeflag, name, "f")
    };
    let archive = |magic| {
        let head = |typeflag, name| Head {
            magic,
            ..sized(typeflag, name)
        };
        new()
            .pax(b'x', &[("mtime", b"1")])
            .file("f", "1")
            .head(&head(b'1', "h"))
            .head(&head(b'2', "l"))
            .head(&head(b'5', "d"))
            .head(&head(b'0', "e/"))
            .file("g", "2")
            .head(&head(b'1', "last"))
            .end()
    };
    for magic in [V7, GNU, USTAR] {
        let stream = archive(magic);
        let (index, built) = build(&stream);
        let wanted = [
            "d d755 n2",
            "e d644 n2",
            "f f644 n3 1",
            "g f644 n1 2",
            "h f644 n3 1",
            "l l777 n1 f",
            "last f644 n3 1",
        ];
        assert_eq!(tree(&index, &stream), wanted);
        assert!(built.report.is_empty());
    }
}

/// GNU tar, bsdtar and Python agree, and POSIX wants it so.
#[test]
fn unknown_types_are_files() {
    let stream = new()
        .with(Head::new(b'Q', "odd"), "1")
        .with(Head::new(b'N', "names"), "2")
        .with(Head::new(b'7', "contiguous"), "3")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(
        tree(&index, &stream),
        ["contiguous f644 n1 3", "names f644 n1 2", "odd f644 n1 1"]
    );
    assert_eq!(built.report.count(WarningKind::UnknownType), 2);
    assert_eq!(built.report.left_out(), 0);
}

/// Only GNU headers and star's have a map; elsewhere the letter is unknown.
#[test]
fn the_letter_of_sparse_files_alone_makes_none() {
    let stream = new().with(Head::new(b'S', "f"), "1").end();
    let (index, _) = build(&stream);
    assert_eq!(tree(&index, &stream), ["f f644 n1 1"]);
}

#[test]
fn incremental_archives_list_directories() {
    let stream = new()
        .with(Head::new(b'D', "d/"), [b'Y'; 600])
        .file("d/f", "1")
        .pax(b'x', &[("GNU.dumpdir", b"Yf\0\0")])
        .dir("e")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(
        tree(&index, &stream),
        ["d d644 n2", "d/f f644 n1 1", "e d755 n2"]
    );
    assert!(built.report.is_empty());
}

#[test]
fn volumes() {
    let stream = new()
        .with(Head::new(b'V', "label"), "")
        .pax(
            b'g',
            &[
                ("GNU.volume.label", b"label"),
                ("GNU.volume.filename", b"dir/f"),
                ("GNU.volume.size", b"3"),
                ("GNU.volume.offset", b"1"),
            ],
        )
        .with(Head::new(b'M', "rest"), [b'x'; 600])
        .file("GNUFileParts.0/f.2", "23")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(
        tree(&index, &stream),
        ["GNUFileParts.0 d755 n2", "GNUFileParts.0/f.2 f644 n1 23"]
    );
    assert_eq!(built.report.count(WarningKind::Continued), 1);
    assert_eq!(built.report.left_out(), 1);
}

#[test]
fn device_numbers_that_headers_cannot_hold() {
    let head = Head {
        device: Some((0, 0)),
        ..Head::new(b'3', "a")
    };
    let stream = new()
        .pax(
            b'x',
            &[("SCHILY.devmajor", b"259"), ("SCHILY.devminor", b"1000")],
        )
        .head(&head)
        .pax(b'x', &[("SUN.devmajor", b"1"), ("SUN.devminor", b"3")])
        .head(&Head::new(b'4', "b"))
        .pax(b'x', &[("SCHILY.devminor", b"7")])
        .head(&Head {
            device: Some((1, 3)),
            ..Head::new(b'3', "c")
        })
        .end();
    let (index, _) = build(&stream);
    assert_eq!(
        tree(&index, &stream),
        ["a c644 n1 3103e8", "b b644 n1 103", "c c644 n1 107"]
    );
}

#[test]
fn what_star_saves_of_its_disk_means_nothing() {
    let stream = new()
        .pax(
            b'x',
            &[
                ("SCHILY.dev", b"2049"),
                ("SCHILY.ino", b"12345"),
                ("SCHILY.nlink", b"3"),
                ("SCHILY.filetype", b"regular"),
                ("SCHILY.fflags", b"nodump"),
                ("RHT.security.selinux", b"u:object_r:etc_t:s0"),
            ],
        )
        .file("f", "1")
        .end();
    let (index, built) = build(&stream);
    assert_eq!(tree(&index, &stream), ["f f644 n1 1"]);
    let label = pair("security.selinux", b"u:object_r:etc_t:s0\0");
    assert_eq!(xattrs(&index, "f"), [label]);
    assert!(built.report.is_empty());
}

#[test]
fn access_control_lists_become_attributes() {
    let list = "user::rw-,user:lisa:r--:7,group::r--,mask::r--,other::---";
    let by_name = b"user::rw-,user:lisa:r--,group::r--,mask::r--,other::---";
    let stream = new()
        .pax(
            b'x',
            &[
                ("SCHILY.acl.access", list.as_bytes()),
                ("SCHILY.acl.default", b"user::rwx,group::---,other::---"),
            ],
        )
        .dir("d")
        .pax(b'x', &[("SCHILY.acl.access", by_name)])
        .file("by-name", "")
        .file("none", "")
        .end();
    let (index, built) = build(&stream);
    let all = xattrs(&index, "d");
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].0, b"system.posix_acl_access");
    assert_eq!(
        (all[0].1.len(), &all[0].1[14..20]),
        (4 + 5 * 8, &[4, 0, 7, 0, 0, 0][..])
    );
    assert_eq!(all[1].0, b"system.posix_acl_default");
    assert_eq!(xattrs(&index, "by-name"), []);
    assert_eq!(built.report.count(WarningKind::BadAcl), 1);
}

/// star's own format has a shorter prefix, and times where ustar's goes on.
#[test]
fn star_prefixes() {
    let mut stream = new().file("f", "1").end();
    stream[345..349].copy_from_slice(b"some");
    stream[476..500].copy_from_slice(b"00000001750 00000001750 ");
    stream[508..512].copy_from_slice(b"tar\0");
    sign(&mut stream[..512]);
    let (index, _) = build(&stream);
    assert_eq!(tree(&index, &stream), ["some d755 n2", "some/f f644 n1 1"]);
}

#[test]
fn owners_that_linux_cannot_have_become_nobody() {
    let stream = new()
        .pax(b'x', &[("uid", b"4294967295"), ("gid", b"-1")])
        .file("f", "")
        .end();
    let (index, built) = build(&stream);
    let f = inode(&index, "f");
    assert_eq!((f.uid, f.gid), (65_534, 65_534));
    assert_eq!(built.report.count(WarningKind::BadOwner), 2);
}

#[test]
fn archives_of_the_tar_crate() {
    let mut writer = tar::Builder::new(Vec::new());
    let name = "deep/".repeat(40) + "file";
    for (path, body) in [("short", "1"), (&name, "22")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len().try_into().unwrap());
        header.set_mode(0o640);
        header.set_uid(1000);
        writer
            .append_data(&mut header, path, body.as_bytes())
            .unwrap();
    }
    let stream = writer.into_inner().unwrap();
    let (index, built) = build(&stream);
    assert!(built.report.is_empty());
    assert_eq!(content(&index, find(&index, &name), &stream), "22");
    assert_eq!(
        (inode(&index, "short").perm, inode(&index, "short").uid),
        (0o640, 1000)
    );
    assert_eq!((built.summary.directories, built.summary.entries), (41, 42));
}
