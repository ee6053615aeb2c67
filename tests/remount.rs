//! What a mount survives when its `ro` flag is taken away, as launchers of
//! containers do (`mount(none, /, MS_REMOUNT|MS_NOSUID)`): the daemon itself
//! refuses every change, and a store through a shared mapping, which the
//! kernel keeps to itself at first, does not stay.

mod common;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::archive::tar;
use common::mapping::{Mapping, drop_caches};
use common::mount::Mount;
use common::program::eventually;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    XattrFlags,
};
use rustix::io::Errno;
use rustix::mm::ProtFlags;
use rustix::mount::{MountFlags, mount_remount};

const CONTENT: &[u8] = b"what the archive says\n";

/// A mounted archive whose mount is read-write as far as the kernel knows.
fn mounted_rw() -> (Mount, tempfile::TempDir) {
    common::need_real_mounts();
    let dir = common::temp_dir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("image.tar"));
    fs::create_dir_all(tree.join("dir/full")).expect("make a directory");
    fs::create_dir(tree.join("empty")).expect("make a directory");
    fs::set_permissions(tree.join("dir"), PermissionsExt::from_mode(0o777))
        .expect("change the mode");
    for name in ["file", "other", "dir/full/file"] {
        fs::write(tree.join(name), CONTENT).expect("write a file");
        fs::set_permissions(tree.join(name), PermissionsExt::from_mode(0o666))
            .expect("change the mode");
    }
    symlink("file", tree.join("link")).expect("link");
    rustix::fs::lsetxattr(tree.join("file"), "user.set", b"1", XattrFlags::empty())
        .expect("set an attribute");
    tar(
        &tree,
        &archive,
        &["--format=pax", "--xattrs", "--xattrs-include=*"],
    );
    let mount = Mount::new(&archive, ["--owner", "keep"]);
    mount_remount(mount.path(), MountFlags::NOSUID, c"").expect("remount read-write");
    let flags = rustix::fs::statvfs(mount.path()).expect("statvfs").f_flag;
    assert!(
        !flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        "still read-only: {flags:?}"
    );
    (mount, dir)
}

/// One way to change something.
type Change = (&'static str, fn(&Path) -> Result<(), Errno>);

fn open(path: PathBuf, flags: OFlags) -> Result<rustix::fd::OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
}

/// Opens for writing, which may be refused already, and then changes something.
fn through_fd(
    path: PathBuf,
    change: impl FnOnce(rustix::fd::BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    change(open(path, OFlags::RDWR)?.as_fd())
}

const NOW: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    },
    last_modification: Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    },
};

