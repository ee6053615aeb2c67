//! The index of a changed image is used for what it was made of, and nothing
//! else; whatever becomes of its file or of the archives under it.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::dialect::Raw;
use distrofs::budget::MemoryBudget;
use distrofs::index::build::{BuildError, ModeChange};
use distrofs::metrics::Metrics;
use distrofs::source::{DirectReader, ReadAt, SourceError};
use distrofs::store::derived::{Derivation, Derived, DerivedIndex, Part};
use distrofs::store::{Archive, IngestOptions, OpenedIndex, Reason, StoreError};
use distrofs::types::Digest;
use distrofs::types::Ino;

/// Archives in a directory of their own.
struct Bench {
    dir: tempfile::TempDir,
    metrics: Arc<Metrics>,
    budget: MemoryBudget,
}

type Opened = (Archive, OpenedIndex);

impl Bench {
    fn new() -> Self {
        Self {
            dir: common::temp_dir(),
            metrics: Arc::new(Metrics::default()),
            budget: MemoryBudget::new(64 << 20),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn place(&self) -> PathBuf {
        self.at("image.derived")
    }

    fn opened(&self, name: &str, archive: Raw) -> Opened {
        let path = self.at(name);
        fs::write(&path, archive.end()).expect("write an archive");
        self.indexed(&path, false)
    }

    fn indexed(&self, path: &Path, ignore_zeros: bool) -> Opened {
        let options = IngestOptions {
            span_bytes: 64 << 10,
            ignore_zeros,
        };
        let archive = Archive::open(path).expect("open an archive");
        let index = archive.index(None, options, false, &self.metrics, &|_| {});
        (archive, index.expect("index it"))
    }

    fn index(&self, derivation: &Derivation<'_>) -> Result<DerivedIndex, StoreError> {
        derivation.index(&self.place(), &self.budget, &self.metrics)
    }

    fn open(&self, derivation: &Derivation<'_>) -> Result<Derived, StoreError> {
        derivation.open(&self.index(derivation)?, &self.budget, &self.metrics)
    }
}

fn part((archive, index): &Opened) -> Part<'_> {
    Part { archive, index }
}

fn derivation<'a>(parts: &'a [Part<'a>], changes: &'a [ModeChange]) -> Derivation<'a> {
    Derivation::new(parts[0], &parts[1..], changes).expect("a derivation")
}

fn change(path: &str, mode: u32) -> ModeChange {
    ModeChange::new(path.as_bytes(), mode).expect("a change")
}

fn base() -> Raw {
    Raw::default()
        .dir("etc/")
        .file("etc/large", vec![b'l'; 300_000])
        .file("etc/small", "small")
}

fn patch() -> Raw {
    Raw::default()
        .file("etc/small", "patched")
        .file("etc/new", vec![b'n'; 100_000])
}

fn content(image: &Derived, path: &str) -> Result<Vec<u8>, SourceError> {
    let ino = image.index.resolve(Ino::ROOT, path.as_bytes(), false);
    let ino = ino.expect("resolve");
    let reader = DirectReader::new(Arc::clone(&image.source));
    let mut all = Vec::new();
    for extent in image.index.extents(ino).expect("extents") {
        let extent = extent.expect("an extent");
        let mut bytes = vec![0; usize::try_from(extent.len).expect("small")];
        reader.read_exact_at(extent.stream.0, &mut bytes)?;
        all.extend(bytes);
    }
    Ok(all)
}

