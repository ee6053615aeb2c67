//! A random tree, packed by a random program in a random dialect and compressed
//! in a random way, is mounted as the tree that it was.
//!
//! Twenty cases, or as many as `DISTROFS_CASES` says. The tree is cut down to
//! what the dialect can hold before it is made, so that nothing is forgiven when
//! it is compared. A case that fails is made smaller and shown.

mod common;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use common::archive::Packing;
use common::dialect::{Bench, Writer, assert_mounted, assert_same_holes, write_sparse};
use common::synthetic::{Random, set_mtime};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

/// What a dialect, as this program writes it, can hold.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    writer: Writer,
    /// Of a path with a `./` before it, and of the target of a link.
    path_bytes_max: usize,
    owner_max: u32,
    times: Times,
    has_special: bool,
    has_xattrs: bool,
    keeps_holes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    /// Whole seconds since 1970 that eleven octal digits hold.
    Octal,
    /// Whole seconds.
    Whole,
    /// Nanoseconds since 1970.
    Nanos,
    /// Nanoseconds.
    All,
}

const OCTAL_OWNER: u32 = 0o7_777_777;

/// Of owners and devices: libarchive leaves a digit for a space behind it, and
/// leaves out what does not fit.
const BSD_OCTAL_MAX: u32 = 0o777_777;

const PLAIN: Dialect = Dialect {
    writer: Writer::GnuTar(&["--format=v7"]),
    path_bytes_max: 98,
    owner_max: OCTAL_OWNER,
    times: Times::Octal,
    has_special: true,
    has_xattrs: false,
    keeps_holes: false,
};

const LONG: Dialect = Dialect {
    path_bytes_max: usize::MAX,
    owner_max: u32::MAX - 1,
    times: Times::Whole,
    ..PLAIN
};

const PAX: Dialect = Dialect {
    times: Times::All,
    has_xattrs: true,
    ..LONG
};

const DIALECTS: [Dialect; 16] = [
    Dialect {
        has_special: false,
        ..PLAIN
    },
    gnu(PLAIN, &["--format=ustar"]),
    gnu(LONG, &["--format=oldgnu"]),
    gnu(LONG, &["--format=gnu"]),
    holes(gnu(LONG, &["--format=gnu", "--sparse"])),
    gnu(PAX, &["--format=posix", "--xattrs", "--xattrs-include=*"]),
    holes(gnu(
        PAX,
        &["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse"],
    )),
    holes(without_xattrs(gnu(
        PAX,
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
    ))),
    holes(without_xattrs(gnu(
        PAX,
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
    ))),
    Dialect {
        has_special: false,
        owner_max: BSD_OCTAL_MAX,
        ..bsd(PLAIN, &["--format=v7tar"])
    },
    Dialect {
        owner_max: BSD_OCTAL_MAX,
        ..bsd(PLAIN, &["--format=ustar"])
    },
    Dialect {
        times: Times::Octal,
        owner_max: OCTAL_OWNER,
        ..bsd(LONG, &["--format=gnutar"])
    },
    // libarchive writes a negative time with a fraction as another one.
    Dialect {
        times: Times::Nanos,
        ..bsd(PAX, &["--format=pax", "--read-sparse"])
    },
    python(PLAIN, "USTAR_FORMAT"),
    python(LONG, "GNU_FORMAT"),
    // Its times are floats.
    python(LONG, "PAX_FORMAT"),
];

const fn gnu(dialect: Dialect, options: &'static [&'static str]) -> Dialect {
    Dialect {
        writer: Writer::GnuTar(options),
        ..dialect
    }
}

const fn bsd(dialect: Dialect, options: &'static [&'static str]) -> Dialect {
    Dialect {
        writer: Writer::BsdTar(options),
        ..dialect
    }
}

const fn python(dialect: Dialect, format: &'static str) -> Dialect {
    Dialect {
        writer: Writer::Python(format),
        ..dialect
    }
}

const fn holes(dialect: Dialect) -> Dialect {
    Dialect {
        keeps_holes: true,
        ..dialect
    }
}

const fn without_xattrs(dialect: Dialect) -> Dialect {
    Dialect {
        has_xattrs: false,
        ..dialect
    }
}

