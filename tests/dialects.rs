//! Every dialect of tar is mounted as what the programs that know it make of it:
//! GNU tar, bsdtar, Python's tarfile. Where they disagree, or none can do it,
//! the test says so and what is meant.

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::dialect::{
    AS_IS, Bench, GNU, Head, RAW_TIME, Raw, Reader, V7, Writer, assert_mounted, assert_same_holes,
    data_pieces, name, program, write_sparse,
};
use common::mount::Mount;
use common::program::{distrofs, run};
use common::synthetic::{Format, Random, build, set_mtime};
use common::tree::{Tree, assert_same, tree};

fn raw() -> Raw {
    Raw::default().dir("./")
}

/// What formats hold that know no less.
fn whole_seconds(tree: &mut Tree) {
    for node in tree.values_mut() {
        node.mtime.1 = 0;
    }
}

/// What Python makes of it when it packs: times are floats, and links to links
/// are links of their own.
fn pythonic(tree: &mut Tree) {
    let just_before = tree.get_mut(Path::new("times/last-nano"));
    just_before.expect("a time").mtime.0 += 1;
    for name in ["links/relative", "links/relative-too"] {
        let link = tree.get_mut(Path::new(name)).expect("a link");
        link.links = 1;
        link.same_as = name.into();
    }
}

/// Only what the seventh edition of Unix knew.
fn plain_tree(root: &Path) {
    let mut random = Random(7);
    for dir in ["bin", "etc", "etc/empty", "usr", "usr/lib"] {
        fs::create_dir(root.join(dir)).expect("make a directory");
    }
    for (file, size) in [("bin/sh", 3000), ("etc/passwd", 0), ("usr/lib/x", 512)] {
        fs::write(root.join(file), random.bytes(size)).expect("write a file");
    }
    fs::hard_link(root.join("bin/sh"), root.join("usr/lib/sh")).expect("link");
    std::os::unix::fs::symlink("../bin/sh", root.join("usr/link")).expect("link");
    for dir in ["bin", "etc/empty", "etc", "usr/lib", "usr", ""] {
        set_mtime(&root.join(dir), RAW_TIME, 0);
    }
}

/// The tree that was packed is the tree that is mounted.
#[test]
fn what_every_writer_writes() {
    let pax: &[&str] = &["--format=pax", "--xattrs", "--xattrs-include=*"];
    let writers = [
        (Writer::GnuTar(&["--format=oldgnu"]), Format::Gnu),
        (Writer::GnuTar(&["--format=gnu", "--sparse"]), Format::Gnu),
        (Writer::GnuTar(pax), Format::Pax),
        (Writer::GnuTar(&["--format=ustar"]), Format::Ustar),
        (Writer::BsdTar(&["--format=pax"]), Format::Pax),
        (Writer::BsdTar(&["--format=ustar"]), Format::Ustar),
        (Writer::BsdTar(&["--format=gnutar"]), Format::Ustar),
        (Writer::Python("USTAR_FORMAT"), Format::Ustar),
        (Writer::Python("GNU_FORMAT"), Format::Ustar),
        (Writer::Python("PAX_FORMAT"), Format::Ustar),
    ];
    for (writer, format) in writers {
        let bench = Bench::new();
        let original = bench.dir("original");
        build(&original, format);
        let archive = bench.path("archive");
        writer.pack(&original, &archive);
        if writer == Writer::Python("PAX_FORMAT") {
            // Its times are floats: what it wrote is for another one to say.
            bench.assert_as("Python's PAX", Reader::GnuTar, &archive);
            continue;
        }
        assert_mounted(&format!("{writer:?}"), &original, &archive, &[], |tree| {
            if format != Format::Pax {
                whole_seconds(tree);
            }
            if matches!(writer, Writer::Python(_)) {
                pythonic(tree);
            } else if writer == Writer::BsdTar(&["--format=pax"]) {
                // libarchive writes -0.5 as "-1.5" (and reads that as -0.5);
                // to GNU tar and POSIX it is what it says.
                let before = tree.get_mut(Path::new("numbers/just-before"));
                before.expect("a time before 1970").mtime.0 = -2;
            }
        });
    }
}

