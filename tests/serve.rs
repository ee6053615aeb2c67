//! `distrofs serve`: what is uploaded is served, whatever dies.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::archive::debian_tgz;
use common::load::{Order, walk};
use common::mapping::Mapping;
use common::program::{eventually, run};
use common::service::Service;
use distrofs::sys::packets::Packets;
use distrofs::wire::Link;
use distrofs::wire::control::{CONTROL, ImageOf, Reply, Request};
use rustix::fs::{Mode, OFlags};
use rustix::mm::ProtFlags;
use rustix::process::{Signal, kill_process};

const S: u32 = 30_000;
const SOON: Duration = Duration::from_secs(20);

/// Checksums of all regular files of a tree.
fn sums(root: &Path) -> BTreeMap<PathBuf, u32> {
    let sum = |(path, _): (PathBuf, u64)| {
        let sum = sum(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let path = path.strip_prefix(root).expect("below the root").to_owned();
        (path, sum)
    };
    walk(root, Order::DirectoryFirst)
        .files
        .into_iter()
        .map(sum)
        .collect()
}

fn sum(path: &Path) -> std::io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = [0; 64 * 1024];
    let mut file = File::open(path)?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// A tree as exploding the archive would make it.
fn exploded(archive: &Path, at: &Path) {
    fs::create_dir(at).expect("make a directory");
    let mut tar = Command::new("tar");
    tar.args(["--exclude=./dev/*", "--exclude=dev/*", "-xzf"])
        .arg(archive);
    run(tar.arg("-C").arg(at)).ok();
}

#[test]
fn an_archive_is_served_where_it_would_be_exploded() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    let at = service.distros(S).join("debian");
    fs::create_dir(&at).expect("make a directory");
    fs::write(at.join("exploded"), "of before").expect("write a file");
    service.start();
    let served = fs::metadata(at.join("etc/passwd")).expect("look at a file");
    assert_eq!((served.uid(), served.gid()), (S, S));
    assert!(!at.join("exploded").exists());
    // What may be written is written for all; it stays over a restart.
    fs::write(at.join("tmp/new"), "kept").expect("write a file");
    service.stop();
    assert!(
        at.join("exploded").exists(),
        "what was exploded is not back"
    );
    let gone = eventually(SOON, || service.worker(S).is_none());
    assert!(
        gone && service.mounts().is_empty(),
        "{:?}",
        service.mounts()
    );
    service.start();
    assert_eq!(fs::read(at.join("tmp/new")).expect("read"), b"kept");
    service.stop();
}

/// Readers of a whole image, over and over, until told to stop.
struct Readers {
    stop: AtomicBool,
    read: AtomicU64,
}

impl Readers {
    /// Runs `disturb` while four of them read; how many files were read.
    fn during(root: &Path, expected: &BTreeMap<PathBuf, u32>, disturb: impl FnOnce()) -> u64 {
        let readers = Readers {
            stop: AtomicBool::new(false),
            read: AtomicU64::new(0),
        };
        std::thread::scope(|scope| {
            for number in 0..4 {
                let readers = &readers;
                scope.spawn(move || readers.work(root, expected, number));
            }
            disturb();
            readers.stop.store(true, Ordering::Relaxed);
        });
        readers.read.load(Ordering::Relaxed)
    }

