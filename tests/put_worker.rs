//! Archives that are sent to a worker through a socket. The test is its supervisor.

mod common;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::archive::{debian_tar, debian_tgz};
use common::program::{eventually, peak_bytes};
use distrofs::sys::breadcrumbs::Trail;
use distrofs::sys::packets::Listener;
use distrofs::types::ImagePath;
use distrofs::wire::upload::Received;
use distrofs::wire::{Begin, Link, News, Order, PROTOCOL, Version};
use distrofs::worker::questions::{ImageDetails, Question};
use serde_json::Value;

/// The storage container's user.
const OWNER: u32 = 30_000;

/// What a worker may take.
const MEMORY_BYTES: u64 = 48 << 20;

/// No answer takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// A worker and its home, whose path its user cannot enter.
struct Worker {
    dir: tempfile::TempDir,
    child: Child,
    link: Link,
    /// What it told that nobody asked for yet.
    news: VecDeque<News>,
    questions: u64,
    _trail: Trail,
}

impl Drop for Worker {
    fn drop(&mut self) {
        common::attempt(self.child.kill());
        common::attempt(self.child.wait());
    }
}

impl Worker {
    #[track_caller]
    fn new() -> Worker {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test becomes another user: run it as root (scripts/test does, through sudo)"
        );
        let dir = common::temp_dir();
        for name in ["home", "home/distros", "store"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("make a directory");
            fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("set a mode");
            chown(&path, Some(OWNER), Some(OWNER)).expect("change an owner");
        }
        let (child, link, trail) = start(&dir);
        let mut worker = Worker {
            dir,
            child,
            link,
            news: VecDeque::new(),
            questions: 0,
            _trail: trail,
        };
        worker.settle();
        worker
    }

    #[track_caller]
    fn settle(&mut self) {
        self.until(|news| matches!(news, News::Settled).then_some(()));
    }

    /// Another worker in place of this one, which is killed.
    #[track_caller]
    fn replace(&mut self) {
        self.child.kill().expect("kill a worker");
        self.child.wait().expect("wait for a worker");
        (self.child, self.link, self._trail) = start(&self.dir);
        self.news.clear();
        self.settle();
    }

    /// What `find` makes of the first news that it makes something of.
    #[track_caller]
    fn until<T>(&mut self, find: impl Fn(&News) -> Option<T>) -> T {
        for at in 0..self.news.len() {
            if let Some(found) = find(&self.news[at]) {
                self.news.remove(at);
                return found;
            }
        }
        loop {
            let received = self.link.receive::<News>().expect("hear of a worker");
            let (news, _files) = received.expect("a worker that lives");
            if let Some(found) = find(&news) {
                return found;
            }
            self.news.push_back(news);
        }
    }

    /// A way to send an archive.
    #[track_caller]
    fn sending(&self, path: &str, bytes: Option<u64>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("make a pair of sockets");
        ours.set_read_timeout(Some(LIMIT)).expect("set a limit");
        ours.set_write_timeout(Some(LIMIT)).expect("set a limit");
        let order = Order::Upload {
            path: image(path),
            bytes,
        };
        let sent = self.link.send(&order, &[theirs.as_fd()]);
        sent.expect("give an order");
        ours
    }

    #[track_caller]
    fn offered(&mut self, path: &str) -> Version {
        self.until(|news| match news {
            News::Offer { path: of, version } if of.as_str() == path => Some(*version),
            _ => None,
        })
    }

    #[track_caller]
    fn ask(&mut self, question: &Question) -> String {
        self.questions += 1;
        let id = self.questions;
        let question = serde_json::to_string(question).expect("a question");
        let sent = self.link.send(&Order::Ask { id, question }, &[]);
        sent.expect("ask");
        let mut answer = String::new();
        loop {
            let piece = self.until(|news| match news {
                News::Answer { id: of, piece } if *of == id => Some(piece.clone()),
                _ => None,
            });
            if piece.is_empty() {
                return answer;
            }
            answer += &piece;
        }
    }

    fn details(&mut self, path: &str) -> Option<ImageDetails> {
        let answer = self.ask(&Question::Image { path: image(path) });
        serde_json::from_str(&answer).ok()
    }

    fn check(&mut self, path: &str) -> Value {
        let answer = self.ask(&Question::Check { path: image(path) });
        serde_json::from_str(&answer).expect("JSON")
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join(directory)).expect("read a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    fn status(&self, path: &str) -> String {
        let file = self.dir.path().join(format!("home/distros/{path}.status"));
        fs::read_to_string(file).unwrap_or_default()
    }
}

