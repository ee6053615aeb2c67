//! Archives that are damaged, truncated or made to do harm.

use proptest::prelude::*;

use super::super::{BuildError, BuildOptions, Limits, WarningKind};
use crate::index::testing::{
    Archive, Head, SPARSE_GNU, build, build_cut, build_err, options, sign, tree,
};

fn new() -> Archive {
    Archive::default()
}

/// One of everything.
fn sample() -> Vec<u8> {
    new()
        .pax(b'g', &[("comment", b"made by hand")])
        .dir("./")
        .dir("etc/")
        .file("etc/passwd", "root:x:0:0\n".repeat(60))
        .pax(b'x', &[("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
        .file("etc/shadow", "")
        .with(Head::new(b'L', "././@LongLink"), "usr/".repeat(40) + "x\0")
        .file("x", "long")
        .symlink("bin", "usr/usr")
        .file("bin/sh", [7; 512])
        .hard_link("etc/p", "etc/passwd")
        .head(&Head {
            device: Some((1, 3)),
            ..Head::new(b'3', "null")
        })
        .file("etc/passwd", "2")
        .hard_link("etc/later", "latest")
        .hard_link("etc/never", "no")
        .with(Head::link(b'1', "etc/with", "etc/passwd"), "22")
        .pax(
            b'x',
            &[
                ("GNU.sparse.size", b"2000"),
                ("GNU.sparse.map", b"0,1,1000,3,2000,0"),
            ],
        )
        .file("sparse-0.1", "1234")
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.name", b"sparse-1.0"),
                ("GNU.sparse.realsize", b"3000"),
            ],
        )
        .file(
            "x",
            "2\n5\n2\n100\n1\n".to_owned() + &"\0".repeat(500) + "123",
        )
        .sparse(&SPARSE_GNU, "old", 5000, &old_map(), b"123456")
        .file("latest", "3")
        .end()
}

/// A map that does not fit into one header.
fn old_map() -> Vec<(u64, u64)> {
    (0..6).map(|n| (n * 700, 1)).collect()
}

fn with_limits(change: impl Fn(&mut Limits)) -> BuildOptions {
    let mut limits = Limits::default();
    change(&mut limits);
    BuildOptions {
        limits,
        ..options()
    }
}

#[test]
fn however_it_is_cut_the_index_is_the_same() {
    let stream = sample();
    let (whole, _) = build_cut(options(), &stream, stream.len()).unwrap();
    for cut in [1, 3, 511, 512, 513, 700, 4096] {
        let (pieces, _) = build_cut(options(), &stream, cut).unwrap();
        assert_eq!(pieces.bytes, whole.bytes, "cut into {cut}");
    }
}

/// A prefix is an error, or lacks only whole entries and says so.
#[test]
fn every_truncation_is_noticed() {
    let stream = sample();
    let (all, _) = build(&stream);
    let all = tree(&all, &stream);
    // Every way to be near a block's edge, and some in the middle.
    let near_edge = |len: &usize| [0, 1, 2, 100, 300, 510, 511].contains(&(len % 512));
    for len in (0..stream.len() - 512).filter(near_edge) {
        match build_cut(options(), &stream[..len], 1 << 20) {
            Ok((sections, built)) => {
                assert_eq!(built.report.count(WarningKind::MissingEnd), 1, "{len}");
                let index = sections.open().unwrap();
                index.verify(len.try_into().unwrap()).unwrap();
                assert!(tree(&index, &stream).len() <= all.len(), "{len}");
            }
            Err(BuildError::Truncated { offset, .. }) => {
                assert_eq!(usize::try_from(offset), Ok(len));
            }
            Err(BuildError::NotTar { .. }) => assert!(len < 512),
            Err(other) => panic!("{len}: {other}"),
        }
    }
}

#[test]
fn truncated_content_names_its_file_and_the_offset() {
    let stream = new().file("a", "x").file("dir/big", [1; 2000]).end();
    let error = build_err(&stream[..512 * 3 + 100]);
    let wanted =
        "the archive ends at offset 1636, inside of dir/big: it is truncated, upload it again";
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn ends_of_archives() {
    let entries = new().file("a", "x").bytes;
    let end = |tail: &[u8]| {
        let stream = [&entries[..], tail].concat();
        build_cut(options(), &stream, 1 << 20).map(|(_, built)| built.report)
    };
    assert!(end(&[0; 1024]).unwrap().is_empty());
    assert!(end(&[0; 20_000]).unwrap().is_empty());
    for tail in [&[][..], &[0; 512], &[0; 100]] {
        assert_eq!(end(tail).unwrap().count(WarningKind::MissingEnd), 1);
    }
    let joined = new().file("b", "").end();
    for more in [&b"garbage behind the end"[..], &joined] {
        for zeros in [1024, 9000] {
            let tail = [&vec![0; zeros][..], more].concat();
            assert_eq!(end(&tail).unwrap().count(WarningKind::BehindEnd), 1);
        }
    }
    assert!(matches!(
        end(&[1; 512]),
        Err(BuildError::Checksum { offset: 1024, .. })
    ));
    assert!(matches!(end(&[1; 100]), Err(BuildError::Truncated { .. })));
    let unused = new().pax(b'x', &[("path", b"gone")]).end();
    assert_eq!(end(&unused).unwrap().count(WarningKind::UnusedHeader), 1);
}

/// All readers stop there, so what is behind it must not appear.
#[test]
fn a_single_zero_block_is_an_end() {
    let archive = new().file("a", "x").body(&[0; 512]).file("b", "");
    let stream = archive.end();
    let (index, built) = build(&stream);
    assert_eq!(tree(&index, &stream), ["a f644 n1 x"]);
    let met: Vec<_> = built.report.warnings().map(|w| w.kind).collect();
    assert_eq!(met, [WarningKind::LoneZeroBlock]);
    let first = [&[0; 512][..], &new().file("b", "").end()].concat();
    assert!(matches!(
        build_err(&first),
        BuildError::NotTar { offset: 512 }
    ));
}

#[test]
fn zeros_are_passed_over_if_asked_for() {
    let ignoring = BuildOptions {
        ignore_zeros: true,
        ..options()
    };
    let build = |stream: &[u8]| {
        let (sections, built) = build_cut(ignoring, stream, 700).unwrap();
        let index = sections.open().unwrap();
        index.verify(stream.len().try_into().unwrap()).unwrap();
        assert!(index.ignored_zeros());
        (tree(&index, stream), built.report)
    };
    let one = new().file("a", "1").end();
    let two = new().file("b", "2").file("a", "3").end();
    let wanted = ["a f644 n1 3", "b f644 n1 2"];
    for zeros in [0, 512, 1536, 9 * 512] {
        let (tree, report) = build(&[&one[..], &vec![0; zeros], &two].concat());
        assert_eq!(tree, wanted);
        assert!(report.is_empty());
    }
    let (tree, report) = build(&[&vec![0; 512][..], &one].concat());
    assert_eq!(tree, ["a f644 n1 1"]);
    assert!(report.is_empty());
    let (_, report) = build(&one[..one.len() - 1024]);
    assert_eq!(report.count(WarningKind::MissingEnd), 1);
    let garbage = [&one[..], &[1; 512]].concat();
    assert!(matches!(
        build_cut(ignoring, &garbage, 700).map(|_| ()),
        Err(BuildError::Checksum { .. })
    ));
    let (index, _) = crate::index::testing::build(&one);
    assert!(!index.ignored_zeros());
}

#[test]
fn what_is_no_archive() {
    for stream in [&b""[..], &[0x1f; 1024], b"PK\x03\x04", &[b'a'; 512]] {
        match build_err(stream) {
            BuildError::NotTar { offset: 0 } | BuildError::Truncated { .. } => {}
            other => panic!("{other}"),
        }
    }
    let (_, built) = build(&[0; 1024]);
    assert_eq!((built.summary.entries, built.summary.inodes), (0, 1));
}

#[test]
fn fields_that_hold_no_number_are_errors() {
    for (at, field) in [
        (100, "mode"),
        (108, "uid"),
        (116, "gid"),
        (124, "size"),
        (136, "mtime"),
    ] {
        let mut stream = new().file("f\x1b", "x").end();
        stream[at] = b'9';
        sign(&mut stream[..512]);
        let error = build_err(&stream).to_string();
        assert!(
            error.contains(field) && error.starts_with("f\\x1b (offset 0)"),
            "{error}"
        );
    }
}

#[test]
fn sizes_that_overflow_are_errors() {
    for size in [
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
    ] {
        let error = build_err(
            &new()
                .pax(b'x', &[("size", size.as_bytes())])
                .file("f", "")
                .end(),
        );
        assert!(
            matches!(error, BuildError::Header { .. } | BuildError::Pax { .. }),
            "{error}"
        );
    }
    let huge = new()
        .pax(b'x', &[("size", b"9223372036854775807")])
        .file("f", "")
        .end();
    assert!(matches!(build_err(&huge), BuildError::Truncated { .. }));
}

#[test]
fn a_gap_in_the_stream_is_the_callers_error() {
    let mut builder = super::super::Builder::new(options(), &mut super::super::HeapArenas).unwrap();
    assert!(builder.push(0, &[0; 100]).unwrap().is_continue());
    assert!(matches!(
        builder.push(99, &[0; 1]),
        Err(BuildError::Gap {
            expected: 100,
            got: 99
        })
    ));
}

/// Builds with `most` of something under a limit, and with two more (paths come
/// in steps of two bytes), which must fail and name the limit.
fn bounded(
    limit_name: &str,
    change: impl Fn(&mut Limits),
    most: usize,
    make: impl Fn(usize) -> Archive,
) {
    let options = with_limits(change);
    let build = |n| build_cut(options, &make(n).end(), 1 << 20).map(|_| ());
    assert!(build(most).is_ok(), "{limit_name}: {:?}", build(most));
    match build(most + 2) {
        Err(BuildError::Limit {
            limit, value, max, ..
        }) => {
            assert_eq!(limit, limit_name);
            assert!(value > max, "{limit_name}");
        }
        other => panic!("{limit_name}: {other:?}"),
    }
}

fn many(n: usize, name: impl Fn(usize) -> String) -> Archive {
    (0..n).fold(new(), |archive, n| archive.file(&name(n), ""))
}

#[test]
fn limits_on_one_entry_hold_and_are_named() {
    let deep = |n| new().file(&("d/".repeat(n) + "f"), "");
    bounded("depth_max", |l| l.depth_max = 5, 5, deep);
    let named = |n| {
        let long = Head::new(b'L', "L");
        new().with(long, "n/".repeat(n / 2) + "\0").file("x", "")
    };
    bounded("path_bytes_max", |l| l.path_bytes_max = 200, 200, named);
    let linked = |typeflag| {
        move |n| {
            let long = Head::new(b'K', "K");
            let link = Head::new(typeflag, "x");
            new().with(long, "n".repeat(n) + "\0").head(&link)
        }
    };
    bounded(
        "link_bytes_max",
        |l| l.link_bytes_max = 200,
        200,
        linked(b'2'),
    );
    bounded(
        "path_bytes_max",
        |l| l.path_bytes_max = 200,
        200,
        linked(b'1'),
    );
    let pax = |n: usize| {
        let comment = vec![b'c'; n - 13];
        new().pax(b'x', &[("comment", &comment)]).file("x", "")
    };
    bounded("pax_bytes_max", |l| l.pax_bytes_max = 300, 300, pax);
    let pieces = |n: usize| {
        let comment = [b'c'; 20];
        let pax = |archive: Archive, _| archive.pax(b'x', &[("comment", &comment)]);
        (0..n).fold(new(), pax).file("x", "")
    };
    bounded("pax_bytes_max", |l| l.pax_bytes_max = 320, 10, pieces);
    let xattr = |typeflag| {
        move |n: usize| {
            let value = vec![b'v'; n - 1];
            new()
                .pax(typeflag, &[("SCHILY.xattr.u", &value)])
                .file("x", "")
        }
    };
    bounded(
        "xattr_bytes_max",
        |l| l.xattr_bytes_max = 90,
        90,
        xattr(b'x'),
    );
    let global = |l: &mut Limits| l.global_xattr_bytes_max = 91;
    bounded("global_xattr_bytes_max", global, 90, xattr(b'g'));
}

#[test]
fn limits_on_the_whole_archive_hold_and_are_named() {
    let files = |n| many(n, |n| format!("f{n}"));
    bounded("entries_max", |l| l.entries_max = 9, 9, files);
    // One name, but a record each time.
    bounded(
        "entries_max",
        |l| l.entries_max = 9,
        9,
        |n| many(n, |_| "f".into()),
    );
    bounded("text_bytes_max", |l| l.text_bytes_max = 27, 9, files);
    let set = |n: usize| {
        (0..n).fold(new(), |archive, n| {
            let value = [b'0' + u8::try_from(n).unwrap()];
            archive
                .pax(b'x', &[("SCHILY.xattr.u", &value)])
                .file("f", "")
        })
    };
    // Eleven bytes a set; the name takes two.
    bounded("text_bytes_max", |l| l.text_bytes_max = 55, 5, set);
    bounded(
        "steps_max",
        |l| l.steps_max = 10,
        10,
        |n| many(n, |n| format!("d{n}/f")),
    );
}

fn sparse_files(files: usize, pieces: usize) -> Archive {
    let map: Vec<_> = (0..pieces).map(|n| format!("{},1", n * 2)).collect();
    let map = map.join(",");
    (0..files).fold(new(), |archive, n| {
        archive
            .pax(
                b'x',
                &[
                    ("GNU.sparse.size", b"1000"),
                    ("GNU.sparse.map", map.as_bytes()),
                ],
            )
            .file(&format!("f{n}"), vec![b'x'; pieces])
    })
}

#[test]
fn limits_on_sparse_files_hold_and_are_named() {
    let one = |l: &mut Limits| l.sparse_extents_max = 10;
    bounded("sparse_extents_max", one, 10, |n| sparse_files(1, n));
    let all = |l: &mut Limits| l.sparse_extents_total_max = 10;
    bounded("sparse_extents_total_max", all, 5, |n| sparse_files(n, 2));
}

#[test]
fn waiting_links_are_limited() {
    let links = |n: usize| (0..n).fold(new(), |a, n| a.hard_link(&format!("h{n}"), "no"));
    bounded("entries_max", |l| l.entries_max = 9, 9, links);
    // They wait as they are spelled, and are looked up when all is known.
    let text = |l: &mut Limits| l.text_bytes_max = 36;
    bounded("text_bytes_max", text, 9, links);
    bounded("steps_max", |l| l.steps_max = 18, 9, links);
}

/// A chain that is made backwards is followed once, not once for each link.
#[test]
fn long_chains_of_hard_links_end() {
    let links = 20_000;
    let link = |archive: Archive, n| archive.hard_link(&format!("h{n}"), &format!("h{}", n + 1));
    for order in [(0..links).collect::<Vec<_>>(), (0..links).rev().collect()] {
        let archive = order.into_iter().fold(new(), link);
        let stream = archive.file(&format!("h{links}"), "1").end();
        let (index, _) = build(&stream);
        assert_eq!(index.summary().hard_links, links);
    }
}

#[test]
fn expansion_is_limited() {
    let change = |l: &mut Limits| {
        l.expanded_bytes_max = 20_000;
        l.ratio_max = 10;
        l.ratio_exempt_bytes = 5_000;
    };
    // Zeros behind the end of the archive count like everything else.
    let outcome = |archive_bytes, stream_bytes: usize| {
        let options = BuildOptions {
            archive_bytes,
            ..with_limits(change)
        };
        let stream = new().file("f", "1").end();
        let mut builder =
            super::super::Builder::new(options, &mut super::super::HeapArenas).unwrap();
        assert!(builder.push(0, &stream)?.is_break());
        let start = stream.len().try_into().unwrap();
        builder.push(start, &vec![0; stream_bytes - stream.len()])
    };
    let limit = |archive_bytes, stream_bytes| match outcome(archive_bytes, stream_bytes) {
        Ok(_) => None,
        Err(BuildError::Limit {
            limit, value, max, ..
        }) => Some((limit, value, max)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(limit(None, 20_000), None);
    assert_eq!(
        limit(None, 20_001),
        Some(("expanded_bytes_max", 20_001, 20_000))
    );
    assert_eq!(limit(Some(10), 5_000), None);
    assert_eq!(limit(Some(10), 5_001), Some(("ratio_max", 501, 10)));
    assert_eq!(limit(Some(1000), 10_000), None);
    assert_eq!(limit(Some(1000), 10_001), Some(("ratio_max", 11, 10)));
    assert_eq!(
        limit(Some(5000), 20_001),
        Some(("expanded_bytes_max", 20_001, 20_000))
    );
    assert_eq!(limit(Some(0), 5_001), Some(("ratio_max", 5_001, 10)));
}

/// Sixteen GiB of zeros in as many MB, gzip's best, are an image like another;
/// the same ratio at a terabyte is not.
#[test]
fn the_default_limits_on_expansion_leave_room() {
    let limits = Limits::default();
    assert!(limits.stream_bytes_max(16 << 20).0 >= 16 << 30);
    assert_eq!(limits.stream_bytes_max(1 << 30), (200 << 30, "ratio_max"));
    assert_eq!(
        limits.stream_bytes_max(u64::MAX),
        (1 << 40, "expanded_bytes_max")
    );
}

/// Attributes that stay on a directory, or that a global header puts on every
/// entry, cost again each time; the sum is what is limited.
#[test]
fn attributes_cannot_multiply_work_without_end() {
    let names: Vec<_> = (0..50).map(|n| format!("SCHILY.xattr.u{n}")).collect();
    let set: Vec<_> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
    let again = |n: usize| {
        let archive = new().pax(b'x', &set).dir("d");
        (0..n).fold(archive, |a, _| a.pax(b'x', &set[..1]).dir("d"))
    };
    bounded("steps_max", |l| l.steps_max = 1000, 20, again);
    let global = |n| (0..n).fold(new().pax(b'g', &set), |a, _| a.dir("d"));
    // The first time 50, then what is there is carried over too.
    bounded("steps_max", |l| l.steps_max = 950, 10, global);
}

/// Global headers that say the same thing again do not add up.
#[test]
fn repeated_global_headers_are_one() {
    let same: (&str, &[u8]) = ("SCHILY.xattr.user.a", &[b'v'; 100]);
    let archive = (0..1000).fold(new(), |a, _| a.pax(b'g', &[same]));
    let (_, built) = build(&archive.file("f", "").end());
    assert_eq!(built.summary.with_xattrs, 1);
}

/// A path of links to long paths of links would take 40 times thousands of
/// lookups for each entry of 512 bytes; the sum is what is limited.
#[test]
fn links_cannot_multiply_work_without_end() {
    let mut archive = new().dir("d");
    for n in 0..30 {
        let target = format!(
            "{}{}",
            "d/../".repeat(15),
            if n == 0 {
                "d".into()
            } else {
                format!("l{}", n - 1)
            }
        );
        archive = archive.symlink(&format!("l{n}"), &target);
    }
    for n in 0..100 {
        archive = archive.file(&format!("l29/x{n}/y"), "");
    }
    let options = with_limits(|l| l.steps_max = 20_000);
    let error = build_cut(options, &archive.end(), 1 << 20)
        .map(|_| ())
        .unwrap_err();
    assert!(error.to_string().contains("steps_max"), "{error}");
}

#[test]
fn deep_trees_are_built_and_verified_without_recursion() {
    let depth = 20_000;
    let options = with_limits(|l| {
        l.depth_max = u32::MAX;
        l.path_bytes_max = u32::MAX;
    });
    let stream = new()
        .with(Head::new(b'L', "L"), "d/".repeat(depth) + "f\0")
        .file("x", "1")
        .end();
    let (sections, built) = build_cut(options, &stream, 1 << 20).unwrap();
    sections
        .open()
        .unwrap()
        .verify(stream.len().try_into().unwrap())
        .unwrap();
    assert_eq!(built.summary.directories, 20_001);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes, it ends with an answer, and what is built verifies.
    #[test]
    fn mutated_archives_never_panic(
        changes in prop::collection::vec((0..sample().len(), any::<u8>()), 1..12),
        resign in any::<bool>(),
        cut in 1_usize..3000,
    ) {
        let mut stream = sample();
        for (at, byte) in changes {
            stream[at] = byte;
            if resign {
                sign(&mut stream[at / 512 * 512..][..512]);
            }
        }
        if let Ok((sections, built)) = build_cut(options(), &stream, cut) {
            let index = sections.open().unwrap();
            index.verify(u64::MAX).unwrap();
            prop_assert_eq!(index.summary(), built.summary);
        }
    }

    #[test]
    fn random_bytes_never_panic(stream in prop::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(build_cut(options(), &stream, 700).is_err());
    }

    /// Random text with right checksums in front: every field is garbage.
    #[test]
    fn signed_garbage_never_panics(
        blocks in prop::collection::vec(
            (prop::collection::vec(prop::sample::select(&b"\0 017/.xgLK2\x80\xff=\n"[..]), 512), any::<bool>()),
            0..8,
        ),
    ) {
        let mut stream = Vec::new();
        for (mut block, with_magic) in blocks {
            if with_magic {
                block[257..265].copy_from_slice(b"ustar\x0000");
                block[100..148].fill(b'0');
            }
            sign(&mut block);
            stream.extend_from_slice(&block);
        }
        if let Ok((sections, _)) = build_cut(options(), &stream, 512) {
            sections.open().unwrap().verify(u64::MAX).unwrap();
        }
    }
}
