//! The filesystem behind a real kernel. Wants root and `/dev/fuse`.

#![allow(clippy::unwrap_used)]
#![allow(
    unsafe_code,
    reason = "a store through a shared mapping is what one test is about"
)]

mod in_memory;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use distrofs::fs::{FsOptions, ImageFs, Owner};
use distrofs::fuse::Connection;
use distrofs::metrics::{Metrics, Op, Snapshot};
use distrofs::sys::ioctl::mount_report;
use distrofs::sys::map::Map;
use distrofs::sys::mount::{self, MountError};
use distrofs::types::{Ino, Region};
use in_memory::mounted::{Mounted, mounted, request};
use in_memory::{Archive, Image};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use tar::EntryType;

/// 40 directories of 5 files, and one of 700.
fn large() -> Image {
    let mut archive = Archive::new();
    for dir in 0..40 {
        archive = archive.dir(&format!("d{dir}"));
        for file in 0..5 {
            archive = archive.file(&format!("d{dir}/file-{file}"), format!("{dir}/{file}"));
        }
    }
    archive = archive.dir("large");
    for file in 0..700 {
        archive = archive.file(&format!("large/a-rather-long-name-{file}"), [1; 3000]);
    }
    archive.image()
}

fn small() -> Image {
    Archive::new()
        .dir("dir")
        .file("dir/file", [b'f'; 10_000])
        .entry(EntryType::Regular, "shared", 0o666, &[b's'; 10_000])
        .file("other", [b'o'; 10_000])
        .image()
}