fn start(dir: &tempfile::TempDir) -> (Child, Link, Trail) {
    let (link, theirs) = Link::pair().expect("make a connection");
    let stdin = theirs.as_fd().try_clone_to_owned().expect("a descriptor");
    // By its descriptor: the program may be where this user cannot go.
    let program = File::open(common::program::binary()).expect("open the program");
    let owner = OWNER.to_string();
    let child = Command::new("setpriv")
        .args(["--reuid", &owner, "--regid", &owner, "--clear-groups"])
        .args([
            "sh",
            "-c",
            "exec 3<&1 >/dev/null; exec /proc/self/fd/3 \"$@\"",
            "sh",
        ])
        .arg("worker")
        .arg(dir.path().join("home"))
        .stdin(Stdio::from(stdin))
        .stdout(program)
        .current_dir("/")
        .spawn()
        .expect("start a worker");
    let trail = Trail::new().expect("make memory");
    let socket = dir.path().join("worker.sock");
    common::attempt(fs::remove_file(&socket));
    let listener = Listener::bind(&socket, 0o600).expect("listen");
    let begin = Begin {
        protocol: PROTOCOL,
        uid: 0,
        gid: 0,
        memory_bytes: MEMORY_BYTES,
        versions_kept: 3,
        tune: Vec::new(),
        after_fault: false,
    };
    let open = |name| OwnedFd::from(File::open(dir.path().join(name)).expect("open"));
    let directories = ["home", "home", "store"].map(open);
    let fds = directories.iter().map(AsFd::as_fd);
    let fds: Vec<BorrowedFd<'_>> = fds.chain([listener.as_fd(), trail.as_fd()]).collect();
    link.send(&Order::Begin(begin), &fds).expect("begin");
    link.set_receiving(LIMIT).expect("set a limit");
    (child, link, trail)
}

/// What `find` finds at last.
#[track_caller]
fn found<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    let is_found = eventually(LIMIT, || {
        found = find();
        found.is_some()
    });
    assert!(is_found, "{what}");
    found.expect(what)
}

fn image(path: &str) -> ImagePath {
    ImagePath::new(path.as_bytes()).expect("a path")
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("a frame");
    [&len.to_le_bytes(), bytes].concat()
}

#[track_caller]
fn answer(mut socket: UnixStream) -> Received {
    let mut text = Vec::new();
    let read = socket.read_to_end(&mut text);
    assert!(read.is_ok() || !text.is_empty(), "{read:?}");
    serde_json::from_slice(&text).expect("an answer")
}

/// Sends it in frames of this size; whoever rejects it need not hear all.
#[track_caller]
fn send(
    worker: &Worker,
    path: &str,
    announced: Option<u64>,
    bytes: &[u8],
    size: usize,
) -> Received {
    let mut socket = worker.sending(path, announced);
    let mut sent = bytes
        .chunks(size)
        .try_for_each(|piece| socket.write_all(&frame(piece)));
    sent = sent.and_then(|()| socket.write_all(&frame(b"")));
    let received = answer(socket);
    if let Err(error) = sent {
        assert!(!matches!(received, Received::Taken { .. }), "{error}");
    }
    received
}

