//! What an owner is told about an image: whether containers can start from it,
//! what in it is open to everybody, whose files are in it, which packages.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::archive::{Packing, tar};
use common::program::{Ran, distrofs, run};
use serde_json::Value;

/// A tree that holds all that a launcher needs, to be changed and archived.
struct Tree {
    dir: tempfile::TempDir,
}

const DIRECTORIES: [&str; 10] = [
    ".old_root",
    "containers",
    "proc",
    "dev",
    "run",
    "tmp",
    "var/tmp",
    "var/log",
    "var/spool",
    "usr/local",
];

impl Tree {
    fn complete() -> Self {
        let tree = Self {
            dir: common::temp_dir(),
        };
        for dir in DIRECTORIES {
            fs::create_dir_all(tree.at(dir)).expect("make a directory");
        }
        // As on a merged system: the last link is found, the programs are it.
        fs::create_dir_all(tree.at("usr/bin")).expect("make a directory");
        symlink("usr/bin", tree.at("bin")).expect("link");
        tree.program("usr/bin/busybox");
        for name in ["sh", "bash", "ifconfig", "route"] {
            symlink("/bin/busybox", tree.at("usr/bin").join(name)).expect("link");
        }
        tree.program("opt/unbit/uwsgi/uwsgi");
        tree.file("etc/nsswitch.conf", b"passwd:  files unbit\n");
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }

    fn file(&self, path: &str, body: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(path, body).expect("write");
    }

    fn program(&self, path: &str) {
        self.file(path, b"#!/bin/false\n");
        self.chmod(path, 0o755);
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), PermissionsExt::from_mode(mode)).expect("chmod");
    }

    fn remove(&self, path: &str) {
        let path = self.at(path);
        match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(path).expect("remove"),
            false => fs::remove_file(path).expect("remove"),
        }
    }

    fn archive(&self, options: &[&str]) -> PathBuf {
        let (plain, packed) = (self.at("../tar"), self.at("../image.tgz"));
        let known = [
            "--sort=name",
            "--mtime=@1600000000",
            "--owner=0",
            "--group=0",
        ];
        tar(&self.at(""), &plain, &[&known, options].concat());
        Packing::Gzip.pack(&plain, &packed);
        packed
    }

    fn inspect(&self, options: &[&str]) -> Ran {
        inspect(&self.archive(&[]), options)
    }
}

fn inspect(archive: &Path, options: &[&str]) -> Ran {
    run(distrofs(["inspect"]).args(options).arg(archive))
}

/// The rows that are not as they should be: what, and how it is.
fn complaints(report: &Value) -> Vec<(String, String)> {
    let rows = report["requirements"].as_array().expect("rows");
    let text = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
    rows.iter()
        .map(|row| (text(row, "what"), text(row, "state")))
        .filter(|(_, state)| state != "ok")
        .collect()
}

#[test]
fn a_complete_image_passes() {
    let tree = Tree::complete();
    let said = tree.inspect(&[]).ok();
    assert!(
        said.stdout
            .contains("Nothing that is required is missing; warnings: 0"),
        "{said:#?}"
    );
    assert_eq!(said.stderr, "");
    let report = tree.inspect(&["--json"]).ok().json();
    assert_eq!(complaints(&report), []);
    assert_eq!(report["missing"], 0);
    assert_eq!(report["root"], "/");
    assert_eq!(report["counts"]["symlinks"], 5);
}

#[test]
fn each_thing_that_is_missing_is_named_and_the_status_says_so() {
    for missing in DIRECTORIES.into_iter().chain([
        "usr/bin/sh",
        "usr/bin/ifconfig",
        "usr/bin/route",
        "usr/bin/bash",
    ]) {
        let tree = Tree::complete();
        tree.remove(missing);
        let said = tree.inspect(&["--json"]);
        assert_eq!(said.status.code(), Some(1), "{said:#?}");
        let complaints = complaints(&said.json());
        let [(what, state)] = &complaints[..] else {
            panic!("{missing}: {complaints:?}");
        };
        assert_eq!(state, "missing");
        assert!(
            what.ends_with(missing.trim_start_matches("usr/bin/")),
            "{what} for {missing}"
        );
    }
}

