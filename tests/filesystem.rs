//! The filesystem without a kernel in front of it.

#![allow(clippy::unwrap_used)]

mod in_memory;

use std::ops::ControlFlow;

use distrofs::fs::{FsError, ImageFs, Owner, Patience, Whence, XattrAnswer};
use distrofs::index::{FileKind, IndexError};
use distrofs::types::Ino;
use in_memory::{Archive, Image};
use tar::EntryType;

fn image() -> Image {
    Archive::new()
        .dir("etc")
        .pax(&[
            ("mtime", "1234567890.123456789"),
            ("SCHILY.xattr.user.note", "hello"),
            ("SCHILY.xattr.security.capability", "power"),
        ])
        .file("etc/hosts", b"127.0.0.1 localhost\n")
        .link(EntryType::Symlink, "etc/link", "../usr/bin")
        .dir("usr")
        .dir("usr/bin")
        .entry(EntryType::Regular, "usr/bin/tool", 0o4755, &[7; 5000])
        .link(EntryType::Link, "usr/bin/alias", "usr/bin/tool")
        .entry(EntryType::Fifo, "etc/pipe", 0o600, b"")
        .device("etc/null", 1, 3)
        .file("empty", b"")
        .image()
}

fn ino(fs: &ImageFs, path: &str) -> u64 {
    path.split('/').fold(1, |dir, name| {
        fs.lookup(dir, name.as_bytes()).unwrap().unwrap().ino
    })
}

/// Names with their offsets, taken `page` at a time.
fn list(fs: &ImageFs, dir: u64, page: usize) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = Vec::new();
    loop {
        let from = all.last().map_or(0, |(_, next)| *next);
        let before = all.len();
        fs.readdir(dir, from, &mut |entry| {
            if all.len() == before + page {
                return ControlFlow::Break(());
            }
            all.push((
                String::from_utf8_lossy(entry.name).into_owned(),
                entry.next_offset,
            ));
            ControlFlow::Continue(())
        })
        .unwrap();
        if all.len() == before {
            return all;
        }
    }
}

#[test]
fn attributes_are_those_of_the_archive() {
    let fs = image().fs();
    let hosts = fs.getattr(ino(&fs, "etc/hosts")).unwrap();
    assert_eq!(
        (hosts.kind, hosts.perm, hosts.size),
        (FileKind::Regular, 0o644, 20)
    );
    assert_eq!((hosts.uid, hosts.gid, hosts.nlink), (10, 20, 1));
    assert_eq!(
        (hosts.mtime.secs, hosts.mtime.nanos),
        (1_234_567_890, 123_456_789)
    );
    let tool = fs.getattr(ino(&fs, "usr/bin/tool")).unwrap();
    assert_eq!((tool.perm, tool.nlink, tool.blocks), (0o4755, 2, 10));
    assert_eq!(tool.ino, ino(&fs, "usr/bin/alias"));
    let link = ino(&fs, "etc/link");
    assert_eq!(fs.readlink(link).unwrap(), b"../usr/bin");
    assert_eq!(fs.getattr(link).unwrap().size, 10);
    assert_eq!(
        fs.getattr(ino(&fs, "etc/pipe")).unwrap().kind,
        FileKind::Fifo
    );
    assert_eq!(fs.getattr(1).unwrap().size, 4096);
}

#[test]
fn names_that_are_not_there_and_names_that_cannot_be() {
    let fs = image().fs();
    assert_eq!(fs.lookup(1, b"nope").unwrap(), None);
    assert_eq!(fs.lookup(1, b"").unwrap(), None);
    assert_eq!(fs.lookup(1, &[b'x'; 255]).unwrap(), None);
    assert!(matches!(
        fs.lookup(1, &[b'x'; 256]),
        Err(FsError::NameTooLong)
    ));
}

#[test]
fn handles_become_inodes_again() {
    let fs = image().fs();
    for path in ["etc", "etc/hosts", "usr/bin"] {
        let number = ino(&fs, path);
        assert_eq!(fs.lookup(number, b".").unwrap().unwrap().ino, number);
    }
    assert_eq!(
        fs.lookup(ino(&fs, "usr/bin"), b"..").unwrap().unwrap().ino,
        ino(&fs, "usr")
    );
    assert_eq!(fs.lookup(1, b"..").unwrap().unwrap().ino, 1);
    for number in [0, 4000, u64::from(u32::MAX), u64::MAX] {
        let stale = fs.lookup(number, b".").unwrap_err();
        assert!(
            matches!(stale, FsError::Index(IndexError::NoInode(_))),
            "{number}: {stale}"
        );
    }
}

#[test]
fn a_directory_reads_the_same_in_pieces_of_any_size() {
    let fs = image().fs();
    let etc = ino(&fs, "etc");
    let whole = list(&fs, etc, usize::MAX);
    let names: Vec<&str> = whole.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [".", "..", "hosts", "link", "pipe"]);
    for page in 1..6 {
        assert_eq!(list(&fs, etc, page), whole, "{page} at a time");
    }
    fs.readdir(etc, u64::MAX, &mut |_| panic!("nothing is there"))
        .unwrap();
}

