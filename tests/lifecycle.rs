//! From `distrofs mount` to the end of its process: how a mount begins, every
//! way in which it ends, what is kept, and how what cannot work is refused.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::archive::{Packing, tar};
use common::mount::{Mount, MountPoint};
use common::program::{binary, distrofs, eventually, run, session, wait};
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use rustix::process::{Signal, kill_process};

const CONTENT: &[u8] = b"content\n";

/// A small archive in a directory of its own.
struct Archive {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Archive {
    fn new() -> Self {
        let dir = common::temp_dir();
        let path = dir.path().join("image.tgz");
        let archive = Self { dir, path };
        archive.write(&[("file", CONTENT), ("bin/sh", b"#!/bin/false\n")]);
        archive
    }

    /// Makes the archive anew, with other files.
    fn write(&self, files: &[(&str, &[u8])]) {
        let work = common::temp_dir();
        let (tree, plain) = (work.path().join("tree"), work.path().join("tar"));
        for (name, content) in files {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
            fs::write(path, content).expect("write a file");
        }
        tar(&tree, &plain, &[]);
        Packing::Gzip.pack(&plain, &self.path);
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("image.tgz.dfsx")
    }

    fn mount(&self) -> Mount {
        Mount::new(&self.path, [""; 0])
    }

    /// What is beside the archive.
    fn names(&self) -> Vec<String> {
        names(self.dir.path())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("read a directory");
    let name = |e: std::io::Result<fs::DirEntry>| {
        e.expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

// --- How it begins ----------------------------------------------------------

#[test]
fn a_mount_answers_when_the_command_returns() {
    let archive = Archive::new();
    let mount = archive.mount();
    assert_eq!(fs::read(mount.path().join("file")).expect("read"), CONTENT);
    assert_eq!(names(mount.path()), ["bin", "file"]);
    mount.end();
    assert_eq!(archive.names(), ["image.tgz", "image.tgz.dfsx"]);
}

/// A daemon that keeps its starter's files open keeps pipelines waiting, and
/// one that stays in a directory keeps that from being unmounted.
#[test]
fn the_daemon_lets_go_of_everything_of_its_starter() {
    let archive = Archive::new();
    let mount = archive.mount();
    let proc = PathBuf::from(format!("/proc/{}", mount.daemon().as_raw_nonzero()));
    assert_eq!(
        fs::read_link(proc.join("cwd")).expect("its directory"),
        Path::new("/")
    );
    for fd in ["0", "1", "2"] {
        assert_eq!(
            fs::read_link(proc.join("fd").join(fd)).expect(fd),
            Path::new("/dev/null"),
            "descriptor {fd}"
        );
    }
    assert_ne!(
        session(mount.daemon().as_raw_nonzero()),
        session("self"),
        "still in the session of its starter"
    );
    mount.end();
}

#[test]
fn a_pipeline_ends_when_the_command_does() {
    let archive = Archive::new();
    let point = MountPoint::new();
    let line = "\"$0\" mount \"$1\" \"$2\" 2>&1 | cat";
    run(Command::new("sh")
        .args(["-c", line])
        .arg(binary())
        .arg(&archive.path)
        .arg(point.path()))
    .ok();
    assert!(point.is_mounted());
}

#[test]
fn two_mounts_of_one_archive_do_not_know_each_other() {
    let archive = Archive::new();
    let (one, other) = (archive.mount(), archive.mount());
    one.end();
    assert_eq!(fs::read(other.path().join("file")).expect("read"), CONTENT);
    other.end();
}

// --- How it ends ------------------------------------------------------------

#[track_caller]
fn assert_ended_by(what: &str, end: impl FnOnce(&Mount)) {
    let archive = Archive::new();
    let mount = archive.mount();
    assert_eq!(fs::read(mount.path().join("file")).expect("read"), CONTENT);
    end(&mount);
    println!("{what}");
    mount.assert_ends();
    assert_eq!(archive.names(), ["image.tgz", "image.tgz.dfsx"], "{what}");
}

#[test]
fn umount_ends_it() {
    assert_ended_by("umount", |m| {
        drop(run(Command::new("umount").arg(m.path())).ok())
    });
}

#[test]
fn fusermount3_ends_it() {
    assert_ended_by("fusermount3", |m| {
        drop(run(Command::new("fusermount3").arg("-u").arg(m.path())).ok())
    });
}

#[test]
fn distrofs_umount_ends_it() {
    assert_ended_by("distrofs umount", |m| {
        drop(run(distrofs(["umount"]).arg(m.path())).ok())
    });
}

#[test]
fn sigterm_ends_it() {
    assert_ended_by("SIGTERM", |m| {
        kill_process(m.daemon(), Signal::TERM).expect("signal")
    });
}

#[test]
fn sigint_ends_it() {
    assert_ended_by("SIGINT", |m| {
        kill_process(m.daemon(), Signal::INT).expect("signal")
    });
}

#[test]
fn in_the_foreground_an_interrupt_is_a_success() {
    let archive = Archive::new();
    let point = MountPoint::new();
    let mut child = distrofs(["mount", "--foreground"])
        .arg(&archive.path)
        .arg(point.path())
        .spawn()
        .expect("start");
    assert!(eventually(Duration::from_secs(20), || point.is_mounted()));
    assert_eq!(fs::read(point.path().join("file")).expect("read"), CONTENT);
    let pid = rustix::process::Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("signal");
    let status = wait(&mut child, common::mount::END_LIMIT);
    common::attempt(child.kill());
    assert!(status.is_some_and(|s| s.success()), "{status:?}");
    point.assert_gone();
}

/// Nobody loses a file that is in use: it is refused, and `--lazy` lets the
/// users finish.
#[test]
fn a_mount_in_use_is_ended_only_on_demand() {
    let archive = Archive::new();
    let mount = archive.mount();
    let held = File::open(mount.path().join("file")).expect("open");
    let point = mount.path().to_str().expect("a plain name").to_owned();
    run(distrofs(["umount"]).arg(&point)).refused(1, &[&point]);
    assert_eq!(fs::read(mount.path().join("file")).expect("read"), CONTENT);
    run(distrofs(["umount", "--lazy"]).arg(&point)).ok();
    assert_held_reads_then_ends(held, mount);
}

#[test]
fn sigterm_lets_the_users_finish() {
    let archive = Archive::new();
    let mount = archive.mount();
    let held = File::open(mount.path().join("file")).expect("open");
    kill_process(mount.daemon(), Signal::TERM).expect("signal");
    assert_held_reads_then_ends(held, mount);
}

#[track_caller]
fn assert_held_reads_then_ends(held: File, mount: Mount) {
    use std::os::unix::fs::FileExt;
    let gone = || {
        fs::read_dir(mount.path())
            .expect("read the mount point")
            .next()
            .is_none()
    };
    assert!(eventually(common::mount::END_LIMIT, gone), "still mounted");
    let mut buffer = [0; CONTENT.len()];
    held.read_exact_at(&mut buffer, 0)
        .expect("a file that is still open reads");
    assert_eq!(buffer, CONTENT);
    drop(held);
    mount.assert_ends();
}

/// What a crash leaves can be unmounted like anything else.
#[test]
fn what_a_killed_daemon_leaves_can_be_unmounted() {
    let archive = Archive::new();
    let mount = archive.mount();
    kill_process(mount.daemon(), Signal::KILL).expect("signal");
    // Opening a directory asks nobody; reading it does.
    let list = || fs::read_dir(mount.path())?.collect::<io::Result<Vec<_>>>();
    let dead = || list().is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN));
    assert!(eventually(common::mount::END_LIMIT, dead));
    run(distrofs(["umount"]).arg(mount.path())).ok();
    mount.assert_ends();
}

#[test]
fn mounting_again_and_again_leaves_nothing() {
    let archive = Archive::new();
    let point = MountPoint::new();
    for _ in 0..20 {
        run(distrofs(["mount"]).arg(&archive.path).arg(point.path())).ok();
        assert_eq!(fs::read(point.path().join("file")).expect("read"), CONTENT);
        run(distrofs(["umount"]).arg(point.path())).ok();
        point.assert_gone();
    }
    assert_eq!(archive.names(), ["image.tgz", "image.tgz.dfsx"]);
}

// --- The index --------------------------------------------------------------

#[test]
fn a_valid_index_is_kept_and_said_so() {
    let archive = Archive::new();
    let made = run(distrofs(["index", "--json"]).arg(&archive.path)).ok();
    assert_eq!(made.json()["made"], true);
    let inode = archive.index().metadata().expect("an index").ino();
    let kept = run(distrofs(["index", "--json"]).arg(&archive.path)).ok();
    assert_eq!(kept.json()["made"], false);
    let said = run(distrofs(["index"]).arg(&archive.path)).ok();
    assert!(said.stdout.contains("kept"), "{said:#?}");
    archive.mount().end();
    assert_eq!(
        archive.index().metadata().expect("an index").ino(),
        inode,
        "made anew"
    );
    let forced = run(distrofs(["index", "--json", "--force"]).arg(&archive.path)).ok();
    assert_eq!(forced.json()["made"], true);
    assert_ne!(
        archive.index().metadata().expect("an index").ino(),
        inode,
        "not made anew"
    );
}

/// What another archive was is never served as what this one is.
#[test]
fn an_index_of_another_archive_is_made_again() {
    let archive = Archive::new();
    run(distrofs(["index"]).arg(&archive.path)).ok();
    archive.write(&[("file", b"changed\n"), ("bin/sh", b"#!/bin/false\n")]);
    let mount = archive.mount();
    assert_eq!(
        fs::read(mount.path().join("file")).expect("read"),
        b"changed\n"
    );
    mount.end();
}

/// Number of the section that holds the inodes.
const SECTION_INODES: u32 = 0x102;

/// Where a section is in an index file.
fn section(index: &[u8], id: u32) -> std::ops::Range<usize> {
    let number = |at: usize| u32::from_le_bytes(index[at..at + 4].try_into().expect("four bytes"));
    let at = (0..number(12) as usize).map(|n| 128 + 24 * n);
    let entry = at
        .into_iter()
        .find(|at| number(*at) == id)
        .expect("the section");
    let (start, len) = (number(entry + 8) as usize, number(entry + 16) as usize);
    start..start + len
}

#[test]
fn a_damaged_index_is_made_again() {
    let archive = Archive::new();
    run(distrofs(["index"]).arg(&archive.path)).ok();
    let good = fs::read(archive.index()).expect("read the index");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let cut = good[..good.len() / 2].to_vec();
    // Tables that cannot even give the root: a mount that fails later helps nobody.
    let overwritten = |from: usize, to: usize| {
        let mut bytes = good.clone();
        bytes[from..to].fill(0xff);
        bytes
    };
    let inodes = section(&good, SECTION_INODES);
    for (what, damaged) in [
        ("cut", cut),
        ("a few bytes", good[..16].to_vec()),
        ("no tables", overwritten(4096, good.len())),
        ("no inodes", overwritten(inodes.start, inodes.end)),
    ] {
        fs::write(archive.index(), damaged).expect("damage the index");
        let mount = archive.mount();
        assert_eq!(
            fs::read(mount.path().join("file")).expect("read"),
            CONTENT,
            "{what}"
        );
        mount.end();
    }
    // A flipped bit is found when what it belongs to is read, at the latest.
    fs::write(archive.index(), flipped).expect("damage the index");
    let point = MountPoint::new();
    let mounted = run(distrofs(["mount"]).arg(&archive.path).arg(point.path()));
    if mounted.status.success() {
        let content = fs::read(point.path().join("file"));
        assert!(
            content.as_ref().map_or(true, |c| c == CONTENT),
            "wrong bytes: {content:?}"
        );
    }
}

/// `--index` naming the wrong file costs nobody that file.
#[test]
fn a_file_that_is_no_index_is_not_made_one() {
    let archive = Archive::new();
    let named = archive.dir.path().join("precious");
    let precious = b"something else\n".repeat(100);
    fs::write(&named, &precious).expect("write a file");
    for command in ["index", "ls"] {
        let said = run(distrofs([command, "--index"])
            .arg(&named)
            .arg(&archive.path));
        said.refused(1, &["distrofs:", &named.display().to_string()]);
    }
    assert_eq!(fs::read(&named).expect("read"), precious);
    assert_eq!(archive.names(), ["image.tgz", "precious"]);
}

/// An index holds pieces of the archive's content.
#[test]
fn an_index_is_no_more_readable_than_its_archive() {
    let archive = Archive::new();
    fs::set_permissions(
        &archive.path,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("chmod");
    run(distrofs(["index"]).arg(&archive.path)).ok();
    let mode = archive.index().metadata().expect("an index").mode();
    assert_eq!(mode & 0o077, 0, "mode {mode:o}");
}

#[test]
fn an_index_that_cannot_be_beside_its_archive_is_in_the_cache() {
    let archive = Archive::new();
    let view = MountPoint::new();
    mount_bind(archive.dir.path(), view.path()).expect("bind mount");
    mount_remount(view.path(), MountFlags::BIND | MountFlags::RDONLY, c"")
        .expect("make it read-only");
    let cache = common::temp_dir();
    let seen = view.path().join("image.tgz");
    let index = || {
        let mut command = distrofs(["index", "--json"]);
        run(command.arg(&seen).env("XDG_CACHE_HOME", cache.path()))
            .ok()
            .json()
    };
    let (made, kept) = (index(), index());
    assert_eq!(made["made"], true);
    assert_eq!(kept["made"], false, "not found again: {kept}");
    let place = Path::new(made["index"].as_str().expect("a path"));
    assert!(place.starts_with(cache.path()) && place.exists(), "{made}");
    assert_eq!(archive.names(), ["image.tgz"]);
}

#[test]
fn an_index_can_be_where_the_user_says() {
    let archive = Archive::new();
    let place = common::temp_dir();
    let index = place.path().join("elsewhere");
    let mount = Mount::new(&archive.path, [OsStr::new("--index"), index.as_os_str()]);
    assert_eq!(fs::read(mount.path().join("file")).expect("read"), CONTENT);
    mount.end();
    assert_eq!(archive.names(), ["image.tgz"]);
    assert_eq!(names(place.path()), ["elsewhere"]);
}

// --- What cannot work -------------------------------------------------------

#[test]
fn wrong_usage_is_status_2() {
    let archive = Archive::new();
    let point = MountPoint::new();
    let wrong: [&[&str]; 12] = [
        &[],
        &["frobnicate"],
        &["mount"],
        &["mount", "A"],
        &["index"],
        &["index", "A", "--span", "many"],
        &["index", "A", "--span", "1"],
        &["mount", "A", "P", "--memory", "lots"],
        &["mount", "A", "P", "--owner", "me"],
        &["mount", "A", "P", "--no-such-option"],
        &["mount", "A", "P", "-o", "no_such_option"],
        &["mount", "A", "P", "--tune", "no_such_key=1"],
    ];
    let real = |arg: &&str| match *arg {
        "A" => archive.path.clone(),
        "P" => point.path().to_owned(),
        other => PathBuf::from(other),
    };
    for args in wrong {
        let said = run(&mut distrofs(args.iter().map(real)));
        assert_eq!(said.status.code(), Some(2), "{said:#?}");
        assert!(!said.stderr.is_empty(), "no word: {said:#?}");
        assert!(!point.is_mounted());
    }
    assert_eq!(archive.names(), ["image.tgz"], "wrong usage made something");
}

#[test]
fn asking_for_help_is_no_failure() {
    for args in [&["--help"][..], &["--version"], &["mount", "--help"]] {
        assert!(!run(&mut distrofs(args)).ok().stdout.is_empty());
    }
}

/// Each names the file, so that a script's log is enough to understand it.
#[test]
fn a_job_that_fails_is_status_1_and_names_the_file() {
    let archive = Archive::new();
    let point = MountPoint::new();
    let dir = common::temp_dir();
    let path = |name: &str| dir.path().join(name);
    let text = |path: &Path| path.to_str().expect("a plain name").to_owned();
    fs::write(path("text"), "This is no archive.\n".repeat(1000)).expect("write");
    fs::write(path("short"), "x").expect("write");
    let packed = fs::read(&archive.path).expect("read the archive");
    fs::write(path("cut.tgz"), &packed[..packed.len() / 2]).expect("write");
    for name in ["missing", "text", "short", "cut.tgz", ""] {
        let bad = text(&path(name));
        run(distrofs(["index"]).arg(&bad)).refused(1, &["distrofs:", bad.trim_end_matches('/')]);
        let said = run(distrofs(["mount"]).arg(&bad).arg(point.path()));
        said.refused(1, &["distrofs:", bad.trim_end_matches('/')]);
        assert!(!point.is_mounted());
    }
    assert_eq!(
        names(dir.path()),
        ["cut.tgz", "short", "text"],
        "something was left"
    );
    for name in ["missing", "text"] {
        let bad = text(&path(name));
        run(distrofs(["mount"]).arg(&archive.path).arg(&bad)).refused(1, &["distrofs:", &bad]);
        run(distrofs(["umount"]).arg(&bad)).refused(1, &["distrofs:", &bad]);
        run(distrofs(["stats"]).arg(&bad)).refused(1, &["distrofs:", &bad]);
    }
    run(distrofs(["umount"]).arg(dir.path())).refused(1, &[&text(dir.path())]);
    run(distrofs(["stats"]).arg(dir.path())).refused(1, &[&text(dir.path())]);
}

/// Names the offset: where to look in an archive of gigabytes.
#[test]
fn a_damaged_archive_is_refused_with_the_place() {
    let archive = Archive::new();
    let noise = common::synthetic::Random(7).bytes(3_000_000);
    archive.write(&[("noise", &noise)]);
    let mut packed = fs::read(&archive.path).expect("read the archive");
    let whole = packed.len();
    packed.truncate(whole - 100_000);
    File::create(&archive.path)
        .and_then(|mut f| f.write_all(&packed))
        .expect("cut the archive");
    let said = run(distrofs(["index"]).arg(&archive.path)).refused(1, &["image.tgz"]);
    assert!(
        said.stderr.chars().any(|c| c.is_ascii_digit()),
        "no offset: {said:#?}"
    );
    assert_eq!(archive.names(), ["image.tgz"]);
}
