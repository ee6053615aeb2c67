//! `distrofs serve` for two customers: neither can see or attach what is the other's,
//! keep the other waiting, or fill what is the other's.

mod common;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::program::eventually;
use common::service::Service;
use common::view::{as_user, open, sh_as};
use distrofs::sys::packets::Packets;
use distrofs::wire::Link;
use distrofs::wire::control::{ImageOf, Reply, Request};

const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(120);

const A: u32 = 30_000;
const B: u32 = 31_000;

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
            image: Some(of_b()),
            writable: None,
            passwd: false,
            at: None,
        },
        Request::Attach {
            container: A,
            image: Some(ImageOf { home: A, ..of_b() }),
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

/// All files below, with their owners.
fn owners(at: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(at).expect("read a directory").flatten() {
        let metadata = entry.metadata().expect("look at a file");
        found.push((entry.path(), metadata.uid()));
        if metadata.is_dir() {
            owners(&entry.path(), found);
        }
    }
}

#[test]
fn one_customer_keeps_no_other_waiting_and_fills_only_what_is_his() {
    const NAMES: usize = 60;
    const UPLOADS: usize = 30;
    let mut service = served();
    let mut growing =
        fs::File::create(service.distros(A).join("endless.tgz")).expect("make a file");
    for number in 0..NAMES {
        let name = service.distros(A).join(format!("garbage-{number}.tgz"));
        fs::write(&name, "no archive at all\n".repeat(100)).expect("write a file");
        std::os::unix::fs::chown(&name, Some(A), Some(A)).expect("chown");
    }
    let many = service.image("many", &[("conf", "one of many")]);
    for number in 0..UPLOADS {
        service.upload(A, &many, &format!("many-{number}.tgz"));
    }
    upload(&service, B, "own", "newer");
    let is_newer = || {
        growing.write_all(&[7; 4096]).expect("go on writing");
        conf(&service, B, "own") == "newer"
    };
    assert!(eventually(SOON, is_newer), "{}", service.log());
    let is_served = |number| conf(&service, A, &format!("many-{number}")) == "one of many";
    let all_served = || (0..UPLOADS).all(is_served);
    assert!(eventually(LATER, all_served), "{}", service.log());
    // A quota counts files against their owners, in the store as in the home.
    for home in [A, B] {
        let store = service
            .path()
            .join(format!("containers/.distrofs/stores/{home}"));
        let mut found = Vec::new();
        owners(&store, &mut found);
        let rejected = service.distros(home).join(".rejected");
        if rejected.exists() {
            owners(&rejected, &mut found);
        }
        let foreign = found.iter().find(|(_, owner)| *owner != home);
        assert_eq!(foreign, None);
        assert!(found.len() > 4, "{found:?}");
        if home == A {
            assert!(found.len() > NAMES, "{}", found.len());
        }
    }
    drop(growing);
    service.stop();
}
