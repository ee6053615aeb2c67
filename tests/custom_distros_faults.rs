//! The platform's API when it is not asked nicely, and when its database fails: it
//! stays small, goes on answering others, and containers start all the same.

mod common;

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::mount::Tmpfs;
use common::platform::{CONSUMER, KRATOS, OTHER_STORAGE, Platform, STORAGE, ZEUS};
use common::program::{eventually, peak_bytes};
use rustix::process::{Signal, kill_process};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

/// What the process may take, whatever is asked: two passwords that are compared, a
/// connection for everybody, and the program.
const PEAK_BYTES_MAX: u64 = 128 << 20;

fn peak(platform: &Platform) -> u64 {
    peak_bytes(platform.service.api().expect("it runs").as_raw_nonzero())
}

fn authorization() -> String {
    let basic = STANDARD.encode(format!("{}:{}", KRATOS.name, KRATOS.password));
    format!("Authorization: Basic {basic}\r\n")
}

/// Thousands who connect and ask nothing, or slowly, keep nobody out.
#[test]
fn who_asks_slowly_keeps_nobody_waiting() {
    let mut platform = Platform::new();
    platform.start();
    let at = platform.at();
    let begun = [
        "",
        "GET /api/me HTTP/1.1\r\nHost: x\r\nX-a",
        "POST /api/alarms/raise/30001 HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nx",
    ];
    let slow: Vec<_> = (0..4000)
        .map(|number: usize| {
            let mut stream = TcpStream::connect(at).expect("connect");
            // One that was thrown out already does not listen.
            common::attempt(stream.write_all(begun[number % begun.len()].as_bytes()));
            stream
        })
        .collect();
    platform.ask(&KRATOS, "GET", "/api/me", "").ok();
    // Not because they were all thrown out: those who came last are there still.
    let youngest = slow.last().expect("there are some");
    youngest.set_nonblocking(true).expect("do not wait");
    let read = youngest.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(std::io::ErrorKind::WouldBlock));
    for _ in 0..20 {
        platform.ask(&KRATOS, "GET", "/api/me", "").ok();
    }
    assert!(peak(&platform) < PEAK_BYTES_MAX, "{}", peak(&platform));
    drop(slow);
    platform.ask(&KRATOS, "GET", "/api/me", "").ok();
}

