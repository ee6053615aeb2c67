//! `distrofs image`: owners see their images, go back, change them afterwards.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::program::{Ran, distrofs, eventually, run};
use common::service::Service;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

const S: u32 = 30_000;
const SOON: Duration = Duration::from_secs(30);

/// A `.tgz` of these files, directories (with a slash behind) and their modes.
fn archive(at: &Path, name: &str, entries: &[(&str, &str, u32)]) -> PathBuf {
    let file = fs::File::create(at.join(name)).expect("make an archive");
    let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, content, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        tar.append_data(&mut header, path, content.as_bytes())
            .expect("add an entry");
    }
    let gzip = tar.into_inner().expect("end an archive");
    gzip.finish().expect("end an archive");
    at.join(name)
}

const FIRST: &[(&str, &str, u32)] = &[
    ("etc/", "", 0o755),
    ("etc/conf", "first", 0o644),
    ("etc/old", "old", 0o644),
    ("srv/", "", 0o755),
    ("srv/data/", "", 0o755),
];

const SECOND: &[(&str, &str, u32)] = &[
    ("etc/", "", 0o755),
    ("etc/conf", "second", 0o644),
    ("etc/old", "old", 0o644),
    ("srv/", "", 0o755),
    ("srv/data/", "", 0o755),
];

/// A service with the image `web`.
fn served() -> (Service, PathBuf) {
    let mut service = Service::new(&[S]);
    let first = archive(service.path(), "first.tgz", FIRST);
    service.upload(S, &first, "web.tgz");
    service.start();
    let at = service.distros(S).join("web");
    assert_eq!(read(&at.join("etc/conf")), "first");
    (service, at)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("{}: {e}", path.display()))
}

fn image(service: &Service, args: &[&str]) -> Ran {
    let mut command = distrofs(["image"]);
    run(command.args(args).arg("--run").arg(service.run_dir()))
}

#[track_caller]
fn json(service: &Service, args: &[&str]) -> Value {
    image(service, &[args, &["--json"]].concat()).ok().json()
}

/// Uploads another archive as `web`, and waits until it is what is served.
#[track_caller]
fn replace(service: &Service, at: &Path, entries: &[(&str, &str, u32)], conf: &str) {
    let next = archive(service.path(), "next.tgz", entries);
    service.upload(S, &next, "web.tgz");
    let is_there = eventually(SOON, || read(&at.join("etc/conf")) == conf);
    assert!(
        is_there,
        "{}: {}",
        read(&at.join("etc/conf")),
        service.log()
    );
}

#[test]
fn versions_are_listed_gone_back_to_and_removed() {
    let (mut service, at) = served();
    replace(&service, &at, SECOND, "second");
    let all = json(&service, &["list"]);
    assert_eq!(
        (
            all[0]["home"].as_u64(),
            all[0]["images"][0]["path"].as_str()
        ),
        (Some(30_000), Some("web"))
    );
    let versions = json(&service, &["versions", "30000/web"]);
    let current = |versions: &Value| -> Vec<bool> {
        let versions = versions.as_array().expect("a list").iter();
        versions
            .map(|version| version["is_current"] == true)
            .collect()
    };
    assert_eq!(current(&versions), [false, true]);
    // A container keeps what it has.
    let script = "touch ready; n=0; until [ -e go ] || [ $n = 600 ]; do sleep .05; n=$((n+1)); \
                  done; cat \"$1/etc/conf\"";
    let mut container = service.attaching(30_001, "30000/web", script);
    let container = container.current_dir(service.path()).stdout(Stdio::piped());
    let container = container.spawn().expect("start a container");
    assert!(eventually(SOON, || service.path().join("ready").exists()));
    let back = image(&service, &["rollback", "30000/web"]).ok();
    assert!(back.stdout.contains("web: serves "), "{}", back.stdout);
    assert!(eventually(SOON, || read(&at.join("etc/conf")) == "first"));
    fs::write(service.path().join("go"), "").expect("write a file");
    let output = container.wait_with_output().expect("wait for a container");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "second");
    let versions = json(&service, &["versions", "30000/web"]);
    assert_eq!(current(&versions), [true, false]);
    image(&service, &["rollback", "30000/web"]).refused(1, &["before the current one"]);
    let newest = versions[1]["sha256"].as_str().expect("a digest").to_owned();
    let oldest = versions[0]["sha256"].as_str().expect("a digest").to_owned();
    image(&service, &["rm", "30000/web", "--version", &oldest[..8]]).refused(1, &["current"]);
    image(&service, &["rm", "30000/web", "--version", &newest[..8]]).ok();
    let archives = service
        .path()
        .join("containers/.distrofs/stores/30000/archives");
    let is_gone = eventually(SOON, || {
        image(&service, &["gc"]).ok();
        !archives.join(&newest).exists()
    });
    assert!(is_gone && archives.join(&oldest).exists());
    image(&service, &["keep", "30000/web", "1"]).ok();
    replace(&service, &at, SECOND, "second");
    assert!(eventually(SOON, || !archives.join(&oldest).exists()));
    // Without the image there is nothing at its place, not even the directory.
    image(&service, &["rm", "30000/web"]).ok();
    assert!(eventually(SOON, || !at.exists()), "{}", service.log());
    image(&service, &["show", "30000/web"]).refused(1, &["no image web"]);
    service.stop();
}

