//! The supervisor when the system fails it, when clients are odd, and what it never
//! does at all.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::program::{Ran, eventually};
use common::service::Service;
use distrofs::sys::packets::{MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX, Packets};
use distrofs::wire::Link;
use distrofs::wire::control::{CONTROL, ImageOf, Reply, Request};
use rustix::process::{Pid, Signal, kill_process};

const S: u32 = 30_000;
const SOON: Duration = Duration::from_secs(60);

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("{}: {e}", path.display()))
}

/// A service with the image `web`, whose `conf` says `first`.
fn served() -> Service {
    let mut service = Service::new(&[S]);
    upload(&service, "first");
    service.start();
    assert_eq!(shown(&service), "first");
    service
}

fn upload(service: &Service, text: &str) {
    let image = service.image("web", &[("conf", text), ("etc/deep", "x")]);
    service.upload(S, &image, "web.tgz");
}

fn shown(service: &Service) -> String {
    read(&service.distros(S).join("web/conf"))
}

fn attach(service: &Service) -> Ran {
    service.attached(30_001, "30000/web", "cat \"$1/conf\"")
}

/// What should not grow.
fn held(service: &Service) -> (usize, usize) {
    (service.descriptors(), service.mounts().len())
}

#[track_caller]
fn assert_nothing_left(service: &Service, before: (usize, usize), what: &str) {
    let is_same = || {
        let now = held(service);
        now.0 <= before.0 && now.1 == before.1
    };
    assert!(
        eventually(SOON, is_same),
        "{what}: {:?} instead of {before:?}: {:?}",
        held(service),
        service.mounts()
    );
}

/// Lets system calls of the supervisor fail until it is dropped.
struct Faults(Child);

impl Faults {
    #[track_caller]
    fn new(service: &Service, fault: &str) -> Faults {
        let supervisor = service.supervisor();
        let call = fault.split(':').next().expect("a system call");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={fault}"), "-p"])
            .arg(supervisor.as_raw_nonzero().to_string());
        let said = File::create(service.path().join("strace")).expect("make a file");
        let child = command.stderr(said).stdin(Stdio::null()).spawn();
        let faults = Faults(child.expect("start strace"));
        let is_traced = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", supervisor.as_raw_nonzero()));
            let mut tasks = tasks.expect("the supervisor runs").flatten();
            tasks.all(|task| !read(&task.path().join("status")).contains("TracerPid:\t0\n"))
        };
        assert!(eventually(SOON, is_traced), "strace does not trace");
        faults
    }

    /// Ends them; whether there was any.
    fn end(self, service: &Service) -> bool {
        drop(self);
        read(&service.path().join("strace")).contains("(INJECTED)")
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        common::attempt(kill_process(Pid::from_child(&self.0), Signal::TERM));
        common::attempt(self.0.wait());
    }
}

/// The supervisor is killed at each step of a container's first attach. What was begun is
/// finished or undone when the next one is asked.
#[test]
fn a_crash_at_any_step_of_an_attach_leaves_nothing_in_the_way() {
    let mut service = served();
    let mounts = service.mounts().len();
    let (mut container, mut crashes) = (30_100, 0);
    for call in [
        "open_tree",
        "fsopen",
        "fsmount",
        "mkdirat",
        "renameat",
        "sendmsg",
    ] {
        for number in 1..=3 {
            container += 1;
            let first = |service: &Service| {
                service.attached(
                    container,
                    "30000/web",
                    "cat \"$1/conf\"; echo x > \"$1/new\"",
                )
            };
            let fault = format!("{call}:signal=KILL:when={number}");
            let faults = Faults::new(&service, &fault);
            let ran = first(&service);
            drop(faults);
            if ran.status.success() {
                break;
            }
            crashes += 1;
            service.kill();
            service.start();
            assert_eq!(first(&service).ok().stdout, "first", "{fault}");
            let again = service.attached(container, "30000/web", "cat \"$1/new\"");
            assert_eq!(again.ok().stdout, "x\n", "{fault}");
            let is_same = eventually(SOON, || service.mounts().len() == mounts);
            assert!(is_same, "{fault}: {:?}", service.mounts());
        }
    }
    assert!(crashes >= 6, "only {crashes} crashes");
    assert_eq!(shown(&service), "first");
    service.stop();
}