#[test]
fn v7_archives() {
    let bench = Bench::new();
    let original = bench.dir("original");
    plain_tree(&original);
    let archive = bench.path("archive");
    for writer in [
        Writer::GnuTar(&["--format=v7"]),
        Writer::BsdTar(&["--format=v7tar"]),
    ] {
        writer.pack(&original, &archive);
        assert_mounted(
            &format!("{writer:?}"),
            &original,
            &archive,
            &[],
            whole_seconds,
        );
    }
    let old = |typeflag, name: &str| Head::new(typeflag, name).magic(V7);
    // A directory is what has a slash at the end of its name.
    let bytes = Raw::default()
        .head(&old(0, "./"))
        .head(&old(0, "d/"))
        .with(old(0, "d/f"), "1")
        .head(&Head::link(b'1', "d/h", "d/f").magic(V7))
        .head(&Head::link(b'2', "d/l", "f").magic(V7))
        .end();
    let archive = bench.archive(&bytes);
    for reader in [Reader::GnuTar, Reader::BsdTar] {
        bench.assert_as("v7", reader, &archive);
    }
}

/// The directory has no 'x' permission bits when it is made from a file's
/// header; the point of the comparison is the name.
#[test]
fn prefixes_of_ustar_and_star() {
    let long = "p".repeat(100);
    let star = Head::new(b'0', "f")
        .put(345, "star")
        .put(476, "07346545000 07346545000 ")
        .put(508, "tar\0");
    let bytes = raw()
        .dir("star/")
        .with(star, "1")
        .head(&Head::new(b'5', format!("{long}/")))
        .with(Head::new(b'0', "f").put(345, &long), "2")
        .end();
    let bench = Bench::new();
    let archive = bench.archive(&bytes);
    for reader in [Reader::GnuTar, Reader::BsdTar] {
        bench.assert_as("prefixes", reader, &archive);
    }
}

/// Files whose holes are in every place, and larger than a header can say.
fn sparse_files(root: &Path) {
    let mut random = Random(11);
    let block = random.bytes(4096);
    let odd = random.bytes(10_000);
    let file = |name: &str, size, pieces: &[(u64, &[u8])]| {
        write_sparse(&root.join(name), size, pieces);
    };
    file("start", 65_536, &[(40_960, &odd)]);
    file("end", 300_000, &[(0, &odd)]);
    file("all", 1 << 20, &[]);
    file("none", 4096, &[(0, &block)]);
    file("empty", 0, &[]);
    file("middle", 100_000, &[(0, &block), (90_112, &odd[..9888])]);
    // More pieces than one header and one extension of it hold.
    let many: Vec<_> = (0..60).map(|n| (n * 12_288, &block[..])).collect();
    file("many", 60 * 12_288, &many);
    file(
        "huge",
        9 << 30,
        &[(0, &block), (5 << 30, &odd), ((9 << 30) - 4096, &block)],
    );
}

/// Every format that writers have for sparse files keeps data, holes and sizes:
/// those of the file that was packed.
#[test]
fn sparse_files_keep_their_holes() {
    let bench = Bench::new();
    let original = bench.dir("original");
    sparse_files(&original);
    let writers = [
        Writer::GnuTar(&["--sparse", "--format=gnu"]),
        Writer::GnuTar(&["--sparse", "--format=oldgnu"]),
        Writer::GnuTar(&["--sparse", "--format=pax", "--sparse-version=0.0"]),
        Writer::GnuTar(&["--sparse", "--format=pax", "--sparse-version=0.1"]),
        Writer::GnuTar(&["--sparse", "--format=pax", "--sparse-version=1.0"]),
        Writer::BsdTar(&["--read-sparse", "--format=pax"]),
    ];
    let archive = bench.path("archive");
    for writer in writers {
        writer.pack(&original, &archive);
        let mount = Mount::new(&archive, AS_IS);
        for entry in fs::read_dir(&original).expect("read a directory") {
            let entry = entry.expect("read a directory");
            let (own, seen) = (entry.path(), mount.path().join(entry.file_name()));
            let what = format!("{writer:?}, {}", own.display());
            assert_eq!(size_and_time(&seen), size_and_time(&own), "{what}");
            // bsdtar has no format for a file that is nothing but a hole.
            let whole_hole = entry.file_name() == "all" && matches!(writer, Writer::BsdTar(_));
            if !whole_hole {
                assert_same_holes(&what, &own, &seen);
            }
            assert_same_data(&what, &own, &seen);
        }
        mount.end();
        println!("{writer:?}: equal");
    }
}