/// A small archive.
fn small(worker: &Worker, number: u32) -> (PathBuf, Vec<u8>) {
    let tree = worker.dir.path().join(format!("tree-{number}"));
    fs::create_dir(&tree).expect("make a directory");
    fs::write(tree.join("number"), number.to_string()).expect("write a file");
    let archive = worker.dir.path().join(format!("{number}.tar"));
    common::archive::tar(&tree, &archive, &[]);
    let bytes = fs::read(&archive).expect("read an archive");
    (archive, bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("compress");
    gzip.finish().expect("compress")
}

#[test]
fn what_is_sent_is_offered_before_its_sender_is_told() {
    let mut worker = Worker::new();
    for (path, archive) in [("packed", debian_tgz()), ("plain", debian_tar())] {
        let bytes = fs::read(archive).expect("read an archive");
        let long = bytes.len() as u64;
        let received = send(&worker, path, Some(long), &bytes, 1 << 20);
        let Received::Taken {
            version,
            bytes: of,
            entries,
            notes,
        } = received
        else {
            panic!("{received:?}")
        };
        assert!(of == long && entries > 1000, "{entries}");
        assert_eq!(worker.offered(path), version);
        // The same again is no other version.
        let received = send(&worker, path, None, &bytes, 300_000);
        let again = Received::Taken {
            version,
            bytes: of,
            entries,
            notes,
        };
        assert_eq!(received, again);
        let details = worker.details(path).expect("an image");
        let info = details.image.expect("an image");
        assert_eq!((info.serves, info.versions.len()), (Some(version), 1));
        assert!(details.receiving.is_empty());
        assert_eq!(worker.names("store/incoming"), [""; 0]);
    }
    let peak = peak_bytes(worker.child.id());
    assert!(peak < MEMORY_BYTES, "{peak} bytes");
    found("a status", || {
        worker
            .status("plain")
            .contains("ready: version")
            .then_some(())
    });
}

#[test]
fn senders_of_all_kinds_are_served() {
    let worker = Worker::new();
    let (_, plain) = small(&worker, 1);
    let packed = gzip(&plain);
    let long = |bytes: &[u8]| Some(bytes.len() as u64);
    for (bytes, announced, size) in [
        (&plain, long(&plain), 1),
        (&plain, None, 1000),
        (&packed, long(&packed), 1),
        (&packed, None, 7),
    ] {
        let received = send(&worker, "web", announced, bytes, size);
        assert!(matches!(received, Received::Taken { .. }), "{received:?}");
    }
    let cut = &packed[..packed.len() - 10];
    for (bytes, why) in [
        (&b""[..], ""),
        (&[b'x'; 3_000_000], "tar"),
        (cut, "ends"),
        (&plain[..1536], "its end is missing"),
    ] {
        for announced in [None, long(bytes)] {
            let received = send(&worker, "other", announced, bytes, 1 << 20);
            let Received::Rejected { reason } = &received else {
                panic!("{received:?}")
            };
            assert!(reason.contains(why), "{reason}");
        }
    }
    found("a status", || {
        let status = worker.status("other");
        let why = "refused: the archive that was sent: its end is missing";
        status.contains(why).then_some(())
    });
    for (announced, why) in [(1, "longer"), (plain.len() as u64 + 1, "ended after")] {
        let received = send(&worker, "other", Some(announced), &plain, 1 << 20);
        let Received::Failed { reason } = &received else {
            panic!("{received:?}")
        };
        assert!(reason.contains(why), "{reason}");
    }
    // A frame that is too long, something behind the end, and nobody any more.
    let too_long = (2_u32 << 20).to_le_bytes().to_vec();
    let more = [frame(&plain), frame(b""), vec![1]].concat();
    for (bytes, why) in [
        (too_long, "frame"),
        (more, "behind the end"),
        (frame(&plain), "connection ended"),
    ] {
        let mut socket = worker.sending("other", None);
        socket.write_all(&bytes).expect("send");
        common::attempt(socket.shutdown(Shutdown::Write));
        let received = answer(socket);
        let Received::Failed { reason } = &received else {
            panic!("{received:?}")
        };
        assert!(reason.contains(why), "{reason}");
    }
    assert_eq!(worker.names("store/incoming"), [""; 0]);
    assert_eq!(worker.names("store/archives").len(), 4);
}

#[test]
fn a_sender_that_waits_is_seen_and_keeps_nobody_waiting() {
    let mut worker = Worker::new();
    let (_, plain) = small(&worker, 1);
    let long = plain.len() as u64;
    let mut slow = worker.sending("slow", Some(long));
    slow.write_all(&frame(&plain[..1000])).expect("send");
    let seen = found("what is received", || {
        let details = worker.details("slow")?;
        details
            .receiving
            .into_iter()
            .find(|seen| seen.bytes == 1000)
    });
    assert_eq!(seen.total, Some(long));
    let other = send(&worker, "other", Some(long), &plain, 1 << 20);
    assert!(matches!(other, Received::Taken { .. }), "{other:?}");
    // Two at a time.
    let _second = worker.sending("second", None);
    found("the second of two", || {
        let details = worker.details("second")?;
        details.receiving.into_iter().next()
    });
    let third = match send(&worker, "third", None, &plain, 1 << 20) {
        Received::Failed { reason } => reason,
        taken => panic!("{taken:?}"),
    };
    assert!(third.contains("try again"), "{third}");
    slow.write_all(&frame(&plain[1000..])).expect("send");
    slow.write_all(&frame(b"")).expect("send");
    let slow = answer(slow);
    assert!(matches!(slow, Received::Taken { .. }), "{slow:?}");
}

#[test]
fn a_worker_that_is_killed_or_leaves_keeps_nothing_half_done() {
    let mut worker = Worker::new();
    let bytes = fs::read(debian_tgz()).expect("read an archive");
    for part in [0, 1000, bytes.len() / 2, bytes.len()] {
        let mut socket = worker.sending("web", Some(bytes.len() as u64));
        for piece in bytes[..part].chunks(1 << 20) {
            socket.write_all(&frame(piece)).expect("send");
        }
        found("bytes", || {
            let details = worker.details("web")?;
            let all = details.receiving.iter().map(|one| one.bytes);
            (all.sum::<u64>() == part as u64).then_some(())
        });
        worker.replace();
        let mut nothing = Vec::new();
        common::attempt(socket.read_to_end(&mut nothing));
        assert!(nothing.is_empty());
        assert_eq!(worker.names("store/incoming"), [""; 0]);
        assert_eq!(worker.names("store/archives"), [""; 0]);
        assert!(worker.details("web").is_none());
    }
    // One that is told to end does not wait for who sends.
    let mut begun = worker.sending("web", None);
    begun.write_all(&frame(&bytes[..1000])).expect("send");
    found("bytes", || {
        let details = worker.details("web")?;
        (!details.receiving.is_empty()).then_some(())
    });
    let received = send(&worker, "web", None, &bytes, 1 << 20);
    assert!(matches!(received, Received::Taken { .. }), "{received:?}");
    worker.link.send(&Order::Drain, &[]).expect("give an order");
    assert!(worker.child.wait().expect("wait for a worker").success());
    worker.replace();
    let mut nothing = Vec::new();
    common::attempt(begun.read_to_end(&mut nothing));
    assert!(nothing.is_empty());
    assert_eq!(worker.names("store/incoming"), [""; 0]);
    let details = worker.details("web").expect("an image");
    assert!(details.image.is_some() && details.receiving.is_empty());
}

/// An rpm database with one package, as rpm makes it.
fn rpm_database(path: &Path) {
    let (tags, values) = ([1000_u32, 1001, 1002, 1022], ["bash", "5.1", "6", "x86_64"]);
    let (mut entries, mut store) = (Vec::new(), Vec::new());
    for (tag, value) in tags.into_iter().zip(values) {
        let offset = u32::try_from(store.len()).expect("an offset");
        entries.extend([tag, 6, offset, 1].map(u32::to_be_bytes).concat());
        store.extend_from_slice(value.as_bytes());
        store.push(0);
    }
    let long = u32::try_from(store.len()).expect("a length");
    let head = [4, long].map(u32::to_be_bytes).concat();
    let header = [head, entries, store].concat();
    let database = rusqlite::Connection::open(path).expect("make a database");
    let made = database.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE Packages (hnum INTEGER PRIMARY KEY \
         AUTOINCREMENT, blob BLOB NOT NULL)",
    );
    made.expect("make a table");
    let insert = "INSERT INTO Packages (blob) VALUES (?1)";
    database.execute(insert, [header]).expect("add a package");
}