    fn work(&self, root: &Path, expected: &BTreeMap<PathBuf, u32>, number: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            // `walk` panics on any error.
            let found = walk(root, Order::DirectoryFirst);
            assert_eq!(found.files.len(), expected.len());
            for (path, sum_expected) in expected.iter().skip(number * 500) {
                let found = sum(&root.join(path));
                let found = found.unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
                assert_eq!(found, *sum_expected, "{}", path.display());
                self.read.fetch_add(1, Ordering::Relaxed);
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

/// Keeps the kernel from answering all by itself.
fn forget_pages() {
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
}

#[test]
fn workers_that_are_killed_lose_nothing() {
    const KILLS: u32 = 31;
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    let tree = service.path().join("tree");
    exploded(&debian_tgz(), &tree);
    let expected = sums(&tree);
    service.start();
    let at = service.distros(S).join("debian");
    let held = File::open(at.join("usr/bin/perl")).expect("open a file");
    let mapped = Mapping::new(&held, ProtFlags::READ).expect("map a file");
    let mut kills = 0;
    let read = Readers::during(&at, &expected, || {
        let began = Instant::now();
        while kills < KILLS {
            if let Some(worker) = service.worker(S) {
                kills += u32::from(kill_process(worker, Signal::KILL).is_ok());
            }
            forget_pages();
            sleep(Duration::from_millis(80));
        }
        println!("{KILLS} kills in {:?}", began.elapsed());
    });
    println!("{read} files read");
    assert!(read > 100, "only {read} files were read");
    assert_eq!(mapped.first(), 0x7f);
    assert_eq!(sums(&at), expected);
    let status = service.status(S);
    let is_alive = status["tombstones"] == serde_json::json!([]);
    assert!(
        is_alive && status["images"][0]["is_tombstone"] == false,
        "{status}"
    );
    service.stop();
}

#[test]
fn a_supervisor_that_is_killed_loses_nothing() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    let tree = service.path().join("tree");
    exploded(&debian_tgz(), &tree);
    let expected = sums(&tree);
    service.start();
    let at = service.distros(S).join("debian");
    let before = service.mounts();
    let read = Readers::during(&at, &expected, || {
        for _ in 0..3 {
            let worker = service.worker(S).expect("a worker");
            service.kill();
            forget_pages();
            sleep(Duration::from_millis(200));
            service.start();
            assert_eq!(service.worker(S), Some(worker), "the worker goes on");
            // The new supervisor has all that a next worker needs.
            kill_process(worker, Signal::KILL).expect("kill the worker");
            forget_pages();
            let next = eventually(SOON, || service.worker(S).is_some_and(|pid| pid != worker));
            assert!(next, "no worker: {}", service.log());
        }
    });
    assert!(read > 100, "only {read} files were read");
    assert_eq!(service.mounts(), before, "nothing was mounted again");
    assert_eq!(sums(&at), expected);
    service.stop();
    let gone = eventually(SOON, || service.worker(S).is_none());
    assert!(
        gone && service.mounts().is_empty(),
        "{:?}",
        service.mounts()
    );
}

#[test]
fn containers_attach_views_of_their_own() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    service.start();
    let ran = service.attached(
        30_001,
        "30000/debian",
        "echo mine >\"$1/tmp/file\"; cat \"$1/tmp/file\"",
    );
    assert_eq!(ran.ok().stdout, "mine\n");
    // It was in its own mount namespace only, and is there at the next start.
    let ran = service.attached(30_001, "30000/debian", "cat \"$1/tmp/file\"");
    assert_eq!(ran.ok().stdout, "mine\n");
    let ran = service.attached(30_002, "30000/debian", "ls \"$1/tmp\"");
    assert_eq!(ran.ok().stdout, "");
    service
        .attached(30_001, "30000/none", "")
        .refused(1, &["no image none", "image list"]);
    service
        .attached(30_001, "31000/debian", "")
        .refused(1, &["home 31000 is not served"]);
    service.stop();
    service
        .attached(30_001, "30000/debian", "")
        .refused(1, &["no service answers", "distrofs serve"]);
}

#[test]
fn a_new_version_is_for_new_starts() {
    let mut service = Service::new(&[S]);
    let image = |version: &str| {
        let tree = service.path().join(format!("tree-{version}"));
        let archive = service.path().join(format!("{version}.tgz"));
        fs::create_dir_all(tree.join("etc")).expect("make directories");
        fs::write(tree.join("etc/version"), version).expect("write a file");
        common::archive::tar(&tree, &archive, &["-z"]);
        archive
    };
    let (one, two) = (image("one"), image("two"));
    service.upload(S, &one, "own.tgz");
    service.start();
    let version = service.distros(S).join("own/etc/version");
    let held = File::open(&version).expect("open a file");
    let mapped = Mapping::new(&held, ProtFlags::READ).expect("map a file");
    let directory = File::open(version.parent().expect("a directory")).expect("open a directory");
    let script = "cat \"$1/etc/version\"; read wait <\"$2\"; cat \"$1/etc/version\"";
    let fifo = service.path().join("fifo");
    run(Command::new("mkfifo").arg(&fifo)).ok();
    let mut container = service.attaching(30_001, "30000/own", script);
    let output = service.path().join("output");
    let log = File::create(&output).expect("make a file");
    let mut container = container.arg(&fifo).stdout(log).spawn().expect("start");
    let written = eventually(SOON, || fs::read(&output).is_ok_and(|text| text == b"one"));
    assert!(written, "the container did not start");
    service.upload(S, &two, "own.tgz");
    let is_new = || fs::read(&version).is_ok_and(|text| text == b"two");
    assert!(eventually(SOON, is_new), "{}", service.log());
    for _ in 0..2 {
        let worker = service.worker(S).expect("a worker");
        kill_process(worker, Signal::KILL).expect("kill the worker");
        let next = eventually(SOON, || service.worker(S).is_some_and(|pid| pid != worker));
        assert!(next, "no worker: {}", service.log());
        forget_pages();
    }
    fs::write(&fifo, "go\n").expect("tell the container");
    assert!(container.wait().expect("wait").success());
    assert_eq!(fs::read_to_string(&output).expect("read"), "oneone");
    let mut text = String::new();
    (&held)
        .read_to_string(&mut text)
        .expect("read what was opened before");
    assert_eq!((text.as_str(), mapped.first()), ("one", b'o'));
    let found = rustix::fs::openat(&directory, "version", OFlags::RDONLY, Mode::empty());
    text.clear();
    File::from(found.expect("open what is in a directory that was opened before"))
        .read_to_string(&mut text)
        .expect("read it");
    let mut names = rustix::fs::Dir::read_from(&directory).expect("read the directory");
    let is_listed = names.any(|entry| entry.is_ok_and(|entry| entry.file_name() == c"version"));
    assert_eq!((text.as_str(), is_listed), ("one", true));
    drop(names);
    let ran = service.attached(30_003, "30000/own", "cat \"$1/etc/version\"");
    assert_eq!(ran.ok().stdout, "two");
    drop((mapped, held, directory));
    // Nobody has the old one any more.
    let images = || {
        service
            .mounts()
            .iter()
            .filter(|at| at.starts_with(service.run_dir()))
            .count()
    };
    assert!(eventually(SOON, || images() == 1), "{:?}", service.mounts());
    service.stop();
}

#[test]
fn a_status_tells_what_is_served_and_who_must_not_know() {
    let mut service = Service::new(&[S, S + 1]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    service.start();
    fs::read(service.distros(S).join("debian/bin/bash")).expect("read a file");
    let status = service.status(S);
    let worker = service.worker(S).expect("a worker");
    assert_eq!(status["worker"], worker.as_raw_nonzero().get(), "{status}");
    assert_eq!(status["images"][0]["path"], "debian", "{status}");
    assert_eq!(status["images"][0]["is_current"], true, "{status}");
    let read = &status["served"][0]["requests"]["read"]["count"];
    assert!(read.as_u64().is_some_and(|count| count > 0), "{status}");
    let shown = run(common::program::distrofs(["status", "--run"]).arg(service.run_dir()));
    let shown = shown.ok().stdout;
    assert!(
        shown.contains("home 30001") && shown.contains("debian"),
        "{shown}"
    );
    kill_process(worker, Signal::KILL).expect("kill the worker");
    let counted = eventually(SOON, || service.status(S)["restarts"] == 1);
    assert!(counted, "{}", service.status(S));
    // A user is told of his own home only.
    let own = service.as_user(S + 1, &["status", "--json"]);
    assert!(own.contains("30001") && !own.contains("debian"), "{own}");
    let refused = service.as_user(S + 1, &["abort", "30000/debian"]);
    assert!(refused.contains("for root only"), "{refused}");
    let refused = service.as_user(
        S + 1,
        &["attach", "30001", "--image", "30000/debian", "--at", "/mnt"],
    );
    assert!(refused.contains("for root only"), "{refused}");
    service.stop();
}

#[test]
fn an_image_that_hangs_is_broken_off_and_served_again() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    service.start();
    let at = service.distros(S).join("debian");
    let held = File::open(at.join("usr/bin/perl")).expect("open a file");
    let worker = service.worker(S).expect("a worker");
    kill_process(worker, Signal::STOP).expect("stop the worker");
    forget_pages();
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| {
            let mut bytes = Vec::new();
            (&held)
                .read_to_end(&mut bytes)
                .expect_err("it is broken off")
        });
        sleep(Duration::from_millis(100));
        assert!(!hung.is_finished());
        // Not by a program: to start one is to close, in its process, what is open in
        // this one, about which the worker is asked.
        let control = service.run_dir().join(CONTROL);
        let link = Link::from(Packets::connect(&control).expect("connect"));
        let path = "debian".parse().expect("a path");
        let image = ImageOf { home: S, path };
        link.send(&Request::Abort { image }, &[]).expect("ask");
        let reply = link.receive::<Reply>();
        let ended = eventually(SOON, || hung.is_finished());
        // Otherwise the reader would wait for ever.
        kill_process(worker, Signal::CONT).expect("let the worker go on");
        assert!(matches!(reply, Ok(Some((Reply::Done, _)))), "{reply:?}");
        assert!(ended, "the reader waits still");
        hung.join().expect("the reader gets an error");
    });
    let again = eventually(SOON, || fs::read(at.join("bin/bash")).is_ok());
    assert!(again, "{}", service.log());
    let mut abort = common::program::distrofs(["abort", "30000/none", "--run"]);
    run(abort.arg(service.run_dir())).refused(1, &["no image none"]);
    drop(held);
    service.stop();
}

