//! `/metrics` and `/healthz`: who answers them has no rights, cannot be kept busy, and
//! tells what is so. And the logs of all processes.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use common::http::{ask, get, samples};
use common::program::{eventually, peak_bytes};
use common::service::Service;
use common::view::as_user;
use distrofs::wire::client::{AskError, ask_text};
use distrofs::wire::control::{ImageOf, Request};
use distrofs::wire::report::Status;
use distrofs::wire::served::{REPORT, WorkerReport};
use rustix::process::{Signal, kill_process};

const S: u32 = 30_000;
const API: u32 = 65_534;
const SOON: Duration = Duration::from_secs(20);

/// A service with one image, which answers HTTP.
fn service() -> Service {
    let mut service = Service::new(&[S, S + 1]);
    service.set("listen=127.0.0.1:0");
    let image = service.image("own", &[("etc/version", "one"), ("bin/sh", "#!")]);
    service.upload(S, &image, "own.tgz");
    service.start();
    service
}

#[test]
fn metrics_tell_what_is_so() {
    let mut service = service();
    let at = service.http();
    fs::read(service.distros(S).join("own/etc/version")).expect("read a file");
    let health = get(at, "/healthz").expect("ask");
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"homes":2,"status":"ok"}"#)
    );
    assert!(
        health.head.contains("content-type: application/json"),
        "{}",
        health.head
    );
    service.attached(30_001, "30000/own", "").ok();
    service
        .attached(30_001, "30000/none", "")
        .refused(1, &["no image"]);
    let answer = get(at, "/metrics").expect("ask");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let kind = "content-type: text/plain; version=0.0.4";
    assert!(answer.head.contains(kind), "{}", answer.head);
    let found = samples(&answer.body);
    let value = |name: &str, with: &[(&str, &str)]| {
        let has = |labels: &std::collections::BTreeMap<String, String>| {
            let is = |(name, value): &(&str, &str)| labels.get(*name).is_some_and(|v| v == value);
            with.iter().all(is)
        };
        let mut all = found
            .iter()
            .filter(|((n, labels), _)| n == name && has(labels));
        let first = all
            .next()
            .unwrap_or_else(|| panic!("{name}: {}", answer.body));
        assert!(
            all.next().is_none(),
            "{name} {with:?} is not one: {}",
            answer.body
        );
        *first.1
    };
    let home = ("home", "30000");
    assert_eq!(value("distrofs_worker_up", &[home]), 1.0);
    assert_eq!(value("distrofs_worker_answers", &[("home", "30001")]), 1.0);
    assert_eq!(value("distrofs_images", &[home]), 1.0);
    assert_eq!(value("distrofs_views_attached_total", &[home]), 1.0);
    assert_eq!(value("distrofs_views_refused_total", &[home]), 1.0);
    let taken = [home, ("result", "taken")];
    assert_eq!(value("distrofs_ingest_uploads_total", &taken), 1.0);
    assert!(value("distrofs_memory_limit_bytes", &[home, ("kind", "blocks")]) > 1e6);
    assert!(value("distrofs_memory_resident_bytes", &[home]) > 1e6);
    let reads = [home, ("image", "own"), ("op", "read")];
    assert!(value("distrofs_request_duration_seconds_count", &reads) >= 1.0);
    assert_eq!(value("distrofs_oldest_request_seconds", &[home]), 0.0);
    assert!(value("distrofs_served_bytes_total", &[home]) >= 3.0);
    assert_eq!(get(at, "/none").expect("ask").status, 404);
    service.stop();
    assert!(
        get(at, "/healthz").is_err(),
        "it answers though the service ended"
    );
    assert_eq!(service.api(), None);
}

