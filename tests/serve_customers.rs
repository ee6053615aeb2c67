//! `distrofs serve` for two customers: neither can see, attach, starve or fill the
//! other.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::program::{eventually, run};
use common::service::Service;
use common::view::{as_user, open, sh_as};
use distrofs::sys::packets::Packets;
use distrofs::wire::Link;
use distrofs::wire::control::{ImageOf, Reply, Request};
use rustix::process::{Signal, kill_process};

const A: u32 = 30_000;
const B: u32 = 31_000;
const SOON: Duration = Duration::from_secs(60);

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("{}: {e}", path.display()))
}

fn conf(service: &Service, home: u32, path: &str) -> String {
    read(&service.distros(home).join(path).join("conf"))
}

fn upload(service: &Service, home: u32, path: &str, text: &str) {
    let image = service.image("next", &[("conf", text)]);
    service.upload(home, &image, &format!("{path}.tgz"));
}

/// The image `own` for each, and `theirs` for B.
fn prepared() -> Service {
    let service = Service::new(&[A, B]);
    upload(&service, A, "own", "of A");
    upload(&service, B, "own", "of B");
    upload(&service, B, "theirs", "of B");
    service
}

fn served() -> Service {
    let mut service = prepared();
    service.start();
    service
}

/// B is served by the same worker as before, and gets what is new.
#[track_caller]
fn assert_goes_on(service: &Service, worker: rustix::process::Pid) {
    upload(service, B, "new", "new");
    let is_served = eventually(SOON, || conf(service, B, "new") == "new");
    assert!(is_served, "{}", service.log());
    assert_eq!(conf(service, B, "own"), "of B");
    assert_eq!(service.worker(B), Some(worker));
    let ran = service.attached(31_001, "31000/own", "cat \"$1/conf\"");
    assert_eq!(ran.ok().stdout, "of B");
    assert_eq!(service.status(B)["restarts"], 0);
}

/// The last reply to a user who does not use the program.
fn reply(service: &Service, uid: u32, request: &Request) -> Reply {
    let run = open(&service.run_dir());
    let socket = format!("/proc/self/fd/{}/control.sock", run.as_raw_fd());
    as_user(uid, || {
        let link = Link::from(Packets::connect(Path::new(&socket)).expect("connect"));
        link.send(request, &[]).expect("ask");
        let mut last = None;
        while let Ok(Some((reply, _))) = link.receive::<Reply>() {
            if let Reply::Text(text) = &reply {
                assert!(
                    !text.contains("theirs") && !text.contains("31000"),
                    "{text}"
                );
            }
            last = Some(reply);
        }
        last.expect("a reply")
    })
}

#[test]
fn nobody_is_told_of_the_images_of_another() {
    let mut service = served();
    let of_b = || ImageOf {
        home: B,
        path: "theirs".parse().expect("a path"),
    };
    for request in [
        Request::Report { home: B },
        Request::Ask {
            home: B,
            question: "\"List\"".to_owned(),
        },
        Request::Abort { image: of_b() },
        Request::Attach {
            container: A,
            image: of_b(),
            writable: None,
            passwd: false,
            at: None,
        },
        Request::Attach {
            container: A,
            image: ImageOf { home: A, ..of_b() },
            writable: None,
            passwd: false,
            at: None,
        },
    ] {
        let reply = reply(&service, A, &request);
        let is_refused = matches!(&reply, Reply::Failed(why) if why.contains("root"));
        assert!(is_refused, "{request:?}: {reply:?}");
    }
    let status = reply(&service, A, &Request::Status);
    assert!(matches!(status, Reply::Done), "{status:?}");
    for args in [
        &["image", "list", "31000"][..],
        &["image", "show", "31000/theirs"],
        &["image", "versions", "31000/theirs"],
        &["image", "rm", "31000/theirs"],
        &["image", "rollback", "31000/theirs"],
        &["image", "verify", "31000/theirs"],
        &["abort", "31000/theirs"],
    ] {
        let said = service.as_user(A, args);
        assert!(said.contains("root"), "{args:?}: {said}");
        assert!(!said.contains("of B"), "{args:?}: {said}");
    }
    for args in [&["status", "--json"][..], &["image", "list"]] {
        let said = service.as_user(A, args);
        assert!(said.contains("30000"), "{args:?}: {said}");
        assert!(
            !said.contains("31000") && !said.contains("theirs"),
            "{said}"
        );
    }
    // An image is in the `distros` of whoever uploaded it only.
    assert!(!service.distros(A).join("theirs").exists());
    service
        .attached(30_001, "30000/theirs", "true")
        .refused(1, &["no image theirs"]);
    assert_eq!(conf(&service, A, "own"), "of A");
    assert_eq!(conf(&service, B, "own"), "of B");
    assert_eq!(conf(&service, B, "theirs"), "of B");
    service.stop();
}

