//! A small tree that holds one of everything an archive can say.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// What an archive format can hold of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Everything.
    Pax,
    /// No extended attributes, whole seconds.
    Gnu,
    /// Neither long names, nor names beyond 100 bytes as link targets, nor
    /// large or negative numbers.
    Ustar,
}

impl Format {
    pub(crate) const ALL: [Format; 3] = [Format::Pax, Format::Gnu, Format::Ustar];

    /// What to tell GNU tar.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Format::Pax => &["--format=pax", "--xattrs", "--xattrs-include=*"],
            Format::Gnu => &["--format=gnu"],
            Format::Ustar => &["--format=ustar"],
        }
    }
}

/// Makes what `format` can hold in the empty directory `root`.
pub(crate) fn build(root: &Path, format: Format) {
    contents(root);
    names(root);
    links(root);
    modes(root);
    special(root);
    times(root);
    if format != Format::Ustar {
        long_names(root);
        large_numbers(root);
    }
    if format == Format::Pax {
        attributes(root);
    }
    // Parents were touched by what was made in them.
    set_mtime(&root.join("sizes"), 1_234_567_890, 123_456_789);
    set_mtime(root, 1_000_000_000, 1);
}

/// Sizes around everything that is a unit somewhere: tar records, checksummed
/// blocks, read sizes, spans.
fn contents(root: &Path) {
    let dir = made(root, "sizes");
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    for size in [
        0, 1, 511, 512, 513, 4095, 16_383, 16_384, 16_385, 131_071, 131_073, 1_048_579,
    ] {
        fs::write(dir.join(format!("noise-{size}")), random.bytes(size)).expect("write a file");
        let text: Vec<u8> = b"The same line again.\n"
            .iter()
            .copied()
            .cycle()
            .take(size)
            .collect();
        fs::write(dir.join(format!("text-{size}")), text).expect("write a file");
    }
    // One long run of zeros: a deflate block may cover megabytes of it.
    fs::write(dir.join("zeros"), vec![0; 9_000_001]).expect("write a file");
}

fn names(root: &Path) {
    let dir = made(root, "names");
    let odd: [&[u8]; 14] = [
        b" leading and trailing ",
        b"new\nline",
        b"tab\there",
        b"quote\"'`",
        b"back\\slash\\054",
        b"-rf",
        b"--",
        b"...",
        b"colon:comma,equals=",
        b"star*?[a-z]",
        b"\xff\xfe not utf-8 \x80",
        "caf\u{e9} \u{65e5}\u{672c} \u{1f600}".as_bytes(),
        b"\x01\x1b[31m\x7f",
        b"%s%n$(reboot)",
    ];
    for name in odd {
        fs::write(dir.join(OsStr::from_bytes(name)), name).expect("write a file");
    }
    // Directories whose names sort and hash next to each other.
    for name in ["a", "a.b", "a-b", "aa", "A"] {
        fs::write(made(&dir, name).join("in"), name).expect("write a file");
    }
    made(root, "empty");
}

fn links(root: &Path) {
    let dir = made(root, "links");
    fs::write(dir.join("first"), b"one inode, three names").expect("write a file");
    fs::hard_link(dir.join("first"), dir.join("second")).expect("link");
    fs::hard_link(dir.join("first"), made(&dir, "below").join("third")).expect("link");
    fs::write(dir.join("empty"), b"").expect("write a file");
    fs::hard_link(dir.join("empty"), dir.join("empty-too")).expect("link");
    for (name, target) in [
        ("relative", "../names/a/in"),
        ("absolute", "/etc/passwd"),
        ("dangling", "does/not/exist"),
        ("to-dir", "below"),
        ("loop", "loop"),
        ("odd", "a b\n\"c\""),
    ] {
        symlink(target, dir.join(name)).expect("link");
    }
    fs::hard_link(dir.join("relative"), dir.join("relative-too")).expect("link a symbolic link");
    // As long as a plain header holds.
    symlink("x".repeat(100), dir.join("hundred")).expect("link");
}

