//! What containers are told of the images they use: lines in `logs/emperor.log` of
//! their homes, where they may have put anything.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::program::eventually;
use common::service::Service;
use common::view::{dir, file};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const S: u32 = 30_000;
const CONSUMER: u32 = 30_001;
const SOON: Duration = Duration::from_secs(20);

/// A service with the image `own`, and the home of a container with `logs`.
fn service() -> Service {
    let mut service = Service::new(&[S]);
    let image = service.image("own", &[("etc/version", "one")]);
    service.upload(S, &image, "own.tgz");
    let home = service.home(CONSUMER);
    for path in [home.clone(), home.join("logs")] {
        dir(&path, 0o700);
        chown(&path, Some(CONSUMER), Some(CONSUMER)).expect("chown");
    }
    service.start();
    service
}

fn log(service: &Service) -> PathBuf {
    service.home(CONSUMER).join("logs/emperor.log")
}

/// The lines there, without their times, which are looked at.
fn lines(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = |line: &str| {
        let (time, text) = line.split_at(24);
        let date = std::process::Command::new("date")
            .args(["-d", time])
            .output();
        assert!(date.expect("run date").status.success(), "{line}");
        text.strip_prefix(" - ")
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned()
    };
    text.lines().map(line).collect()
}

#[test]
fn a_container_is_told_what_it_gets_and_what_becomes_of_it() {
    let mut service = service();
    service.attached(CONSUMER, "30000/own", "").ok();
    let image = service.distros(S).join("own").display().to_string();
    let at = service.path().join("at").join(CONSUMER.to_string());
    let mounted = format!("[distrofs] mounted {image} on {}", at.display());
    let log = log(&service);
    let told = |expected: &str| {
        let is_told = || lines(&log).iter().any(|line| line.starts_with(expected));
        assert!(
            eventually(SOON, is_told),
            "{expected}: {:?}: {}",
            lines(&log),
            service.log()
        );
    };
    told(&mounted);
    let made = fs::metadata(&log).expect("look at the log");
    assert_eq!((made.uid(), made.gid()), (CONSUMER, CONSUMER));
    assert_eq!(made.permissions().mode() & 0o777, 0o644);
    let two = service.image("two", &[("etc/version", "two")]);
    service.upload(S, &two, "own.tgz");
    told(&format!("[distrofs] {image}: the next start gets version "));
    service
        .attached(CONSUMER, "30000/none", "")
        .refused(1, &["no image none"]);
    let none = service.distros(S).join("none").display().to_string();
    told(&format!("ALARM: [distrofs] {none} cannot be mounted: "));
    service
        .attached(CONSUMER, "31000/own", "")
        .refused(1, &["home 31000 is not served"]);
    told("ALARM: [distrofs] home 31000 is not served");
    assert_eq!(service.told().lines.dropped, 0);
    service.stop();
}

/// Nothing that a container puts there is written to, nor waited for.
#[test]
fn whatever_a_container_puts_there_is_left_alone() {
    let mut service = service();
    let (log, logs) = (log(&service), service.home(CONSUMER).join("logs"));
    let secret = service.path().join("secret");
    file(&secret, 0o600, b"kept");
    let victim = service.path().join("victim");
    dir(&victim, 0o755);
    file(&victim.join("emperor.log"), 0o666, b"kept");
    let mut failed = service.told().lines.failed;
    let mut is_left_alone = |what: &str| {
        service.attached(CONSUMER, "30000/own", "").ok();
        let is_tried = || service.told().lines.failed > failed;
        assert!(eventually(SOON, is_tried), "{what}: {}", service.log());
        failed = service.told().lines.failed;
        assert_eq!(service.told().lines.written, 0, "{what}");
        assert_eq!(fs::read(&secret).expect("read"), b"kept", "{what}");
        let of_victim = fs::read(victim.join("emperor.log")).expect("read");
        assert_eq!(of_victim, b"kept", "{what}");
    };
    symlink(&secret, &log).expect("make a link");
    is_left_alone("a link to a file");
    fs::remove_file(&log).expect("remove");
    symlink(victim.join("emperor.log"), &log).expect("make a link");
    is_left_alone("a link to a file that everybody may write to");
    fs::remove_file(&log).expect("remove");
    symlink(service.path().join("new"), &log).expect("make a link");
    is_left_alone("a link to nothing");
    assert!(!service.path().join("new").exists());
    fs::remove_file(&log).expect("remove");
    fs::hard_link(victim.join("emperor.log"), &log).expect("make a link");
    is_left_alone("another name of a file of somebody else");
    fs::remove_file(&log).expect("remove");
    let own = service.home(CONSUMER).join("own");
    file(&own, 0o644, b"");
    chown(&own, Some(CONSUMER), Some(CONSUMER)).expect("chown");
    fs::hard_link(&own, &log).expect("make a link");
    is_left_alone("another name of a file of its own");
    assert_eq!(fs::read(&own).expect("read"), b"");
    fs::remove_file(&log).expect("remove");
    mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("make a pipe");
    chown(&log, Some(CONSUMER), Some(CONSUMER)).expect("chown");
    is_left_alone("a pipe");
    fs::remove_file(&log).expect("remove");
    dir(&log, 0o777);
    is_left_alone("a directory");
    fs::remove_dir(&log).expect("remove");
    file(&log, 0o666, b"");
    is_left_alone("a file of somebody else");
    assert_eq!(fs::read(&log).expect("read"), b"");
    fs::remove_file(&log).expect("remove");
    fs::remove_dir(&logs).expect("remove");
    is_left_alone("no directory");
    assert!(!logs.exists());
    symlink(&victim, &logs).expect("make a link");
    is_left_alone("a link to a directory");
    fs::remove_file(&logs).expect("remove");
    dir(&logs, 0o777);
    chown(service.home(CONSUMER), Some(30_002), None).expect("chown");
    is_left_alone("a home of somebody else");
    chown(service.home(CONSUMER), Some(CONSUMER), None).expect("chown");
    // And then as it should be.
    service.attached(CONSUMER, "30000/own", "").ok();
    let is_written = || service.told().lines.written == 1;
    assert!(eventually(SOON, is_written), "{}", service.log());
    assert_eq!(lines(&log).len(), 1);
    service.stop();
}