#[test]
fn a_worker_stays_in_its_control_group() {
    let parent = format!("/sys/fs/cgroup/memory/distrofs-test-{}", std::process::id());
    let mut service = Service::new(&[S]);
    service.set(&format!("cgroups=[\"{parent}/{{uid}}\"]"));
    service.upload(S, &debian_tgz(), "debian.tgz");
    service.start();
    let worker = service.worker(S).expect("a worker").as_raw_nonzero();
    let group = Path::new(&parent).join("30000/distrofs");
    let read = |file: &str| fs::read_to_string(group.join(file)).expect("read the group");
    assert_eq!(read("cgroup.procs").trim(), worker.to_string());
    assert_eq!(read("memory.limit_in_bytes").trim(), (48 << 20).to_string());
    let memory = service.status(S)["memory_bytes"].as_u64();
    assert!(
        memory.is_some_and(|bytes| bytes > 0),
        "{}",
        service.status(S)
    );
    // The storage container should run nothing else.
    let mut other = Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("start a process");
    let joined = fs::write(
        Path::new(&parent).join("30000/cgroup.procs"),
        other.id().to_string(),
    );
    let others = service.status(S)["other_processes"].as_u64();
    common::attempt(other.kill());
    common::attempt(other.wait());
    service.stop();
    let empty = eventually(SOON, || read("cgroup.procs").is_empty());
    for group in ["30000/distrofs", "30000", ""] {
        fs::remove_dir(Path::new(&parent).join(group)).expect("remove a group");
    }
    joined.expect("join a group");
    assert!(empty && others == Some(1), "{others:?}");
}

