//! `distrofs verify`: what is damaged is found and named, and nothing is
//! changed by looking.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::archive::{Packing, tar};
use common::program::{Ran, distrofs, run};
use common::synthetic::Random;
use serde_json::Value;

/// An archive of a few files, with its index.
struct Archive {
    path: PathBuf,
    dir: tempfile::TempDir,
}

const FILES: usize = 8;
const FILE_BYTES: usize = 300_000;

impl Archive {
    fn new(packing: Packing) -> Self {
        let dir = common::temp_dir();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("make a directory");
        let mut random = Random(7);
        for n in 0..FILES {
            // Compresses to a third, with references to what was before.
            let letter = |byte: &u8| b"abcdefgh"[usize::from(byte % 8)];
            let text: Vec<u8> = random.bytes(FILE_BYTES).iter().map(letter).collect();
            fs::write(tree.join(format!("file-{n}")), text).expect("write");
        }
        let plain = dir.path().join("tar");
        let path = dir.path().join("image");
        tar(&tree, &plain, &["--sort=name"]);
        packing.pack(&plain, &path);
        run(distrofs(["index"]).arg(&path)).ok();
        Self { path, dir }
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("image.dfsx")
    }

    fn verify(&self) -> Ran {
        run(distrofs(["verify", "--json"]).arg(&self.path))
    }
}

/// Changes a byte as a failing disk does: the times of the file stay.
fn rot(path: &Path, at: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    let times = fs::FileTimes::new().set_modified(
        file.metadata()
            .and_then(|meta| meta.modified())
            .expect("a time"),
    );
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("write");
    file.set_times(times).expect("set the time");
}

fn states(report: &Value) -> Vec<(&str, &str)> {
    let checks = report["checks"].as_array().expect("checks").iter();
    checks
        .map(|check| (&check["what"], &check["state"]))
        .map(|(what, state)| (what.as_str().expect("text"), state.as_str().expect("text")))
        .collect()
}

#[test]
fn sound_archives_of_every_packing_pass_and_stay_as_they_are() {
    for packing in Packing::ALL {
        let archive = Archive::new(packing);
        let before = fs::read(archive.index()).expect("an index");
        let said = archive.verify().ok();
        let report = said.json();
        let members = if packing == Packing::Plain {
            "skipped"
        } else {
            "ok"
        };
        assert_eq!(
            states(&report),
            [
                ("index file", "ok"),
                ("index tables", "ok"),
                ("content", "ok"),
                ("gzip members", members),
                ("SHA-256", "ok"),
            ],
            "{packing:?}"
        );
        assert_eq!(report["damage"]["places_total"], 0);
        assert_eq!(fs::read(archive.index()).expect("an index"), before);
        assert_eq!(said.stderr, "");
    }
}

/// Going on with a decoder would leave the windows unproved.
#[test]
fn every_checkpoint_is_used() {
    let archive = Archive::new(Packing::Gzip);
    let index = run(distrofs(["index", "--json"]).arg(&archive.path))
        .ok()
        .json();
    let spans = index["spans"].as_u64().expect("a number");
    assert!(spans > 5, "{spans}");
    let report = archive.verify().ok().json();
    let found = report["checks"][2]["found"].as_str().expect("text");
    assert!(
        found.ends_with(&format!(" from {spans} checkpoints")),
        "{found}"
    );
}

#[test]
fn a_rotten_byte_in_a_compressed_archive_is_found_by_every_check_of_it() {
    let archive = Archive::new(Packing::Gzip);
    let middle = archive.path.metadata().expect("stat").len() / 2;
    rot(&archive.path, middle);
    let said = archive.verify();
    assert_eq!(said.status.code(), Some(1), "{said:#?}");
    let report = said.json();
    assert_eq!(
        states(&report),
        [
            ("index file", "ok"),
            ("index tables", "ok"),
            ("content", "damaged"),
            ("gzip members", "damaged"),
            ("SHA-256", "damaged"),
        ]
    );
    let damage = &report["damage"];
    let files = damage["files"].as_array().expect("files");
    assert!((1..=2).contains(&files.len()), "{damage}");
    // The damage is near the middle: it ends with the span at the latest.
    assert!(
        ["/file-3", "/file-4"].contains(&files[0].as_str().expect("a path")),
        "{damage}"
    );
    assert!(
        damage["bytes"]
            .as_u64()
            .is_some_and(|n| (1..600_000).contains(&n)),
        "{damage}"
    );
    let said = run(distrofs(["verify"]).arg(&archive.path));
    for word in [
        "damaged",
        "upload it again",
        "Files that cannot be read completely",
        "/file-",
    ] {
        assert!(said.stdout.contains(word), "no {word:?}: {said:#?}");
    }
}

#[test]
fn a_rotten_byte_in_a_plain_archive_costs_one_block() {
    let archive = Archive::new(Packing::Plain);
    // In the second file, and another in the block behind.
    for at in [500_000, 500_000 + 16_384] {
        rot(&archive.path, at);
    }
    let report = archive.verify().json();
    let places = report["damage"]["places"].as_array().expect("places");
    let starts: Vec<_> = places.iter().map(|place| place["start"].as_u64()).collect();
    assert_eq!(
        starts,
        [
            Some(500_000 / 16_384 * 16_384),
            Some((500_000 / 16_384 + 1) * 16_384)
        ]
    );
    assert_eq!(report["damage"]["bytes"], 2 * 16_384);
    assert_eq!(report["damage"]["files"], serde_json::json!(["/file-1"]));
}

#[test]
fn a_rotten_index_is_told_and_not_made_again() {
    // In the header, in the first section, and in the windows, which are last.
    for at in [20, 4096 + 3, u64::MAX] {
        let archive = Archive::new(Packing::Gzip);
        let len = archive.index().metadata().expect("an index").len();
        let at = at.min(len - 100);
        rot(&archive.index(), at);
        let before = fs::read(archive.index()).expect("an index");
        let said = archive.verify();
        assert_eq!(said.status.code(), Some(1), "byte {at}: {said:#?}");
        let report = said.json();
        assert_eq!(states(&report)[0], ("index file", "damaged"), "byte {at}");
        let advice = report["checks"][0]["advice"].as_str().expect("advice");
        assert!(advice.contains("index --force"), "{advice}");
        // The archive is judged without it.
        assert!(
            states(&report).contains(&("gzip members", "ok")),
            "{report}"
        );
        assert_eq!(fs::read(archive.index()).expect("an index"), before);
    }
}

#[test]
fn an_archive_that_is_another_one_is_told() {
    let archive = Archive::new(Packing::Gzip);
    let other = archive.dir.path().join("other");
    Packing::Gzip.pack(&archive.dir.path().join("tree/file-0"), &other);
    fs::rename(&other, &archive.path).expect("rename");
    let said = archive.verify();
    assert_eq!(said.status.code(), Some(1), "{said:#?}");
    let report = said.json();
    assert_eq!(states(&report)[0], ("index file", "damaged"));
    assert!(
        report["checks"][0]["found"]
            .as_str()
            .is_some_and(|s| s.contains("another archive"))
    );
    assert_eq!(report["index"], Value::Null);
}

#[test]
fn an_archive_without_an_index_gets_one_and_is_verified() {
    let archive = Archive::new(Packing::Gzip);
    fs::remove_file(archive.index()).expect("remove");
    archive.verify().ok();
    assert!(archive.index().exists());
    let cut = archive.dir.path().join("cut");
    let bytes = fs::read(&archive.path).expect("read");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("write");
    run(distrofs(["verify"]).arg(&cut)).refused(1, &["ends at offset", "upload it again"]);
}