/// Each call of an attach fails, one after the other, until there are no more of it.
#[test]
fn a_fault_at_any_step_of_an_attach_is_told_and_undone() {
    let service = served();
    assert_eq!(attach(&service).ok().stdout, "first");
    let before = held(&service);
    let mut failed = 0;
    for (call, error) in [
        ("open_tree", "ENOMEM"),
        ("fsopen", "ENOMEM"),
        ("fsconfig", "EIO"),
        ("fsmount", "ENOMEM"),
        ("mount_setattr", "EPERM"),
        ("move_mount", "EIO"),
        ("openat2", "EIO"),
        ("mkdirat", "ENOSPC"),
        ("renameat", "ENOSPC"),
        ("write", "ENOSPC"),
        ("flock", "EIO"),
        ("sendmsg", "ENOBUFS"),
    ] {
        for number in 1..=12 {
            let fault = format!("{call}:error={error}:when={number}");
            let faults = Faults::new(&service, &fault);
            let ran = attach(&service);
            let was_injected = faults.end(&service);
            if !ran.status.success() {
                failed += 1;
                assert!(was_injected, "{fault}: {ran:?}");
                assert!(ran.stderr.starts_with("distrofs: "), "{fault}: {ran:?}");
                assert!(!ran.stderr.contains("panicked"), "{fault}: {ran:?}");
            }
            // What is injected into others, such as those who talk to the worker, may
            // make them begin again.
            let again = || attach(&service).stdout == "first";
            assert!(eventually(SOON, again), "{fault}: {}", service.log());
            if !was_injected {
                break;
            }
        }
        assert_nothing_left(&service, before, call);
        assert_eq!(shown(&service), "first");
    }
    println!("{failed} attaches failed");
    assert!(failed >= 20, "only {failed} failed");
    assert!(!service.log().contains("panicked"), "{}", service.log());
}

/// The same of what is done for a new version. The next one is served in any case, and
/// nothing of the others is left.
#[test]
fn a_fault_at_any_step_of_mounting_is_mended_by_the_next_version() {
    let service = served();
    let before = held(&service);
    for (number, fault) in [
        "mkdir:error=ENOSPC",
        "mount:error=ENOMEM",
        "openat:error=EMFILE:when=2+3",
        "ioctl:error=EIO",
        "openat2:error=EIO",
        "open_tree:error=ENOMEM",
        "fsopen:error=ENODEV",
        "fsconfig:error=EIO:when=2+",
        "fsmount:error=ENOMEM",
        "move_mount:error=EIO",
        "mkdirat:error=ENOSPC",
        "sendmsg:error=EIO",
        "clone3:error=EAGAIN",
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("version {number}");
        let faults = Faults::new(&service, fault);
        upload(&service, &format!("faulty {number}"));
        let upload_at = service.distros(S).join("web.tgz");
        let taken = eventually(SOON, || !upload_at.exists());
        assert!(taken, "{fault}: {}", service.log());
        // It may be served in spite of all, and need not.
        sleep(Duration::from_millis(200));
        let was_injected = faults.end(&service);
        println!("{fault}: {was_injected}, {}", shown(&service));
        upload(&service, &text);
        let is_shown = || shown(&service) == text && attach(&service).stdout == text;
        assert!(
            eventually(SOON, is_shown),
            "{fault}: {} {}",
            shown(&service),
            service.log()
        );
        assert_nothing_left(&service, before, fault);
    }
    assert!(!service.log().contains("panicked"), "{}", service.log());
}