/// A service that is stopped leaves a worker to those who use an image still. The next
/// one must not take that one for its own: it takes nothing in any more.
#[test]
fn a_service_that_was_stopped_serves_again_and_containers_never_notice() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    service.start();
    let at = service.distros(S).join("debian");
    let held = File::open(at.join("usr/bin/perl")).expect("open a file");
    let mapped = Mapping::new(&held, ProtFlags::READ).expect("map a file");
    let worker = service.worker(S).expect("a worker");
    service.stop();
    assert_eq!(service.worker(S), Some(worker), "somebody has a file open");
    assert!(!at.join("etc/passwd").exists());
    service.upload(S, &debian_tgz(), "another.tgz");
    service.start();
    let served = |name: &str| service.distros(S).join(name).join("etc/passwd").exists();
    assert!(
        eventually(SOON, || served("debian") && served("another")),
        "{}",
        service.log()
    );
    assert_ne!(service.worker(S), Some(worker));
    forget_pages();
    let mut bytes = Vec::new();
    (&held)
        .read_to_end(&mut bytes)
        .expect("read what was opened before");
    assert_eq!((&bytes[1..4], mapped.first()), (&b"ELF"[..], 0x7f));
    drop((mapped, held));
    service.stop();
    let gone = eventually(SOON, || service.worker(S).is_none());
    assert!(
        gone && service.mounts().is_empty(),
        "{:?}",
        service.mounts()
    );
}