/// Size and whole seconds.
fn size_and_time(path: &Path) -> (u64, i64) {
    let meta = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.len(), meta.mtime())
}

/// Compares what is not a hole, and some of what is.
#[track_caller]
fn assert_same_data(what: &str, expected: &Path, seen: &Path) {
    let [own, other] = [expected, seen].map(|path| fs::File::open(path).expect("open a file"));
    let size = own.metadata().expect("a size").len();
    let mut places = data_pieces(expected);
    for (start, end) in places.clone() {
        places.push((start.saturating_sub(5000), start + 10));
        places.push((end.saturating_sub(10), (end + 5000).min(size)));
    }
    places.push((size.saturating_sub(9000), size));
    for (start, end) in places {
        let len = usize::try_from(end - start).expect("a small piece");
        let [mut left, mut right] = [vec![0; len], vec![1; len]];
        own.read_exact_at(&mut left, start).expect("read");
        other.read_exact_at(&mut right, start).expect("read");
        assert!(left == right, "{what}: {start}..{end} differ");
    }
}

/// A million pieces cost a look-up what a hundred do: each answer takes a search,
/// not a walk. (That it ends at all within the limits of a test is the point.)
#[test]
fn sparse_files_of_many_pieces_are_read_and_searched() {
    let pieces = 200_000_u64;
    let mut map = format!("{pieces}\n");
    for n in 0..pieces {
        map.push_str(&format!("{}\n1\n", n * 2 + 1));
    }
    let mut body = map.into_bytes();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend((0..pieces).map(|n| b'a' + u8::try_from(n % 26).expect("a letter")));
    let size = (pieces * 2).to_string();
    let bytes = raw()
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"f"),
                ("GNU.sparse.realsize", size.as_bytes()),
            ],
        )
        .file("GNUSparseFile.0/f", body)
        .end();
    let bench = Bench::new();
    let archive = bench.archive(&bytes);
    let mount = Mount::new(&archive, AS_IS);
    let content = fs::read(mount.path().join("f")).expect("read");
    for (at, byte) in content.iter().enumerate() {
        let letter = b'a' + u8::try_from(at / 2 % 26).expect("a letter");
        assert_eq!(*byte, if at % 2 == 1 { letter } else { 0 }, "byte {at}");
    }
    let found = data_pieces(&mount.path().join("f"));
    assert_eq!(found.len(), content.len() / 2);
    assert_eq!(found[100_000], (200_001, 200_002));
    mount.end();
}

/// star is not to be had here; its format is GNU tar's to know.
#[test]
fn sparse_files_of_star() {
    let data = [[b'a'; 512], [b'b'; 512]].concat();
    let pieces = "00000000000 00000001000 00000004000 00000001000 00000010000 00000000000 ";
    let head = Head::new(b'S', "sparse")
        .put(356, pieces)
        .put(452, "00000010000 ")
        .put(476, "07346545000 07346545000 ")
        .put(508, "tar\0");
    let bytes = raw().with(head, data).file("behind", "1").end();
    let bench = Bench::new();
    let archive = bench.archive(&bytes);
    bench.assert_as("star", Reader::GnuTar, &archive);
    let mount = Mount::new(&archive, AS_IS);
    let pieces = data_pieces(&mount.path().join("sparse"));
    assert_eq!(pieces, [(0, 512), (2048, 2560)]);
    mount.end();
}