fn modes(root: &Path) {
    let dir = made(root, "modes");
    for mode in [
        0o0, 0o400, 0o644, 0o666, 0o777, 0o4755, 0o2755, 0o1644, 0o7777,
    ] {
        let path = dir.join(format!("file-{mode:o}"));
        fs::write(&path, b"x").expect("write a file");
        // Changing the owner drops the set-id bits: the mode comes after it.
        chown(&path, Some(mode), Some(mode + 1)).expect("change the owner");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("change the mode");
    }
    for mode in [0o0, 0o700, 0o1777, 0o2775] {
        let path = made(&dir, &format!("dir-{mode:o}"));
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("change the mode");
    }
    symlink("nowhere", dir.join("owned")).expect("link");
    lchown(dir.join("owned"), Some(65_534), Some(12)).expect("change the owner");
}

fn special(root: &Path) {
    let dir = made(root, "special");
    let mode = Mode::from_raw_mode(0o640);
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, dir.join(name), kind, mode, device)
            .unwrap_or_else(|e| panic!("mknod {name}: {e}; this needs root with CAP_MKNOD"));
    };
    make("fifo", FileType::Fifo, 0);
    make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make(
        "disk",
        FileType::BlockDevice,
        rustix::fs::makedev(259, 1_000),
    );
}

fn times(root: &Path) {
    let dir = made(root, "times");
    for (name, secs, nanos) in [
        ("zero", 0, 0),
        ("last-nano", 1_600_000_000, 999_999_999),
        ("one-nano", 1, 1),
        ("2038", 1 << 31, 5),
    ] {
        let path = dir.join(name);
        fs::write(&path, name).expect("write a file");
        set_mtime(&path, secs, nanos);
    }
    symlink("zero", dir.join("link")).expect("link");
    set_mtime(&dir.join("link"), 1_500_000_000, 42);
}

fn long_names(root: &Path) {
    let dir = made(root, "long");
    fs::write(dir.join("n".repeat(255)), b"as long as a name may be").expect("write a file");
    // Around the 100 bytes of a header's name field.
    for length in [98, 99, 100, 101, 102] {
        let path = dir.join("l".repeat(length));
        fs::write(&path, b"x").expect("write a file");
        made(&dir, &"d".repeat(length));
        symlink("t".repeat(length), dir.join(format!("link-{length}"))).expect("link");
        fs::hard_link(&path, dir.join(format!("hard-{length}"))).expect("link");
    }
    symlink("s/".repeat(2_000), dir.join("link-4000")).expect("link");
    let mut deep = dir;
    for level in 0..60 {
        deep = made(&deep, &format!("level-{level:02}-{}", "x".repeat(30)));
    }
    fs::write(deep.join("bottom"), b"deep").expect("write a file");
}

fn large_numbers(root: &Path) {
    let dir = made(root, "numbers");
    let path = dir.join("owner");
    fs::write(&path, b"x").expect("write a file");
    chown(&path, Some(3_000_000_000), Some(2_097_152)).expect("change the owner");
    for (name, secs, nanos) in [
        ("before-1970", -86_400, 0),
        ("just-before", -1, 500_000_000),
        ("far", 1 << 33, 7),
    ] {
        fs::write(dir.join(name), b"x").expect("write a file");
        set_mtime(&dir.join(name), secs, nanos);
    }
}

fn attributes(root: &Path) {
    let dir = made(root, "xattrs");
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
            .unwrap_or_else(|e| panic!("set {name} on {}: {e}", path.display()));
    };
    let file = dir.join("file");
    fs::write(&file, b"x").expect("write a file");
    set(&file, "user.plain", b"value");
    set(&file, "user.empty", b"");
    set(&file, "user.bytes", b"\0\x01=\n\xff");
    set(&file, "user.long", &[b'v'; 2_000]);
    set(&file, "trusted.ours", b"root only");
    fs::hard_link(&file, dir.join("linked")).expect("link");
    set(&made(&dir, "dir"), "user.on-a-directory", b"yes");
    symlink("file", dir.join("link")).expect("link");
    set(&dir.join("link"), "trusted.on-a-link", b"yes");
    // cap_net_raw+ep, version 2: what `setcap` writes for ping.
    let ping = dir.join("ping");
    fs::write(&ping, b"x").expect("write a file");
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    set(&ping, "security.capability", &capability);
}

fn made(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    fs::create_dir(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
    path
}

/// Sets the time of whatever `path` is, not of what it leads to.
pub(crate) fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: secs,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|e| panic!("set the time of {}: {e}", path.display()));
}

/// Bytes that do not compress and are the same in every run (xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend(self.0.to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
