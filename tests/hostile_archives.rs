//! Archives that are wrong, cut, damaged or made to hurt: each is refused with
//! its name and a reason, or gives what tar would give. Never a crash, a hang,
//! a wrong byte, or memory that grows with what the archive claims.

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
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::mount::{Mount, MountPoint};
use common::program::{distrofs, distrofs_within, run};
use fuzz::archive::{BLOCK, Head, Packing, Tar, gzip, image};
use fuzz::image::{Changeable, ingest};
use fuzz::random::Random;
use fuzz::torture::{open_sidecar, sidecar_of};
use fuzz::walk::{Seen, compare, see};

const MIB: u64 = 1 << 20;

/// What the program may have for any archive: its budget is 64 MiB, of which
/// indexing needs little; the rest is the stacks of its threads.
const MEMORY_MAX: u64 = 128 * MIB;

/// What the daemon may have resident: its budget.
const PEAK_MAX: u64 = 64 * MIB;

/// A directory with an archive in it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = common::temp_dir();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    fn put(&self, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(), bytes).expect("write an archive");
        self.path()
    }

    /// Asserts that nothing is beside the archive.
    #[track_caller]
    fn assert_alone(&self, what: &str) {
        let names = fs::read_dir(self.dir.path()).expect("read a directory");
        let names: Vec<_> = names.map(|e| e.expect("an entry").file_name()).collect();
        assert!(names.len() <= 1, "{what}: left {names:?}");
    }

    /// Asserts that the archive there is refused by `index` and by `mount`.
    #[track_caller]
    fn assert_refused(&self, what: &str, words: &[&str]) {
        let path = self.path();
        println!("{what}");
        let words: Vec<&str> = words
            .iter()
            .copied()
            .chain(["distrofs:", "archive"])
            .collect();
        run(distrofs_within(MEMORY_MAX, ["index"]).arg(&path)).refused(1, &words);
        let point = MountPoint::new();
        let mut mount = distrofs_within(MEMORY_MAX, ["mount"]);
        run(mount.arg(&path).arg(point.path())).refused(1, &words);
        assert!(!point.is_mounted(), "{what}: mounted");
        self.assert_alone(what);
    }
}

// --- No archive -------------------------------------------------------------

#[test]
fn what_is_no_archive_is_refused_and_named() {
    let tar = Tar::default().file("f", "content").end();
    let behind = |magic: &[u8]| [magic, &tar].concat();
    let table: [(&str, Vec<u8>, &[&str]); 14] = [
        ("nothing", Vec::new(), &["not a tar archive"]),
        ("a byte", b"x".to_vec(), &["not a tar archive"]),
        ("text", b"no archive\n".repeat(1000), &["not a tar archive"]),
        (
            "noise",
            Random::new(1).bytes(50_000),
            &["not a tar archive"],
        ),
        (
            "an ELF file",
            behind(b"\x7fELF\x02\x01\x01"),
            &["not a tar archive"],
        ),
        ("zip", behind(b"PK\x03\x04\x14\0\0\0"), &["zip", "tar -C"]),
        ("xz", behind(b"\xfd7zXZ\0\0\x04"), &["xz -dc"]),
        ("zstd", behind(b"\x28\xb5\x2f\xfd"), &["zstd -dc"]),
        ("bzip2", behind(b"BZh91AY&SY"), &["bzip2 -dc"]),
        ("lz4", behind(b"\x04\x22\x4d\x18"), &["lz4 -dc"]),
        ("a gzip of nothing", gzip(b"", 6), &["not a tar archive"]),
        (
            "a gzip of text",
            gzip(&b"text\n".repeat(300), 6),
            &["not a tar archive"],
        ),
        (
            "a gzip of a gzip",
            gzip(&gzip(&tar, 6), 6),
            &["not a tar archive"],
        ),
        (
            "the magic of gzip",
            b"\x1f\x8b\x08".to_vec(),
            &["ends at offset 3"],
        ),
    ];
    for (what, bytes, words) in table {
        let place = Place::new();
        place.put(&bytes);
        place.assert_refused(what, words);
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let make_fifo = |path: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, fifo, mode, 0).expect("make a fifo");
    };
    let place = Place::new();
    place.assert_refused("missing", &["No such file"]);
    fs::create_dir(place.path()).expect("make a directory");
    place.assert_refused("a directory", &["is a directory"]);
    fs::remove_dir(place.path()).expect("remove it");
    make_fifo(&place.path());
    place.assert_refused("a fifo", &["is a pipe"]);
    fs::remove_file(place.path()).expect("remove it");
    drop(UnixListener::bind(place.path()).expect("make a socket"));
    place.assert_refused("a socket", &[]);
    fs::remove_file(place.path()).expect("remove it");
    std::os::unix::fs::symlink("/dev/zero", place.path()).expect("link");
    place.assert_refused("an endless device", &["is a device"]);
    fs::remove_file(place.path()).expect("remove it");
    std::os::unix::fs::symlink("archive", place.path()).expect("link");
    place.assert_refused("a link to itself", &["symbolic links"]);
}