/// Pieces that are no whole blocks: GNU tar reads past them (it pads each), and
/// never writes them; libarchive and Python agree on what they are.
#[test]
fn sparse_pieces_of_any_length() {
    let map = [(0, 11), (2048, 5), (4096, 0)];
    let head = Head::new(b'S', "s").magic(GNU).sparse(4096, &map);
    let bytes = raw().with(head, "hello world12345").file("c", "2").end();
    let bench = Bench::new();
    let archive = bench.archive(&bytes);
    for reader in [Reader::BsdTar, Reader::Python] {
        bench.assert_as("unaligned", reader, &archive);
    }
}

#[test]
fn labels_are_no_files() {
    let bench = Bench::new();
    let original = bench.dir("original");
    plain_tree(&original);
    let archive = bench.path("archive");
    for options in [
        &["--format=gnu", "--label=Backup of everything"][..],
        &["--format=pax", "--label=Backup of everything"],
    ] {
        let mut tar = program("tar", options.iter().copied());
        tar.arg("-cf").arg(&archive).arg("-C").arg(&original);
        run(tar.arg(".")).ok();
        bench.assert_as(&format!("{options:?}"), Reader::GnuTar, &archive);
    }
}

/// The second volume begins with the rest of a file: GNU tar extracts all but
/// that (in its own format) or calls it something else (in PAX). The first one
/// ends inside of a file, which nobody can unpack.
#[test]
fn volumes_on_their_own() {
    for format in ["--format=gnu", "--format=pax"] {
        let bench = Bench::new();
        let original = bench.dir("original");
        let mut random = Random(3);
        for (file, size) in [("a", 9_000), ("b", 70_000), ("c", 9_000)] {
            fs::write(original.join(file), random.bytes(size)).expect("write a file");
        }
        let volumes = [bench.path("1"), bench.path("2")];
        let mut tar = program("tar", [format, "-cM", "--tape-length=50"]);
        for volume in &volumes {
            tar.arg("-f").arg(volume);
        }
        run(tar.arg("-C").arg(&original).args(["a", "b", "c"])).ok();
        let (expected, ran) = bench.unpacked(Reader::GnuTar, &volumes[1]);
        let complains = !ran.status.success();
        assert_eq!(complains, format == "--format=gnu", "{ran:?}");
        // What nobody names gets the time of the moment, or of the first entry.
        let time = tree(&expected)[Path::new("c")].mtime;
        let mount = Mount::new(&volumes[1], AS_IS);
        if complains {
            let told = mount.said.stderr.contains("the rest of a file");
            assert!(told, "{:?}", mount.said);
        }
        let mut seen = tree(mount.path());
        let mut wanted = tree(&expected);
        for node in wanted.values_mut().chain(seen.values_mut()) {
            node.mtime = time;
        }
        assert_eq!(seen, wanted, "{format}");
        let [left, right] =
            [&expected, mount.path()].map(|at| fs::read(at.join("c")).expect("read"));
        assert!(left == right, "{format}");
        mount.end();
        let first = run(distrofs(["index"]).arg(&volumes[0]));
        first.refused(1, &["inside of b", "truncated"]);
        assert!(
            !bench
                .unpacked(Reader::GnuTar, &volumes[0])
                .1
                .status
                .success()
        );
    }
}

/// The list of names that stands where a directory's content would.
#[test]
fn incremental_archives() {
    for format in ["--format=gnu", "--format=pax"] {
        let bench = Bench::new();
        let original = bench.dir("original");
        plain_tree(&original);
        let snapshot = bench.path("snapshot");
        let archive = bench.path("archive");
        for level in ["all", "changes"] {
            let mut tar = program("tar", [format, "-c"]);
            tar.arg("--listed-incremental").arg(&snapshot);
            tar.arg("-f").arg(&archive).arg("-C").arg(&original);
            run(tar.arg(".")).ok();
            bench.assert_as(&format!("{format}, {level}"), Reader::GnuTar, &archive);
            fs::write(original.join("etc/new"), level).expect("write a file");
            fs::remove_file(original.join("bin/sh")).expect("remove a file");
            fs::write(original.join("bin/sh"), level).expect("write a file");
        }
    }
}