fn connect(service: &Service) -> Packets {
    Packets::connect(&service.run_dir().join(CONTROL)).expect("connect")
}

fn web() -> Request {
    let path = "web".parse().expect("a path");
    Request::Attach {
        container: 30_009,
        image: Some(ImageOf { home: S, path }),
        writable: None,
        passwd: false,
        at: None,
    }
}

#[test]
fn clients_that_say_anything_or_nothing_harm_nobody() {
    let service = served();
    assert_eq!(attach(&service).ok().stdout, "first");
    let before = held(&service);
    let null = File::open("/dev/null").expect("open a file");
    let many = vec![null.as_fd(); MESSAGE_FDS_MAX];
    let whole = serde_json::to_vec(&Request::Status).expect("a request");
    let deep = "[".repeat(MESSAGE_BYTES_MAX);
    let mut silent = Vec::new();
    for _ in 0..3 {
        for said in [
            &b"\0"[..],
            b"\xff\xfe garbage",
            &whole[..whole.len() / 2],
            b"{\"Attach\":{\"container\":-1}}",
            b"{\"Abort\":{\"image\":{\"home\":30000,\"path\":\"../web\"}}}",
            b"{\"Ask\":{\"home\":30000,\"question\":\"{\"}}",
            b"{\"Unknown\":{}}",
            deep.as_bytes(),
        ] {
            let client = connect(&service);
            common::attempt(client.send(said, &[]));
            let client = connect(&service);
            common::attempt(client.send(said, &many));
            common::attempt(client.send(said, &many));
            common::attempt(client.receive());
        }
        // One that never says a thing, and one that never listens.
        silent.push(connect(&service));
        let client = connect(&service);
        common::attempt(Link::from(client).send(&web(), &many));
        drop(connect(&service));
    }
    assert_eq!(attach(&service).ok().stdout, "first");
    drop(silent);
    assert_nothing_left(&service, before, "odd clients");
    // Two hundred at once: each is answered, or turned away.
    let answered = std::thread::scope(|scope| {
        let ask = || {
            let link = Link::from(connect(&service));
            link.set_receiving(SOON).expect("set a limit");
            common::attempt(link.send(&Request::Status, &[]));
            matches!(link.receive::<Reply>(), Ok(Some((Reply::Text(_), _))))
        };
        let clients: Vec<_> = (0..200).map(|_| scope.spawn(ask)).collect();
        let answers = clients.into_iter().map(|client| client.join());
        answers
            .filter(|answered| matches!(answered, Ok(true)))
            .count()
    });
    assert!(answered > 0, "nobody was answered");
    assert_eq!(attach(&service).ok().stdout, "first");
    assert_nothing_left(&service, before, "many clients");
    assert!(!service.log().contains("panicked"), "{}", service.log());
}

#[test]
fn a_client_that_is_killed_while_it_attaches_leaves_nothing() {
    let service = served();
    assert_eq!(attach(&service).ok().stdout, "first");
    let before = held(&service);
    for number in 0..15 {
        let mut client = service.attaching(30_001, "30000/web", "exec sleep 1000");
        let mut client = client.stderr(Stdio::null()).spawn().expect("start");
        sleep(Duration::from_millis(10 * number));
        client.kill().expect("kill a client");
        client.wait().expect("wait for a client");
        // One that asks and is gone before there is an answer, and one after.
        let link = Link::from(connect(&service));
        link.send(&web(), &[]).expect("ask");
        if number % 2 == 0 {
            common::attempt(link.receive::<Reply>());
        }
    }
    assert_eq!(attach(&service).ok().stdout, "first");
    assert_nothing_left(&service, before, "clients that were killed");
}