/// The launcher would follow a link on the host, before the root is changed.
#[test]
fn a_link_is_no_old_root() {
    let tree = Tree::complete();
    tree.remove(".old_root");
    symlink("tmp", tree.at(".old_root")).expect("link");
    let said = tree.inspect(&[]);
    assert_eq!(said.status.code(), Some(1));
    let row = said
        .stdout
        .lines()
        .find(|line| line.starts_with("/.old_root"));
    assert!(row.is_some_and(|row| row.contains("missing")), "{said:#?}");
    for word in [
        "symbolic link",
        "mkdir TREE/.old_root",
        "Required and missing: 1",
    ] {
        assert!(said.stdout.contains(word), "no {word:?}: {said:#?}");
    }
}

#[test]
fn what_containers_can_live_without_is_a_warning() {
    let tree = Tree::complete();
    for path in ["etc/nsswitch.conf", "opt/unbit/uwsgi/uwsgi", "var/tmp"] {
        tree.remove(path);
    }
    tree.file(
        "etc/passwd",
        b"root:x:0:0::/:/bin/sh\ncustomer:x:30002:30002::/:/bin/sh\n",
    );
    symlink("../tmp", tree.at("var/tmp")).expect("link");
    fs::create_dir(tree.at("etc/rc.local")).expect("make a directory");
    let archive = tree.archive(&[]);
    let of = |options: &[&str]| {
        let report = inspect(&archive, options).ok().json();
        let complaints = complaints(&report);
        assert!(
            complaints.iter().all(|(_, state)| state == "warning"),
            "{complaints:?}"
        );
        assert_eq!(report["warnings"], complaints.len());
        complaints
            .into_iter()
            .map(|(what, _)| what)
            .collect::<Vec<_>>()
    };
    let all = ["/var/tmp", "name of the user", "uwsgi", "/etc/rc.local"];
    assert_eq!(of(&["--json"]), all);
    assert_eq!(of(&["--json", "--uid", "30001"]), all);
    assert_eq!(
        of(&["--json", "--uid", "30002"]),
        ["/var/tmp", "uwsgi", "/etc/rc.local"]
    );
}

#[test]
fn what_is_open_to_everybody_is_named_up_to_a_limit() {
    let tree = Tree::complete();
    for n in 0..25 {
        let name = format!("srv/open-{n:02}");
        fs::create_dir_all(tree.at(&name).join("below")).expect("make a directory");
        tree.chmod(&format!("{name}/below"), 0o777);
        tree.chmod(&name, 0o1777);
    }
    tree.file("srv/odd\n\x1b[31m", b"");
    tree.chmod("srv/odd\n\x1b[31m", 0o666);
    tree.program("usr/bin/su");
    tree.chmod("usr/bin/su", 0o4755);
    run(Command::new("mknod")
        .arg(tree.at("dev/null"))
        .args(["c", "1", "3"]))
    .ok();
    let archive = tree.archive(&[]);
    let said = inspect(&archive, &[]).ok();
    for line in [
        "World-writable (each container gets its own): 26",
        "  drwxrwxrwt     0     0 /srv/open-00",
        "  -rw-rw-rw-     0     0 /srv/odd\\n\\u{1b}[31m",
        "  … and 6 more (--all)",
        "  -rwsr-xr-x     0     0 /usr/bin/su",
        "  crw-r--r--     0     0    1,3    /dev/null",
    ] {
        assert!(
            said.stdout.lines().any(|said| said == line),
            "no {line:?}: {said:#?}"
        );
    }
    assert!(
        !said.stdout.contains("below"),
        "only the topmost: {said:#?}"
    );
    let named = |options: &[&str]| {
        let report = inspect(&archive, options).ok().json();
        assert_eq!(report["world_writable"]["total"], 26);
        assert_eq!(
            report["devices"]["paths"][0]["device"],
            serde_json::json!([1, 3])
        );
        assert_eq!(report["setid"]["paths"][0]["mode"], "4755");
        report["world_writable"]["paths"]
            .as_array()
            .expect("paths")
            .len()
    };
    assert_eq!((named(&["--json"]), named(&["--json", "--all"])), (20, 26));
}

#[test]
fn owners_that_would_be_containers_are_flagged() {
    let tree = Tree::complete();
    let archive = tree.archive(&["--owner=30007", "--group=100"]);
    let said = inspect(&archive, &[]).ok();
    assert!(said.stdout.contains("a container's id"), "{said:#?}");
    let report = inspect(&archive, &["--json"]).ok().json();
    let entries = report["counts"]["entries"].as_u64().expect("a number") + 1;
    let users = serde_json::json!({
        "ids": [{"id": 30007, "entries": entries}],
        "others_entries": 0,
        "container_entries": entries,
    });
    assert_eq!(report["users"], users);
    assert_eq!(report["groups"]["ids"][0]["id"], 100);
}