/// Names are bytes; how an archive calls their character set changes nothing.
#[test]
fn names_that_are_not_utf_8() {
    let names: [&[u8]; 4] = [
        b"\xff\xfe",
        b"caf\xe9",
        b"\x80new\nline",
        "é\u{1f600}".as_bytes(),
    ];
    let writers = [
        Writer::GnuTar(&["--format=pax"]),
        Writer::GnuTar(&["--format=gnu"]),
        Writer::GnuTar(&["--format=v7"]),
        Writer::BsdTar(&["--format=pax"]),
        Writer::BsdTar(&["--format=ustar"]),
        Writer::Python("PAX_FORMAT"),
        Writer::Python("GNU_FORMAT"),
    ];
    let mut binary = 0;
    for writer in writers {
        let bench = Bench::new();
        let original = bench.dir("original");
        let long_too = !matches!(
            writer,
            Writer::GnuTar(["--format=v7"]) | Writer::BsdTar(["--format=ustar"])
        );
        for bytes in names {
            // As long as a header holds, and longer where that goes.
            fs::write(original.join(name(bytes)), bytes).expect("write a file");
            if long_too {
                let long = [bytes, &[b'x'; 120], bytes].concat();
                fs::write(original.join(name(&long)), bytes).expect("write a file");
            }
            let link = [bytes, b".l"].concat();
            std::os::unix::fs::symlink(name(bytes), original.join(name(&link))).expect("link");
        }
        for entry in fs::read_dir(&original).expect("read a directory") {
            set_mtime(&entry.expect("read a directory").path(), RAW_TIME, 0);
        }
        set_mtime(&original, RAW_TIME, 0);
        let archive = bench.path("archive");
        writer.pack(&original, &archive);
        let bytes = fs::read(&archive).expect("read the archive");
        binary += usize::from(bytes.windows(17).any(|w| w == b"hdrcharset=BINARY"));
        assert_mounted(&format!("{writer:?}"), &original, &archive, &[], |_| {});
    }
    assert!(binary >= 1, "no writer said hdrcharset=BINARY");
}

/// What the disk here cannot hold, so nobody can unpack it: Python reads the
/// numbers.
#[test]
fn times_and_owners_of_any_size() {
    let negative = |digits: usize| vec![0xff; digits];
    let base_256 = |number: u64| [&[0x80, 0, 0, 0][..], &to_be(number)].concat();
    let head = |name: &str| Head::new(b'0', name).magic(GNU);
    let mut archive = raw()
        .head(&head("octal").put(136, "77777777777\0"))
        .head(&head("last-second").put(136, negative(12)))
        .head(&head("base-256").put(136, base_256(1 << 34)))
        .head(&head("year-30000").put(136, base_256(884_541_340_800)))
        .head(&head("owner").put(108, to_be(0x8000_0000_b2d0_5e00)));
    for (name, time) in [
        ("pax-octal-end", "8589934592"),
        ("pax-far", "884541340800.25"),
        ("pax-before", "-86400.5"),
        ("pax-long-before", "-99999999999"),
    ] {
        archive = archive
            .pax(b'x', &[("mtime", time.as_bytes()), ("uid", b"3000000000")])
            .file(name, "");
    }
    let bench = Bench::new();
    let archive = bench.archive(&archive.end());
    const LIST: &str = "import sys, tarfile, math\n\
        for m in tarfile.open(sys.argv[1]):\n\
        \x20   if m.isreg(): print(m.name, math.floor(m.mtime), m.uid)";
    let listed = run(program("python3", ["-c", LIST]).arg(&archive))
        .ok()
        .stdout;
    let mount = Mount::new(&archive, AS_IS);
    let mut lines = 0;
    for line in listed.lines() {
        let (file, numbers) = line.split_once(' ').expect("a name and numbers");
        let meta = fs::symlink_metadata(mount.path().join(file)).expect("stat");
        assert_eq!(
            format!("{} {}", meta.mtime(), meta.uid()),
            numbers,
            "{file}"
        );
        lines += 1;
    }
    assert_eq!(lines, 9, "{listed}");
    let far = fs::metadata(mount.path().join("pax-far")).expect("stat");
    assert_eq!(
        (far.mtime(), far.mtime_nsec()),
        (884_541_340_800, 250_000_000)
    );
    mount.end();
}

