//! What happens around a mount that should not: its archive or its index is
//! changed under it, the disk is full, the place to mount on is no good, there
//! is no FUSE. Each gives right bytes or an error that says what is wrong, and
//! the mount can always be ended.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::archive::{Packing, tar};
use common::mount::{END_LIMIT, Mount, MountPoint, unmount_unused};
use common::program::{binary, distrofs, eventually, run};
use common::synthetic::Random;
use rustix::mount::{MountFlags, mount};

/// Files in the image, and their size: several spans, several requests each.
const FILES: usize = 40;
const FILE_BYTES: usize = 150_000;

/// An archive, its index, and what is in it.
struct Image {
    dir: tempfile::TempDir,
    files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    fn new(packing: Packing) -> Self {
        let dir = common::temp_dir();
        let (tree, plain) = (dir.path().join("tree"), dir.path().join("tar"));
        fs::create_dir(&tree).expect("make a directory");
        let mut random = Random(11);
        let mut files = BTreeMap::new();
        for number in 0..FILES {
            let name = format!("file-{number:02}");
            // Half noise, half text: neither all literals nor all copies.
            let mut content = random.bytes(FILE_BYTES / 2);
            content.extend(b"all the same, ".iter().cycle().take(FILE_BYTES / 2));
            fs::write(tree.join(&name), &content).expect("write a file");
            files.insert(name, content);
        }
        tar(&tree, &plain, &["--sort=name"]);
        let image = Self { dir, files };
        packing.pack(&plain, &image.archive());
        fs::remove_dir_all(&tree).expect("remove the tree");
        fs::remove_file(&plain).expect("remove the tar");
        image
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("image.dfsx")
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).expect("read a directory");
        let name = |e: std::io::Result<fs::DirEntry>| e.expect("an entry").file_name();
        let mut names: Vec<String> = names
            .map(|e| name(e).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Reads everything through the mount at `root`, in pieces; how many of
    /// them were refused. A wrong byte or name fails the test.
    #[track_caller]
    fn assert_right_or_refused(&self, root: &Path, what: &str) -> usize {
        let mut refused = 0;
        if let Ok(names) = fs::read_dir(root) {
            for name in names.filter_map(Result::ok) {
                let name = name.file_name().to_string_lossy().into_owned();
                assert!(self.files.contains_key(&name), "{what}: a name {name:?}");
            }
        }
        for (name, content) in &self.files {
            let Ok(file) = File::open(root.join(name)) else {
                refused += 1;
                continue;
            };
            for (number, original) in content.chunks(20_000).enumerate() {
                let mut piece = vec![0xa5; original.len()];
                let at = number as u64 * 20_000;
                match file.read_exact_at(&mut piece, at) {
                    Ok(()) => assert!(piece == original, "{what}: {name} at {at}"),
                    Err(error) => {
                        let known = [Some(libc::EIO), Some(libc::ESTALE)];
                        let code = error.raw_os_error();
                        assert!(known.contains(&code), "{what}: {name}: {error}");
                        refused += 1;
                    }
                }
            }
        }
        refused
    }
}

/// So that the kernel asks the daemon again.
fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
}

// --- Under a mount ----------------------------------------------------------

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Everything reads as before.
    Right,
    /// What cannot be vouched for any more is refused, and that is something.
    Refused,
}