/// One name of a tree.
#[derive(Clone, Debug)]
struct Node {
    /// Which directory made so far it is in.
    parent: usize,
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Kind {
    Directory,
    File {
        size: usize,
        seed: u64,
    },
    /// In units of 4096 bytes: size, and pieces of data.
    Sparse {
        size: u64,
        pieces: Vec<u64>,
        tail: u64,
    },
    Symlink(Vec<u8>),
    /// To which file made so far.
    HardLink(usize),
    Fifo,
    Device(bool, u32, u32),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|b| if matches!(b, 0 | b'/') { b'_' } else { b });
    prop_oneof![
        6 => "[a-zA-Z0-9._ -]{1,20}".prop_map(String::into_bytes),
        2 => "\\PC{1,12}".prop_map(|s| s.replace('/', "_").into_bytes()),
        1 => prop::collection::vec(byte, 1..30),
        1 => (90..=255_usize).prop_map(|len| vec![b'l'; len]),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let size = prop_oneof![
        Just(0),
        1..2000_usize,
        prop::sample::select(vec![511, 512, 513, 16_384, 65_537]),
        0..300_000_usize,
    ];
    let target = prop_oneof![
        name(),
        (name(), name()).prop_map(|(a, b)| [b"../", &a[..], b"/", &b].concat()),
        (100..3000_usize).prop_map(|len| b"s/".repeat(len / 2)),
    ];
    let pieces = prop::collection::btree_set(0..100_u64, 0..40);
    prop_oneof![
        4 => Just(Kind::Directory),
        8 => (size, any::<u64>()).prop_map(|(size, seed)| Kind::File { size, seed: seed | 1 }),
        3 => (0..120_u64, pieces, 0..4096_u64).prop_map(|(size, pieces, tail)| {
            let pieces = pieces.into_iter().filter(|piece| *piece < size).collect();
            Kind::Sparse { size, pieces, tail }
        }),
        3 => target.prop_map(Kind::Symlink),
        3 => any::<usize>().prop_map(Kind::HardLink),
        1 => Just(Kind::Fifo),
        1 => (any::<bool>(), 0..4096_u32, 0..1_u32 << 20)
            .prop_map(|(is_block, major, minor)| Kind::Device(is_block, major, minor)),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let owner = || prop_oneof![Just(0), 0..70_000_u32, any::<u32>()];
    let secs = prop_oneof![Just(0), 0..1_i64 << 31, -(1_i64 << 31)..1_i64 << 34];
    let value = prop::collection::vec(any::<u8>(), 0..100);
    let xattrs = prop::collection::vec(("user\\.[a-z=%.]{1,10}", value), 0..3);
    let some_xattrs = prop_oneof![3 => Just(Vec::new()), 1 => xattrs];
    let attributes = (
        0..=0o7777_u32,
        (owner(), owner()),
        (secs, 0..1_000_000_000_u32),
        some_xattrs,
    );
    (any::<usize>(), name(), kind(), attributes).prop_map(
        |(parent, name, kind, (mode, owner, time, xattrs))| Node {
            parent,
            name,
            kind,
            mode,
            owner,
            time,
            xattrs,
        },
    )
}

/// What a dialect can hold of a tree, made on the disk.
struct Maker<'a> {
    root: &'a Path,
    dialect: Dialect,
    /// Relative to the root.
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    sparse: Vec<PathBuf>,
}

impl Maker<'_> {
    fn make(&mut self, nodes: &[Node]) {
        let mut made = Vec::new();
        for node in nodes {
            let parent = &self.directories[node.parent % self.directories.len()];
            let path = parent.join(OsString::from_vec(node.name.clone()));
            if self.holds(&path, node) && self.one(&path, &node.kind) {
                made.push((path, node));
            }
        }
        // From the leaves to the root, which each change touched.
        for (path, node) in made.iter().rev() {
            self.attributes(path, node);
        }
        set_mtime(self.root, 1_000_000_000, 0);
    }