/// Most significant byte first.
fn to_be(number: u64) -> [u8; 8] {
    let mut bytes = number.to_le_bytes();
    bytes.reverse();
    bytes
}

#[test]
fn extended_headers_of_posix_and_solaris() {
    let long = "n".repeat(200);
    let bytes = raw()
        .pax(b'g', &[("comment", b"for all"), ("mtime", b"1000000007")])
        .file("global", "1")
        .pax(b'x', &[("hdrcharset", b"BINARY"), ("path", b"\xff\xfe")])
        .file("short", "2")
        .pax(b'x', &[("mtime", b"1000000009"), ("path", long.as_bytes())])
        .file("short", "3")
        .pax(b'X', &[("path", b"solaris"), ("linkpath", b"global")])
        .hard_link("short", "nothing")
        .pax(b'x', &[("size", b"3")])
        .head(&Head::new(b'0', "sized"))
        .body("123")
        .pax(b'g', &[("mtime", b"1000000011")])
        .file("later", "4")
        .end();
    let bench = Bench::new();
    let archive = bench.archive(&bytes);
    // bsdtar knows no global headers.
    for reader in [Reader::GnuTar, Reader::Python] {
        bench.assert_as("extended headers", reader, &archive);
    }
}

/// An access control list is text in the archive, with the numbers that it needs
/// if libarchive or star wrote it. What comes out is what was on the disk.
#[test]
fn access_control_lists() {
    let bench = Bench::new();
    let original = bench.dir("original");
    fs::write(original.join("f"), "1").expect("write a file");
    fs::create_dir(original.join("d")).expect("make a directory");
    let entry = |tag: u16, perm: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &perm.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let list: Vec<u8> = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 6, u32::MAX),
        entry(2, 5, 54_321),
        entry(4, 4, u32::MAX),
        entry(8, 1, 54_322),
        entry(16, 5, u32::MAX),
        entry(32, 0, u32::MAX),
    ]
    .concat();
    let set = |file: &str, attribute: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(original.join(file), attribute, &list, flags)
            .unwrap_or_else(|e| panic!("set {attribute}: {e}"));
    };
    set("f", "system.posix_acl_access");
    set("d", "system.posix_acl_access");
    set("d", "system.posix_acl_default");
    let archive = bench.path("archive");
    for writer in [
        Writer::BsdTar(&["--format=pax", "--acls"]),
        Writer::GnuTar(&["--format=pax", "--acls"]),
    ] {
        writer.pack(&original, &archive);
        assert_mounted(&format!("{writer:?}"), &original, &archive, &[], |tree| {
            // The mode is that of the header. GNU tar puts there what stat(2)
            // says, with the mask as rights of the group; libarchive the rights
            // that the group has, which is what is left without the list.
            let listed = tree.values_mut().filter(|node| !node.xattrs.is_empty());
            for node in listed.filter(|_| matches!(writer, Writer::BsdTar(_))) {
                node.mode = node.mode & !0o070 | 0o040;
            }
        });
    }
}

/// A link has content in archives of POSIX's pax, as libarchive reads them.
#[test]
fn hard_links_with_content() {
    let link = Head::link(b'1', "h", "f");
    let bytes = raw()
        .pax(b'x', &[("mtime", b"1000000000")])
        .file("f", "1")
        .with(link.clone(), "the last one counts")
        .file("g", "3")
        .end();
    let bench = Bench::new();
    bench.assert_as("content", Reader::BsdTar, &bench.archive(&bytes));
    // A size alone means nothing: here libarchive takes a header for content.
    let bytes = raw()
        .pax(b'x', &[("mtime", b"1000000000")])
        .file("f", "1")
        .head(&link.size(512))
        .file("g", "3")
        .end();
    let archive = bench.archive(&bytes);
    for reader in [Reader::GnuTar, Reader::Python] {
        bench.assert_as("a size only", reader, &archive);
    }
}