#[test]
fn a_worker_has_no_rights_and_its_user_reaches_nothing_of_others() {
    let mut service = served();
    for home in [A, B] {
        let worker = service.worker(home).expect("a worker").as_raw_nonzero();
        let proc = PathBuf::from(format!("/proc/{worker}"));
        let status = read(&proc.join("status"));
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let words: Vec<_> = line.unwrap_or("none").split_whitespace().collect();
            words.join(" ")
        };
        let ids = format!("{home} {home} {home} {home}");
        assert_eq!(field("Uid:"), ids);
        assert_eq!(field("Gid:"), ids);
        assert_eq!(field("Groups:"), "");
        for caps in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(caps), "0000000000000000", "{caps}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        // Not dumpable: what there is of it in /proc is root's.
        let owner = fs::metadata(proc.join("mem")).expect("look at it").uid();
        assert_eq!(owner, 0);
        for (user, of) in [(home, "itself"), (A + B - home, "another")] {
            let script = format!(
                "! ls {0}/fd/; ! cat {0}/environ; ! head -c1 {0}/mem; ! readlink {0}/root; \
                 ! readlink {0}/exe",
                proc.display()
            );
            let ran = sh_as(user, Path::new("/"), &format!("({script}) 2>/dev/null"));
            assert_eq!(ran.ok().stdout, "", "{of}");
        }
    }
    let mode = |path: &Path| {
        let found = fs::metadata(path).expect("look at it");
        (found.uid(), found.mode() & 0o777)
    };
    let state = service.path().join("containers/.distrofs");
    assert_eq!(mode(&state), (0, 0o700));
    assert_eq!(mode(&state.join("stores").join(B.to_string())), (B, 0o700));
    assert_eq!(mode(&service.run_dir().join("workers")), (0, 0o700));
    assert_eq!(mode(&service.run_dir().join("mounts")), (0, 0o700));
    let script = "for at in containers/.distrofs containers/.distrofs/stores/31000/archives \
                  containers/.distrofs/views run/workers run/mounts run/mounts/31000; do \
                  ! ls $at 2>/dev/null || exit 9; done; \
                  ! echo x 2>/dev/null >containers/31000/distros/x.tgz; \
                  ! mkdir 2>/dev/null containers/31000/distros/x; \
                  ! mv containers/30000/distros/own.status containers/31000/distros/ 2>/dev/null";
    assert_eq!(sh_as(A, service.path(), script).ok().stdout, "");
    service.stop();
}

/// A worker that was taken over by an archive can open what it is there for, and not
/// even what everybody may read. What it opens is changed as it opens it.
#[test]
fn a_worker_that_was_taken_over_reaches_nothing_else() {
    let mut service = served();
    let worker = service.worker(A).expect("a worker");
    let theirs = service.distros(B).join("own/conf");
    let public = Path::new("/etc/passwd");
    assert!(theirs.exists());
    let log = service.path().join("strace");
    // Paths in its memory: as long as one that it uses is.
    let hex: String = public
        .to_str()
        .expect("text")
        .bytes()
        .chain([0])
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "trace=openat", "-e"])
        .arg(format!("inject=openat:poke_enter=@arg2={hex}"))
        .args(["-p", &worker.as_raw_nonzero().to_string(), "-o"])
        .arg(&log);
    let mut strace = strace.spawn().expect("start strace");
    let status = format!("/proc/{}/status", worker.as_raw_nonzero());
    let traced = eventually(SOON, || {
        !read(Path::new(&status)).contains("TracerPid:\t0\n")
    });
    upload(&service, A, "more", "more");
    let tried = eventually(SOON, || read(&log).contains(" = "));
    common::attempt(kill_process(
        rustix::process::Pid::from_child(&strace),
        Signal::TERM,
    ));
    common::attempt(strace.wait());
    assert!(traced && tried, "{}", service.log());
    let said = read(&log);
    let opened: Vec<_> = said
        .lines()
        .filter(|line| line.contains("openat(AT_FDCWD"))
        .collect();
    assert!(!opened.is_empty(), "{said}");
    for line in opened {
        assert!(line.contains("EACCES"), "{line}");
    }
    assert_eq!(conf(&service, B, "own"), "of B");
    service.stop();
}

