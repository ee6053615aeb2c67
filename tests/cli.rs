//! The commands that need no mount, and the shape of what they print: scripts
//! read it.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use common::archive::{Packing, tar};
use common::program::{binary, distrofs, run};

/// An archive whose listing is known to the byte.
struct Known {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Known {
    fn new() -> Self {
        let dir = common::temp_dir();
        let (tree, plain, path) = (
            dir.path().join("tree"),
            dir.path().join("tar"),
            dir.path().join("image.tgz"),
        );
        fs::create_dir_all(tree.join("etc/conf.d")).expect("make a directory");
        fs::create_dir(tree.join("bin")).expect("make a directory");
        fs::write(tree.join("bin/sh"), b"#!/bin/false\n").expect("write");
        fs::set_permissions(tree.join("bin/sh"), PermissionsExt::from_mode(0o4755)).expect("chmod");
        fs::write(tree.join("etc/passwd"), b"root:x:0:0::/root:/bin/sh\n").expect("write");
        fs::hard_link(tree.join("etc/passwd"), tree.join("etc/passwd-")).expect("link");
        fs::write(tree.join("etc/odd\n\x1b[31m"), b"odd").expect("write");
        std::os::unix::fs::symlink("../etc/passwd", tree.join("bin/users")).expect("link");
        let known = [
            "--sort=name",
            "--mtime=@1600000000",
            "--owner=1000",
            "--group=1001",
            "--format=gnu",
        ];
        tar(&tree, &plain, &known);
        Packing::Gzip.pack(&plain, &path);
        Self { path, _dir: dir }
    }
}

#[test]
fn ls_names_what_is_in_a_directory() {
    let known = Known::new();
    assert_eq!(
        run(distrofs(["ls"]).arg(&known.path)).ok().stdout,
        "bin\netc\n"
    );
    assert_eq!(
        run(distrofs(["ls"]).arg(&known.path).arg("/bin"))
            .ok()
            .stdout,
        "sh\nusers\n"
    );
    // With and without the slash, as the archive's own listing has it.
    assert_eq!(
        run(distrofs(["ls"]).arg(&known.path).arg("bin/"))
            .ok()
            .stdout,
        "sh\nusers\n"
    );
    assert_eq!(
        run(distrofs(["ls"]).arg(&known.path).arg("./etc/conf.d"))
            .ok()
            .stdout,
        ""
    );
}

/// A name from an archive cannot speak to a terminal; a pipe gets it as it is.
#[test]
fn ls_shows_odd_names_harmlessly() {
    let known = Known::new();
    let said = run(distrofs(["ls"]).arg(&known.path).arg("etc")).ok();
    assert_eq!(said.stdout, "conf.d\nodd\n\x1b[31m\npasswd\npasswd-\n");
    let line = format!("'{}' ls '{}' etc", binary().display(), known.path.display());
    let on_terminal = run(Command::new("script").args(["-qec", &line, "/dev/null"])).ok();
    assert_eq!(
        on_terminal.stdout,
        "conf.d\r\nodd\\n\\u{1b}[31m\r\npasswd\r\npasswd-\r\n"
    );
}

#[test]
fn ls_long_shows_what_stat_would() {
    let known = Known::new();
    let said = run(distrofs(["ls", "-l"]).arg(&known.path).arg("bin")).ok();
    let lines: Vec<Vec<&str>> = said
        .stdout
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 2, "{said:#?}");
    assert_eq!(
        lines[0],
        [
            "-rwsr-xr-x",
            "1",
            "1000",
            "1001",
            "13",
            "2020-09-13",
            "12:26:40",
            "sh"
        ]
    );
    assert_eq!(lines[1][0], "lrwxrwxrwx");
    assert_eq!(lines[1][7..], ["users", "->", "../etc/passwd"]);
    let said = run(distrofs(["ls", "-l"]).arg(&known.path).arg("etc")).ok();
    assert!(
        said.stdout
            .lines()
            .any(|l| l.starts_with("drwxr-xr-x") && l.ends_with(" conf.d")),
        "{said:#?}"
    );
    assert!(
        said.stdout
            .lines()
            .any(|l| l.starts_with("-rw-r--r--") && l.contains(" 2 ")),
        "{said:#?}"
    );
}