#[test]
fn device_nodes_show_only_when_asked_for() {
    let image = image();
    let shown = image.fs_with(|options| options.devices = true);
    let null = ino(&shown, "etc/null");
    assert_eq!(shown.getattr(null).unwrap().rdev, 0x103);
    assert!(
        list(&shown, ino(&shown, "etc"), 9)
            .iter()
            .any(|(name, _)| name == "null")
    );
    let hidden = image.fs();
    assert_eq!(hidden.lookup(ino(&hidden, "etc"), b"null").unwrap(), None);
    assert!(matches!(
        hidden.getattr(null),
        Err(FsError::Index(IndexError::NoInode(_)))
    ));
}

#[test]
fn content_is_clamped_at_the_end_of_the_file() {
    let image = image();
    let fs = image.fs();
    let hosts = ino(&fs, "etc/hosts");
    let mut buf = [0; 64];
    let mut read = |offset, len: usize| {
        let n = fs
            .read(hosts, offset, &mut buf[..len], Patience::NoWait)
            .unwrap()
            .unwrap();
        String::from_utf8_lossy(&buf[..n]).into_owned()
    };
    assert_eq!(read(0, 64), "127.0.0.1 localhost\n");
    assert_eq!(read(10, 5), "local");
    assert_eq!(
        (read(20, 9), read(u64::MAX, 9)),
        (String::new(), String::new())
    );
    assert_eq!(fs.metrics().counters.served_bytes.get(), 25);
    let error = fs
        .read(ino(&fs, "etc"), 0, &mut buf, Patience::Wait)
        .unwrap_err();
    assert!(matches!(
        error,
        FsError::Index(IndexError::WrongKind { .. })
    ));

    image
        .content
        .cached
        .store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(fs.read(hosts, 0, &mut buf, Patience::NoWait).unwrap(), None);
    assert_eq!(
        fs.read(hosts, 0, &mut buf, Patience::Wait).unwrap(),
        Some(20)
    );
    assert_eq!(
        fs.read(ino(&fs, "empty"), 0, &mut buf, Patience::NoWait)
            .unwrap(),
        Some(0)
    );
}

#[test]
fn one_owner_for_all_takes_privileges_away() {
    let image = image();
    let fs = image.fs_with(|options| {
        options.owner = Owner::Squash {
            uid: 30_001,
            gid: 30_002,
        }
    });
    let hosts = ino(&fs, "etc/hosts");
    let attr = fs.getattr(hosts).unwrap();
    assert_eq!((attr.uid, attr.gid), (30_001, 30_002));
    assert_eq!(
        fs.listxattr(hosts, 99).unwrap(),
        XattrAnswer::Data(b"user.note\0".to_vec())
    );
    let capability = fs.getxattr(hosts, b"security.capability", 99);
    assert!(matches!(capability, Err(FsError::NoAttribute)));
    assert!(fs.has_xattrs());
    let kept = image.fs();
    let capability = kept.getxattr(hosts, b"security.capability", 99).unwrap();
    assert_eq!(capability, XattrAnswer::Data(b"power".to_vec()));
}

#[test]
fn an_image_with_hidden_attributes_only_has_none_for_one_owner() {
    let image = Archive::new()
        .pax(&[("SCHILY.xattr.security.capability", "power")])
        .file("bin/ping", b"x")
        .image();
    assert!(image.fs().has_xattrs());
    let squashed = image.fs_with(|options| options.owner = Owner::Squash { uid: 1, gid: 1 });
    assert!(!squashed.has_xattrs());
    assert!(!Archive::new().file("a", b"").image().fs().has_xattrs());
}

#[test]
fn a_directory_can_become_the_root() {
    let image = image();
    let usr = Ino::new(ino(&image.fs(), "usr")).unwrap();
    let fs = image.fs_with(|options| options.root = usr);
    assert_eq!(fs.getattr(1).unwrap().ino, 1);
    assert_eq!(fs.lookup(1, b"..").unwrap().unwrap().ino, 1);
    let bin = ino(&fs, "bin");
    assert_eq!(fs.lookup(bin, b"..").unwrap().unwrap().ino, 1);
    let names: Vec<_> = list(&fs, 1, 99).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [".", "..", "bin"]);
    assert_eq!(fs.lookup(1, b"etc").unwrap(), None);
}

#[test]
fn statfs_says_how_large_the_image_is() {
    let statfs = image().fs().statfs().unwrap();
    assert_eq!(
        (statfs.blocks, statfs.block_size, statfs.name_bytes_max),
        (2, 4096, 255)
    );
    assert!(statfs.files >= 9);
}

#[test]
fn seeking_in_a_file_without_holes() {
    let fs = image().fs();
    let tool = ino(&fs, "usr/bin/tool");
    assert_eq!(fs.lseek(tool, 10, Whence::Data).unwrap(), 10);
    assert_eq!(fs.lseek(tool, 10, Whence::Hole).unwrap(), 5000);
    for offset in [-1, 5000, i64::MAX] {
        assert!(matches!(
            fs.lseek(tool, offset, Whence::Data),
            Err(FsError::NoSuchOffset)
        ));
    }
}
