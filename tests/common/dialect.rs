//! The dialects of tar: archives written by every program at hand or byte by
//! byte, and what these programs unpack them to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::mount::Mount;
use super::program::{Ran, run};
use super::tree::{Tree, assert_same};

/// The archive's owners as they are, and everything that is in it.
pub(crate) const AS_IS: [&str; 4] = ["--owner", "keep", "--i-know", "--devices"];

/// A program that unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    GnuTar,
    /// The same with `--ignore-zeros`.
    GnuTarOverZeros,
    BsdTar,
    Python,
}

impl Reader {
    /// Unpacks `archive` into the directory `to`, with everything that it holds.
    /// Programs go on after an error: what came of it can be looked at.
    pub(crate) fn unpack(self, archive: &Path, to: &Path) -> Ran {
        let gnu = ["-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
        let mut command = match self {
            Reader::GnuTar => program("tar", gnu),
            Reader::GnuTarOverZeros => program("tar", gnu.into_iter().chain(["--ignore-zeros"])),
            Reader::BsdTar => program("bsdtar", ["-xp", "--numeric-owner"]),
            Reader::Python => {
                const UNPACK: &str = "import sys, tarfile\n\
                    with tarfile.open(sys.argv[1]) as t: t.extractall(sys.argv[2], numeric_owner=True)";
                return run(program("python3", ["-c", UNPACK]).arg(archive).arg(to));
            }
        };
        run(command.arg("-f").arg(archive).arg("-C").arg(to))
    }
}

/// A program that packs, in one of its formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// GNU tar with these options.
    GnuTar(&'static [&'static str]),
    /// bsdtar with these options.
    BsdTar(&'static [&'static str]),
    /// The constant of Python's tarfile.
    Python(&'static str),
}

impl Writer {
    /// Packs all of the directory `from`.
    #[track_caller]
    pub(crate) fn pack(self, from: &Path, archive: &Path) {
        let mut command = match self {
            Writer::GnuTar(options) => program("tar", options.iter().copied()),
            Writer::BsdTar(options) => program("bsdtar", options.iter().copied()),
            Writer::Python(format) => {
                const PACK: &str = "import sys, tarfile\n\
                    format = getattr(tarfile, sys.argv[1])\n\
                    with tarfile.open(sys.argv[2], 'w', format=format) as t: t.add(sys.argv[3], '.')";
                run(program("python3", ["-c", PACK, format])
                    .arg(archive)
                    .arg(from))
                .ok();
                return;
            }
        };
        command.arg("-cf").arg(archive).arg("-C").arg(from);
        run(command.arg(".")).ok();
    }
}

/// A program in a locale of its own: names are bytes, messages are English.
pub(crate) fn program<'a>(name: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C.UTF-8").args(args);
    command
}

/// A directory for an archive and what it is compared with.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        super::need_real_mounts();
        Self {
            dir: super::temp_dir(),
        }
    }

    /// A new, empty directory, or a path where nothing is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("make {name}: {e}"));
        path
    }

    /// Writes an archive.
    #[track_caller]
    pub(crate) fn archive(&self, bytes: &[u8]) -> PathBuf {
        let path = self.path("archive");
        fs::write(&path, bytes).expect("write the archive");
        path
    }

    /// What `reader` makes of the archive, successfully or not.
    #[track_caller]
    pub(crate) fn unpacked(&self, reader: Reader, archive: &Path) -> (PathBuf, Ran) {
        let dir = self.path("expected");
        if dir.exists() {
            fs::remove_dir_all(&dir).expect("remove what was unpacked before");
        }
        fs::create_dir(&dir).expect("make a directory");
        let ran = reader.unpack(archive, &dir);
        (dir, ran)
    }

    /// Asserts that the mounted archive is what `reader` unpacks without a
    /// complaint.
    #[track_caller]
    pub(crate) fn assert_as(&self, what: &str, reader: Reader, archive: &Path) {
        let (expected, ran) = self.unpacked(reader, archive);
        ran.ok();
        let what = format!("{what}, as {reader:?}");
        assert_mounted(&what, &expected, archive, &[], |tree| {
            for (name, node) in tree {
                let keeps_time = match reader {
                    Reader::GnuTar | Reader::GnuTarOverZeros => true,
                    // Not of the directory it unpacks into.
                    Reader::BsdTar => !name.as_os_str().is_empty(),
                    // Not of links.
                    Reader::Python => node.target.is_none(),
                };
                if !keeps_time {
                    node.mtime = (RAW_TIME, 0);
                }
            }
        });
    }
}

/// Asserts that the mounted archive is the tree at `expected`.
#[track_caller]
pub(crate) fn assert_mounted(
    what: &str,
    expected: &Path,
    archive: &Path,
    options: &[&str],
    adjust: impl FnOnce(&mut Tree),
) {
    let mount = Mount::new(archive, AS_IS.iter().chain(options));
    assert_same(what, expected, mount.path(), adjust);
    mount.end();
    println!("{what}: equal");
}