/// What `tar -cf x -T /dev/null` makes: no entry, but the end of an archive.
#[test]
fn an_archive_without_entries_is_an_empty_directory() {
    for blocks in [2, 20] {
        let zeros = vec![0; blocks * BLOCK];
        for packed in [zeros.clone(), gzip(&zeros, 6)] {
            let place = Place::new();
            let mount = Mount::new(&place.put(&packed), [""; 0]);
            let names = fs::read_dir(mount.path()).expect("read the root").count();
            assert_eq!(names, 0);
            mount.end();
        }
    }
}

// --- Cut and flipped --------------------------------------------------------

fn small() -> Vec<u8> {
    Tar::default()
        .dir("d/")
        .file("d/one", "first")
        .file("d/two", [b'2'; 700])
        .link(b'2', "link", "d/one")
        .pax(
            b'x',
            &[("SCHILY.xattr.user.a", b"value"), ("mtime", b"1.5")],
        )
        .file("three", "third")
        .end()
}

/// Everything in an archive that is indexed, or why it is not.
fn tree_of(archive: &[u8]) -> Result<Seen, String> {
    let made = ingest(archive, 32 * 1024)?;
    let archive = Arc::new(Changeable::new(archive.to_vec()));
    see(&made.sections.open(archive)?.fs)
}

/// Asserts that `found` holds nothing that `whole` does not, but for the
/// directories, which have fewer names.
#[track_caller]
fn assert_part(found: &Seen, whole: &Seen, what: &str) {
    for (path, node) in found {
        let original = whole.get(path);
        let right = original.is_some_and(|original| {
            node.content == original.content
                && node.target == original.target
                && node.xattrs == original.xattrs
                && node.attr.size == original.attr.size
        });
        assert!(right, "{what}: {}", path.escape_ascii());
    }
}

#[test]
fn cut_anywhere_a_tar_is_refused_or_gives_what_was_before_the_cut() {
    let tar = small();
    let whole = tree_of(&tar).expect("the whole archive");
    let mut refused = 0;
    for len in 0..tar.len() {
        match tree_of(&tar[..len]) {
            Ok(found) => assert_part(&found, &whole, &format!("cut at {len}")),
            Err(_) => refused += 1,
        }
    }
    // Cuts inside of headers and of content; others lose only padding.
    assert!(refused > 7 * BLOCK, "only {refused} cuts were refused");
}

#[test]
fn cut_anywhere_a_gzip_is_refused() {
    let tar = small();
    for packing in [Packing::Gzip, Packing::Pigz] {
        let packed = packing.pack(&tar);
        for len in 0..packed.len() {
            let cut = tree_of(&packed[..len]);
            assert!(cut.is_err(), "{packing:?}: cut at {len}");
        }
    }
    // Between two members nothing is missing that gzip could know of.
    let members = Packing::Members.pack(&tar);
    let whole = tree_of(&members).expect("the whole archive");
    for len in 0..members.len() {
        if let Ok(found) = tree_of(&members[..len]) {
            assert_part(&found, &whole, &format!("cut at {len}"));
        }
    }
}