#[test]
fn it_is_made_once_and_again_when_anything_changes() {
    let bench = Bench::new();
    let base = bench.opened("base", base());
    let one = bench.opened("1.tar", patch());
    let two = bench.opened("2.tar", Raw::default().file("etc/small", "twice"));
    let (base, one, two) = (part(&base), part(&one), part(&two));
    let (world, owner) = (change("etc", 0o777), change("/etc/", 0o700));
    let changes = [world.clone(), owner.clone()];
    let reversed = [owner, world];
    type Case<'a> = (&'a [Part<'a>], &'a [ModeChange], &'a str);
    let cases: [Case<'_>; 7] = [
        (&[base], &[], "small"),
        (&[base], &changes, "small"),
        (&[base], &reversed, "small"),
        (&[base, one], &changes, "patched"),
        (&[base, one, two], &changes, "twice"),
        (&[base, two, one], &changes, "patched"),
        (&[two, one, base], &[], "small"),
    ];
    let mut versions: Vec<Digest> = Vec::new();
    for (number, (parts, changes, small)) in cases.into_iter().enumerate() {
        let derivation = derivation(parts, changes);
        let made = bench.index(&derivation).expect("make it").made;
        match made {
            Some(Reason::Missing) if number == 0 => {}
            Some(Reason::Recipe) if number > 0 => {}
            other => panic!("case {number}: {other:?}"),
        }
        let found = derivation.existing_index(&bench.place()).expect("look");
        assert!(found.expect("it is there").made.is_none());
        assert!(bench.index(&derivation).expect("find it").made.is_none());
        let image = bench.open(&derivation).expect("open it");
        image
            .index
            .verify(image.source.len())
            .expect("right tables");
        let found = content(&image, "etc/small").expect("read");
        assert_eq!(found, small.as_bytes(), "case {number}");
        let version = derivation.version();
        assert!(!versions.contains(&version), "case {number}");
        assert_eq!(version.to_string().len(), 64);
        versions.push(version);
    }
}

/// The version is that of the content: copies of the archives, uploaded again
/// under other names, are the same image, and use the same index.
#[test]
fn copies_of_the_archives_are_the_same_image() {
    let bench = Bench::new();
    let (base, one) = (bench.opened("base", base()), bench.opened("1.tar", patch()));
    let parts = [part(&base), part(&one)];
    let changes = [change("etc/new", 0o600)];
    let first = derivation(&parts, &changes);
    bench.index(&first).expect("make it");
    let copies = ["copy", "another"].map(|name| bench.at(name));
    fs::copy(bench.at("base"), &copies[0]).expect("copy");
    fs::copy(bench.at("1.tar"), &copies[1]).expect("copy");
    let copies = copies.map(|path| bench.indexed(&path, false));
    let parts = [part(&copies[0]), part(&copies[1])];
    let second = derivation(&parts, &changes);
    assert_eq!(first.version(), second.version());
    assert!(bench.index(&second).expect("find it").made.is_none());
    // The same archive, read otherwise, is another image.
    let zeros = bench.at("zeros");
    fs::copy(bench.at("base"), &zeros).expect("copy");
    let zeros = bench.indexed(&zeros, true);
    let parts = [part(&zeros), part(&copies[1])];
    assert_ne!(derivation(&parts, &changes).version(), first.version());
}

#[test]
fn what_was_told_is_told_again() {
    let bench = Bench::new();
    let base = bench.opened("base", base());
    let odd = bench.opened(
        "odd\x1b.tar",
        Raw::default().file("../x", "").file("new/.wh.gone", ""),
    );
    let parts = [part(&base), part(&odd)];
    let changes = [change("gone\n", 0o600)];
    let derivation = derivation(&parts, &changes);
    let made = bench.index(&derivation).expect("make it");
    assert_eq!(
        made.notes,
        [
            "patch odd\\x1b.tar: 1 entries: left out, `..` in the name: ../x",
            "patch odd\\x1b.tar: 1 entries: whiteout of something that is not there, nothing \
             removed: new/.wh.gone",
            "/gone\\x0a: not in this version of the image, mode not changed",
        ]
    );
    assert_eq!(bench.index(&derivation).expect("find it").notes, made.notes);
}

/// Every damage leads to a new index, to an error, or to nothing at all; never
/// to another image.
#[test]
fn a_damaged_file_is_made_again_or_refused() {
    let bench = Bench::new();
    let (base, one) = (bench.opened("base", base()), bench.opened("1.tar", patch()));
    let parts = [part(&base), part(&one)];
    let derivation = derivation(&parts, &[]);
    bench.index(&derivation).expect("make it");
    let right = fs::read(bench.place()).expect("read it");
    let mut again = 0;
    for at in (0..right.len()).step_by(97) {
        let mut changed = right.clone();
        changed[at] ^= 1;
        fs::write(bench.place(), &changed).expect("damage it");
        let Ok(found) = derivation.existing_index(&bench.place()) else {
            panic!("byte {at}: it can be read");
        };
        let Ok(found) = found else {
            again += 1;
            continue;
        };
        let image = derivation.open(&found, &bench.budget, &bench.metrics);
        let Ok(image) = image else { continue };
        for path in ["etc/small", "etc/new"] {
            if let Ok(ino) = image.index.resolve(Ino::ROOT, path.as_bytes(), false) {
                let size = image.index.inode(ino).map(|inode| inode.size);
                let right = if path == "etc/small" { 7 } else { 100_000 };
                assert!(size.is_err() || size == Ok(right), "byte {at}");
            }
        }
    }
    assert!(again > 10, "{again}");
    for cut in [0, 100, right.len() - 1] {
        fs::write(bench.place(), &right[..cut]).expect("cut it");
        assert!(bench.open(&derivation).is_ok(), "{cut} bytes");
    }
    fs::write(bench.place(), "precious").expect("write");
    assert!(matches!(
        bench.index(&derivation),
        Err(StoreError::NotOurs { .. })
    ));
    assert_eq!(fs::read(bench.place()).expect("read"), b"precious");
}

/// The index of an archive is none of a changed image, and the reverse.
#[test]
fn the_two_kinds_of_index_are_not_taken_for_each_other() {
    let bench = Bench::new();
    let base = bench.opened("base", base());
    let parts = [part(&base)];
    let derivation = derivation(&parts, &[]);
    let found = derivation
        .existing_index(&bench.at("base.dfsx"))
        .expect("look");
    assert!(matches!(found, Err(Reason::Recipe)), "{found:?}");
    bench.index(&derivation).expect("make it");
    let found = base.0.existing_index(Some(&bench.place())).expect("look");
    assert!(matches!(found, Err((_, Reason::Stale))), "{found:?}");
}

#[test]
fn damage_under_it_is_told_with_the_archive_that_has_it() {
    let bench = Bench::new();
    let (base, one) = (bench.opened("base", base()), bench.opened("1.tar", patch()));
    let parts = [part(&base), part(&one)];
    let derivation = derivation(&parts, &[]);
    let image = bench.open(&derivation).expect("open it");
    let file = File::options().write(true).open(bench.at("1.tar"));
    let file = file.expect("open the patch");
    file.write_all_at(b"x", 50_000).expect("damage the patch");
    let error = content(&image, "etc/new").expect_err("damage");
    assert!(
        error.to_string().starts_with("patch 1 of the image: "),
        "{error}"
    );
    assert_eq!(content(&image, "etc/small").expect("read"), b"patched");
    assert_eq!(content(&image, "etc/large").expect("read").len(), 300_000);
    file.set_len(10_000).expect("cut the patch");
    assert!(matches!(
        bench.open(&derivation),
        Err(StoreError::Source { .. })
    ));
}

#[test]
fn what_goes_on_top_is_limited_before_anything_is_made() {
    let bench = Bench::new();
    let base = bench.opened("base", base());
    let parts = [part(&base)];
    let refused = |patches: &[Part<'_>], changes: &[ModeChange]| {
        let error = Derivation::new(parts[0], patches, changes).map(|_| ());
        let error = error.expect_err("too many");
        assert!(
            matches!(
                &error,
                StoreError::Build {
                    cause: BuildError::TooMany { .. },
                    ..
                }
            ),
            "{error}"
        );
        error.to_string()
    };
    let many = vec![change("etc", 0o755); 100_000];
    let error = refused(&[], &many);
    assert!(
        error.ends_with(
            "100000 changes of modes are more than the 10000 that an image can have: put them \
             together in one patch"
        ),
        "{error}"
    );
    refused(&[], &vec![change(&"x/".repeat(2000), 0o755); 300]);
    refused(&vec![parts[0]; 65], &[]);
    assert!(!bench.place().exists());
}

/// Sixty-four patches, of which each needs no more than what it holds.
#[test]
fn as_many_patches_as_there_may_be() {
    let bench = Bench::new();
    let base = bench.opened("base", base());
    let patches: Vec<_> = (0..64)
        .map(|n| {
            bench.opened(
                &format!("{n:02}.tar"),
                Raw::default().file(format!("{n}"), ""),
            )
        })
        .collect();
    let parts: Vec<_> = std::iter::once(&base).chain(&patches).map(part).collect();
    let changes: Vec<_> = (0..10_000)
        .map(|n| change(&format!("{}", n % 100), 0o600))
        .collect();
    let derivation = derivation(&parts, &changes);
    let index = bench.index(&derivation).expect("make it");
    assert_eq!(index.notes.len(), 3600);
    let image = bench.open(&derivation).expect("open it");
    assert_eq!(image.index.summary().entries, 3 + 64);
}

/// Who may not read a patch must not read its names in the index either.
#[test]
fn the_file_is_as_private_as_the_most_private_archive() {
    let bench = Bench::new();
    for (name, mode) in [("base", 0o644), ("1.tar", 0o640)] {
        fs::write(bench.at(name), base().end()).expect("write an archive");
        fs::set_permissions(bench.at(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let both = ["base", "1.tar"].map(|name| bench.indexed(&bench.at(name), false));
    let parts = [part(&both[0]), part(&both[1])];
    bench.index(&derivation(&parts, &[])).expect("make it");
    let meta = fs::metadata(bench.place()).expect("its attributes");
    assert_eq!(meta.permissions().mode() & 0o777, 0o640);
}