#[test]
fn packages_are_listed_as_their_managers_recorded_them() {
    let tree = Tree::complete();
    tree.file(
        "var/lib/dpkg/status",
        b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\n\
          Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
    );
    tree.file(
        "var/lib/dpkg/status.d/tzdata",
        b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
    );
    tree.file(
        "var/lib/dpkg/status.d/tzdata.md5sums",
        b"Package: not-this\nVersion: 1\n",
    );
    tree.file("lib/apk/db/installed", b"P:musl\nV:1.2.4-r2\nA:x86_64\n\n");
    tree.file("var/lib/rpm/Packages.db", b"RpmP");
    let archive = tree.archive(&[]);
    let report = inspect(&archive, &["--json", "--packages"]).ok().json();
    let databases = report["package_databases"].as_array().expect("databases");
    let names: Vec<_> = databases
        .iter()
        .map(|d| [&d["manager"], &d["format"]])
        .collect();
    assert_eq!(
        names,
        [
            ["dpkg", "status file"],
            ["dpkg", "status directory"],
            ["apk", "installed file"],
            ["rpm", "ndb"],
        ]
    );
    let package = |name: &str, version: &str, architecture: &str| serde_json::json!([{"name": name, "version": version, "architecture": architecture}]);
    assert_eq!(
        databases[0]["packages"],
        package("libc6", "2.36-9", "amd64")
    );
    assert_eq!(databases[1]["packages"], package("tzdata", "2024a", "all"));
    assert_eq!(
        databases[2]["packages"],
        package("musl", "1.2.4-r2", "x86_64")
    );
    assert_eq!(databases[0]["problem"], Value::Null);
    let problem = databases[3]["problem"].as_str().expect("a problem");
    assert!(
        problem.contains("ndb") && problem.contains("rpm -qa"),
        "{problem}"
    );
    assert_eq!(databases[0]["changed"]["mtime"], 1_600_000_000);
    let said = inspect(&archive, &["--packages"]).ok();
    assert!(
        said.stdout
            .lines()
            .any(|line| line.starts_with("  libc6  ")),
        "{said:#?}"
    );
    assert!(
        said.stdout
            .contains("incomplete: packages in /var/lib/rpm/Packages.db"),
        "{said:#?}"
    );
    let without = inspect(&archive, &["--json"]).ok().json();
    assert_eq!(without["package_databases"][0].get("packages"), None);
}

#[test]
fn a_real_image_is_what_its_own_tools_say() {
    let archive = common::archive::debian_tgz();
    let dir = common::temp_dir();
    let index = dir.path().join("index");
    let index = index.to_str().expect("a plain name");
    let said = inspect(&archive, &["--json", "--packages", "--index", index]);
    // It was not prepared as a rootfs.
    assert_eq!(said.status.code(), Some(1));
    let report = said.json();
    let complaints = complaints(&report);
    assert!(
        complaints.contains(&("/.old_root".into(), "missing".into())),
        "{complaints:?}"
    );
    let sum = run(Command::new("sha256sum").arg(&archive)).ok();
    assert_eq!(report["sha256"], sum.stdout[..64]);
    let status = run(distrofs(["cat", "--index", index])
        .arg(&archive)
        .arg("/var/lib/dpkg/status"))
    .ok();
    let installed = status
        .stdout
        .matches("\nStatus: install ok installed\n")
        .count();
    let packages = report["package_databases"][0]["packages"].as_array();
    assert_eq!(packages.map(Vec::len), Some(installed));
    // Nothing of it is left beside the index.
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
}

#[test]
fn an_enclosing_directory_is_the_root() {
    let tree = Tree::complete();
    let plain = tree.at("../enclosed.tar");
    run(Command::new("tar")
        .arg("-cf")
        .arg(&plain)
        .arg("-C")
        .arg(tree.dir.path())
        .arg("tree"))
    .ok();
    let said = inspect(&plain, &["--json"]).ok();
    assert_eq!(said.json()["root"], "/tree");
    let said = inspect(&plain, &["--json", "--root", "/"]);
    assert_eq!(said.status.code(), Some(1));
    inspect(&plain, &["--root", "no/such"]).refused(1, &["--root no/such"]);
}
