//! Patches on top of an image, and images under a patch, damaged in any way.

use std::sync::{Arc, OnceLock};

use distrofs::index::Index;
use distrofs::index::build::{
    BuildError, BuildOptions, Deriver, HeapArenas, ModeChange, Patch, Wanted,
};
use distrofs::types::Ino;

use super::super::archive::{Head, Tar, image};
use super::super::image::{Sections, ingest};
use super::super::random::Random;
use super::container;

/// The image that patches go on top of: its tables and its stream.
fn base() -> &'static (Sections, Vec<u8>) {
    static BASE: OnceLock<(Sections, Vec<u8>)> = OnceLock::new();
    BASE.get_or_init(|| {
        let stream = image(3);
        let made = ingest(&stream, 1 << 20);
        let made = made.unwrap_or_else(|e| panic!("the image is not indexed: {e}"));
        (made.sections, stream)
    })
}

fn patch() -> Vec<u8> {
    Tar::default()
        .file("etc/.wh.passwd", "")
        .file("etc/passwd", "new")
        .file("usr/lib/.wh..wh..opq", "")
        .file("lib/new", vec![b'n'; 5000])
        .dir("usr/")
        .link(b'1', "linked", "etc/noise")
        .link(b'1', "early", "late")
        .file("late", "late")
        .end()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let odd = Tar::default()
        .file(".wh...", "")
        .file(".wh.", "")
        .file("../.wh.etc", "")
        .file(".wh.etc/passwd", "")
        .file("etc", "over a directory")
        .dir("fifo")
        .file("fifo/below", "1")
        .link(b'1', "loop", "loop")
        .link(b'2', "lib", "etc")
        .file("lib/x", "1")
        .entry(&Head::new(b'6', ".wh.usr"), &[])
        .end();
    let opaque = Tar::default()
        .dir("./")
        .file("a", "a")
        .file(".wh..wh..opq", "")
        .end();
    vec![patch(), odd, opaque, image(4)]
}

/// Any tar on top of an image gives an index that verifies, in which no whiteout
/// is, however its stream is cut; or an error.
pub(super) fn run(input: &[u8]) {
    let (sections, stream) = base();
    let base = open(sections).unwrap_or_else(|| panic!("the image does not open"));
    let whole = derive(&base, stream.len(), input, usize::MAX);
    let cut = 1 + Random::new(input.len() as u64).below(1500);
    let pieces = derive(&base, stream.len(), input, cut);
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole.bytes, pieces.bytes, "cut at {cut}"),
        (whole, pieces) => {
            let (whole, pieces) = (whole.as_ref().err(), pieces.as_ref().err());
            let both = [whole, pieces].map(|e| e.map(ToString::to_string));
            assert_eq!(both[0], both[1], "cut at {cut}");
        }
    }
    let Ok(sections) = whole else {
        return;
    };
    let index = open(&sections).unwrap_or_else(|| panic!("a new index does not open"));
    let verified = index.verify((stream.len() + input.len()) as u64);
    verified.unwrap_or_else(|e| panic!("a new index does not verify: {e}"));
    let mut dirs = vec![Ino::ROOT];
    while let Some(dir) = dirs.pop() {
        let dirents = index.dirents(dir, 0);
        for dirent in dirents.unwrap_or_else(|e| panic!("{e}")) {
            let dirent = dirent.unwrap_or_else(|e| panic!("{e}"));
            assert!(!dirent.name.starts_with(b".wh."), "{dirent:?}");
            if index.parent(dirent.ino).is_ok() {
                dirs.push(dirent.ino);
            }
        }
    }
}

pub(super) fn base_seeds() -> Vec<Vec<u8>> {
    vec![container::pack(&base().0)]
}

/// Any tables under a patch are refused or merged; what verified before does
/// so behind it.
pub(super) fn run_base(input: &[u8]) {
    let sections = container::unpack(input);
    let Some(base) = open(&sections) else {
        return;
    };
    let (len, patch) = (self::base().1.len(), patch());
    let derived = derive(&base, len, &patch, usize::MAX);
    if base.verify(len as u64).is_err() {
        return;
    }
    // The limits are its own.
    let Ok(derived) = derived else {
        return;
    };
    let index = open(&derived).unwrap_or_else(|| panic!("a new index does not open"));
    let verified = index.verify((len + patch.len()) as u64);
    verified.unwrap_or_else(|e| panic!("a new index does not verify: {e}"));
}

fn open(sections: &Sections) -> Option<Index> {
    let find = |id| sections.places.get(&id).cloned();
    Index::open(Arc::new(sections.bytes.clone()), &find).ok()
}

/// Derives with one patch, whose content is left out where it may be.
fn derive(base: &Index, base_len: usize, patch: &[u8], cut: usize) -> Result<Sections, BuildError> {
    let options = BuildOptions::new([7; 16]);
    let mut deriver = Deriver::new(base, base_len as u64, options, &mut HeapArenas)?;
    let about = Patch {
        start: base_len as u64,
        len: patch.len() as u64,
        archive_bytes: patch.len() as u64,
        ignore_zeros: patch.last().is_some_and(|byte| byte % 2 == 1),
    };
    deriver.patch(
        about,
        &mut HeapArenas,
        &mut |pass| -> Result<(), BuildError> {
            let mut at = 0;
            while let Some(rest) = patch.get(at..).filter(|rest| !rest.is_empty()) {
                match pass.push(at as u64, &rest[..cut.min(rest.len())])? {
                    Wanted::From(next) => at = usize::try_from(next).unwrap_or(usize::MAX),
                    Wanted::Nothing => break,
                }
            }
            Ok(())
        },
    )?;
    let changes = ["etc", "lib/new", "usr/lib/text", "linked"]
        .map(|path| ModeChange::new(path.as_bytes(), 0o1750));
    let changes: Vec<_> = changes.into_iter().flatten().collect();
    let mut sections = Sections::default();
    deriver.finish(&changes, &mut sections)?;
    Ok(sections)
}
