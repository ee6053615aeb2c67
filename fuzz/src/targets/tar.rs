//! Tar streams and extended headers, damaged in any way.

use std::sync::Arc;

use distrofs::index::Index;
use distrofs::index::build::{BuildOptions, Builder, HeapArenas, Limits};

use super::super::archive::{BLOCK, Head, Tar, gzip, image, record, sign};
use super::super::image::{Changeable, Sections, ingest};
use super::super::random::Random;
use super::super::walk::consistent;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let odd = Tar::default()
        .file("../up", "1")
        .file("/absolute", "2")
        .file("a", "file")
        .file("a/b", "below a file")
        .link(b'2', "loop", "loop")
        .file("loop/x", "3")
        .link(b'1', "hard", "nothing")
        .dir("d")
        .file("d", "over a directory")
        .link(b'2', "d", "etc")
        .end();
    let long = Tar::default()
        .long(b'L', &[b'x'; 300])
        .file("short", "1")
        .long(b'K', &[b'y'; 300])
        .link(b'2', "s", "short")
        .pax(b'g', &[("comment", b"global"), ("mtime", b"1.5")])
        .pax(
            b'x',
            &[("path", b"from/pax"), ("linkpath", b"to"), ("size", b"7")],
        )
        .file("f", "1234567")
        .end();
    let sparse = Tar::default()
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"sparse"),
                ("GNU.sparse.realsize", b"5000"),
            ],
        )
        .file("GNUSparseFile.0/sparse", {
            let mut body = b"2\n0\n512\n4096\n512\n".to_vec();
            body.resize(BLOCK, 0);
            body.extend([7; 1024]);
            body
        })
        .pax(
            b'x',
            &[
                ("GNU.sparse.size", b"5000"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.map", b"100,512"),
            ],
        )
        .file("sparse-0.1", [8; 512])
        .end();
    let unfinished = Tar::default().file("f", "1").cut();
    vec![odd, long, sparse, old_sparse(), unfinished, image(3)]
}

/// GNU's old format: a map in the header, and one behind it.
fn old_sparse() -> Vec<u8> {
    let mut block = Head {
        size: 1024,
        ..Head::new(b'S', "old-sparse")
    }
    .block();
    block[257..265].copy_from_slice(b"ustar  \0");
    let mut put = |at: usize, number: u64| {
        block[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
    };
    put(386, 0);
    put(398, 512);
    put(410, 8192);
    put(422, 512);
    put(483, 10_000);
    sign(&mut block);
    Tar::default().block(&block).block(&[9; 1024]).end()
}

pub(super) fn run(input: &[u8]) {
    let whole = build(input, usize::MAX);
    // Where the pieces are cut must not matter.
    let cut = 1 + Random::new(input.len() as u64).below(1500);
    let pieces = build(input, cut);
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole.bytes, pieces.bytes, "cut at {cut}"),
        (whole, pieces) => {
            let (whole, pieces) = (whole.as_ref().err(), pieces.as_ref().err());
            assert_eq!(whole, pieces, "cut at {cut}");
        }
    }
    let Ok(sections) = whole else {
        return;
    };
    let find = |id| sections.places.get(&id).cloned();
    let index = Index::open(Arc::new(sections.bytes.clone()), &find);
    let index = index.unwrap_or_else(|e| panic!("a new index does not open: {e}"));
    let verified = index.verify(input.len() as u64);
    verified.unwrap_or_else(|e| panic!("a new index does not verify: {e}"));
    whole_way(input);
}

/// As it would be served, if it is taken for a tar as it is.
fn whole_way(input: &[u8]) {
    let Ok(made) = ingest(input, 1 << 20) else {
        return;
    };
    let opened = made
        .sections
        .open(Arc::new(Changeable::new(input.to_vec())));
    let opened = opened.unwrap_or_else(|e| panic!("a new index does not open: {e}"));
    if made.stream.len() as u64 == made.scan.stream_len {
        let seen = consistent(&opened, &made.stream, made.scan.stream_len);
        seen.unwrap_or_else(|e| panic!("{e}"));
    }
}

fn build(stream: &[u8], cut: usize) -> Result<Sections, String> {
    let options = BuildOptions {
        hash_key: [7; 16],
        limits: Limits::default(),
        ignore_zeros: stream.last().is_some_and(|byte| byte % 2 == 1),
        archive_bytes: None,
    };
    let mut builder = Builder::new(options, &mut HeapArenas).map_err(|e| e.to_string())?;
    let mut at = 0;
    for piece in stream.chunks(cut.min(stream.len().max(1))) {
        let pushed = builder.push(at, piece).map_err(|e| e.to_string())?;
        if pushed.is_break() {
            break;
        }
        at += piece.len() as u64;
    }
    let mut sections = Sections::default();
    builder.finish(&mut sections).map_err(|e| e.to_string())?;
    Ok(sections)
}

/// Inputs of `pax`: a byte of choices, how long the extended header is, it, and
/// then changes to the header of the file: a place and a byte each.
pub(super) fn pax_seeds() -> Vec<Vec<u8>> {
    let records: [&[(&str, &[u8])]; 9] = [
        &[("path", b"a/b/c")],
        &[("size", b"5"), ("mtime", b"-1.5"), ("uid", b"70000")],
        &[("linkpath", b"../x"), ("gid", b"99999999999999999999")],
        &[
            ("SCHILY.xattr.user.x", b"1"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ],
        &[("hdrcharset", b"BINARY"), ("path", b"\xff\xfe")],
        &[("LIBARCHIVE.xattr.user.b", b"aGVsbG8="), ("ctime", b"5")],
        &[
            ("GNU.sparse.map", b"0,5"),
            ("GNU.sparse.size", b"5"),
            ("GNU.sparse.numblocks", b"1"),
        ],
        &[
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"5"),
            ("GNU.sparse.realsize", b"9"),
        ],
        &[
            ("SCHILY.dev", b"1"),
            ("SCHILY.realsize", b"7"),
            ("SCHILY.acl.access", b"user::rwx"),
        ],
    ];
    let body = |records: &[(&str, &[u8])]| -> Vec<u8> {
        records.iter().flat_map(|(k, v)| record(k, v)).collect()
    };
    let one = |choices: u8, body: Vec<u8>| {
        let len = u16::try_from(body.len()).unwrap_or(0).to_le_bytes();
        let changes = [124, 0, b'0', 0, 0, b'n', 156, 0, b'0'];
        [&[choices][..], &len, &body, &changes].concat()
    };
    let all = (0..).zip(records);
    all.map(|(choices, records)| one(choices, body(records)))
        .collect()
}

pub(super) fn run_pax(input: &[u8]) {
    let [choices, low, high, rest @ ..] = input else {
        return;
    };
    let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (body, changes) = rest.split_at(len);
    let types = [b'x', b'g', b'X', b'L', b'K', b'N', b'V', b'x'];
    let typeflag = types[usize::from(choices % 8)];
    let mut block = Head {
        size: 5,
        link: b"target".to_vec(),
        ..Head::new(b'0', "name")
    }
    .block();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % BLOCK;
        block[at] = change[2];
    }
    sign(&mut block);
    let mut tar = Tar::default().file("before", "1").pax_raw(typeflag, body);
    if choices & 8 != 0 {
        tar = tar.pax(b'x', &[("comment", b"between")]);
    }
    let stream = tar.block(&block).block(b"12345").file("behind", "2").end();
    run(&stream);
    if choices & 16 != 0 {
        drop(ingest(&gzip(&stream, 1), 1 << 20));
    }
}