/// All of them, on a tree as [`mounted_rw`] makes it.
const CHANGES: &[Change] = &[
    ("mkdir", |d| rustix::fs::mkdir(d.join("new"), Mode::RWXU)),
    ("mknod of a file", |d| {
        rustix::fs::mknodat(CWD, d.join("new"), FileType::RegularFile, Mode::RWXU, 0)
    }),
    ("mknod of a fifo", |d| {
        rustix::fs::mknodat(CWD, d.join("new"), FileType::Fifo, Mode::RWXU, 0)
    }),
    ("mknod of a device", |d| {
        rustix::fs::mknodat(
            CWD,
            d.join("new"),
            FileType::CharacterDevice,
            Mode::RWXU,
            rustix::fs::makedev(1, 3),
        )
    }),
    (
        "bind of a socket",
        |d| match std::os::unix::net::UnixListener::bind(d.join("dir/s")) {
            Ok(_) => Ok(()),
            Err(e) => Err(Errno::from_io_error(&e).expect("an errno")),
        },
    ),
    ("symlink", |d| rustix::fs::symlink("file", d.join("new"))),
    ("link", |d| rustix::fs::link(d.join("file"), d.join("new"))),
    ("unlink", |d| rustix::fs::unlink(d.join("file"))),
    ("unlink of a symbolic link", |d| {
        rustix::fs::unlink(d.join("link"))
    }),
    ("rmdir", |d| rustix::fs::rmdir(d.join("empty"))),
    ("rmdir of a full directory", |d| {
        rustix::fs::rmdir(d.join("dir"))
    }),
    ("rename", |d| {
        rustix::fs::rename(d.join("file"), d.join("new"))
    }),
    ("rename over another", |d| {
        rustix::fs::rename(d.join("file"), d.join("other"))
    }),
    ("rename of a directory", |d| {
        rustix::fs::rename(d.join("dir"), d.join("empty"))
    }),
    ("rename, exchanging", |d| {
        rustix::fs::renameat_with(
            CWD,
            d.join("file"),
            CWD,
            d.join("dir"),
            RenameFlags::EXCHANGE,
        )
    }),
    ("rename, not replacing", |d| {
        rustix::fs::renameat_with(
            CWD,
            d.join("file"),
            CWD,
            d.join("new"),
            RenameFlags::NOREPLACE,
        )
    }),
    ("rename, with a whiteout", |d| {
        rustix::fs::renameat_with(
            CWD,
            d.join("file"),
            CWD,
            d.join("new"),
            RenameFlags::WHITEOUT,
        )
    }),
    ("chmod", |d| rustix::fs::chmod(d.join("file"), Mode::RWXU)),
    ("chmod of a directory", |d| {
        rustix::fs::chmod(d.join("dir"), Mode::RWXU)
    }),
    ("chown", |d| {
        rustix::fs::chown(d.join("file"), Some(rustix::fs::Uid::from_raw(5)), None)
    }),
    ("chown of a symbolic link", |d| {
        rustix::fs::chownat(
            CWD,
            d.join("link"),
            None,
            Some(rustix::fs::Gid::from_raw(5)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
    }),
    ("utimensat", |d| {
        rustix::fs::utimensat(CWD, d.join("file"), &NOW, AtFlags::empty())
    }),
    ("setxattr", |d| {
        rustix::fs::setxattr(d.join("file"), "user.new", b"1", XattrFlags::empty())
    }),
    ("setxattr, trusted", |d| {
        rustix::fs::setxattr(d.join("dir"), "trusted.new", b"1", XattrFlags::empty())
    }),
    ("setxattr, replacing", |d| {
        rustix::fs::setxattr(d.join("file"), "user.set", b"2", XattrFlags::REPLACE)
    }),
    ("removexattr", |d| {
        rustix::fs::removexattr(d.join("file"), "user.set")
    }),
    ("open, creating", |d| {
        open(d.join("new"), OFlags::CREATE | OFlags::WRONLY).map(drop)
    }),
    ("open, creating exclusively", |d| {
        open(
            d.join("dir/new"),
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR,
        )
        .map(drop)
    }),
    ("open, truncating", |d| {
        open(d.join("file"), OFlags::TRUNC | OFlags::WRONLY).map(drop)
    }),
    ("truncate", |d| {
        through_fd(d.join("file"), |fd| rustix::fs::ftruncate(fd, 3))
    }),
    ("truncate to be longer", |d| {
        through_fd(d.join("file"), |fd| rustix::fs::ftruncate(fd, 1 << 20))
    }),
    ("write", |d| {
        through_fd(d.join("file"), |fd| {
            rustix::io::pwrite(fd, b"changed", 0).map(drop)
        })
    }),
    ("write beyond the end", |d| {
        through_fd(d.join("file"), |fd| {
            rustix::io::pwrite(fd, b"x", 1 << 20).map(drop)
        })
    }),
    ("append", |d| {
        let fd = open(d.join("file"), OFlags::WRONLY | OFlags::APPEND)?;
        rustix::io::write(fd, b"changed").map(drop)
    }),
    ("direct write", |d| {
        let fd = open(d.join("file"), OFlags::WRONLY | OFlags::DIRECT)?;
        rustix::io::pwrite(fd, b"changed", 0).map(drop)
    }),
    ("synchronous write", |d| {
        let fd = open(d.join("file"), OFlags::WRONLY | OFlags::SYNC)?;
        rustix::io::pwrite(fd, b"changed", 0).map(drop)
    }),
    ("fallocate", |d| {
        through_fd(d.join("file"), |fd| {
            rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, 1 << 20)
        })
    }),
    ("fallocate, punching", |d| {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        through_fd(d.join("file"), |fd| rustix::fs::fallocate(fd, punch, 0, 5))
    }),
    ("copy_file_range", |d| {
        let from = open(d.join("other"), OFlags::RDONLY)?;
        through_fd(d.join("file"), |fd| {
            rustix::fs::copy_file_range(from, None, fd, None, 5).map(drop)
        })
    }),
];

#[test]
fn every_change_is_refused_as_read_only() {
    let (mount, _dir) = mounted_rw();
    let before = common::tree::tree(mount.path());
    let wrong: Vec<String> = CHANGES
        .iter()
        .map(|(name, change)| (name, change(mount.path())))
        .filter(|(_, result)| *result != Err(Errno::ROFS))
        .map(|(name, result)| format!("{name}: {result:?}"))
        .collect();
    assert!(wrong.is_empty(), "expected EROFS:\n{}", wrong.join("\n"));
    assert_eq!(
        common::tree::tree(mount.path()),
        before,
        "something did change"
    );
    assert_eq!(fs::read(mount.path().join("file")).expect("read"), CONTENT);
    let refused = mount.stats().counters["refused_writes"];
    assert!(refused >= 30, "only {refused} refusals counted");
    mount.end();
}

/// The kernel knows a filesystem without O_TMPFILE only as EOPNOTSUPP; it does
/// not hand on another answer.
#[test]
fn no_unnamed_file_can_be_made() {
    let (mount, _dir) = mounted_rw();
    let made = open(mount.path().join("dir"), OFlags::TMPFILE | OFlags::RDWR).map(drop);
    assert!(
        matches!(made, Err(Errno::ROFS | Errno::OPNOTSUPP)),
        "{made:?}"
    );
    mount.end();
}

/// Bytes stored through a mapping are seen by every other reader of the mount,
/// in other containers too, until the daemon has refused to take them.
#[test]
fn a_store_through_a_shared_mapping_does_not_stay() {
    let (mount, _dir) = mounted_rw();
    let path = mount.path().join("file");
    match store_mapped(&path) {
        Err(e) => println!("refused: {e}"),
        Ok(()) => println!("stored and synced without an error"),
    }
    let mut seen = Vec::new();
    let restored = eventually(Duration::from_secs(10), || {
        seen = fs::read(&path).expect("read the file again");
        seen == CONTENT
    });
    assert!(restored, "reads as {:?}", String::from_utf8_lossy(&seen));
    // And not because the one page is gone from the cache for another reason.
    drop_caches();
    assert_eq!(fs::read(&path).expect("read"), CONTENT);
    mount.end();
}

/// The same for a reader that holds a mapping of its own all the time.
#[test]
fn another_mapping_sees_the_archive_again() {
    let (mount, _dir) = mounted_rw();
    let path = mount.path().join("file");
    let reader = File::open(&path).expect("open");
    let held = Mapping::new(&reader, ProtFlags::READ).expect("map for reading");
    assert_eq!(held.first(), CONTENT[0]);
    common::attempt(store_mapped(&path));
    assert!(
        eventually(Duration::from_secs(10), || held.first() == CONTENT[0]),
        "sees {:?}",
        held.first()
    );
    drop((held, reader));
    mount.end();
}

/// Opens for writing, stores one byte through a shared mapping and syncs.
fn store_mapped(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mapping = Mapping::new(&file, ProtFlags::READ | ProtFlags::WRITE)?;
    mapping.store_first(b'X');
    let synced = mapping.sync();
    drop(mapping);
    synced.and(file.sync_all())
}

/// The file system does not lose its own content to a file that was changed:
/// reading at an offset still works after a refused write through the same
/// descriptor.
#[test]
fn a_descriptor_reads_on_after_a_refused_write() {
    let (mount, _dir) = mounted_rw();
    let file = File::options()
        .read(true)
        .write(true)
        .open(mount.path().join("file"));
    if let Ok(file) = file {
        let refused = file
            .write_all_at(b"changed", 0)
            .expect_err("a write must fail");
        assert_eq!(Errno::from_io_error(&refused), Some(Errno::ROFS));
        let mut buffer = [0; CONTENT.len()];
        file.read_exact_at(&mut buffer, 0).expect("read");
        assert_eq!(buffer, CONTENT);
    }
    mount.end();
}