/// Writes a file that never ends, and names, until dropped.
#[test]
fn what_one_uploads_keeps_nobody_else_waiting() {
    let mut service = served();
    let worker = service.worker(B).expect("a worker");
    let is_done = AtomicBool::new(false);
    let distros = service.distros(A);
    let big = service.path().join("big.tgz");
    let noise = service.path().join("noise");
    run(Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=4"])
        .arg(format!("of={}", noise.display())))
    .ok();
    run(Command::new("tar")
        .arg("-czf")
        .arg(&big)
        .arg("-C")
        .arg(service.path())
        .arg("noise"))
    .ok();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::create(distros.join("endless.tgz")).expect("make a file");
            for _ in 0..20_000 {
                if is_done.load(Ordering::Relaxed) {
                    return;
                }
                file.write_all(&[0x1f; 4096]).expect("write");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for number in 0..3000 {
            let at = distros.join(format!("name-{number}.tgz"));
            File::create(&at).expect("make a file");
            chown(&at, Some(A), Some(A)).expect("chown");
        }
        for number in 0..50 {
            service.upload(A, &big, &format!("big-{number}.tgz"));
        }
        // And all that asks, asks.
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let run = open(&service.run_dir());
                let socket = format!("/proc/self/fd/{}/control.sock", run.as_raw_fd());
                as_user(A, || Packets::connect(Path::new(&socket)).expect("connect"))
            })
            .collect();
        assert_goes_on(&service, worker);
        let said = service.as_user(B, &["status", "--json"]);
        assert!(said.contains("31000"), "{said}");
        drop(asking);
        is_done.store(true, Ordering::Relaxed);
    });
    // Theirs are served, too, or told why not: one by one.
    let first = service.distros(A).join("big-0/noise");
    let is_served = eventually(SOON, || {
        fs::metadata(&first).is_ok_and(|f| f.len() == 4 << 20)
    });
    assert!(is_served, "{}", service.log());
    service.stop();
}

/// The memory of a storage container is full: it is its own processes that are killed.
#[test]
fn a_container_that_fills_its_memory_fills_no_others() {
    let parent = format!("/sys/fs/cgroup/memory/distrofs-test-{}", std::process::id());
    let mut service = prepared();
    service.set(&format!("cgroups=[\"{parent}/{{uid}}\"]"));
    service.start();
    let worker = service.worker(B).expect("a worker");
    let full = Path::new(&parent).join(A.to_string());
    let limited = fs::write(full.join("memory.limit_in_bytes"), (64 << 20).to_string());
    let script = format!(
        "echo $$ >'{}/cgroup.procs'; exec tail -c 300m /dev/zero",
        full.display()
    );
    let filled = run(Command::new("sh").args(["-ec", &script]));
    let others_go_on = conf(&service, B, "own");
    let own = eventually(SOON, || conf(&service, A, "own") == "of A");
    assert_goes_on(&service, worker);
    service.stop();
    let gone = eventually(SOON, || {
        service.worker(A).is_none() && service.worker(B).is_none()
    });
    for group in ["30000/distrofs", "30000", "31000/distrofs", "31000", ""] {
        let group = Path::new(&parent).join(group);
        let is_removed = eventually(SOON, || fs::remove_dir(&group).is_ok());
        assert!(is_removed, "{} stays: {filled:?}", group.display());
    }
    limited.expect("limit the memory");
    assert!(!filled.status.success(), "it was not stopped: {filled:?}");
    assert!(gone && own);
    assert_eq!(others_go_on, "of B");
}
