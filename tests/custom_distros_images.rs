//! Custom distros from end to end: an archive is sent, a container gets it as its root,
//! and what happens when it is replaced, or is no root.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::platform::{Answer, CONSUMER, KRATOS, Platform, STORAGE};
use common::program::eventually;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

fn authorization() -> String {
    let basic = STANDARD.encode(format!("{}:{}", KRATOS.name, KRATOS.password));
    format!("Authorization: Basic {basic}\r\n")
}

/// Sends an archive.
fn put(platform: &Platform, id: i64, archive: &Path) -> Answer {
    let bytes = fs::read(archive).expect("read an archive");
    let path = format!("/api/custom_distro/{id}/image");
    platform.send("PUT", &path, &authorization(), &bytes)
}

fn get(platform: &Platform, id: i64, part: &str) -> Answer {
    let path = format!("/api/custom_distro/{id}/{part}");
    platform.ask(&KRATOS, "GET", &path, "")
}

fn alarms(platform: &Platform) -> Vec<String> {
    let all = platform.ask(&KRATOS, "GET", "/api/alarms", "").ok();
    let all = all.as_array().expect("a list").iter();
    all.map(|alarm| {
        assert_eq!(
            (&alarm["level"], &alarm["color"]),
            (&json!(0), &json!("#ffffff"))
        );
        assert_eq!(alarm["container"], CONSUMER);
        alarm["msg"].as_str().expect("a text").to_owned()
    })
    .collect()
}

/// A root with what a launcher needs of it, but for `without`.
fn root(platform: &Platform, version: &str, without: &str) -> std::path::PathBuf {
    let files = [
        (".old_root/keep", ""),
        ("containers/keep", ""),
        ("etc/version", version),
        ("bin/sh", "#!"),
    ];
    let files = files
        .iter()
        .filter(|(path, _)| without.is_empty() || !path.starts_with(without));
    platform
        .service
        .image(version, &files.copied().collect::<Vec<_>>())
}

#[test]
fn a_container_gets_what_is_sent() {
    let mut platform = Platform::new();
    platform.start();
    let id = platform.distro(&KRATOS, STORAGE, "mine");
    assert_eq!(get(&platform, id, "image").status, 404);
    let choose = |distro: Value| {
        let body = json!({"custom_distro": distro}).to_string();
        platform
            .ask(
                &KRATOS,
                "POST",
                &format!("/api/containers/{CONSUMER}"),
                &body,
            )
            .ok();
    };
    // A container's vassal is touched when it is to start anew.
    let vassal = platform
        .service
        .path()
        .join(format!("vassals/{CONSUMER}.ini"));
    common::view::file(&vassal, 0o644, b"");
    let touched = || {
        fs::metadata(&vassal)
            .expect("look at it")
            .modified()
            .expect("a time")
    };
    let before = touched();
    choose(json!(id));
    assert!(eventually(SOON, || touched() > before));
    // There is nothing yet.
    assert_eq!(platform.root_of(CONSUMER), "precise");
    let distros = platform.service.distros(STORAGE);
    let missing = |what: &str| {
        let at = distros.join("mine").join(what);
        format!(
            "[DANGER] {} does not exist as a custom distro",
            at.display()
        )
    };
    assert!(eventually(SOON, || alarms(&platform) == [missing(".old_root")]));
    let taken = put(&platform, id, &root(&platform, "one", "")).with(201);
    assert_eq!(
        (&taken["message"], &taken["notes"]),
        (&json!("Created"), &json!([]))
    );
    assert_eq!(platform.root_of(CONSUMER), "one");
    let shown = get(&platform, id, "image").ok();
    assert_eq!(shown["image"]["path"], "mine");
    assert_eq!(shown["receiving"], json!([]));
    let versions = get(&platform, id, "versions").ok();
    assert_eq!(versions[0]["sha256"], taken["version"]);
    assert_eq!(versions.as_array().map(Vec::len), Some(1));
    let check = get(&platform, id, "check").ok();
    assert!(check["requirements"].is_array(), "{check}");
    assert!(check["package_databases"].is_array(), "{check}");
    // Another version; and back.
    put(&platform, id, &root(&platform, "two", "")).with(201);
    assert_eq!(platform.root_of(CONSUMER), "two");
    let path = format!("/api/custom_distro/{id}/versions");
    let back = json!({"version": "previous"}).to_string();
    let versions = platform.ask(&KRATOS, "POST", &path, &back).ok();
    assert_eq!(versions.as_array().map(Vec::len), Some(2));
    assert!(eventually(SOON, || platform.root_of(CONSUMER) == "one"));
    // What is no root: the default, and an alarm of that very text.
    for (without, what) in [(".old_root", ".old_root"), ("containers", "containers")] {
        put(
            &platform,
            id,
            &root(&platform, &format!("no{what}"), without),
        )
        .with(201);
        assert_eq!(platform.root_of(CONSUMER), "precise");
        assert!(
            eventually(SOON, || alarms(&platform).contains(&missing(what))),
            "{what}"
        );
    }
    // As a customer sees it in its own log.
    choose(Value::Null);
    put(&platform, id, &root(&platform, "three", "")).with(201);
    assert_eq!(platform.root_of(CONSUMER), "precise");
}

