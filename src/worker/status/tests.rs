//! What is said, and where it is written.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::text::MARK;
use super::*;
use crate::budget::MemoryBudget;
use crate::inspect::{Row, State as RowState};
use crate::store::IngestOptions;
use crate::store::home::{Folder, Home, Options, Outcome, State, Work};
use crate::sys::lease::unwritten;
use crate::types::ImagePath;

fn statuses(texts: &[(&str, &str)]) -> Statuses {
    let whole = |text: &str| format!("{MARK}{text}\n");
    texts
        .iter()
        .map(|(name, text)| (name.as_bytes().to_vec(), whole(text)))
        .collect()
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn files_come_change_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let distros = Folder::open(dir.path()).unwrap();
    let mut files = StatusFiles::default();
    files.update(
        &distros,
        &statuses(&[("a.status", "1"), ("b.status", "1")]),
        99,
    );
    let inode = |name| distros.stamp(name).unwrap();
    let before = inode(b"a.status");
    files.update(&distros, &statuses(&[("a.status", "1")]), 99);
    assert_eq!(inode(b"a.status"), before, "it is not written again");
    assert_eq!(inode(b"b.status"), None);
    files.update(&distros, &statuses(&[("a.status", "2")]), 99);
    assert!(read(dir.path(), "a.status").ends_with("of 2\n"));
    // Another process takes them for its own, and mends what was changed.
    let mut files = StatusFiles::default();
    let before = inode(b"a.status");
    files.update(&distros, &statuses(&[("a.status", "2")]), 99);
    assert_eq!(inode(b"a.status"), before);
    fs::write(dir.path().join("a.status"), format!("{MARK}mine")).unwrap();
    files.update(&distros, &statuses(&[("a.status", "2")]), 99);
    assert!(read(dir.path(), "a.status").ends_with("of 2\n"));
    files.update(&distros, &Statuses::new(), 99);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_status_stays_and_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/victim"), format!("{MARK}victim")).unwrap();
    symlink("d/victim", at("link.status")).unwrap();
    fs::create_dir(at("dir.status")).unwrap();
    fs::write(at("own.status"), "my own notes").unwrap();
    fs::write(at("notes.status"), "more").unwrap();
    symlink("d/victim", at(".distrofs.new")).unwrap();
    let distros = Folder::open(dir.path()).unwrap();
    let mut files = StatusFiles::default();
    let wanted = [
        ("link.status", "x"),
        ("dir.status", "x"),
        ("own.status", "x"),
        ("fine.status", "x"),
    ];
    for statuses in [statuses(&wanted), Statuses::new()] {
        files.update(&distros, &statuses, 99);
        assert_eq!(read(dir.path(), "d/victim"), format!("{MARK}victim"));
        assert!(at("link.status").is_symlink() && at("dir.status").is_dir());
        assert_eq!(read(dir.path(), "own.status"), "my own notes");
        assert_eq!(read(dir.path(), "notes.status"), "more");
        assert_eq!(at("fine.status").exists(), !statuses.is_empty());
    }
}

#[test]
fn rows_stand_in_columns() {
    let row = |what, state, advice: Option<&str>| Row {
        what,
        state,
        found: "found".to_owned(),
        why: "needed",
        advice: advice.map(str::to_owned),
    };
    let rows = [
        row("/bin/sh", RowState::Missing, Some("install it")),
        row("/proc", RowState::Ok, None),
    ];
    let text = "  /bin/sh  missing  found\n                    why: needed\n                    do:  install it\n  /proc    ok       found\n";
    assert_eq!(checks::table(&rows), text);
}

/// A home, and all statuses of it.
struct Told {
    dir: tempfile::TempDir,
    home: Home,
    checks: Checks,
}