/// The same by the program, here and there: what is taken has the names that
/// tar unpacks, and the bytes of the whole archive. (Where only padding is
/// missing tar drops the last content, which is there.)
#[test]
fn what_is_taken_of_a_cut_archive_is_what_tar_unpacks() {
    let tar = small();
    let (whole, _) = mounted(&tar);
    let mut taken = 0;
    for bytes in [tar.clone(), gzip(&tar, 6)] {
        for len in (1..bytes.len()).step_by(bytes.len() / 25) {
            let place = Place::new();
            let path = place.put(&bytes[..len]);
            let said = run(distrofs_within(MEMORY_MAX, ["index"]).arg(&path));
            if said.status.code() == Some(1) {
                place.assert_alone("a cut archive");
                continue;
            }
            assert!(
                said.ok().stdout.contains("perhaps truncated"),
                "cut at {len}"
            );
            let dir = common::temp_dir();
            let mut unpack = Command::new("tar");
            run(unpack.arg("-xf").arg(&path).arg("-C").arg(dir.path()));
            let mount = Mount::new(&path, [""; 0]);
            let (found, unpacked) = (listing(mount.path()), listing(dir.path()));
            assert!(found.keys().eq(unpacked.keys()), "cut at {len}");
            assert!(found.iter().all(|(path, is)| whole.get(path) == Some(is)));
            mount.end();
            taken += 1;
        }
    }
    assert!(taken > 5, "only {taken} cuts were taken");
}

#[test]
fn flipped_anywhere_a_header_is_refused_and_content_is_as_it_is() {
    let tar = small();
    let whole = tree_of(&tar).expect("the whole archive");
    let headers = header_places(&tar);
    for at in 0..tar.len() {
        let mut flipped = tar.clone();
        flipped[at] ^= 1 << (at % 8);
        let found = tree_of(&flipped);
        let in_header = headers
            .iter()
            .any(|head| (*head..head + BLOCK).contains(&at));
        let in_sum = in_header && (148..156).contains(&(at % BLOCK));
        match found {
            Ok(found) if in_sum => assert!(found == whole, "byte {at}: the sum decides nothing"),
            Ok(_) => assert!(!in_header, "byte {at} of a header"),
            Err(_) => {}
        }
    }
}

/// Where the headers of `small` are: the other blocks are content.
fn header_places(tar: &[u8]) -> Vec<usize> {
    let is_header = |at: &usize| tar[at + 257..at + 262] == *b"ustar";
    (0..tar.len()).step_by(BLOCK).filter(is_header).collect()
}

#[test]
fn flipped_anywhere_a_gzip_is_refused_or_the_same() {
    let tar = small();
    let whole = tree_of(&tar).expect("the whole archive");
    for packing in &Packing::ALL[1..] {
        let packed = packing.pack(&tar);
        let mut taken = 0;
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut flipped = packed.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(found) = tree_of(&flipped) {
                    assert_part(&found, &whole, &format!("{packing:?}: bit {bit} of {at}"));
                    taken += 1;
                }
            }
        }
        // Times and names in gzip headers, and members that became garbage.
        assert!(
            taken < packed.len() * 4,
            "{packing:?}: {taken} flips were taken"
        );
    }
}

#[test]
fn flipped_or_cut_anywhere_an_index_is_refused_or_right() {
    let dir = common::temp_dir();
    let archive = gzip(&small(), 6);
    let sidecar = sidecar_of(&archive, dir.path()).expect("an index");
    let original = open_sidecar(sidecar.clone(), &archive).expect("it opens");
    let original = see(&original.fs).expect("it answers");
    let mut refused = 0;
    let mut random = Random::new(2);
    for at in 0..sidecar.len() {
        let mut flipped = sidecar.clone();
        flipped[at] ^= 1 << (at % 8);
        match open_sidecar(flipped, &archive) {
            Ok(opened) => {
                let tally = compare(&opened.fs, &original, &mut random);
                tally.unwrap_or_else(|wrong| panic!("byte {at}: {wrong}"));
            }
            Err(_) => refused += 1,
        }
        assert!(
            open_sidecar(sidecar[..at].to_vec(), &archive).is_err(),
            "cut at {at}"
        );
    }
    assert!(refused >= 4096, "a flip in the header was not noticed");
}