/// Nobody unpacks hard links to what comes later; what is meant is what comes out
/// when the archive is in order.
#[test]
fn hard_links_to_what_comes_later() {
    let parts: [fn(Raw) -> Raw; 5] = [
        |raw| raw.file("d/f", "1"),
        |raw| raw.hard_link("d/c", "d/f"),
        |raw| raw.hard_link("b", "./d/c"),
        |raw| raw.hard_link("d/a", "b"),
        |raw| raw.symlink("l", "d").hard_link("m", "l"),
    ];
    let bench = Bench::new();
    let ordered = parts.iter().fold(raw(), |raw, part| part(raw));
    // Last, for its time to stay.
    let archive = bench.archive(&ordered.dir("d/").end());
    bench.assert_as("in order", Reader::GnuTar, &archive);
    let expected = bench.path("expected");
    for order in [[4, 3, 2, 1, 0], [3, 1, 4, 2, 0], [2, 0, 3, 4, 1]] {
        let mixed = order.iter().fold(raw().dir("d/"), |raw, n| parts[*n](raw));
        let archive = bench.archive(&mixed.end());
        assert_mounted(
            &format!("in the order {order:?}"),
            &expected,
            &archive,
            &[],
            |_| {},
        );
    }
}

/// Adds members with the name `n` in a directory.
type Make = fn(Raw, &str) -> Raw;

/// What one name can be, as an archive says it; all lie beside a file `t` and a
/// directory `e`.
const KINDS: [(&str, Make); 15] = [
    ("file", |raw, at| raw.file(format!("{at}/n"), "file")),
    ("empty", |raw, at| raw.file(format!("{at}/n"), "")),
    ("sparse", |raw, at| {
        let head = Head::new(b'S', format!("{at}/n")).magic(GNU);
        raw.with(head.sparse(4096, &[(512, 512), (4096, 0)]), [b'x'; 512])
    }),
    ("contiguous", |raw, at| {
        raw.with(Head::new(b'7', format!("{at}/n")), "7")
    }),
    ("unknown", |raw, at| {
        raw.with(Head::new(b'Q', format!("{at}/n")), "Q")
    }),
    ("directory", |raw, at| raw.dir(format!("{at}/n/"))),
    ("full-directory", |raw, at| {
        raw.dir(format!("{at}/n/")).file(format!("{at}/n/x"), "x")
    }),
    ("parent", |raw, at| raw.file(format!("{at}/n/y"), "y")),
    ("listed-directory", |raw, at| {
        raw.with(Head::new(b'D', format!("{at}/n/")).magic(GNU), "Yx\0\0")
    }),
    ("hard-link", |raw, at| {
        raw.hard_link(format!("{at}/n"), format!("{at}/t"))
    }),
    ("link-to-file", |raw, at| {
        raw.symlink(format!("{at}/n"), "t")
    }),
    ("link-to-dir", |raw, at| raw.symlink(format!("{at}/n"), "e")),
    ("dangling", |raw, at| {
        raw.symlink(format!("{at}/n"), "nothing")
    }),
    ("fifo", |raw, at| {
        raw.head(&Head::new(b'6', format!("{at}/n")))
    }),
    ("device", |raw, at| {
        raw.head(&Head::new(b'3', format!("{at}/n")).device(1, 3))
    }),
];