type Line = (&'static str, fn(&Path), Then);

/// Mounts, reads some, does one thing after another to the file that `victim`
/// names, each to a new mount, and reads everything.
fn assert_survives(packing: Packing, victim: fn(&Image) -> PathBuf, table: &[Line]) {
    for (what, act, then) in table {
        let image = Image::new(packing);
        let mount = Mount::new(&image.archive(), [""; 0]);
        let begun = fs::read(mount.path().join("file-00")).expect("read before");
        assert_eq!(begun, image.files["file-00"]);
        act(&victim(&image));
        drop_caches();
        let refused = image.assert_right_or_refused(mount.path(), what);
        println!("{packing:?}: {what}: {refused} refused");
        assert_eq!(refused > 0, *then == Then::Refused, "{what}");
        // It still answers, and can be ended.
        assert!(mount.stats().requests.contains_key("read"));
        mount.end();
    }
}

fn half(path: &Path) -> u64 {
    path.metadata().expect("its size").len() / 2
}

fn open_to_write(path: &Path) -> File {
    let file = File::options().read(true).write(true).open(path);
    file.unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
}

fn rename_over(path: &Path) {
    let new = path.with_extension("new");
    fs::write(&new, Random(5).bytes(100_000)).expect("write another");
    fs::rename(&new, path).expect("rename it over");
}

fn unlink(path: &Path) {
    fs::remove_file(path).expect("remove it");
}

fn truncate_half(path: &Path) {
    let len = half(path);
    open_to_write(path).set_len(len).expect("truncate it");
}

fn truncate_all(path: &Path) {
    open_to_write(path).set_len(0).expect("truncate it");
}

/// As `scp` does it: cut to nothing, then written anew, here with other bytes.
fn write_anew(path: &Path) {
    let len = usize::try_from(half(path) * 2).expect("small");
    fs::write(path, Random(6).bytes(len)).expect("write it anew");
}

fn overwrite_middle(path: &Path) {
    let at = half(path);
    let noise = Random(7).bytes(60_000);
    let file = open_to_write(path);
    let noise = &noise[..noise.len().min(usize::try_from(at).expect("small"))];
    file.write_all_at(noise, at).expect("overwrite it");
}

/// Cut and given its old length back, as by a copy that failed in the middle.
fn cut_and_fill(path: &Path) {
    let len = half(path) * 2;
    let file = open_to_write(path);
    file.set_len(len / 4).expect("truncate it");
    file.set_len(len).expect("extend it");
}

fn append(path: &Path) {
    let mut file = open_to_write(path);
    file.seek(std::io::SeekFrom::End(0)).expect("go to the end");
    file.write_all(&[1; 5000]).expect("append");
}

#[test]
fn an_archive_changed_under_a_mount_gives_right_bytes_or_errors() {
    for packing in [Packing::Gzip, Packing::Plain] {
        let table: [Line; 8] = [
            ("renamed over", rename_over, Then::Right),
            ("unlinked", unlink, Then::Right),
            ("appended to", append, Then::Right),
            ("truncated to half", truncate_half, Then::Refused),
            ("truncated to nothing", truncate_all, Then::Refused),
            ("written anew", write_anew, Then::Refused),
            ("overwritten in the middle", overwrite_middle, Then::Refused),
            ("cut and filled with zeros", cut_and_fill, Then::Refused),
        ];
        assert_survives(packing, Image::archive, &table);
    }
}

/// The index is a map of a file: what is cut from it would be a signal.
#[test]
fn an_index_changed_under_a_mount_gives_right_bytes_or_errors() {
    let table: [Line; 8] = [
        ("renamed over", rename_over, Then::Right),
        ("unlinked", unlink, Then::Right),
        ("truncated to half", truncate_half, Then::Refused),
        ("truncated to nothing", truncate_all, Then::Refused),
        ("written anew", write_anew, Then::Refused),
        ("overwritten in the middle", overwrite_middle, Then::Refused),
        ("cut and filled with zeros", cut_and_fill, Then::Refused),
        ("appended to", append, Then::Refused),
    ];
    assert_survives(Packing::Gzip, Image::index, &table);
}

/// What was damaged under one mount is mended by the next.
#[test]
fn the_next_mount_makes_a_damaged_index_again() {
    let damage: [fn(&Path); 5] = [
        truncate_half,
        truncate_all,
        write_anew,
        cut_and_fill,
        append,
    ];
    for damage in damage {
        let image = Image::new(Packing::Gzip);
        run(distrofs(["index"]).arg(image.archive())).ok();
        damage(&image.index());
        let mount = Mount::new(&image.archive(), [""; 0]);
        assert_eq!(image.assert_right_or_refused(mount.path(), "again"), 0);
        mount.end();
        assert_eq!(image.names(), ["image", "image.dfsx"]);
    }
}

/// An upload that goes on while it is indexed is no archive yet.
#[test]
fn an_archive_that_grows_while_it_is_indexed_is_refused_or_whole() {
    let image = Image::new(Packing::Gzip);
    let whole = fs::read(image.archive()).expect("read the archive");
    let (before, behind) = whole.split_at(whole.len() / 2);
    fs::write(image.archive(), before).expect("write half of it");
    let mut child = distrofs(["index"])
        .arg(image.archive())
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("start");
    let mut file = open_to_write(&image.archive());
    file.seek(std::io::SeekFrom::End(0)).expect("go to the end");
    file.write_all(behind).expect("write the rest");
    drop(file);
    let status = common::program::wait(&mut child, std::time::Duration::from_secs(60));
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("its standard error");
    stderr.read_to_string(&mut said).expect("read it");
    let status = status.expect("it ends");
    // Depending on when it looked, it saw half of it, a change, or all.
    assert!(
        status.success() || said.contains("image"),
        "{status} {said}"
    );
    let mount = Mount::new(&image.archive(), [""; 0]);
    assert_eq!(image.assert_right_or_refused(mount.path(), "grown"), 0);
    mount.end();
}

// --- A full disk ------------------------------------------------------------

/// A small filesystem with nothing in it.
struct SmallDisk {
    point: MountPoint,
    _file: tempfile::TempDir,
}

impl SmallDisk {
    fn tmpfs(bytes: u64) -> Self {
        let point = MountPoint::new();
        let options = std::ffi::CString::new(format!("size={bytes}")).expect("no NUL");
        let flags = MountFlags::empty();
        mount("tmpfs", point.path(), "tmpfs", flags, options.as_c_str()).expect("mount a tmpfs");
        let _file = common::temp_dir();
        Self { point, _file }
    }

    /// On ext4 blocks are given out late: writing may succeed and what fails is
    /// only the flush.
    fn ext4(bytes: u64) -> Self {
        let (point, file) = (MountPoint::new(), common::temp_dir());
        let disk = file.path().join("disk");
        File::create(&disk)
            .and_then(|f| f.set_len(bytes))
            .expect("make a disk");
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-m0", "-b1024", "-N32", "-O", "^has_journal"]);
        run(mkfs.arg(&disk)).ok();
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&disk).arg(point.path())).ok();
        common::attempt(fs::remove_dir(point.path().join("lost+found")));
        Self { point, _file: file }
    }

    #[track_caller]
    fn assert_empty(&self, what: &str) {
        let names = fs::read_dir(self.point.path()).expect("read the disk");
        let names: Vec<_> = names.map(|e| e.expect("an entry").file_name()).collect();
        assert!(names.is_empty(), "{what}: left {names:?}");
    }
}