/// Where a file has data: offset and end of each piece, as lseek(2) says.
#[track_caller]
pub(crate) fn data_pieces(path: &Path) -> Vec<(u64, u64)> {
    let file = File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let seek = |to| rustix::fs::seek(file.as_fd(), to);
    let mut pieces = Vec::new();
    let mut at = 0;
    loop {
        let start = match seek(SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return pieces,
            Err(e) => panic!("seek for data in {}: {e}", path.display()),
        };
        at = seek(SeekFrom::Hole(start)).expect("seek for a hole");
        pieces.push((start, at));
    }
}

/// Asserts that two files have the same holes, and the second one takes no more
/// room than its data.
#[track_caller]
pub(crate) fn assert_same_holes(what: &str, expected: &Path, seen: &Path) {
    let pieces = data_pieces(seen);
    assert_eq!(pieces, data_pieces(expected), "{what}");
    let allocated: u64 = pieces.iter().map(|(start, end)| end - start).sum();
    let meta = fs::metadata(seen).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(meta.blocks(), allocated.div_ceil(512), "{what}: blocks");
}

/// Writes a file of `size` bytes with `data` at each offset, and holes.
pub(crate) fn write_sparse(path: &Path, size: u64, pieces: &[(u64, &[u8])]) {
    use std::os::unix::fs::FileExt;
    let write = || -> io::Result<()> {
        let file = File::create(path)?;
        for (offset, data) in pieces {
            file.write_all_at(data, *offset)?;
        }
        file.set_len(size)
    };
    write().unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// The time in headers made here.
pub(crate) const RAW_TIME: i64 = 1_000_000_000;

/// Magic and version of a header, which tell its dialect.
pub(crate) const USTAR: &[u8; 8] = b"ustar\x0000";
pub(crate) const GNU: &[u8; 8] = b"ustar  \0";
pub(crate) const V7: &[u8; 8] = &[0; 8];

/// A header in the making.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    block: [u8; 512],
}

impl Head {
    /// A header of type `typeflag`, for `name`.
    pub(crate) fn new(typeflag: u8, name: impl AsRef<[u8]>) -> Self {
        let mode = if typeflag == b'5' { 0o755 } else { 0o644 };
        let head = Self { block: [0; 512] };
        head.put(0, name)
            .put(100, format!("{mode:07o}\0"))
            .put(108, "0000000\0")
            .put(116, "0000000\0")
            .put(124, "00000000000\0")
            .put(136, format!("{RAW_TIME:011o}\0"))
            .put(156, [typeflag])
            .put(257, USTAR)
    }

    /// The same, as a link to `target`.
    pub(crate) fn link(typeflag: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(typeflag, name).put(157, target)
    }

    /// Overwrites bytes of the header.
    pub(crate) fn put(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Another dialect.
    pub(crate) fn magic(self, magic: &[u8; 8]) -> Self {
        self.put(257, magic)
    }

    /// Bytes of content.
    pub(crate) fn size(self, size: usize) -> Self {
        self.put(124, format!("{size:011o}\0"))
    }

    /// The number of a device.
    pub(crate) fn device(self, major: u32, minor: u32) -> Self {
        self.put(329, format!("{major:07o}\0{minor:07o}\0"))
    }

    /// The first pieces of the map of a sparse file, as GNU tar has them.
    pub(crate) fn sparse(self, size: u64, map: &[(u64, u64)]) -> Self {
        let pieces: String = map
            .iter()
            .map(|(o, l)| format!("{o:011o}\0{l:011o}\0"))
            .collect();
        self.put(386, pieces).put(483, format!("{size:011o}\0"))
    }
}

/// An archive in the making, byte by byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    /// A header and nothing behind it, whatever size it says.
    pub(crate) fn head(mut self, head: &Head) -> Self {
        let mut block = head.clone().put(148, b"        ").block;
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
        self
    }

    /// Bytes, padded to whole blocks.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(body.as_ref());
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A header and its content.
    pub(crate) fn with(self, head: Head, body: impl AsRef<[u8]>) -> Self {
        let head = head.size(body.as_ref().len());
        self.head(&head).body(body)
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        self.with(Head::new(b'0', name), body)
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.head(&Head::new(b'5', name))
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.head(&Head::link(b'2', name, target))
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.head(&Head::link(b'1', name, target))
    }

    /// An extended header of type `x`, `g` or `X`.
    pub(crate) fn pax(self, typeflag: u8, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        self.with(Head::new(typeflag, "PaxHeaders/x"), body)
    }

    /// The end of an archive.
    pub(crate) fn end(self) -> Vec<u8> {
        self.body([0; 1024]).bytes
    }
}

/// A PAX record; its length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len += 1;
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// The name of a file, whatever its bytes.
pub(crate) fn name(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}