/// A worker that hangs is told of, and the others as ever.
#[test]
fn a_worker_that_hangs_does_not_keep_metrics_from_being_told() {
    let mut service = service();
    let at = service.http();
    let worker = service.worker(S).expect("a worker");
    // Nothing of what it serves is touched before it goes on.
    kill_process(worker, Signal::STOP).expect("stop the worker");
    let answer = get(at, "/metrics");
    let health = get(at, "/healthz");
    kill_process(worker, Signal::CONT).expect("let the worker go on");
    let (answer, health) = (answer.expect("ask"), health.expect("ask"));
    for line in [
        "distrofs_worker_up{home=\"30000\"} 1\n",
        "distrofs_worker_answers{home=\"30000\"} 0\n",
        "distrofs_worker_answers{home=\"30001\"} 1\n",
    ] {
        assert!(answer.body.contains(line), "{line}: {}", answer.body);
    }
    assert_eq!(health.status, 200);
    service.stop();
}

#[test]
fn who_answers_has_no_rights_and_is_started_again() {
    let mut service = service();
    let at = service.http();
    let api = service.api().expect("a process");
    let status = format!("/proc/{}/status", api.as_raw_nonzero());
    let status = fs::read_to_string(status).expect("read its status");
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {status}"))
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(line("Uid:")[1..], ["65534"; 4]);
    assert_eq!(line("Gid:")[1..], ["65534"; 4]);
    assert_eq!(line("Groups:").len(), 1);
    assert_eq!(line("NoNewPrivs:")[1], "1");
    for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(line(set)[1], "0000000000000000");
    }
    kill_process(api, Signal::KILL).expect("kill it");
    let again = || service.api().is_some_and(|next| next != api);
    assert!(eventually(SOON, again), "{}", service.log());
    // At another port, for it is to be any.
    let is_well = |service: &Service| {
        let health = || get(service.http(), "/healthz").is_ok_and(|answer| answer.status == 200);
        assert!(eventually(SOON, health), "{at}: {}", service.log());
    };
    is_well(&service);
    // With the supervisor it ends, however that ended.
    let api = service.api();
    service.kill();
    assert!(eventually(SOON, || service.api() != api), "it stays");
    service.start();
    is_well(&service);
    service.stop();
}

#[test]
fn its_user_is_told_how_all_are_doing_and_nothing_else() {
    let mut service = service();
    let run = fs::File::open(service.run_dir()).expect("open the directory");
    let ask_as = |user: u32, request: &Request| {
        let run = format!("/proc/self/fd/{}", run.as_raw_fd());
        as_user(user, || ask_text(run.as_ref(), request, SOON, 1 << 20))
    };
    let homes = |user| {
        let text = ask_as(user, &Request::Status).expect("ask");
        let status: Status = serde_json::from_str(&text).expect("a status");
        status
            .homes
            .iter()
            .map(|home| home.home)
            .collect::<Vec<_>>()
    };
    assert_eq!(homes(API), [S, S + 1]);
    assert_eq!(homes(S), [S]);
    assert_eq!(homes(30_007), [0; 0]);
    let report = Request::Report { home: S };
    for user in [API, S, 0] {
        let text = ask_as(user, &report).expect("ask");
        let report: WorkerReport = serde_json::from_str(&text).expect("a report");
        assert_eq!(report.images.len(), 1, "{text}");
    }
    let path: distrofs::wire::ImagePath = "own".parse().expect("a path");
    let image = ImageOf { home: S, path };
    // What customers ask it goes through it.
    let question = Request::Ask {
        home: S,
        question: REPORT.to_owned(),
    };
    ask_as(API, &question).expect("ask");
    let others = [
        Request::Abort {
            image: image.clone(),
        },
        Request::Attach {
            container: 30_001,
            image: Some(image),
            writable: None,
            passwd: false,
            at: None,
        },
    ];
    let refused = |user, request: &Request| {
        let refused = ask_as(user, request);
        let is = matches!(&refused, Err(AskError::Refused(why)) if why.contains("root only"));
        assert!(is, "{user} {request:?}: {refused:?}");
    };
    for user in [API, S + 1] {
        others.iter().for_each(|request| refused(user, request));
    }
    for request in [report, question] {
        refused(S + 1, &request);
    }
    for request in [
        Request::Decide,
        Request::Restart { container: 30_001 },
        Request::Alarms { taken: 0 },
    ] {
        refused(S, &request);
    }
    service.stop();
}