/// What each thread and process did, as `strace -ff` writes it, in the file of its
/// number.
fn traces(directory: &Path) -> BTreeMap<i32, String> {
    let files = fs::read_dir(directory).expect("read the traces").flatten();
    let numbered = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        Some((name.rsplit('.').next()?.parse().ok()?, file.path()))
    });
    numbered
        .map(|(number, path): (i32, PathBuf)| {
            let text = fs::read(&path).expect("read a trace");
            (number, String::from_utf8_lossy(&text).into_owned())
        })
        .collect()
}

/// What a process did itself: all its threads, and its children until they became
/// other programs.
fn own_calls(traces: &BTreeMap<i32, String>, process: i32) -> Vec<&str> {
    let mut calls = Vec::new();
    let mut left = vec![(process, true)];
    while let Some((number, is_thread)) = left.pop() {
        let lines = traces.get(&number).map_or("", |text| text).lines();
        let own = lines.take_while(|line| is_thread || !line.starts_with("execve("));
        for line in own {
            let is_clone = ["clone", "vfork", "fork"]
                .iter()
                .any(|call| line.starts_with(call));
            let made = line.rsplit(" = ").next().and_then(|n| n.parse().ok());
            if let (true, Some(made)) = (is_clone, made) {
                left.push((made, is_thread && line.contains("CLONE_THREAD")));
            }
            calls.push(line);
        }
    }
    calls
}

#[test]
fn the_supervisor_opens_no_archive_no_index_no_database_and_speaks_no_http() {
    let mut service = Service::new(&[S]);
    let directory = service.path().join("traces");
    fs::create_dir(&directory).expect("make a directory");
    let output = directory.join("of");
    let calls = "trace=execve,clone,clone3,vfork,fork,open,openat,openat2,socket,bind,listen,\
                 connect,read,pread64,readv,mmap,sendfile,splice,copy_file_range";
    let words = ["strace", "-D", "-qq", "-ff", "-y", "-e", calls, "-o"].map(OsStr::new);
    service.trace(&[&words[..], &[output.as_os_str()]].concat());
    service.set("listen=127.0.0.1:0");
    upload(&service, "first");
    service.start();
    let supervisor = service.supervisor().as_raw_nonzero().get();
    service.http();
    assert_eq!(attach(&service).ok().stdout, "first");
    upload(&service, "second");
    assert!(eventually(SOON, || shown(&service) == "second"));
    let worker = service.worker(S).expect("a worker");
    kill_process(worker, Signal::KILL).expect("kill the worker");
    assert!(eventually(SOON, || {
        service.worker(S).is_some_and(|next| next != worker)
    }));
    assert_eq!(attach(&service).ok().stdout, "second");
    service.status(S);
    service.stop();
    let gone = eventually(SOON, || service.worker(S).is_none());
    assert!(gone, "{}", service.log());
    let traces = traces(&directory);
    let calls = own_calls(&traces, supervisor);
    let is_of_customers = |line: &str| {
        [
            ".tgz",
            ".tar",
            ".dfsx",
            "/archives/",
            "/derived/",
            "/incoming/",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    let is_database = |line: &str| {
        [".sqlite", ".db\"", ".db>"]
            .iter()
            .any(|w| line.contains(w))
    };
    let is_inet = |line: &str| line.contains("AF_INET") || line.contains("AF_NETLINK");
    for line in &calls {
        assert!(!is_of_customers(line), "{line}");
        assert!(!is_database(line), "{line}");
        assert!(!is_inet(line), "{line}");
        assert!(
            !line.starts_with("socket(") || line.starts_with("socket(AF_UNIX"),
            "{line}"
        );
    }
    // So that this would be seen: it did what it does, and others did the rest.
    let did = |word: &str| calls.iter().any(|line| line.contains(word));
    assert!(did("distros/web") && did("socket(AF_UNIX") && did("bind("));
    let others = || traces.values().flat_map(|text| text.lines());
    assert!(others().any(is_of_customers) && others().any(is_inet));
    println!("{} calls of {}", calls.len(), others().count());
}