/// One name given twice, in all combinations of types: the mount is what GNU tar
/// unpacks. Where GNU tar fails and goes on, the same is there, and a warning.
#[test]
fn names_given_twice() {
    let bench = Bench::new();
    let expected = bench.dir("unpacked");
    let mut all = raw();
    let mut failed = 0;
    for (first, make_first) in KINDS {
        for (second, make_second) in KINDS {
            let at = format!("{first}-{second}");
            let members = |raw: Raw| {
                let raw = raw
                    .dir(format!("{at}/"))
                    .file(format!("{at}/t"), "target")
                    .dir(format!("{at}/e/"))
                    .file(format!("{at}/e/x"), "x");
                make_second(make_first(raw, &at), &at).file(format!("{at}/behind"), "behind")
            };
            all = members(all);
            let archive = bench.archive(&members(raw()).end());
            let ran = Reader::GnuTar.unpack(&archive, &expected);
            failed += u64::from(!ran.status.success());
        }
    }
    let archive = bench.archive(&all.end());
    let mount = Mount::new(&archive, AS_IS);
    assert_same("names given twice", &expected, mount.path(), |tree| {
        // A directory that something was put into behind its entry, or that has
        // none, has the time of that moment. No other node has such a time.
        for node in tree.values_mut().filter(|node| node.mtime != (RAW_TIME, 0)) {
            assert_eq!(node.mode & libc::S_IFMT, libc::S_IFDIR);
            node.mtime = (RAW_TIME, 0);
        }
    });
    mount.end();
    let told = run(distrofs(["index", "--force", "--json"]).arg(&archive))
        .ok()
        .json();
    let notes = told["notes"].as_array().expect("notes").iter();
    let left_out = notes.filter_map(|note| {
        let (count, text) = note.as_str()?.split_once(" entries: ")?;
        text.starts_with("left out")
            .then(|| count.parse::<u64>().ok())?
    });
    assert_eq!(left_out.sum::<u64>(), failed);
    assert_eq!(failed, 32, "GNU tar fails on these combinations");
}

/// Types that nobody knows are files, and a single block of zeros is an end.
#[test]
fn what_readers_agree_on() {
    let bench = Bench::new();
    let bytes = raw()
        .with(Head::new(b'Q', "q"), "1")
        .with(Head::new(b'N', "n"), "2")
        .with(Head::new(b'A', "f"), "1000001\0user::rw-")
        .file("f", "3")
        .body([0; 512])
        .file("behind", "4")
        .end();
    let archive = bench.archive(&bytes);
    for reader in [Reader::GnuTar, Reader::BsdTar, Reader::Python] {
        bench.assert_as("types and ends", reader, &archive);
    }
    let sized = |typeflag| Head::link(typeflag, format!("s{typeflag}"), "f").size(512);
    let bytes = [b'1', b'2', b'3', b'4', b'5', b'6']
        .iter()
        .fold(raw().file("f", "1"), |raw, t| {
            raw.head(&sized(*t).device(1, 3))
        });
    let archive = bench.archive(&bytes.file("g", "2").end());
    for reader in [Reader::GnuTar, Reader::BsdTar, Reader::Python] {
        bench.assert_as("sizes without content", reader, &archive);
    }
}

/// Archives that were joined: the first one is all that there is, unless asked
/// for; an index made for the one is not used for the other.
#[test]
fn joined_archives() {
    let bench = Bench::new();
    let first = raw().file("a", "1").file("b", "1").end();
    let second = raw().file("b", "2").dir("d/").file("d/c", "3").end();
    let tape = vec![0; 10 * 512];
    let archive = bench.archive(&[first, tape, second].concat());
    let mount = |options: &[&str]| Mount::new(&archive, AS_IS.iter().chain(options));
    let over_zeros = ["--ignore-zeros"];

    let (expected, ran) = bench.unpacked(Reader::GnuTar, &archive);
    ran.ok();
    let one = mount(&[]);
    assert!(one.said.stderr.contains("--ignore-zeros"), "{:?}", one.said);
    assert_same("the first", &expected, one.path(), |_| {});
    one.end();

    let (expected, ran) = bench.unpacked(Reader::GnuTarOverZeros, &archive);
    ran.ok();
    let both = mount(&over_zeros);
    let again = "indexed again: it was made with another choice of --ignore-zeros";
    assert!(both.said.stderr.contains(again), "{:?}", both.said);
    assert_same("both", &expected, both.path(), |_| {});
    both.end();
    let kept = mount(&over_zeros);
    assert!(!kept.said.stderr.contains("indexed"), "{:?}", kept.said);
    assert_same(
        "both, with the index that is there",
        &expected,
        kept.path(),
        |_| {},
    );
    kept.end();
    let one = mount(&[]);
    assert!(one.said.stderr.contains(again), "{:?}", one.said);
    assert!(!one.path().join("d").exists());
    one.end();
}