#[test]
fn an_address_that_is_taken_is_waited_for_and_images_are_served() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let at = taken.local_addr().expect("an address");
    let mut service = Service::new(&[S]);
    service.set(&format!("listen={at}"));
    let image = service.image("own", &[("etc/version", "one")]);
    service.upload(S, &image, "own.tgz");
    service.start();
    let version = service.distros(S).join("own/etc/version");
    assert_eq!(fs::read(version).expect("read a file"), b"one");
    let is_said = || service.log().contains("tries again");
    assert!(eventually(SOON, is_said), "{}", service.log());
    drop(taken);
    assert_eq!(service.http(), at);
    assert_eq!(get(at, "/healthz").expect("ask").status, 200);
    service.stop();
}

#[test]
fn clients_that_take_their_time_cost_little() {
    let mut service = service();
    let at = service.http();
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(at).expect("connect");
        if number % 2 == 0 {
            let part = "GET /metrics HTTP/1.1\r\nX: ";
            stream.write_all(part.as_bytes()).expect("send");
            let long = "x".repeat(4096);
            // It may have been cut off already.
            common::attempt(stream.write_all(long.as_bytes()));
        }
        slow.push(stream);
    }
    // Whoever comes after them gets an answer.
    assert_eq!(get(at, "/healthz").expect("ask").status, 200);
    drop(slow);
    let long = "x".repeat(1 << 20);
    for head in [
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\nHost: {long}\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000)),
    ] {
        // Cut off, or told so.
        let answer = ask(at, &head);
        assert!(
            !matches!(&answer, Ok(answer) if answer.status == 200),
            "{answer:?}"
        );
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(get(at, "/metrics").expect("ask").status, 200);
                }
            });
        }
    });
    let peak = peak_bytes(service.api().expect("a process").as_raw_nonzero());
    println!("peak of what answers HTTP: {} KiB", peak / 1024);
    assert!(peak < 24 << 20, "{peak} bytes");
    service.stop();
}

#[test]
fn logs_are_objects_if_that_is_set() {
    let mut service = Service::new(&[S]);
    service.set("log=json");
    service.set("listen=127.0.0.1:0");
    let image = service.image("own", &[("etc/version", "one")]);
    service.upload(S, &image, "own.tgz");
    // Something that a worker warns of.
    fs::write(service.path().join("odd.tgz"), "no archive").expect("write a file");
    service.upload(S, &service.path().join("odd.tgz"), "odd.tgz");
    service.start();
    service.http();
    let worker = service.worker(S).expect("a worker");
    kill_process(worker, Signal::KILL).expect("kill the worker");
    let next = eventually(SOON, || service.worker(S).is_some_and(|pid| pid != worker));
    assert!(next, "{}", service.log());
    // A container without a home.
    service.attached(30_001, "30000/own", "").ok();
    assert!(eventually(SOON, || service.told().lines.failed > 0));
    service.stop();
    let log = service.log();
    let mut seen = BTreeSet::new();
    for line in log.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}: {log}"));
        for name in ["timestamp", "level", "target", "role", "message"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
        assert!(line.get("home").is_some(), "{line}");
        let role = line["role"].as_str().expect("text").to_owned();
        seen.insert((role, line["home"].as_u64()));
    }
    for (role, home) in [
        ("supervisor", None),
        ("supervisor", Some(30_000)),
        ("api", None),
    ] {
        assert!(
            seen.contains(&(role.to_owned(), home)),
            "{role} {home:?}: {log}"
        );
    }
    // A command that fails says so in the same way.
    let mut status = common::program::distrofs(["status", "--log-format", "json", "--run", "/no"]);
    let failed = status.output().expect("run");
    let line: serde_json::Value = serde_json::from_slice(&failed.stderr).expect("an object");
    assert_eq!(
        (&line["level"], &line["role"]),
        (&"ERROR".into(), &"command".into())
    );
}