/// A request that never ends is not kept.
#[test]
fn endless_requests_are_cut_off() {
    let mut platform = Platform::new();
    platform.start();
    let create = format!("/api/custom_distros/{STORAGE}");
    let head = format!("POST {create} HTTP/1.1\r\nHost: x\r\n{}", authorization());
    // 10 GB are announced, and as many as are wanted are sent.
    let big = format!("{head}Content-Length: 10737418240\r\n\r\n");
    let mut stream = TcpStream::connect(platform.at()).expect("connect");
    stream.set_write_timeout(Some(SOON)).expect("set a time");
    stream.set_read_timeout(Some(SOON)).expect("set a time");
    stream.write_all(big.as_bytes()).expect("send");
    let piece = vec![b'x'; 1 << 16];
    let sent = (0..(10 << 30) / piece.len()).take_while(|_| stream.write_all(&piece).is_ok());
    let sent = sent.count();
    assert!(sent < 1000, "{sent} pieces were taken");
    let mut answer = Vec::new();
    common::attempt(stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 413 "),
        "{text}"
    );
    // Chunks without an end.
    let mut stream = TcpStream::connect(platform.at()).expect("connect");
    stream.set_write_timeout(Some(SOON)).expect("set a time");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(chunked.as_bytes()).expect("send");
    let chunk = [b"10000\r\n", &piece[..], b"\r\n"].concat();
    let sent = (0..100_000).take_while(|_| stream.write_all(&chunk).is_ok());
    assert!(sent.count() < 1000);
    // Headers.
    let header = |number: usize| format!("X-{number}: {number}\r\n");
    let many: String = (0..10_000).map(header).collect();
    for headers in [many, format!("X-long: {}\r\n", "x".repeat(10 << 20))] {
        let mut stream = TcpStream::connect(platform.at()).expect("connect");
        stream.set_read_timeout(Some(SOON)).expect("set a time");
        let request = format!("GET /api/me HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        common::attempt(stream.write_all(request.as_bytes()));
        common::attempt(stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        common::attempt(stream.read_to_end(&mut answer));
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 431 "),
            "{text}"
        );
    }
    assert!(peak(&platform) < PEAK_BYTES_MAX, "{}", peak(&platform));
    platform.ask(&KRATOS, "GET", "/api/me", "").ok();
}

/// Whatever was told to be done is done, also if the process is killed right after.
#[test]
fn what_was_acknowledged_is_kept_when_it_is_killed() {
    const CLIENTS: usize = 200;
    const FOR: Duration = Duration::from_secs(12);
    let mut platform = Platform::new();
    platform.start();
    let first = platform.service.api().expect("it runs");
    let ids: Vec<_> = (0..CLIENTS)
        .map(|client| platform.distro(&KRATOS, STORAGE, &format!("c{client}")))
        .collect();
    let (stop, not_answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let headers = authorization();
    // Each counts in the note of its own: the last number it was told is kept.
    let count = |id: i64| {
        let (mut asked, mut told) = (0_u64, 0);
        while !stop.load(Ordering::Relaxed) {
            asked += 1;
            let body = json!({"note": asked.to_string()}).to_string();
            let request = format!(
                "POST /api/custom_distro/{id} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: \
                 {}\r\n\r\n{body}",
                body.len()
            );
            match platform.raw(request.as_bytes()) {
                Ok(answer) if answer.status == 200 => told = asked,
                // It was too busy, and said so; or was killed.
                answer => {
                    let status = answer.as_ref().map(|answer| answer.status);
                    assert!(matches!(status, Err(_) | Ok(429 | 503)), "{answer:?}");
                    not_answered.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        (id, asked, told)
    };
    let counted: Vec<_> = std::thread::scope(|scope| {
        let count = &count;
        let clients = ids.iter().map(|id| scope.spawn(move || count(*id)));
        let clients: Vec<_> = clients.collect();
        std::thread::sleep(FOR / 2);
        kill_process(first, Signal::KILL).expect("kill it");
        std::thread::sleep(FOR / 2);
        stop.store(true, Ordering::Relaxed);
        let counted = clients
            .into_iter()
            .map(|client| client.join().expect("count"));
        counted.collect()
    });
    // Where it listens is somewhere else than before.
    let is_again = || {
        platform.moved();
        let me = format!("GET /api/me HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        platform
            .raw(me.as_bytes())
            .is_ok_and(|answer| answer.status == 200)
    };
    assert!(eventually(SOON, is_again), "it was not started again");
    let mut all = 0;
    for (id, asked, told) in counted {
        let shown = platform
            .ask(&KRATOS, "GET", &format!("/api/custom_distro/{id}"), "")
            .ok();
        let kept = shown["note"].as_str().expect("a note").parse().unwrap_or(0);
        assert!(
            (told..=asked).contains(&kept),
            "{id}: {told} was told, {kept} is kept"
        );
        all += told;
    }
    println!("{all} changes acknowledged, {not_answered:?} requests not answered");
    assert!(all > CLIENTS as u64, "{all}");
}

/// Each fault of the database is an answer and a line in the log, and nothing that
/// containers notice.
#[test]
fn containers_start_whatever_the_database_does() {
    let mut platform = Platform::new();
    let image = platform.service.image(
        "image",
        &[
            (".old_root/x", ""),
            ("containers/x", ""),
            ("etc/version", "custom"),
        ],
    );
    platform.service.upload(STORAGE, &image, "mine.tgz");
    platform.start();
    let id = platform.distro(&KRATOS, STORAGE, "mine");
    let choose = json!({"custom_distro": id}).to_string();
    let container = format!("/api/containers/{CONSUMER}");
    platform.ask(&KRATOS, "POST", &container, &choose).ok();
    assert_eq!(platform.root_of(CONSUMER), "custom");
    let change = json!({"note": "x"}).to_string();
    let file = platform.registry().join("registry.db");

    // Somebody else is writing.
    let other = rusqlite::Connection::open(&file).expect("open the database");
    other.execute_batch("BEGIN EXCLUSIVE").expect("lock it");
    let answer = platform.ask(&KRATOS, "POST", &container, &change);
    assert_eq!(answer.status, 503, "{answer:?}");
    platform.ask(&KRATOS, "GET", &container, "").ok();
    assert_eq!(platform.root_of(CONSUMER), "custom");
    drop(other);
    platform.ask(&KRATOS, "POST", &container, &change).ok();

    // It is damaged: the first page of every table, and the log with it.
    platform.service.hand_over();
    let whole = fs::read(&file).expect("read the database");
    let damaged = File::options().write(true).open(&file).expect("open it");
    damaged.write_all_at(&[0xff; 4096], 0).expect("damage it");
    for more in ["registry.db-wal", "registry.db-shm"] {
        common::attempt(fs::remove_file(platform.registry().join(more)));
    }
    platform.service.start();
    platform.moved();
    let me = format!("GET /api/me HTTP/1.1\r\nHost: x\r\n{}\r\n", authorization());
    // Where it listens is somewhere else than before.
    let is_refused = || {
        platform.moved();
        platform
            .raw(me.as_bytes())
            .is_ok_and(|answer| answer.status == 503)
    };
    assert!(eventually(SOON, is_refused), "{}", platform.service.log());
    assert!(eventually(SOON, || platform
        .service
        .log()
        .contains("damaged")));
    assert_eq!(platform.root_of(CONSUMER), "custom");
    // Mended, it is used again, without a start.
    damaged.write_all_at(&whole, 0).expect("mend it");
    drop(damaged);
    let is_back = || {
        let answer = platform.raw(me.as_bytes());
        answer.is_ok_and(|answer| answer.status == 200)
    };
    assert!(eventually(SOON, is_back), "{}", platform.service.log());
}

/// On a disk that is full, or was mounted read-only.
#[test]
fn a_full_disk_is_said_and_survived() {
    let mut platform = Platform::new();
    let small = Tmpfs::new(platform.registry(), "size=1m,mode=700,uid=65534,gid=65534");
    platform.import_again();
    platform.start();
    let container = format!("/api/containers/{CONSUMER}");
    let change = |text: &str| {
        let body = json!({"note": text}).to_string();
        platform.ask(&KRATOS, "POST", &container, &body)
    };
    change("before").ok();
    let filler = platform.registry().join("filler");
    let mut file = File::create(&filler).expect("make a file");
    let zeros = [0; 4096];
    while file.write_all(&zeros).is_ok() {}
    // What fits the pages that there are may still be done.
    let failed = eventually(SOON, || change(&"x".repeat(16_000)).status == 503);
    assert!(failed, "{}", platform.service.log());
    assert!(
        platform.service.log().contains("filesystem is full"),
        "{}",
        platform.service.log()
    );
    assert_eq!(platform.ask(&KRATOS, "GET", "/api/me", "").status, 200);
    assert_eq!(platform.root_of(CONSUMER), "precise");
    drop(file);
    fs::remove_file(&filler).expect("make room");
    assert!(eventually(SOON, || change("after").status == 200));
    // It cannot be written at all, for whoever opens it next.
    let registry = platform.registry().to_owned();
    let mode = |directory: u32, files: u32| {
        let mode = Permissions::from_mode;
        fs::set_permissions(&registry, mode(directory)).expect("change a mode");
        for file in fs::read_dir(&registry).expect("list it") {
            let file = file.expect("list it").path();
            fs::set_permissions(file, mode(files)).expect("change a mode");
        }
    };
    mode(0o500, 0o400);
    let api = platform.service.api().expect("it runs");
    kill_process(api, Signal::KILL).expect("kill it");
    let is_refused = || {
        platform.moved();
        let request = format!(
            "POST {container} HTTP/1.1\r\nHost: x\r\n{}Content-Length: 13\r\n\r\n{{\"note\": \"x\"}}",
            authorization()
        );
        platform
            .raw(request.as_bytes())
            .is_ok_and(|answer| answer.status == 503)
    };
    assert!(eventually(SOON, is_refused), "{}", platform.service.log());
    assert_eq!(platform.root_of(CONSUMER), "precise");
    mode(0o700, 0o600);
    let body = json!({"note": "again"}).to_string();
    let again = || platform.ask(&KRATOS, "POST", &container, &body).status == 200;
    assert!(eventually(SOON, again), "{}", platform.service.log());
    platform.service.stop();
    drop(small);
}

/// The other customer's storage is not even asked.
#[test]
fn images_of_others_cannot_be_sent_or_seen() {
    let mut platform = Platform::new();
    platform.start();
    let id = platform.distro(&ZEUS, OTHER_STORAGE, "theirs");
    let image = platform.service.image("image", &[("etc/version", "one")]);
    let bytes = fs::read(&image).expect("read the archive");
    let path = format!("/api/custom_distro/{id}/image");
    platform
        .send("PUT", &path, &authorization(), &bytes)
        .forbidden();
    for part in ["image", "check", "versions"] {
        let path = format!("/api/custom_distro/{id}/{part}");
        platform.ask(&KRATOS, "GET", &path, "").forbidden();
    }
}
