//! Archives made by the tools that people make theirs with.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::program::run;

/// The demo's Debian image, compressed, as `scripts/image` makes it.
#[track_caller]
pub(crate) fn debian_tgz() -> PathBuf {
    debian("tgz")
}

/// The same image, not compressed.
#[track_caller]
pub(crate) fn debian_tar() -> PathBuf {
    debian("tar")
}

/// Whether the image is the large one.
pub(crate) fn is_full() -> bool {
    std::env::var_os("DISTROFS_TEST_FULL").is_some()
}

/// With `DISTROFS_TEST_FULL` set, the large one that is for measuring: `cargo test
/// --test requests --test memory` then counts what that takes.
#[track_caller]
fn debian(kind: &str) -> PathBuf {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/image"));
    if is_full() {
        command.arg("--full");
    }
    let said = run(command.arg(kind)).ok();
    PathBuf::from(said.stdout.trim_end())
}

/// Archives all of `dir`, with `options` for GNU tar.
#[track_caller]
pub(crate) fn tar(dir: &Path, archive: &Path, options: &[&str]) {
    let mut command = Command::new("tar");
    command
        .arg("--numeric-owner")
        .args(options)
        .arg("-cf")
        .arg(archive)
        .arg("-C")
        .arg(dir);
    run(command.arg(".")).ok();
}

/// Unpacks an archive as its own tool does, with everything it holds.
#[track_caller]
pub(crate) fn untar(archive: &Path, dir: &Path) {
    let mut command = Command::new("tar");
    command.args([
        "-xp",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "-f",
    ]);
    run(command.arg(archive).arg("-C").arg(dir)).ok();
}

/// A way to compress an archive that is met in the wild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not compressed.
    Plain,
    /// One member.
    Gzip,
    /// One member, with byte-aligned flushes.
    Pigz,
    /// One member, in blocks that do not refer to each other.
    PigzIndependent,
    /// Members of at most 64 KiB.
    Bgzip,
    /// Several members of any size, one of them empty.
    Concatenated,
    /// One member and zeros after it, as tapes leave them.
    TrailingZeros,
}

impl Packing {
    pub(crate) const ALL: [Packing; 7] = [
        Packing::Plain,
        Packing::Gzip,
        Packing::Pigz,
        Packing::PigzIndependent,
        Packing::Bgzip,
        Packing::Concatenated,
        Packing::TrailingZeros,
    ];

    /// Writes `tar`, packed in this way, to `archive`.
    #[track_caller]
    pub(crate) fn pack(self, tar: &Path, archive: &Path) {
        match self {
            Packing::Plain => drop(fs::copy(tar, archive).expect("copy the archive")),
            Packing::Gzip => filter(&["gzip", "-c"], tar, archive),
            Packing::Pigz => filter(&["pigz", "-c"], tar, archive),
            Packing::PigzIndependent => filter(&["pigz", "-ci"], tar, archive),
            Packing::Bgzip => filter(&["bgzip", "-c"], tar, archive),
            Packing::Concatenated => concatenate(tar, archive),
            Packing::TrailingZeros => {
                filter(&["gzip", "-c"], tar, archive);
                let mut file = File::options()
                    .append(true)
                    .open(archive)
                    .expect("open the archive");
                file.write_all(&[0; 5000]).expect("append zeros");
            }
        }
    }
}

/// The archive's bytes in four members, cut at places that are no multiples of
/// anything in a tar, and with an empty member in between.
fn concatenate(tar: &Path, archive: &Path) {
    let bytes = fs::read(tar).expect("read the archive");
    let part = archive.with_extension("part");
    let packed = archive.with_extension("packed");
    let mut whole = File::create(archive).expect("make the archive");
    let (third, half) = (bytes.len() / 3 + 1, bytes.len() / 2 + 7);
    for range in [0..third, third..third, third..half, half..bytes.len()] {
        fs::write(&part, &bytes[range]).expect("write a part");
        filter(&["gzip", "-c"], &part, &packed);
        whole
            .write_all(&fs::read(&packed).expect("read a part"))
            .expect("append a part");
    }
    fs::remove_file(&part).expect("remove a part");
    fs::remove_file(&packed).expect("remove a part");
}

#[track_caller]
fn filter(command: &[&str], from: &Path, to: &Path) {
    let status = Command::new(command[0])
        .args(&command[1..])
        .stdin(File::open(from).expect("open the input"))
        .stdout(File::create(to).expect("make the output"))
        .stderr(Stdio::inherit())
        .status()
        .unwrap_or_else(|e| panic!("cannot start {command:?} ({e}); scripts/test installs it"));
    assert!(status.success(), "{command:?} failed on {}", from.display());
}