/// A worker whose store cannot be entered by its path answers what the command does,
/// and no more than fits.
#[test]
fn what_is_checked_is_what_the_command_says() {
    let mut worker = Worker::new();
    let tree = worker.dir.path().join("tree");
    let at = |path: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        path
    };
    rpm_database(&at("var/lib/rpm/rpmdb.sqlite"));
    fs::write(at("tmp/open"), "x").expect("write a file");
    let everybody = PermissionsExt::from_mode(0o777);
    fs::set_permissions(at("tmp/open"), everybody).expect("set a mode");
    let archive = worker.dir.path().join("web.tar");
    common::archive::tar(&tree, &archive, &[]);
    let mut inspect = Command::new(common::program::binary());
    let inspect = inspect.args(["inspect", "--json", "--packages"]);
    let said = common::program::run(inspect.arg(&archive)).stdout;
    let mut said: Value = serde_json::from_str(&said).expect("JSON");
    let bytes = fs::read(&archive).expect("read an archive");
    let received = send(&worker, "web", None, &bytes, 1 << 20);
    assert!(matches!(received, Received::Taken { .. }), "{received:?}");
    let mut checked = worker.check("web");
    let packages = &checked["package_databases"][0];
    assert_eq!(packages["problem"], Value::Null);
    assert_eq!(packages["packages"][0]["version"], "5.1-6");
    assert_eq!(worker.names("store/scratch"), [""; 0]);
    assert_eq!(checked["version"], said["sha256"]);
    assert_eq!(checked["truncated"], Value::Array(vec![]));
    let fields = |value: &mut Value, own: &[&str]| {
        let fields = value.as_object_mut().expect("an object");
        fields.retain(|name, _| !own.contains(&name.as_str()));
    };
    fields(&mut said, &["archive", "kind", "sha256", "index"]);
    fields(&mut checked, &["path", "version", "truncated"]);
    assert_eq!(checked, said);

    // More than anybody is told.
    let many = (0..30_000).map(|n| {
        format!(
            "Package: package-{n}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
        )
    });
    fs::write(at("var/lib/dpkg/status"), many.collect::<String>()).expect("write a file");
    common::archive::tar(&tree, &archive, &[]);
    let bytes = fs::read(&archive).expect("read an archive");
    let received = send(&worker, "web", None, &bytes, 1 << 20);
    assert!(matches!(received, Received::Taken { .. }), "{received:?}");
    let checked = worker.check("web");
    assert!(checked.to_string().len() < 2 << 20);
    let packages = checked["package_databases"][0]["packages"].as_array();
    let packages = packages.expect("packages").len();
    assert!((5000..=20_000).contains(&packages), "{packages}");
    assert_eq!(checked["truncated"][0], "package_databases");
    assert!(worker.check("none")["error"].is_string());
}