// --- What follows -----------------------------------------------------------

/// gzip warns of garbage behind its last member and tar never reads what is
/// behind the end of an archive: both give the content.
#[test]
fn garbage_behind_an_archive_costs_nothing_of_it() {
    let tar = small();
    let whole = tree_of(&tar).expect("the whole archive");
    let noise = Random::new(3).bytes(5000);
    let table: [(&str, Vec<u8>, bool); 6] = [
        ("tar and noise", [&tar[..], &noise].concat(), false),
        ("tar and zeros", [&tar[..], &[0; 9000]].concat(), false),
        (
            "gzip and noise",
            [&gzip(&tar, 6)[..], b"x", &noise].concat(),
            true,
        ),
        (
            "gzip and zeros",
            [&gzip(&tar, 6)[..], &[0; 9000]].concat(),
            false,
        ),
        (
            "gzip and a gzip",
            [gzip(&tar, 6), gzip(&noise, 6)].concat(),
            false,
        ),
        (
            "gzip of tar and noise",
            gzip(&[&tar[..], &noise].concat(), 6),
            false,
        ),
    ];
    for (what, bytes, is_said) in table {
        let found = tree_of(&bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(found == whole, "{what}");
        let place = Place::new();
        let said = run(distrofs(["index"]).arg(place.put(&bytes))).ok();
        assert_eq!(
            said.stdout.contains("ignored"),
            is_said,
            "{what}: {said:#?}"
        );
    }
}

// --- Names ------------------------------------------------------------------

/// What a mounted archive holds, and what was said of it.
fn mounted(tar: &[u8]) -> (BTreeMap<String, String>, String) {
    let place = Place::new();
    let mount = Mount::new(&place.put(tar), [""; 0]);
    let found = listing(mount.path());
    let said = mount.said.stderr.clone();
    mount.end();
    (found, said)
}

/// The contents of files, the targets of links and `DIR`, by path.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        let names = fs::read_dir(root.join(&dir)).expect("read a directory");
        for name in names {
            let path = dir.join(name.expect("an entry").file_name());
            let at = root.join(&path);
            let kind = at.symlink_metadata().expect("stat").file_type();
            let is = if kind.is_dir() {
                pending.push(path.clone());
                "DIR".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&at).expect("a link").display())
            } else {
                fs::read_to_string(&at).expect("read a file")
            };
            found.insert(path.to_string_lossy().into_owned(), is);
        }
    }
    found
}

