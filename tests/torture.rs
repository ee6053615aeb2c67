//! Random flips and cuts of archives and of indexes: 0 crashes, 0 hangs, 0 wrong
//! bytes. A part of what `scripts/torture` does for longer.
//!
//! `DISTROFS_TORTURE_SEED` and `DISTROFS_TORTURE_MOUNTS` are the seed and the
//! number of cases that go through the program and a mount.

mod common;

#[allow(
    dead_code,
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "shared with the fuzzers, which use all of it"
)]
#[path = "../fuzz/src/lib.rs"]
pub mod fuzz;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use common::mount::{Mount, MountPoint, unmount_unused};
use common::program::{distrofs, run};
use fuzz::archive::{Packing, image};
use fuzz::limits::begin;
use fuzz::random::Random;
use fuzz::torture::{Kind, Suite, damage};

/// Cases in one process: the share of CI.
const CASES: u64 = 2000;
/// Cases through the program and a mount, unless said.
const MOUNTS: u64 = 30;

fn number(name: &str, default: u64) -> u64 {
    let said = std::env::var(name).ok();
    said.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

#[test]
fn two_thousand_cases_give_right_answers_or_none() {
    let dir = common::temp_dir();
    let seed = number("DISTROFS_TORTURE_SEED", 20);
    let suite = Suite::new(dir.path(), seed).expect("archives to damage");
    let mut counts = [(0, 0, 0); Kind::ALL.len()];
    let mut wrong = Vec::new();
    for case in 0..CASES {
        let _running = begin(|| format!("case {case} of seed {seed}"));
        match suite.case(case) {
            Ok(outcome) => {
                let (refused, right, errors) = &mut counts[outcome.kind as usize];
                *refused += u64::from(outcome.refused);
                *right += outcome.tally.right;
                *errors += outcome.tally.refused;
            }
            Err(what) => wrong.push(what),
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    for (kind, (refused, right, errors)) in Kind::ALL.into_iter().zip(counts) {
        println!("{kind:?}: {refused} refused, {right} right, {errors} errors");
        // What is damaged shows, and the rest is still there.
        assert!(refused + errors > 0 && right > 0, "{kind:?} tests nothing");
    }
}

/// What the kernel sees of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    mode: u32,
    size: u64,
    mtime: i64,
    target: Option<PathBuf>,
    content: Vec<u8>,
}

fn known(path: &Path) -> std::io::Result<Known> {
    let meta = path.symlink_metadata()?;
    let is_dir = meta.is_dir();
    Ok(Known {
        mode: meta.mode(),
        size: if is_dir { 0 } else { meta.len() },
        mtime: meta.mtime(),
        target: match meta.is_symlink() {
            true => Some(fs::read_link(path)?),
            false => None,
        },
        content: match meta.is_file() {
            true => fs::read(path)?,
            false => Vec::new(),
        },
    })
}

/// Everything below `root`, by its path.
fn everything(root: &Path) -> BTreeMap<PathBuf, Known> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(root.join(&dir)).expect("read a directory") {
            let path = dir.join(entry.expect("an entry").file_name());
            let known = known(&root.join(&path)).expect("look at it");
            if known.mode & libc::S_IFMT == libc::S_IFDIR {
                pending.push(path.clone());
            }
            found.insert(path, known);
        }
    }
    found
}

/// Looks at everything below `root`: each as in `original`, or an error.
fn compare(root: &Path, original: &BTreeMap<PathBuf, Known>) -> Result<(u64, u64), String> {
    let (mut right, mut refused) = (0, 0);
    for (path, was) in original {
        match known(&root.join(path)) {
            Ok(is) if is == *was => right += 1,
            Ok(_) => return Err(format!("{} is another one", path.display())),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EIO | libc::ESTALE)) => refused += 1,
            Err(e) => return Err(format!("{}: {e}", path.display())),
        }
        if was.mode & libc::S_IFMT != libc::S_IFDIR {
            continue;
        }
        let Ok(names) = fs::read_dir(root.join(path)) else {
            refused += 1;
            continue;
        };
        for name in names.filter_map(Result::ok) {
            let name = path.join(name.file_name());
            if !original.contains_key(&name) {
                return Err(format!("{} should not be there", name.display()));
            }
        }
    }
    Ok((right, refused))
}

/// Damages the bytes of a file where it is.
fn damage_file(path: &Path, random: &mut Random) {
    let mut bytes = fs::read(path).expect("read it");
    damage(&mut bytes, random);
    let file = File::options().write(true).open(path).expect("open it");
    file.write_all_at(&bytes, 0).expect("write it");
    file.set_len(bytes.len() as u64).expect("set its length");
}

#[test]
fn mounted_cases_give_right_answers_or_none() {
    let seed = number("DISTROFS_TORTURE_SEED", 21);
    let mut random = Random::new(seed);
    let (mut answered, mut errors, mut not_mounted) = (0, 0, 0);
    for case in 0..number("DISTROFS_TORTURE_MOUNTS", MOUNTS) {
        let kind = *random.pick(&Kind::ALL);
        let packing = *random.pick(&Packing::ALL);
        let what = format!("case {case} of seed {seed}: {kind:?} of {packing:?}");
        let dir = common::temp_dir();
        let archive = dir.path().join("archive");
        fs::write(&archive, packing.pack(&image(1))).expect("write the archive");
        let mount = Mount::new(&archive, ["--span", "32K"]);
        let original = everything(mount.path());
        mount.end();
        let point = MountPoint::new();
        let mounted = |point: &MountPoint| {
            let mut command = distrofs(["mount", "--span", "32K"]);
            run(command.arg(&archive).arg(point.path()))
        };
        match kind {
            // A plain archive says what its bytes say.
            Kind::Before => {
                damage_file(&archive, &mut random);
                common::attempt(fs::remove_file(dir.path().join("archive.dfsx")));
            }
            // With its time, so that the index is taken to be of it.
            Kind::Behind => {
                let time = archive
                    .metadata()
                    .and_then(|m| m.modified())
                    .expect("its time");
                damage_file(&archive, &mut random);
                let file = File::options().write(true).open(&archive).expect("open it");
                file.set_modified(time).expect("set its time");
            }
            Kind::Index => damage_file(&dir.path().join("archive.dfsx"), &mut random),
            Kind::Open => {}
        }
        let said = mounted(&point);
        if !said.status.success() {
            said.refused(1, &["distrofs:", "archive"]);
            not_mounted += 1;
            continue;
        }
        if kind == Kind::Open {
            damage_file(&archive, &mut random);
            fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
        }
        let made_anew = kind == Kind::Before || said.stderr.contains("indexed again");
        if made_anew {
            // Whatever it is now, all of it can be read; and what gzip has
            // checked is what it was.
            let now = everything(point.path());
            let wrong = now
                .iter()
                .find(|(path, is)| original.get(*path) != Some(is));
            assert!(
                wrong.is_none() || packing == Packing::Plain,
                "{what}: {wrong:?}"
            );
            answered += now.len() as u64;
        } else {
            let (right, refused) = compare(point.path(), &original)
                .unwrap_or_else(|wrong| panic!("{what}: {wrong}\n{said:#?}"));
            answered += right;
            errors += refused;
        }
        unmount_unused(point.path());
        point.assert_gone();
    }
    println!("{answered} answers, {errors} errors, {not_mounted} not mounted");
    assert!(
        answered > 0 && errors > 0 && not_mounted > 0,
        "this tests nothing"
    );
}