    fn holds(&self, path: &Path, node: &Node) -> bool {
        let max = self.dialect.path_bytes_max;
        let target = match &node.kind {
            Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        let is_new = self.root.join(path).symlink_metadata().is_err();
        let is_name = !matches!(&node.name[..], b"." | b"..");
        // With the `./` and the slash of a directory.
        is_new && is_name && path.as_os_str().len() + 3 <= max && target <= max
    }

    /// Whether it was made.
    fn one(&mut self, path: &Path, kind: &Kind) -> bool {
        let at = self.root.join(path);
        match kind {
            Kind::Directory => {
                fs::create_dir(&at).expect("make a directory");
                self.directories.push(path.to_owned());
            }
            Kind::File { size, seed } => {
                fs::write(&at, Random(*seed).bytes(*size)).expect("write a file");
                self.files.push(path.to_owned());
            }
            Kind::Sparse { size, pieces, tail } => {
                let data = Random(size + 1).bytes(4096);
                let pieces: Vec<_> = pieces.iter().map(|n| (n * 4096, &data[..])).collect();
                write_sparse(&at, size * 4096 + tail, &pieces);
                self.files.push(path.to_owned());
                self.sparse.push(path.to_owned());
            }
            Kind::Symlink(target) => {
                symlink(OsString::from_vec(target.clone()), &at).expect("link");
            }
            Kind::HardLink(_) if self.files.is_empty() => return false,
            Kind::HardLink(number) => {
                let target = &self.files[number % self.files.len()];
                fs::hard_link(self.root.join(target), &at).expect("link");
            }
            Kind::Fifo | Kind::Device(..) if !self.dialect.has_special => return false,
            Kind::Fifo => special(&at, FileType::Fifo, 0),
            Kind::Device(is_block, major, minor) => {
                let kind = match is_block {
                    true => FileType::BlockDevice,
                    false => FileType::CharacterDevice,
                };
                let minor = match self.dialect.writer {
                    Writer::BsdTar(_) => minor & BSD_OCTAL_MAX,
                    _ => *minor,
                };
                special(&at, kind, rustix::fs::makedev(*major, minor));
            }
        }
        true
    }

    fn attributes(&self, path: &Path, node: &Node) {
        let (dialect, at) = (self.dialect, self.root.join(path));
        let owner = |id: u32| Some(id.min(u32::MAX - 1) % (dialect.owner_max + 1));
        lchown(&at, owner(node.owner.0), owner(node.owner.1)).expect("change the owner");
        if !matches!(node.kind, Kind::Symlink(_)) {
            fs::set_permissions(&at, Permissions::from_mode(node.mode)).expect("change the mode");
        }
        let is_plain = matches!(node.kind, Kind::Directory | Kind::File { .. });
        // What bsdtar writes in the way of star ends at the first `=`.
        let splits = |name: &str| matches!(dialect.writer, Writer::BsdTar(_)) && name.contains('=');
        let keeps = |name: &str| is_plain && dialect.has_xattrs && !splits(name);
        for (name, value) in node.xattrs.iter().filter(|(name, _)| keeps(name)) {
            rustix::fs::lsetxattr(&at, &name[..], value, XattrFlags::empty())
                .unwrap_or_else(|e| panic!("set {name}: {e}"));
        }
        let (secs, nanos) = node.time;
        let (secs, nanos) = match dialect.times {
            Times::Octal => (secs.rem_euclid(1 << 33), 0),
            Times::Whole => (secs, 0),
            Times::Nanos => (secs.max(0), nanos),
            Times::All => (secs, nanos),
        };
        set_mtime(&at, secs, nanos.into());
    }
}

fn special(at: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(CWD, at, kind, Mode::from_raw_mode(0o600), device)
        .unwrap_or_else(|e| panic!("mknod: {e}; this needs root with CAP_MKNOD"));
}

fn check(dialect: Dialect, packing: Packing, nodes: &[Node]) {
    let bench = Bench::new();
    let original = bench.dir("original");
    let mut maker = Maker {
        root: &original,
        dialect,
        directories: vec![PathBuf::new()],
        files: Vec::new(),
        sparse: Vec::new(),
    };
    maker.make(nodes);
    let sparse = maker.sparse;
    fs::write(original.join("at least one"), "").expect("write a file");
    for path in [&original.join("at least one"), &original] {
        set_mtime(path, 1_000_000_000, 0);
    }
    let (tar, archive) = (bench.path("tar"), bench.path("archive"));
    dialect.writer.pack(&original, &tar);
    packing.pack(&tar, &archive);
    let what = format!("{:?}, {packing:?}, {} names", dialect.writer, nodes.len());
    assert_mounted(&what, &original, &archive, &[], |_| {});
    if dialect.keeps_holes && !sparse.is_empty() {
        let mount = common::mount::Mount::new(&archive, common::dialect::AS_IS);
        for path in sparse {
            let what = format!("{what}: {}", path.display());
            assert_same_holes(&what, &original.join(&path), &mount.path().join(&path));
        }
        mount.end();
    }
}

#[test]
fn a_random_tree_is_mounted_as_it_was() {
    let cases = std::env::var("DISTROFS_CASES").map_or(20, |n| n.parse().expect("a number"));
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let nodes = prop::collection::vec(node(), 0..40);
    let dialect = prop::sample::select(DIALECTS.to_vec());
    let packing = prop::sample::select(Packing::ALL.to_vec());
    TestRunner::new(config)
        .run(&(dialect, packing, nodes), |(dialect, packing, nodes)| {
            check(dialect, packing, &nodes);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}