impl Told {
    fn new() -> Told {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("home/distros")).unwrap();
        let options = Options::new(IngestOptions {
            span_bytes: 256 << 10,
            ignore_zeros: false,
        });
        let directory = File::open(dir.path().join("home")).unwrap();
        let home = Home::open(directory.into(), &dir.path().join("store"), options).unwrap();
        Told {
            dir,
            home,
            checks: Checks::default(),
        }
    }

    fn upload(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.path().join("home/distros").join(name);
        fs::write(&path, bytes).unwrap();
        unwritten(&path);
    }

    fn take_all(&self) -> Vec<Outcome> {
        let scan = self.home.scan().unwrap();
        let finished = scan.sightings.iter().filter(|s| s.state == State::Finished);
        let work = Work {
            metrics: &Arc::default(),
            progress: &|_, _, _| {},
            stop: &AtomicBool::new(false),
        };
        finished.map(|s| self.home.take(s, work)).collect()
    }

    fn status(&mut self, name: &str, indexing: Option<(&str, u64, u64)>) -> String {
        let images = self.home.images().unwrap();
        let (budget, metrics) = (MemoryBudget::new(64 << 20), Arc::default());
        for record in &images.records {
            let made = self.home.compose(record, &budget, &metrics).unwrap();
            let (path, version) = (&record.path, made.version);
            self.checks
                .look(path, version, &made.files, &budget, &metrics);
        }
        let path = indexing.map(|now| ImagePath::new(now.0.as_bytes()).unwrap());
        let facts = Facts {
            names_max: 10,
            scan: &self.home.scan().unwrap(),
            images: &images,
            rejections: &self.home.rejections().unwrap(),
            indexing: path.as_ref().zip(indexing).map(|(path, now)| Indexing {
                path,
                bytes: now.1,
                of: now.2,
            }),
            checks: &self.checks,
            notes: &Default::default(),
        };
        let mut statuses = facts.statuses();
        let text = statuses.remove(format!("{name}.status").as_bytes());
        let text = text.unwrap_or_else(|| panic!("no {name}.status in {statuses:?}"));
        assert!(text.starts_with(MARK));
        text
    }
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// An archive with an empty file.
fn archive() -> Vec<u8> {
    let mut block = [0; 2048];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, b"file");
    put(100, b"0000644\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

#[test]
fn from_the_upload_to_the_image() {
    let mut told = Told::new();
    let writing = {
        told.upload("web.tar", &archive()[..600]);
        let path = told.dir.path().join("home/distros/web.tar");
        File::options().append(true).open(path).unwrap()
    };
    says(
        &told.status("web", None),
        &["uploading: web.tar, 600 B so far"],
    );
    drop(writing);
    unwritten(&told.dir.path().join("home/distros/web.tar"));
    let text = told.status("web", None);
    says(&text, &["waiting: web.tar, 600 B, is complete"]);
    let text = told.status("web", Some(("web", 150, 600)));
    says(&text, &["indexing: web.tar, 25 % of 600 B"]);
    told.take_all();
    told.upload("web.tar", &archive());
    assert!(matches!(told.take_all()[..], [Outcome::Ready { .. }]));
    let text = told.status("web", None);
    says(&text, &["ready: version ", "web.tar, 2.0 kB, taken in 20"]);
    says(&text, &["1 entries", "What containers need", "/.old_root"]);
    says(&text, &["missing", "do:  make it a directory"]);
    // A later upload does not hide what is served.
    told.upload("web.tgz", &[b'x'; 2000]);
    assert!(matches!(told.take_all()[..], [Outcome::Rejected(_)]));
    let text = told.status("web", None);
    says(
        &text,
        &["refused: web.tgz: not a tar archive", "ready: version "],
    );
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let mut told = Told::new();
    told.upload("cut.tgz", b"\x1f\x8b\x08\0");
    told.upload("a\x1b[2Jb.tar", &archive());
    symlink("/etc/shadow", told.dir.path().join("home/distros/s.tar")).unwrap();
    fs::write(told.dir.path().join("store/images/bad.json"), "x").unwrap();
    for number in 0..9 {
        told.upload(&format!("{number}"), b"");
    }
    assert!(matches!(told.take_all()[..], [Outcome::Truncated(_)]));
    let text = told.status("cut", None);
    says(
        &text,
        &[
            "incomplete: cut.tgz, 4 B: the archive ends at",
            "stays for resuming",
        ],
    );
    says(
        &told.status("s", None),
        &["refused: s.tar", "symbolic link"],
    );
    let text = told.status("a\x1b[2Jb.tar", None);
    says(&text, &["a\\x1b[2Jb.tar", "give it another name"]);
    assert!(!text.contains('\x1b'));
    says(
        &told.status("+distros", None),
        &["damaged: ", "images/bad.json"],
    );
}