#[test]
fn an_image_is_changed_afterwards_and_so_is_every_later_version() {
    let (mut service, at) = served();
    let patches = service.distros(S).join("web.d");
    fs::create_dir(&patches).expect("make a directory");
    let entries = [("etc/new", "patched", 0o644), ("etc/.wh.old", "", 0o644)];
    let patch = archive(service.path(), "patch.tgz", &entries);
    let place = patches.join("10-fix.tgz");
    fs::copy(&patch, &place).expect("copy a patch");
    for path in [&patches, &place] {
        chown(path, Some(S), Some(S)).expect("chown");
    }
    assert!(
        eventually(SOON, || read(&at.join("etc/new")) == "patched"),
        "{}{}",
        service.log(),
        read(&service.distros(S).join("web.status"))
    );
    assert!(!at.join("etc/old").exists());
    let changed = image(
        &service,
        &["chmod", "30000/web", "1777", "/srv/data", "srv"],
    )
    .ok();
    assert!(
        changed.stdout.contains("1 patches, 2 modes"),
        "{}",
        changed.stdout
    );
    let mode = |name: &str| {
        let found = fs::metadata(at.join(name));
        found.map_or(0, |found| found.permissions().mode() & 0o7777)
    };
    assert!(eventually(SOON, || mode("srv/data") == 0o1777 && mode("srv") == 0o1777));
    image(&service, &["chmod", "30000/web", "archive", "/srv"]).ok();
    assert!(eventually(SOON, || mode("srv") == 0o755));
    // Another user's container writes there now.
    let script = "mount --bind \"$1\" /mnt; setpriv --reuid 30001 --regid 30001 --clear-groups \
                  sh -c 'echo mine > /mnt/srv/data/x; cat /mnt/srv/data/x'";
    assert_eq!(
        service
            .attached(30_001, "30000/web", script)
            .ok()
            .stdout
            .trim(),
        "mine"
    );
    // The next worker goes on with it, and the next version is changed, too.
    let held = fs::File::open(at.join("etc/new")).expect("open a file");
    kill_process(service.worker(S).expect("a worker"), Signal::KILL).expect("kill it");
    assert_eq!(read(&at.join("etc/new")), "patched");
    assert!(held.metadata().is_ok_and(|found| found.len() == 7));
    replace(&service, &at, SECOND, "second");
    assert_eq!(
        (read(&at.join("etc/new")).as_str(), mode("srv/data")),
        ("patched", 0o1777)
    );
    // What is not in it is told, and kept for a version that has it.
    let odd = image(&service, &["chmod", "30000/web", "777", "/nowhere"]).ok();
    assert!(odd.stdout.contains("nowhere"), "{}", odd.stdout);
    image(&service, &["chmod", "30000/web", "777", "/../etc"]).refused(1, &["without `..`"]);
    let shown = image(&service, &["show", "30000/web"]).ok().stdout;
    for words in ["patch: 10-fix.tgz", "mode: 1777 /srv/data", "nowhere"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // What is no layer is left out, and said; without the directory all is as before.
    let bad = patches.join("20-bad.tar");
    fs::write(&bad, [7; 4096]).expect("write a file");
    chown(&bad, Some(S), Some(S)).expect("chown");
    let said = || read(&service.distros(S).join("web.status")).contains("20-bad.tar refused");
    assert!(
        eventually(SOON, said),
        "{}",
        read(&service.distros(S).join("web.status"))
    );
    fs::remove_dir_all(&patches).expect("remove the patches");
    assert!(eventually(SOON, || !at.join("etc/new").exists()
        && at.join("etc/old").exists()));
    service.stop();
}

#[test]
fn an_exploded_tree_is_attached_hidden_and_reclaimed() {
    let mut service = Service::new(&[S]);
    let at = service.distros(S).join("web");
    fs::create_dir_all(at.join("etc/deep/er")).expect("make directories");
    fs::write(at.join("etc/conf"), "exploded").expect("write a file");
    fs::write(service.path().join("outside"), "mine").expect("write a file");
    symlink(service.path().join("outside"), at.join("link")).expect("link");
    for path in [&at, &at.join("etc")] {
        chown(path, Some(S), Some(S)).expect("chown");
    }
    run(std::process::Command::new("chown")
        .args(["-hR", "30000:30000"])
        .arg(&at))
    .ok();
    symlink("/etc", service.distros(S).join("trap")).expect("link");
    fs::create_dir(service.distros(S).join("empty")).expect("make a directory");
    service.start();
    assert_eq!(
        json(&service, &["list", "30000"])[0]["exploded"],
        serde_json::json!(["web"])
    );
    let script = "cat \"$1/etc/conf\"; echo mine > \"$1/etc/conf\"";
    let attached = service.attached(30_001, "30000/web", script).ok();
    assert_eq!(attached.stdout.trim(), "exploded");
    assert_eq!(
        read(&at.join("etc/conf")),
        "exploded",
        "a container wrote into the tree"
    );
    for nothing in ["30000/trap", "30000/empty", "30000/none"] {
        service
            .attached(30_001, nothing, "true")
            .refused(1, &["no image"]);
    }
    image(&service, &["reclaim", "30000/web"]).refused(1, &["stays"]);
    // The same name as an archive hides it, and what was written stays.
    let first = archive(service.path(), "first.tgz", FIRST);
    service.upload(S, &first, "web.tgz");
    assert!(eventually(SOON, || read(&at.join("etc/conf")) == "first"));
    assert_eq!(
        json(&service, &["list"])[0]["images"][0]["hides_tree"],
        true
    );
    let script = "cat \"$1/etc/conf\"";
    assert_eq!(
        service
            .attached(30_001, "30000/web", script)
            .ok()
            .stdout
            .trim(),
        "mine"
    );
    image(&service, &["reclaim", "30000/web"]).ok();
    assert_eq!(
        json(&service, &["list"])[0]["images"][0]["hides_tree"],
        false
    );
    assert_eq!(read(&at.join("etc/conf")), "first");
    assert_eq!(read(&service.path().join("outside")), "mine");
    service.stop();
    assert_eq!(
        fs::read_dir(&at).expect("the directory is there").count(),
        0
    );
}

#[test]
fn a_damaged_archive_is_found_and_an_older_version_served() {
    let (mut service, at) = served();
    let shown = image(&service, &["verify", "30000/web"]).ok();
    assert!(shown.stdout.contains("are right"), "{}", shown.stdout);
    replace(&service, &at, SECOND, "second");
    let versions = json(&service, &["versions", "30000/web"]);
    let newest = versions[1]["sha256"].as_str().expect("a digest");
    let archives = service
        .path()
        .join("containers/.distrofs/stores/30000/archives");
    let damaged = archives.join(newest);
    let mut bytes = fs::read(&damaged).expect("read the archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    // In place, as a disk would do it.
    let before = fs::metadata(&damaged).expect("look at it");
    fs::write(&damaged, &bytes).expect("write the archive");
    common::synthetic::set_mtime(&damaged, before.mtime(), before.mtime_nsec());
    let verified = image(&service, &["verify", "30000/web"]);
    verified.refused(1, &[]);
    let verified = image(&service, &["verify", "30000/web", "--json"]).json();
    assert_eq!(verified["is_right"], false);
    assert_ne!(verified["archives"][0]["problems"], serde_json::json!([]));
    image(&service, &["rollback", "30000/web"]).ok();
    assert!(eventually(SOON, || read(&at.join("etc/conf")) == "first"));
    service.stop();
}

#[test]
fn owners_ask_about_their_own_home_only() {
    let (mut service, _) = served();
    let own = service.as_user(S, &["image", "list"]);
    assert!(own.contains("30000/web"), "{own}");
    let kept = service.as_user(S, &["image", "keep", "30000/web", "2"]);
    assert!(kept.contains("web: serves"), "{kept}");
    for args in [
        &["list", "30000"][..],
        &["rm", "30000/web"],
        &["chmod", "30000/web", "777", "/etc"],
        &["reclaim", "30000/web"],
    ] {
        let refused = service.as_user(S + 1, &[&["image"], args].concat());
        assert!(refused.contains("whose home it is"), "{refused}");
    }
    assert_eq!(
        service.as_user(S + 1, &["image", "list"]).trim(),
        "No images."
    );
    service.stop();
}