#[test]
fn a_launcher_finds_the_view_of_its_container_where_the_shared_tree_is() {
    let mut service = Service::new(&[S]);
    service.upload(S, &debian_tgz(), "debian.tgz");
    service.set("containers={ 30001 = \"30000/debian\" }");
    service.start();
    let at = service.distros(S).join("debian");
    fs::write(at.join("tmp/of-all"), "shared\n").expect("write a file");
    let program = common::program::binary();
    let hook = |service: &Service, container: u32, script: &str| {
        let text = format!(
            "mount --make-rprivate /; p='{}'; run='{}'; at='{}'\n{script}",
            program.display(),
            service.run_dir().display(),
            at.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", &text, "sh", &container.to_string()]);
        run(&mut command)
    };
    let all = "$p attach $1 --run $run; [ ! -e $at/tmp/of-all ]; echo own > $at/tmp/own
               root=$(mktemp -d); mount --bind $at $root; cat $root/tmp/own; umount $root; rmdir $root
               $p detach $1 --run $run; cat $at/tmp/of-all; [ ! -e $at/tmp/own ]
               ! $p detach $1 --run $run";
    let done = hook(&service, 30_001, all).ok();
    assert_eq!(done.stdout, "own\nshared\n");
    assert!(done.stderr.contains("no view of a container"), "{done:?}");
    // What all share is nobody's to detach.
    assert!(at.join("etc/passwd").exists());
    hook(&service, 30_001, "cat $at/tmp/of-all").ok();
    let other = hook(&service, 30_002, "$p attach $1 --run $run");
    other.refused(1, &["no image is chosen for container 30002", "--image"]);
    // A container's user may attach its own view, in namespaces of its own, and no
    // other.
    let own = service.in_namespaces(
        30_001,
        "$p attach 30001 --at /mnt --run . && cat /mnt/tmp/own",
    );
    assert_eq!(own.trim(), "own");
    for refused in [
        "$p attach 30002 --at /mnt --run .",
        "$p attach 30001 --at /mnt --run . --image 30000/other",
        "$p attach 30000 --at /mnt --run . --image 30000/debian",
    ] {
        let said = service.in_namespaces(30_001, refused);
        assert!(said.contains("for root only"), "{refused}: {said}");
    }
    // The customer puts a link where the root of the launcher would mount.
    let moved = service.distros(S).join("moved");
    service.stop();
    fs::rename(&at, &moved).expect("move the directory");
    std::os::unix::fs::symlink("/etc", &at).expect("link");
    service.start();
    hook(&service, 30_001, "$p attach $1 --run $run").refused(1, &["debian"]);
    assert!(fs::metadata("/etc/passwd").is_ok_and(|found| found.uid() == 0));
    service.stop();
}