/// Lists each directory, then asks for every name's attributes, as `find` does.
/// Returns the regular files and how many names and directories there are.
fn walk(top: &Path) -> (Vec<PathBuf>, u64, u64) {
    let (mut files, mut names, mut dirs) = (Vec::new(), 0, 0);
    let mut pending = vec![top.to_owned()];
    while let Some(dir) = pending.pop() {
        dirs += 1;
        let entries: Vec<PathBuf> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        for path in entries {
            names += 1;
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    (files, names, dirs)
}

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

#[test]
fn a_tree_looks_as_its_archive_says() {
    let image = Archive::new()
        .dir("a")
        .pax(&[
            ("mtime", "1234567890.123456789"),
            ("SCHILY.xattr.user.note", "hello"),
        ])
        .entry(EntryType::Regular, "a/file", 0o4751, b"content")
        .link(EntryType::Link, "a/alias", "a/file")
        .link(EntryType::Symlink, "a/link", "file")
        .entry(EntryType::Fifo, "a/pipe", 0o600, b"")
        .device("a/null", 1, 3)
        .image();
    let m = mounted(image.fs(), &[]);
    let file = m.path.join("a/file");
    let meta = fs::symlink_metadata(&file).unwrap();
    assert_eq!((meta.mode(), meta.size(), meta.nlink()), (0o104_751, 7, 2));
    assert_eq!((meta.uid(), meta.gid()), (10, 20));
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
    assert_eq!(
        meta.ino(),
        fs::metadata(m.path.join("a/link")).unwrap().ino()
    );
    assert_eq!(
        meta.ino(),
        fs::metadata(m.path.join("a/alias")).unwrap().ino()
    );
    assert_eq!(fs::read(&file).unwrap(), b"content");
    assert_eq!(
        fs::read_link(m.path.join("a/link")).unwrap(),
        Path::new("file")
    );
    assert!(
        fs::symlink_metadata(m.path.join("a/pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let mut value = [0; 16];
    assert_eq!(rustix::fs::getxattr(&file, "user.note", &mut value), Ok(5));
    assert_eq!(&value[..5], b"hello");
    assert_eq!(
        rustix::fs::getxattr(&file, "user.note", &mut value[..4]),
        Err(Errno::RANGE)
    );
    assert_eq!(
        rustix::fs::getxattr(&file, "user.none", &mut value),
        Err(Errno::NODATA)
    );
    assert!(!m.path.join("a/null").exists());
    assert_eq!(walk(&m.path).1, 5);
    let statfs = rustix::fs::statvfs(&m.path).unwrap();
    assert_eq!(
        (statfs.f_namemax, statfs.f_bfree, statfs.f_blocks),
        (255, 0, 1)
    );
}

#[test]
fn the_kernel_asks_no_more_than_it_has_to() {
    let m = mounted(large().fs(), &[]);
    let (files, names, dirs) = walk(&m.path);
    assert_eq!((names, dirs), (41 + 200 + 700, 42));
    let plus = m.count(Op::Readdirplus);
    assert!(
        plus * 10 <= dirs * 12 + names / 10,
        "{plus} READDIRPLUS for {dirs} directories"
    );
    assert!(
        m.count(Op::Lookup) * 100 <= names,
        "{} LOOKUP",
        m.count(Op::Lookup)
    );
    assert!(
        m.count(Op::Getattr) <= 10,
        "{} GETATTR",
        m.count(Op::Getattr)
    );

    files.iter().for_each(|file| drop(fs::read(file).unwrap()));
    let (reads, files_len) = (m.count(Op::Read), files.len() as u64);
    assert!(
        reads * 10 <= files_len * 12,
        "{reads} READ for {files_len} files"
    );
    assert!(m.count(Op::Open) <= 1 && m.count(Op::Opendir) <= 1);

    let before = m.requests();
    assert_eq!(walk(&m.path).1, names);
    files.iter().for_each(|file| drop(fs::read(file).unwrap()));
    assert_eq!(
        m.requests() - before,
        0,
        "requests of a second walk and read"
    );
}

#[test]
fn a_name_that_is_not_there_is_asked_for_once() {
    let m = mounted(small().fs(), &[]);
    for _ in 0..10 {
        assert_eq!(errno(fs::metadata(m.path.join("nope"))), Some(Errno::NOENT));
    }
    assert_eq!(m.count(Op::Lookup), 1);
    assert_eq!(
        errno(fs::metadata(m.path.join("x".repeat(256)))),
        Some(Errno::NAMETOOLONG)
    );
}

#[test]
fn without_attributes_the_kernel_asks_for_them_once() {
    let m = mounted(large().fs(), &[]);
    for (file, ..) in [walk(&m.path)] {
        for path in file {
            let read = rustix::fs::getxattr(&path, "security.capability", &mut [0_u8; 8]);
            assert_eq!(read, Err(Errno::NOTSUP));
        }
    }
    assert_eq!(m.count(Op::Getxattr), 1);
}

#[test]
fn everything_works_with_every_setting_off() {
    let m = mounted(
        large().fs(),
        &[
            "no_open=off",
            "no_opendir=off",
            "ttl_s=0",
            "negative_entries=off",
            "readdirplus=never",
            "cache_symlinks=off",
            "parallel_dirops=off",
            "max_request=4K",
            "xattr_enosys=off",
            "spin_us=0",
            "export=off",
            "threads=3",
            "workers=1",
        ],
    );
    let (files, names, _) = walk(&m.path);
    assert_eq!(names, 941);
    for file in files {
        let content = fs::read(&file).unwrap();
        assert!(
            content == [1; 3000] || content.contains(&b'/'),
            "{}",
            file.display()
        );
    }
    assert_eq!(m.count(Op::Readdirplus), 0);
    let write = OpenOptions::new()
        .write(true)
        .open(m.path.join("d1/file-1"));
    assert_eq!(errno(write), Some(Errno::ROFS));
}

/// Makes the superblock writable, as some launchers do.
fn remount_writable(m: &Mounted) {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(&m.path, flags, "").unwrap();
    let line = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = line
        .lines()
        .find(|line| line.contains(m.path.to_str().unwrap()))
        .unwrap();
    assert!(line.contains(" rw,"), "{line}");
}

#[test]
fn a_mount_made_writable_refuses_every_change() {
    let m = mounted(small().fs(), &[]);
    remount_writable(&m);
    let at = |name: &str| m.path.join(name);
    let file = OpenOptions::new().write(true).open(at("shared")).unwrap();
    let refused = Some(Errno::ROFS);
    assert_eq!(errno(file.write_at(b"changed", 0)), refused);
    assert_eq!(errno(file.set_len(3)), refused);
    assert_eq!(
        errno(file.set_modified(std::time::SystemTime::now())),
        refused
    );
    assert_eq!(
        errno(file.set_permissions(fs::Permissions::from_mode(0o600))),
        refused
    );
    assert_eq!(
        errno(std::os::unix::fs::chown(at("shared"), Some(1), None)),
        refused
    );
    assert_eq!(errno(File::create(at("new"))), refused);
    assert_eq!(errno(fs::create_dir(at("new"))), refused);
    assert_eq!(
        errno(std::os::unix::fs::symlink("target", at("new"))),
        refused
    );
    assert_eq!(errno(fs::hard_link(at("shared"), at("new"))), refused);
    assert_eq!(errno(fs::rename(at("shared"), at("new"))), refused);
    assert_eq!(errno(fs::remove_file(at("shared"))), refused);
    assert_eq!(errno(fs::remove_dir_all(at("dir"))), refused);
    let set = rustix::fs::setxattr(
        at("shared"),
        "user.x",
        b"1",
        rustix::fs::XattrFlags::empty(),
    );
    assert_eq!(set, Err(Errno::ROFS));
    assert_eq!(
        rustix::fs::removexattr(at("shared"), "user.x"),
        Err(Errno::ROFS)
    );
    let fallocate = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 20_000);
    assert_eq!(fallocate, Err(Errno::ROFS));
    assert!(m.metrics.counters.refused_writes.get() >= 12);
    assert_eq!(fs::read(at("shared")).unwrap(), [b's'; 10_000]);
    file.sync_all().unwrap();
}

/// With `no_open` the daemon is not asked when a file is opened for writing, so
/// a store into a mapped page happens in the kernel's cache, where every other
/// reader would see it.
#[test]
fn a_store_into_a_shared_mapping_is_refused_and_undone() {
    let m = mounted(small().fs(), &[]);
    remount_writable(&m);
    let path = m.path.join("shared");
    assert_eq!(fs::read(&path).unwrap(), [b's'; 10_000]);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    // SAFETY: nobody else maps the file; it cannot be truncated.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    map[5000] = b'X';
    assert_eq!(errno(map.flush()), Some(Errno::ROFS));
    drop((map, file));
    // The notification is sent after the refusal, by another thread.
    while fs::read(&path).unwrap() != [b's'; 10_000] {
        std::thread::yield_now();
    }
}

#[test]
fn a_stuck_read_times_out_and_holds_up_nobody() {
    let image = small();
    image.content.cached.store(false, Ordering::SeqCst);
    image
        .content
        .stuck_at
        .store(image.stream_offset("dir/file"), Ordering::SeqCst);
    let m = mounted(image.fs(), &["read_deadline_s=1", "workers=2"]);
    let path = m.path.join("dir/file");
    let stuck = std::thread::spawn(move || fs::read(path));
    while m.count(Op::Read) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(fs::read(m.path.join("other")).unwrap(), [b'o'; 10_000]);
    assert_eq!(fs::metadata(m.path.join("shared")).unwrap().len(), 10_000);
    // It is seen while it hangs.
    while m.oldest().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(errno(stuck.join().unwrap()), Some(Errno::IO));
    // The kernel retries the one page that is wanted after a failed read-ahead.
    assert!(m.metrics.counters.deadline_errors.get() >= 1);
    image.content.release();
    image.content.stuck_at.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(fs::read(m.path.join("dir/file")).unwrap(), [b'f'; 10_000]);
    // A moment after the last answer.
    while m.oldest().is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn a_read_that_panics_is_an_error_of_that_read() {
    let image = small();
    let m = mounted(image.fs(), &[]);
    for cached in [true, false] {
        image.content.cached.store(cached, Ordering::SeqCst);
        image
            .content
            .panics_at
            .store(image.stream_offset("other"), Ordering::SeqCst);
        assert_eq!(
            errno(fs::read(m.path.join("other"))),
            Some(Errno::IO),
            "cached: {cached}"
        );
        assert_eq!(fs::metadata(m.path.join("dir")).unwrap().mode(), 0o40_755);
    }
    image.content.panics_at.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(fs::read(m.path.join("other")).unwrap(), [b'o'; 10_000]);
}

#[test]
fn an_index_that_is_cut_off_under_a_mount_is_an_error_and_no_crash() {
    let image = small();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut file, &image.sections.bytes).unwrap();
    let map: Arc<dyn Region> = Arc::new(Map::open(file.reopen().unwrap()).unwrap());
    let options = FsOptions {
        root: Ino::ROOT,
        owner: Owner::Keep,
        devices: false,
    };
    let index = image.sections.open(map);
    let content = Arc::clone(&image.content) as _;
    let fs = ImageFs::new(index, content, options, Arc::new(Metrics::default())).unwrap();
    let m = mounted(fs, &[]);
    assert_eq!(fs::read(m.path.join("other")).unwrap().len(), 10_000);
    file.as_file().set_len(100).unwrap();
    assert_eq!(errno(fs::metadata(m.path.join("dir"))), Some(Errno::IO));
    assert_eq!(
        errno(fs::read_dir(&m.path).and_then(|mut d| d.next().unwrap())),
        Some(Errno::IO)
    );
    assert!(m.metrics.counters.io_errors.get() >= 2);
}

#[test]
fn a_mount_reports_to_root_only() {
    let m = mounted(small().fs(), &[]);
    fs::read(m.path.join("other")).unwrap();
    let report: Snapshot = serde_json::from_slice(&mount_report(&m.path).unwrap()).unwrap();
    assert_eq!(report.counters["served_bytes"], 10_000);
    assert!(report.requests["read"].count >= 1);
    let path = m.path.clone();
    let somebody = std::thread::spawn(move || {
        fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        // Of this thread only.
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
        mount_report(&path)
    });
    assert_eq!(errno(somebody.join().unwrap()), Some(Errno::PERM));
    // Not ours: as if there were no ioctl at all.
    let flags = rustix::fs::ioctl_getflags(File::open(m.path.join("other")).unwrap());
    assert_eq!(flags, Err(Errno::NOTTY));
}

#[test]
fn unmounting_ends_the_session_and_leaves_later_mounts_alone() {
    let dir = tempfile::tempdir().unwrap();
    let make = || {
        let (mount, fd) = mount::mount(&request(dir.path())).unwrap();
        let fs = Arc::new(small().fs());
        let metrics = fs.metrics();
        let report = Box::new(|_| Ok(Vec::new()));
        let session = distrofs::fuse::serve(
            Connection::Fresh(fd),
            fs,
            &Default::default(),
            distrofs::fuse::Means {
                metrics,
                answers: report,
                recorder: Default::default(),
                buffers: distrofs::fuse::Buffers::new(4 << 20),
                crumb: Default::default(),
            },
        )
        .unwrap();
        (mount, session)
    };
    let (first, session) = make();
    let held = File::open(dir.path().join("other")).unwrap();
    assert!(matches!(first.unmount(false), Err(MountError::Busy { .. })));
    first.unmount(true).unwrap();
    assert!(!first.is_mounted() && !session.is_finished());
    // Detached, it goes on serving whoever still uses it.
    let mut content = Vec::new();
    (&held).read_to_end(&mut content).unwrap();
    assert_eq!(content.len(), 10_000);
    drop(held);
    session.wait().unwrap();

    let (second, session) = make();
    // The same place and the same device number, yet another mount.
    assert_eq!(second.device(), first.device());
    drop(first);
    assert!(second.is_mounted());
    mount::unmount(dir.path(), false).unwrap();
    session.wait().unwrap();
    assert!(!second.is_mounted());
    assert!(matches!(
        mount::unmount(dir.path(), true),
        Err(MountError::NotMounted { .. })
    ));
}

#[test]
fn a_mount_that_is_dropped_is_unmounted() {
    let dir = tempfile::tempdir().unwrap();
    let (mount, fd) = mount::mount(&request(dir.path())).unwrap();
    assert!(mount.is_mounted());
    drop((mount, fd));
    assert!(matches!(
        mount::unmount(dir.path(), true),
        Err(MountError::NotMounted { .. })
    ));
}

/// Spaces, commas and backslashes in the name of a mount point.
#[test]
fn any_directory_name_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a b,c\\d\ne");
    fs::create_dir(&target).unwrap();
    let (mount, _fd) = mount::mount(&request(&target)).unwrap();
    assert!(mount.is_mounted());
    mount::unmount(&target, true).unwrap();
    assert!(!mount.is_mounted());
}
