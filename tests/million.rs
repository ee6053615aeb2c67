//! An archive of a million entries is indexed, mounted, walked and read in a
//! control group of 64 MiB, page cache included.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use common::dialect::Raw;
use common::limited::{BUDGET_BYTES, Foreground, Group, megabytes};
use common::load::{Order, read_all, walk};
use flate2::Compression;
use flate2::write::GzEncoder;

const DIRECTORIES: u32 = 20_000;
const FILES_EACH: u32 = 34;
const LINKS_EACH: u32 = 15;

/// What is in a file: longer in some, so that their blocks are not all alike.
fn content(directory: u32, file: u32) -> String {
    let line = format!("file {file} of directory {directory}\n");
    line.repeat(1 + (directory + file) as usize % 29)
}

fn write_archive(path: &Path) {
    let file = File::create(path).expect("make the archive");
    let mut gzip = GzEncoder::new(file, Compression::fast());
    for directory in 0..DIRECTORIES {
        let name =
            |kind: char, number: u32| format!("{}/{directory:05}/{kind}{number}", directory % 100);
        let mut tar = Raw::default().dir(format!("{}/{directory:05}/", directory % 100));
        for number in 0..FILES_EACH {
            tar = tar.file(name('f', number), content(directory, number));
        }
        for number in 0..LINKS_EACH {
            tar = tar.symlink(name('l', number), format!("f{number}"));
        }
        gzip.write_all(&tar.bytes).expect("write the archive");
    }
    gzip.write_all(&[0; 1024]).expect("write its end");
    gzip.finish().expect("finish the archive");
}

#[test]
fn a_million_entries_fit_into_the_control_group() {
    let dir = common::temp_dir();
    let archive = dir.path().join("million.tgz");
    write_archive(&archive);
    let group = Group::new(BUDGET_BYTES);
    let daemon = Foreground::new(&archive, &group.joining());
    let walked = walk(daemon.path(), Order::DirectoryFirst);
    // Those of `directory % 100` are made as they are missing.
    let entries = u64::from(DIRECTORIES * (1 + FILES_EACH + LINKS_EACH) + 100);
    assert_eq!(walked.entries, entries);
    assert_eq!(walked.files.len(), (DIRECTORIES * FILES_EACH) as usize);
    let bytes: u64 = walked.files.iter().map(|(_, size)| size).sum();
    assert_eq!(read_all(&walked.files, 8), bytes);
    for (directory, file) in [(0, 0), (9_999, 17), (DIRECTORIES - 1, FILES_EACH - 1)] {
        let path = format!("{}/{directory:05}/f{file}", directory % 100);
        let found = fs::read_to_string(daemon.path().join(&path)).expect("read a file");
        assert_eq!(found, content(directory, file), "{path}");
    }
    println!(
        "{entries} entries, {:.0} MiB: peak {:.1} MiB, {}",
        megabytes(bytes),
        megabytes(daemon.peak_bytes()),
        group.report()
    );
    assert_eq!(group.kills(), 0, "killed for memory: {}", group.report());
    daemon.end();
}