/// One line of the table: an archive, what is to be seen of it, and what is
/// to be said.
type Line<'a> = (&'a str, Tar, &'a [(&'a str, &'a str)], &'a [&'a str]);

#[track_caller]
fn assert_table(table: Vec<Line<'_>>) {
    for (what, tar, wanted, words) in table {
        println!("{what}");
        let (found, said) = mounted(&tar.end());
        let owned = |(path, is): &(&str, &str)| ((*path).to_owned(), (*is).to_owned());
        let wanted: BTreeMap<String, String> = wanted.iter().map(owned).collect();
        assert_eq!(found, wanted, "{what}: {said}");
        for word in words {
            assert!(said.contains(word), "{what}: does not say {word:?}: {said}");
        }
    }
}

#[test]
fn names_that_lead_out_are_left_out() {
    let ok = || Tar::default().file("ok", "1");
    assert_table(vec![
        ("..", ok().file("..", "2"), &[("ok", "1")], &["`..`"]),
        ("../up", ok().file("../up", "2"), &[("ok", "1")], &["`..`"]),
        (
            "down and up",
            ok().file("a/../../up", "2"),
            &[("ok", "1")],
            &["`..`"],
        ),
        (
            "absolute",
            ok().file("/etc/passwd", "2"),
            &[("ok", "1"), ("etc", "DIR"), ("etc/passwd", "2")],
            &[],
        ),
        (
            "many slashes",
            ok().file("///a//b/./c", "2"),
            &[("ok", "1"), ("a", "DIR"), ("a/b", "DIR"), ("a/b/c", "2")],
            &[],
        ),
        (
            "out by a link",
            ok().link(b'2', "out", "/../..").file("out/up", "2"),
            &[("ok", "1"), ("out", "-> /../.."), ("up", "2")],
            &[],
        ),
        (
            "hard link out",
            ok().link(b'1', "passwd", "../../etc/passwd"),
            &[("ok", "1")],
            &["passwd"],
        ),
    ]);
}

#[test]
fn names_that_no_directory_holds_are_left_out() {
    let ok = || Tar::default().file("ok", "1");
    let long = "n".repeat(256);
    let longest = "n".repeat(255);
    assert_table(vec![
        ("empty", ok().file("", "2"), &[("ok", "1")], &[]),
        ("a dot", ok().file(".", "2"), &[("ok", "1")], &[]),
        ("a slash", ok().file("/", ""), &[("ok", "1")], &[]),
        (
            "NUL",
            ok().pax(b'x', &[("path", b"a\0b")]).file("x", "2"),
            &[("ok", "1")],
            &[],
        ),
        (
            "a line feed",
            ok().file("a\nb", "2"),
            &[("ok", "1"), ("a\nb", "2")],
            &[],
        ),
        (
            "longest",
            ok().long(b'L', longest.as_bytes()).file("x", "2"),
            &[("ok", "1"), (&longest, "2")],
            &[],
        ),
        (
            "too long",
            ok().long(b'L', long.as_bytes()).file("x", "2"),
            &[("ok", "1")],
            &["no directory can hold"],
        ),
        (
            "a directory too long",
            ok().long(b'L', format!("{long}/f").as_bytes())
                .file("x", "2"),
            &[("ok", "1")],
            &["no directory can hold"],
        ),
    ]);
}

#[test]
fn what_is_in_the_way_stays_and_links_lead_where_they_lead() {
    let ok = || Tar::default().file("ok", "1");
    assert_table(vec![
        (
            "a file where a directory must be",
            ok().file("ok/below", "2"),
            &[("ok", "1")],
            &["not a directory"],
        ),
        (
            "a directory where a file must be",
            ok().file("d/f", "2").file("d", "3"),
            &[("ok", "1"), ("d", "DIR"), ("d/f", "2")],
            &["directory with entries"],
        ),
        (
            "a hard link to nothing",
            ok().link(b'1', "h", "nothing"),
            &[("ok", "1")],
            &["hard link"],
        ),
        (
            "a hard link to itself",
            ok().link(b'1', "h", "h"),
            &[("ok", "1")],
            &["hard link"],
        ),
        (
            "a hard link to a directory",
            ok().dir("d").link(b'1', "h", "d"),
            &[("ok", "1"), ("d", "DIR")],
            &["hard link to a directory"],
        ),
        (
            "a symbolic link to nothing",
            ok().link(b'2', "s", "nothing"),
            &[("ok", "1"), ("s", "-> nothing")],
            &[],
        ),
        (
            "a symbolic link to itself",
            ok().link(b'2', "s", "s").file("s/f", "2"),
            &[("ok", "1"), ("s", "-> s")],
            &["leads nowhere"],
        ),
        (
            "two that lead to each other",
            ok().link(b'2', "a", "b")
                .link(b'2', "b", "a")
                .file("a/f", "2"),
            &[("ok", "1"), ("a", "-> b"), ("b", "-> a")],
            &["leads nowhere"],
        ),
        (
            "a symbolic link to a directory",
            ok().dir("d").link(b'2', "s", "d").file("s/f", "2"),
            &[("ok", "1"), ("d", "DIR"), ("d/f", "2"), ("s", "-> d")],
            &[],
        ),
    ]);
}

// --- Sizes ------------------------------------------------------------------

/// The size field is believed only as far as there is something.
#[test]
fn a_header_that_claims_more_than_there_is_is_refused() {
    let claim = |size: u64| {
        let head = Head {
            size,
            ..Head::new(b'0', "huge")
        };
        Tar::default()
            .file("ok", "1")
            .entry(&head, b"a little")
            .end()
    };
    let by_pax = |size: &str| {
        let tar = Tar::default().pax(b'x', &[("size", size.as_bytes())]);
        tar.file("huge", "a little").end()
    };
    for size in [1 << 40, i64::MAX as u64 - 1, u64::MAX >> 1, u64::MAX - 511] {
        let place = Place::new();
        place.put(&claim(size));
        place.assert_refused(&format!("{size} bytes"), &["huge"]);
        place.put(&gzip(&claim(size), 6));
        place.assert_refused(&format!("{size} bytes in gzip"), &["huge"]);
    }
    for size in [
        "1099511627776",
        "18446744073709551615",
        "99999999999999999999",
        "-1",
        "x",
    ] {
        let place = Place::new();
        place.put(&by_pax(size));
        place.assert_refused(&format!("{size} by PAX"), &[]);
    }
    // An extended header is held in memory, so its size is.
    for typeflag in [b'x', b'g', b'L', b'K'] {
        let head = Head {
            size: 1 << 40,
            ..Head::new(typeflag, "header")
        };
        let place = Place::new();
        place.put(&Tar::default().entry(&head, b"5 a=b").end());
        place.assert_refused(&format!("type {}", char::from(typeflag)), &[]);
    }
}

const MEMBER: u64 = 64 * MIB;
const MARK: u64 = 4096;
const MEMBERS: u64 = 256;

/// What the bomb holds at an offset: zeros, and a mark at every 64 MiB.
fn bomb_byte(at: u64) -> u8 {
    match at % MEMBER < MARK {
        true => u8::try_from(at / MEMBER % 251).expect("below 251") + 1,
        false => 0,
    }
}

/// 16 GiB in one file, in 16 MB: the same member again and again.
#[test]
fn sixteen_gib_of_zeros_are_served_in_bounded_memory() {
    let place = Place::new();
    let mut archive = File::create(place.path()).expect("make the archive");
    let head = Head {
        size: MEMBERS * MEMBER,
        ..Head::new(b'0', "zeros")
    };
    let zeros = gzip(&vec![0; usize::try_from(MEMBER - MARK).expect("64 MiB")], 9);
    let mark = usize::try_from(MARK).expect("a piece");
    let mut write = |bytes: &[u8]| archive.write_all(bytes).expect("write the archive");
    write(&gzip(&head.block(), 9));
    for member in 0..MEMBERS {
        write(&gzip(&vec![bomb_byte(member * MEMBER); mark], 9));
        write(&zeros);
    }
    write(&gzip(&[0; 2 * BLOCK], 9));
    let packed = archive.metadata().expect("its size").len();
    assert!(packed < 18_000_000, "{packed} bytes");
    assert_reads(&place.path(), "zeros", MEMBERS * MEMBER, 300, &bomb_byte);
}

/// One deflate block, which checkpoints have to enter in the middle.
#[test]
fn one_deflate_block_of_a_gib_is_served_in_bounded_memory() {
    const SIZE: u64 = 1 << 30;
    const EVERY: u64 = 100_000_000;
    // A mark here and there, so that a wrong place shows.
    let byte = |at: u64| match at % EVERY {
        0 => u8::try_from(at / EVERY).expect("few") + 1,
        _ => 0,
    };
    let mut block = FixedBlock::default();
    let head = Head {
        size: SIZE,
        ..Head::new(b'0', "block")
    };
    head.block().iter().for_each(|byte| block.literal(*byte));
    let mut at = 0;
    while at < SIZE {
        block.literal(byte(at));
        if byte(at) != 0 {
            block.literal(0);
            at += 1;
        }
        at += 1;
        let next = (at - 1).next_multiple_of(EVERY).max(at).min(SIZE);
        block.run(next - at);
        at = next;
    }
    block.run(2 * BLOCK as u64);
    let place = Place::new();
    place.put(&block.finish());
    assert_reads(&place.path(), "block", SIZE, 300, &byte);
}

/// One block of fixed Huffman codes (RFC 1951, 3.2.6) in one gzip member.
#[derive(Default)]
struct FixedBlock {
    out: Vec<u8>,
    bits: u64,
    count: u32,
    crc: crc32fast::Hasher,
    len: u64,
}

impl FixedBlock {
    /// Codes have their first bit first, numbers their last.
    fn code(&mut self, code: u16, len: u32) {
        if self.out.is_empty() {
            self.out.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
            // The last block, of type 1.
            (self.bits, self.count) = (0b011, 3);
        }
        let reversed = u64::from(code.reverse_bits() >> (16 - len));
        self.bits |= reversed << self.count;
        self.count += len;
        while self.count >= 8 {
            self.out.push(self.bits.to_le_bytes()[0]);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    fn symbol(&mut self, byte: u8) {
        match byte {
            0..144 => self.code(0x30 + u16::from(byte), 8),
            _ => self.code(0x190 + u16::from(byte) - 144, 9),
        }
    }

    fn literal(&mut self, byte: u8) {
        self.symbol(byte);
        self.crc.update(&[byte]);
        self.len += 1;
    }

    /// Zeros, behind a zero: copies of 258 from distance 1.
    fn run(&mut self, len: u64) {
        const COPY: u64 = 258;
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        for _ in 0..len / COPY {
            self.code(0b1100_0101, 8);
            self.code(0, 5);
        }
        (0..len % COPY).for_each(|_| self.symbol(0));
        let mut left = len;
        while left > 0 {
            let now = left.min(ZEROS.len() as u64);
            self.crc
                .update(&ZEROS[..usize::try_from(now).expect("64 KiB")]);
            left -= now;
        }
        self.len += len;
    }

    fn finish(mut self) -> Vec<u8> {
        self.code(0, 7);
        self.code(0, 7);
        self.out.extend(self.crc.finalize().to_le_bytes());
        self.out.extend(&self.len.to_le_bytes()[..4]);
        self.out
    }
}

/// Mounts `archive` in bounded memory and reads `file` at its ends, its marks
/// and `reads` random places.
#[track_caller]
fn assert_reads(archive: &Path, name: &str, size: u64, reads: usize, byte: &dyn Fn(u64) -> u8) {
    let mount = Mount::by(distrofs_within(MEMORY_MAX, ["mount"]), archive, [""; 0]);
    let file = File::open(mount.path().join(name)).expect("open");
    assert_eq!(file.metadata().expect("stat").size(), size);
    let mut random = Random::new(size);
    let random = (0..reads).map(|_| random.number() % size);
    let places = [0, size / 2, size - 5000].into_iter().chain(random);
    let mut piece = vec![0; 10_000];
    for at in places {
        let len = file.read_at(&mut piece, at).expect("read");
        assert!(len > 0, "nothing at {at}");
        let wrong = (at..)
            .zip(&piece[..len])
            .find(|(at, found)| byte(*at) != **found);
        assert_eq!(wrong, None, "a wrong byte");
    }
    drop(file);
    let peak = mount.peak_bytes();
    assert!(peak < PEAK_MAX, "{} MiB resident", peak / MIB);
    mount.end();
}

/// The archives of the fuzzers are what tar thinks they are.
#[test]
fn the_archives_of_these_tests_are_real_ones() {
    let place = Place::new();
    let path = place.put(&gzip(&image(1), 6));
    let listed = run(Command::new("tar").arg("-tvf").arg(&path)).ok();
    assert!(listed.stdout.lines().count() > 130, "{listed:#?}");
    let dir = common::temp_dir();
    common::archive::untar(&path, dir.path());
    let mount = Mount::new(&path, ["--owner", "keep"]);
    common::tree::assert_same("an image of the fuzzers", dir.path(), mount.path(), |_| {});
    mount.end();
}