#[test]
fn a_full_disk_while_indexing_is_said_and_leaves_nothing() {
    let image = Image::new(Packing::Gzip);
    type MakeDisk = fn(u64) -> SmallDisk;
    let disks: [(&str, MakeDisk, u64); 2] = [
        ("tmpfs", SmallDisk::tmpfs, 4096),
        ("ext4", SmallDisk::ext4, 256 * 1024),
    ];
    for (kind, disk, smallest) in disks {
        let (mut refused, mut fits) = (0, false);
        let mut bytes = smallest;
        while !fits {
            let disk = disk(bytes);
            let index = disk.point.path().join("index");
            let mut command = distrofs(["index", "--span", "32K", "--index"]);
            let said = run(command.arg(&index).arg(image.archive()));
            let what = format!("{kind} of {bytes} bytes");
            fits = said.status.success();
            if !fits {
                said.refused(1, &["distrofs:", "No space left"]);
                disk.assert_empty(&what);
                refused += 1;
            } else {
                // What was written is all there.
                let options = [OsStr::new("--index"), index.as_os_str()];
                let mount = Mount::new(&image.archive(), options);
                assert_eq!(image.assert_right_or_refused(mount.path(), &what), 0);
                mount.end();
            }
            bytes = bytes * 3 / 2;
            assert!(bytes < 1 << 26, "{kind}: nothing is large enough");
        }
        println!("{kind}: {refused} sizes were too small");
        assert!(refused > 2, "{kind}: only {refused} sizes were too small");
    }
}

#[test]
fn a_full_disk_does_not_cost_the_index_that_was_there() {
    let image = Image::new(Packing::Gzip);
    let disk = SmallDisk::tmpfs(3 << 20);
    let index = disk.point.path().join("index");
    let indexed = |more: &[&str]| {
        let mut command = distrofs(["index"]);
        run(command
            .args(more)
            .arg("--index")
            .arg(&index)
            .arg(image.archive()))
    };
    drop(indexed(&[]).ok());
    let before = fs::read(&index).expect("read the index");
    let filler = disk.point.path().join("filler");
    let mut file = File::create(&filler).expect("make a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    indexed(&["--force"]).refused(1, &["distrofs:", "No space left"]);
    assert_eq!(fs::read(&index).expect("read the index"), before);
    drop(file);
    fs::remove_file(&filler).expect("remove it");
    drop(indexed(&["--force"]).ok());
}

// --- Where to mount ---------------------------------------------------------

#[test]
fn what_cannot_be_mounted_on_is_refused_and_named() {
    let image = Image::new(Packing::Gzip);
    let dir = common::temp_dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "here").expect("write a file");
    std::os::unix::fs::symlink("file", at("link")).expect("link");
    std::os::unix::fs::symlink("loop", at("loop")).expect("link");
    let table = [
        ("missing", "No such file"),
        ("missing/below", "No such file"),
        ("file", "not a directory"),
        ("file/below", "Not a directory"),
        ("link", "not a directory"),
        ("loop", "symbolic links"),
    ];
    for (name, why) in table {
        let said = run(distrofs(["mount"]).arg(image.archive()).arg(at(name)));
        said.refused(1, &["distrofs:", dir.path().to_str().expect("plain"), why]);
    }
    assert_eq!(fs::read(at("file")).expect("read"), b"here");
}