#[test]
fn what_is_no_archive_is_refused() {
    let mut platform = Platform::new();
    platform.service.set("image_bytes_max=1M");
    platform.start();
    let id = platform.distro(&KRATOS, STORAGE, "mine");
    let path = format!("/api/custom_distro/{id}/image");
    let send = |bytes: &[u8]| platform.send("PUT", &path, &authorization(), bytes);
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let refused = send(&noise);
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.json()["error"].is_string());
    assert_eq!(send(b"").status, 422);
    let whole = fs::read(root(&platform, "one", "")).expect("read an archive");
    assert_eq!(send(&whole[..whole.len() / 2]).status, 422);
    // Longer than it may be, said before or found on the way.
    let long = vec![0; (1 << 20) + 1];
    assert_eq!(
        send(&long).with(413),
        json!({"error": "Request entity too large"})
    );
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\n{}Transfer-Encoding: chunked\r\n\r\n",
        authorization()
    );
    let chunk = [b"10000\r\n", &long[..1 << 16], b"\r\n"]
        .concat()
        .repeat(17);
    let chunked = [head.as_bytes(), &chunk, b"0\r\n\r\n"].concat();
    assert_eq!(platform.raw(&chunked).expect("ask").status, 413);
    // One that stops in the middle, and a client that goes.
    let mut stream = TcpStream::connect(platform.at()).expect("connect");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n",
        authorization(),
        whole.len()
    );
    stream.write_all(head.as_bytes()).expect("send");
    stream.write_all(&whole[..whole.len() / 2]).expect("send");
    let is_seen = || is_received(&platform, id);
    assert!(
        eventually(SOON, is_seen),
        "{:?}",
        get(&platform, id, "image")
    );
    drop(stream);
    assert!(eventually(SOON, || !is_seen()));
    // Nothing of all that is left.
    let store = platform
        .service
        .path()
        .join(format!("containers/.distrofs/stores/{STORAGE}/incoming"));
    let is_empty = || fs::read_dir(&store).is_ok_and(|mut left| left.next().is_none());
    assert!(eventually(SOON, is_empty));
    // And it is taken when it is whole.
    send(&whole).with(201);
}

/// Whether an archive of a distro is being sent.
fn is_received(platform: &Platform, id: i64) -> bool {
    let shown = get(platform, id, "image");
    let some = |all: &Vec<Value>| !all.is_empty();
    shown.status == 200 && shown.json()["receiving"].as_array().is_some_and(some)
}

/// A worker that dies while it takes an archive in leaves the old one.
#[test]
fn a_worker_that_dies_meanwhile_takes_nothing_in() {
    let mut platform = Platform::new();
    platform.start();
    let id = platform.distro(&KRATOS, STORAGE, "mine");
    put(&platform, id, &root(&platform, "one", "")).with(201);
    let two = fs::read(root(&platform, "two", "")).expect("read an archive");
    let mut stream = TcpStream::connect(platform.at()).expect("connect");
    stream.set_read_timeout(Some(SOON)).expect("set a time");
    let head = format!(
        "PUT /api/custom_distro/{id}/image HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n",
        authorization(),
        two.len()
    );
    stream.write_all(head.as_bytes()).expect("send");
    stream.write_all(&two[..two.len() / 2]).expect("send");
    let is_seen = || is_received(&platform, id);
    assert!(eventually(SOON, is_seen));
    let worker = platform.service.worker(STORAGE).expect("it runs");
    kill_process(worker, Signal::KILL).expect("kill it");
    common::attempt(stream.write_all(&two[two.len() / 2..]));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read the answer");
    assert_eq!(Answer::read(&answer).status, 503);
    let is_back = || {
        platform
            .service
            .worker(STORAGE)
            .is_some_and(|next| next != worker)
    };
    assert!(eventually(SOON, is_back));
    let choose = json!({"custom_distro": id}).to_string();
    platform
        .ask(
            &KRATOS,
            "POST",
            &format!("/api/containers/{CONSUMER}"),
            &choose,
        )
        .ok();
    assert_eq!(platform.root_of(CONSUMER), "one");
    assert!(eventually(SOON, || put(
        &platform,
        id,
        &root(&platform, "two", "")
    )
    .status
        == 201));
    assert_eq!(platform.root_of(CONSUMER), "two");
}

/// A container that is told to store images does, without anybody's help.
#[test]
fn a_storage_begins_and_ends() {
    let mut platform = Platform::new();
    let home = platform.service.home(CONSUMER);
    common::view::dir(&home, 0o755);
    std::os::unix::fs::chown(&home, Some(CONSUMER), Some(CONSUMER)).expect("give it away");
    platform.start();
    let storage = |uid: u32, is_one: bool| {
        let body = json!({"custom_distros_storage": is_one}).to_string();
        platform
            .ask(&KRATOS, "POST", &format!("/api/containers/{uid}"), &body)
            .ok();
    };
    storage(CONSUMER, true);
    assert!(eventually(SOON, || platform
        .service
        .worker(CONSUMER)
        .is_some()));
    assert!(platform.service.distros(CONSUMER).is_dir());
    let id = platform.distro(&KRATOS, CONSUMER, "mine");
    let sent = || put(&platform, id, &root(&platform, "one", ""));
    assert!(eventually(SOON, || sent().status == 201), "{:?}", sent());
    // The one that stored before uses it now.
    storage(STORAGE, false);
    let choose = json!({"custom_distro": id}).to_string();
    platform
        .ask(
            &KRATOS,
            "POST",
            &format!("/api/containers/{STORAGE}"),
            &choose,
        )
        .ok();
    assert_eq!(platform.root_of(STORAGE), "one");
    assert!(eventually(SOON, || platform
        .service
        .worker(STORAGE)
        .is_none()));
    storage(CONSUMER, false);
    assert_eq!(platform.root_of(STORAGE), "precise");
    assert!(eventually(SOON, || platform
        .service
        .worker(CONSUMER)
        .is_none()));
    // Nothing was removed, and all is there again.
    storage(CONSUMER, true);
    assert!(eventually(SOON, || platform.root_of(STORAGE) == "one"));
}
