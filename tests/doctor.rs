//! `distrofs doctor`: what it says of this machine, and that it leaves nothing
//! behind.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use common::program::{binary, distrofs, eventually, run};

/// What everybody is told about, in this order; root is told whether mounting
/// works as well.
const ROWS: [&str; 17] = [
    "kernel",
    "FUSE in the kernel",
    "/dev/fuse",
    "FUSE no_open",
    "FUSE no_opendir",
    "FUSE readdirplus",
    "FUSE link cache",
    "FUSE large directories",
    "FUSE resend",
    "FUSE request size",
    "fusermount3",
    "user_allow_other",
    "read-ahead",
    "overlayfs",
    "open_tree, move_mount",
    "memory cgroup",
    "Landlock",
];

/// Mounts, FUSE connections, and names in directories for temporary files.
fn surroundings() -> (String, BTreeSet<String>) {
    let mut names = BTreeSet::new();
    for dir in ["/sys/fs/fuse/connections", "/tmp", "/run", "/mnt"] {
        let all = fs::read_dir(dir).into_iter().flatten().flatten();
        // Other tests mount and make temporary files meanwhile, elsewhere.
        names.extend(
            all.map(|entry| entry.path().display().to_string())
                .filter(|path| path.contains("overlay") || path.contains("attached")),
        );
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let ours = |line: &&str| {
        ["overlay-", "/attached", " /tmp "]
            .iter()
            .any(|w| line.contains(w))
    };
    (mounts.lines().filter(ours).collect(), names)
}

#[test]
fn everything_is_told_and_nothing_stays() {
    common::need_real_mounts();
    let before = surroundings();
    let said = run(&mut distrofs(["doctor"])).ok();
    let mut lines = said.stdout.lines();
    assert!(
        lines.next().is_some_and(|line| line.starts_with("what ")),
        "{said:#?}"
    );
    for row in ROWS.into_iter().chain(["user namespaces"]) {
        let line = lines.find(|line| line.starts_with(&format!("{row} ")));
        let line = line.unwrap_or_else(|| panic!("no {row}, or out of order: {said:#?}"));
        assert!(
            line.contains(" works ") || line.contains(" degrades "),
            "{line}"
        );
    }
    assert!(
        said.stdout.ends_with("\nroot can mount images here\n"),
        "{said:#?}"
    );
    // The tests of this machine mount, so these must be what they are.
    for row in ["mount(2) of FUSE", "FUSE no_open", "FUSE readdirplus"] {
        let line = said.stdout.lines().find(|line| line.starts_with(row));
        assert!(
            line.is_some_and(|line| line.contains(" works ")),
            "{row}: {said:#?}"
        );
    }
    assert!(eventually(Duration::from_secs(10), || surroundings() == before));
}

#[test]
fn what_degrades_says_what_that_means_and_what_to_do() {
    let report = run(&mut distrofs(["doctor", "--json"])).ok().json();
    assert_eq!(report["can_mount"], true);
    assert_eq!(report["root"], true);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("read");
    assert_eq!(report["kernel"], release.trim());
    let checks = report["checks"].as_array().expect("checks");
    assert_eq!(checks.len(), ROWS.len() + 2);
    for check in checks {
        let works = check["state"] == "works";
        assert!(works || check["state"] == "degrades", "{check}");
        assert!(check["found"].is_string());
        assert_eq!(check["means"].is_null(), works, "{check}");
        assert_eq!(check["advice"].is_null(), works, "{check}");
    }
}

/// In a namespace where something else is in the device's place.
#[test]
fn without_fuse_mounting_is_impossible() {
    common::need_real_mounts();
    let script = "mount --bind /dev/null /dev/fuse && exec \"$0\" doctor";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(binary());
    let said = run(&mut command);
    assert_eq!(said.status.code(), Some(1), "{said:#?}");
    assert!(
        said.stdout.contains("root cannot mount images here"),
        "{said:#?}"
    );
    let row = said
        .stdout
        .lines()
        .find(|line| line.starts_with("mount(2) of FUSE"));
    assert!(
        row.is_some_and(|row| row.contains(" missing ")),
        "{said:#?}"
    );
}

/// An ordinary user in the same place: told what it cannot do, and why.
#[test]
fn an_ordinary_user_is_told_what_it_depends_on() {
    common::need_real_mounts();
    let dir = common::temp_dir();
    let copy = dir.path().join("distrofs");
    fs::copy(binary(), &copy).expect("copy the program");
    let script = "mount -t tmpfs none /mnt && cp \"$0\" /mnt/distrofs && mount --bind /dev/null /dev/fuse \
                  && exec setpriv --reuid 1000 --regid 1000 --clear-groups env PATH=/nowhere /mnt/distrofs doctor";
    let mut command = Command::new("unshare");
    let said = run(command.args(["-m", "sh", "-c", script]).arg(&copy));
    assert_eq!(said.status.code(), Some(1), "{said:#?}");
    let row = said
        .stdout
        .lines()
        .find(|line| line.starts_with("fusermount3"));
    assert!(
        row.is_some_and(|row| row.contains(" missing ")),
        "{said:#?}"
    );
    for word in [
        "this user cannot mount",
        "install the package fuse3",
        "not tried, which takes root",
    ] {
        assert!(said.stdout.contains(word), "no {word:?}: {said:#?}");
    }
}