#[test]
fn cat_writes_the_file_and_nothing_else() {
    let known = Known::new();
    let said = run(distrofs(["cat"]).arg(&known.path).arg("/etc/passwd")).ok();
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        ("root:x:0:0::/root:/bin/sh\n", "")
    );
    // Links in the archive mean places in the archive.
    assert_eq!(
        run(distrofs(["cat"]).arg(&known.path).arg("bin/users"))
            .ok()
            .stdout,
        said.stdout
    );
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let known = Known::new();
    run(distrofs(["ls"]).arg(&known.path).arg("no/such")).refused(1, &["distrofs:", "no/such"]);
    run(distrofs(["cat"]).arg(&known.path).arg("no/such")).refused(1, &["distrofs:", "no/such"]);
    run(distrofs(["cat"]).arg(&known.path).arg("etc"))
        .refused(1, &["distrofs:", "etc", "directory"]);
    // Above the top there is nothing but the top.
    assert_eq!(
        run(distrofs(["ls"]).arg(&known.path).arg("../../.."))
            .ok()
            .stdout,
        "bin\netc\n"
    );
}

#[test]
fn index_prints_a_summary_for_people_and_one_for_scripts() {
    let known = Known::new();
    let said = run(distrofs(["index"]).arg(&known.path)).ok();
    for word in ["image.tgz", "gzip", "8 entries", "spans", "dfsx"] {
        assert!(
            said.stdout.contains(word),
            "does not say {word:?}: {said:#?}"
        );
    }
    assert_eq!(said.stderr, "", "a progress bar without a terminal");
    let json = run(distrofs(["index", "--json"]).arg(&known.path))
        .ok()
        .json();
    let number = |name: &str| {
        json[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {json}"))
    };
    assert_eq!(json["kind"], "gzip");
    assert_eq!(json["made"], false);
    assert_eq!(number("entries"), 8);
    assert_eq!(number("files"), 3);
    assert_eq!(number("directories"), 4, "with the top");
    assert_eq!(number("symlinks"), 1);
    assert_eq!(number("hard_links"), 1);
    assert_eq!(number("devices"), 0);
    assert_eq!(number("members"), 1);
    assert_eq!(number("content_bytes"), 13 + 26 + 3);
    assert_eq!(
        number("archive_bytes"),
        known.path.metadata().expect("stat").len()
    );
    assert!(number("spans") >= 1 && number("stream_bytes") >= 10_240);
    let index = json["index"].as_str().expect("a path");
    assert_eq!(
        number("index_bytes"),
        fs::metadata(index).expect("an index").len()
    );
    assert!(json["seconds"].is_number() && json["notes"].is_array());
}

/// The kind is what the content says, not what the name does.
#[test]
fn a_plain_archive_is_told_from_a_compressed_one() {
    let known = Known::new();
    let plain = known.path.with_file_name("tar");
    assert_eq!(
        run(distrofs(["index", "--json"]).arg(plain)).ok().json()["kind"],
        "tar"
    );
}

/// The whole of a real image, by the commands that need no mount.
#[test]
fn a_debian_can_be_read_without_a_mount() {
    let archive = common::archive::debian_tgz();
    let dir = common::temp_dir();
    let with_index = |command: &str| {
        let mut command = distrofs([command]);
        command
            .arg("--index")
            .arg(dir.path().join("index"))
            .arg(&archive);
        command
    };
    let said = run(with_index("cat").arg("/etc/os-release")).ok();
    assert!(
        said.stdout.contains("VERSION_CODENAME=bookworm"),
        "{said:#?}"
    );
    let said = run(with_index("ls").arg("/usr/bin")).ok();
    assert!(said.stdout.lines().any(|line| line == "perl"), "{said:#?}");
}