/// As with mount(8): what is in the directory is hidden, and is back later.
#[test]
fn a_directory_that_is_not_empty_is_mounted_on() {
    let image = Image::new(Packing::Gzip);
    let point = MountPoint::new();
    fs::write(point.path().join("mine"), "here").expect("write a file");
    let held = File::open(point.path().join("mine")).expect("open");
    run(distrofs(["mount"]).arg(image.archive()).arg(point.path())).ok();
    assert_eq!(image.assert_right_or_refused(point.path(), "over files"), 0);
    unmount_unused(point.path());
    point.assert_gone();
    assert_eq!(fs::read(point.path().join("mine")).expect("read"), b"here");
    drop(held);
}

/// A directory on which something is mounted already: the last one shows, and
/// ends first, also by the signal to its own daemon.
#[test]
fn mounts_on_one_directory_are_a_stack() {
    let (one, other) = (Image::new(Packing::Gzip), Image::new(Packing::Plain));
    let point = MountPoint::new();
    for image in [&one, &other] {
        run(distrofs(["mount"]).arg(image.archive()).arg(point.path())).ok();
    }
    assert_eq!(point.daemons().len(), 2);
    assert_eq!(other.assert_right_or_refused(point.path(), "above"), 0);
    unmount_unused(point.path());
    assert!(point.is_mounted());
    // While it ends, it looks at the place once more, which keeps that busy.
    assert!(eventually(END_LIMIT, || point.daemons().len() == 1));
    assert_eq!(one.assert_right_or_refused(point.path(), "below"), 0);
    unmount_unused(point.path());
    point.assert_gone();
}

/// The archive and its index are in the directory that it is mounted on.
#[test]
fn an_archive_may_be_hidden_by_its_own_mount() {
    let image = Image::new(Packing::Gzip);
    run(distrofs(["mount"])
        .arg(image.archive())
        .arg(image.dir.path()))
    .ok();
    let refused = image.assert_right_or_refused(image.dir.path(), "over itself");
    drop_caches();
    let again = image.assert_right_or_refused(image.dir.path(), "over itself");
    unmount_unused(image.dir.path());
    assert_eq!((refused, again), (0, 0));
    assert_eq!(image.names(), ["image", "image.dfsx"]);
}

// --- No FUSE ----------------------------------------------------------------

/// Runs `distrofs mount` in a mount namespace of its own, prepared by `before`.
fn mount_where(before: &str) -> (common::program::Ran, MountPoint) {
    let image = Image::new(Packing::Gzip);
    let point = MountPoint::new();
    let script = format!("{before}\nexec \"$1\" mount \"$2\" \"$3\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
    command.arg(script).arg("sh").arg(binary());
    (run(command.arg(image.archive()).arg(point.path())), point)
}

#[test]
fn without_the_fuse_device_it_is_said_what_to_do() {
    let table = [
        ("no device", "mount -t tmpfs none /dev"),
        (
            "a file in its place",
            "d=$(mktemp -d); mount -t tmpfs none $d; touch $d/fuse; mount --bind $d/fuse /dev/fuse; umount -l $d; rmdir $d",
        ),
        (
            "another device in its place",
            "mount --bind /dev/null /dev/fuse",
        ),
        (
            "a device that nobody serves",
            "d=$(mktemp -d); mount -t tmpfs none $d; mknod $d/fuse c 10 250; mount --bind $d/fuse /dev/fuse; umount -l $d; rmdir $d",
        ),
    ];
    for (what, before) in table {
        println!("{what}");
        let (said, point) = mount_where(before);
        said.refused(1, &["distrofs:", "/dev/fuse"]);
        assert!(point.daemons().is_empty());
    }
}
