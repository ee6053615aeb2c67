//! An image with patches on top of it and changed modes is what the same people
//! get on disk: GNU tar unpacks the image, whiteouts are applied by hand, then
//! it unpacks the patch, and so on; chmod comes last.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::archive::{Packing, tar, untar};
use common::dialect::{Head, Raw};
use common::program::run;
use common::synthetic::{self, Format, set_mtime};
use common::tree::{Node, Tree, tree};
use distrofs::budget::MemoryBudget;
use distrofs::cache::{BlockCache, CachedReader, ImageId};
use distrofs::fs::{Attr, FileKind, FsOptions, ImageFs, Owner, Patience, XattrAnswer};
use distrofs::index::build::ModeChange;
use distrofs::metrics::Metrics;
use distrofs::store::derived::{Derivation, Part};
use distrofs::store::{Archive, IngestOptions, OpenedIndex};
use distrofs::types::Ino;

const OPTIONS: IngestOptions = IngestOptions {
    span_bytes: 256 << 10,
    ignore_zeros: false,
};

/// The image of these archives, the first one below; and what was told.
fn serve(archives: &[PathBuf], changes: &[(&str, u32)]) -> (ImageFs, Vec<String>) {
    let (metrics, budget) = (Arc::new(Metrics::default()), MemoryBudget::new(64 << 20));
    let opened: Vec<(Archive, OpenedIndex)> = archives
        .iter()
        .map(|path| {
            let archive = Archive::open(path).expect("open the archive");
            let index = archive.index(None, OPTIONS, false, &metrics, &|_| {});
            (archive, index.expect("index it"))
        })
        .collect();
    let parts = opened
        .iter()
        .map(|(archive, index)| Part { archive, index });
    let parts: Vec<_> = parts.collect();
    let changes = changes.iter();
    let changes = changes.map(|(path, mode)| ModeChange::new(path.as_bytes(), *mode));
    let changes: Vec<_> = changes.collect::<Result<_, _>>().expect("changes");
    let derivation = Derivation::new(parts[0], &parts[1..], &changes).expect("a derivation");
    let place = archives[0].with_extension("derived");
    let index = derivation
        .index(&place, &budget, &metrics)
        .expect("derive it");
    index.sidecar.verify().expect("a right sidecar");
    let image = derivation
        .open(&index, &budget, &metrics)
        .expect("open the image");
    image
        .index
        .verify(image.source.len())
        .expect("a right index");
    let cache = BlockCache::new(&budget, Arc::clone(&metrics)).expect("a cache");
    let content = CachedReader::new(
        ImageId(1),
        image.source,
        Arc::new(cache),
        None,
        Arc::clone(&metrics),
    );
    let options = FsOptions {
        root: image.index.summary().root.unwrap_or(Ino::ROOT),
        owner: Owner::Keep,
        devices: true,
    };
    let fs = ImageFs::new(image.index, content, options, metrics).expect("a filesystem");
    (fs, index.notes)
}

/// All that a filesystem shows, as `common::tree` has it, and its files.
fn walk(fs: &ImageFs) -> (Tree, HashMap<PathBuf, u64>) {
    let (mut found, mut inodes) = (BTreeMap::new(), HashMap::new());
    let root = fs.getattr(1).expect("the root");
    found.insert(PathBuf::new(), node(fs, &root));
    inodes.insert(PathBuf::new(), 1);
    let mut dirs = vec![(PathBuf::new(), 1)];
    while let Some((dir, ino)) = dirs.pop() {
        let mut entries = Vec::new();
        fs.readdir(ino, 2, &mut |entry| {
            entries.push((entry.name.to_vec(), entry.attr));
            ControlFlow::Continue(())
        })
        .expect("list a directory");
        for (name, attr) in entries {
            assert_eq!(fs.lookup(ino, &name).expect("look up"), Some(attr));
            let path = dir.join(OsString::from_vec(name));
            if attr.kind == FileKind::Directory {
                dirs.push((path.clone(), attr.ino));
            }
            found.insert(path.clone(), node(fs, &attr));
            inodes.insert(path, attr.ino);
        }
    }
    let mut first = HashMap::new();
    for (path, node) in &mut found {
        let name = first.entry(inodes[path]).or_insert_with(|| path.clone());
        node.same_as.clone_from(name);
    }
    (found, inodes)
}

fn node(fs: &ImageFs, attr: &Attr) -> Node {
    let kind = match attr.kind {
        FileKind::Regular => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    };
    let data = |answer| match answer {
        XattrAnswer::Data(data) => data,
        XattrAnswer::Size(_) => Vec::new(),
    };
    let names = data(fs.listxattr(attr.ino, 1 << 17).expect("list attributes"));
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| data(fs.getxattr(attr.ino, name, 1 << 17).expect("an attribute"));
    let is_link = attr.kind == FileKind::Symlink;
    Node {
        mode: kind | u32::from(attr.perm),
        owner: (attr.uid, attr.gid),
        size: if attr.kind == FileKind::Directory {
            0
        } else {
            attr.size
        },
        mtime: (attr.mtime.secs, attr.mtime.nanos.into()),
        links: attr.nlink.into(),
        device: attr.rdev.into(),
        target: is_link.then(|| {
            let target = fs.readlink(attr.ino).expect("read a link");
            PathBuf::from(OsString::from_vec(target))
        }),
        xattrs: names
            .map(|n| (OsString::from_vec(n.to_vec()), value(n)))
            .collect(),
        same_as: PathBuf::new(),
    }
}

/// Asserts that `fs` shows what is at `expected`, and gives its content.
#[track_caller]
fn assert_same(what: &str, expected: &Path, fs: &ImageFs) {
    let wanted = tree(expected);
    let (found, inodes) = walk(fs);
    for (name, node) in &wanted {
        assert_eq!(found.get(name), Some(node), "{what}: {}", name.display());
    }
    for name in found.keys() {
        assert!(
            wanted.contains_key(name),
            "{what}: {} is there",
            name.display()
        );
    }
    for (name, node) in wanted {
        if node.mode & libc::S_IFMT == libc::S_IFREG {
            let mut bytes = Vec::new();
            let mut file = File::open(expected.join(&name)).expect("open a file");
            file.read_to_end(&mut bytes).expect("read it");
            assert!(
                read(fs, inodes[&name]) == bytes,
                "{what}: {}",
                name.display()
            );
        }
    }
}

fn read(fs: &ImageFs, ino: u64) -> Vec<u8> {
    let size = fs.getattr(ino).expect("attributes").size;
    let mut bytes = vec![0; usize::try_from(size).expect("a small file") + 1];
    let n = fs.read(ino, 0, &mut bytes, Patience::Wait).expect("read");
    bytes.truncate(n.expect("bytes"));
    bytes
}

/// An image as a directory on disk.
struct OnDisk(PathBuf);

impl OnDisk {
    fn new(base: &Path, at: PathBuf) -> Self {
        fs::create_dir(&at).expect("make a directory");
        untar(base, &at);
        Self(at)
    }

    /// Removes `gone`, then unpacks the rest of `patch`. Directories that are no
    /// entries of it keep their times, which the removing and unpacking touched.
    fn layer(&self, patch: &Path, gone: &[&str]) {
        let before = tree(&self.0);
        for name in gone {
            let path = self.0.join(name);
            match fs::symlink_metadata(&path)
                .expect("what is to be removed")
                .is_dir()
            {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            }
            .expect("remove it");
        }
        let mut command = Command::new("tar");
        command.args(["-xp", "--xattrs", "--xattrs-include=*", "--numeric-owner"]);
        command.args(["--exclude=.wh.*", "-f"]);
        run(command.arg(patch).arg("-C").arg(&self.0)).ok();
        let listed = Command::new("tar")
            .arg("-tf")
            .arg(patch)
            .output()
            .expect("run tar");
        let listed = OsString::from_vec(listed.stdout);
        let entries = listed.as_bytes().split(|b| *b == b'\n').map(|line| {
            let line = line.strip_prefix(b"./").unwrap_or(line);
            let line = line.strip_suffix(b"/").unwrap_or(line);
            PathBuf::from(OsString::from_vec(line.to_vec()))
        });
        let entries: Vec<_> = entries.collect();
        let dirs = before
            .iter()
            .filter(|(_, n)| n.mode & libc::S_IFMT == libc::S_IFDIR);
        for (name, node) in dirs.rev() {
            let path = self.0.join(name);
            let is_dir = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
            let is_new = gone.iter().any(|gone| name.starts_with(gone));
            if is_dir && !is_new && !entries.contains(name) {
                let nanos = u32::try_from(node.mtime.1).expect("nanoseconds");
                set_mtime(&path, node.mtime.0, nanos.into());
            }
        }
    }

    fn chmod(&self, changes: &[(&str, u32)]) {
        for (path, mode) in changes {
            let path = self.0.join(path.trim_start_matches('/'));
            fs::set_permissions(path, Permissions::from_mode(*mode)).expect("chmod");
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("write an archive");
}

/// One of everything, changed by a patch of one of everything, one that removes
/// and replaces, and one that was made of a directory; in each format, and in
/// each way of compressing.
#[test]
fn a_changed_image_is_what_it_is_on_disk() {
    let packings = [Packing::Gzip, Packing::Plain, Packing::Bgzip];
    for (format, packing) in Format::ALL.into_iter().zip(packings) {
        let what = format!("{format:?}, {packing:?}");
        let dir = common::temp_dir();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("tree")).expect("make a directory");
        synthetic::build(&at("tree"), format);
        tar(&at("tree"), &at("base.tar"), format.options());
        packing.pack(&at("base.tar"), &at("base"));

        // As layer.md has it: removes, replaces and adds in one layer.
        let first = Raw::default()
            .file("sizes/.wh.zeros", "")
            .file("sizes/noise-513", "another")
            .file(".wh.names", "")
            .dir("names/")
            .file("names/a", "was a directory")
            .file("empty/.wh..wh..opq", "")
            .file("empty/now not", b"x".repeat(100_000))
            .file("links/.wh.first", "")
            .hard_link("links/fourth", "links/second")
            .file("links/late", "late")
            .dir("sizes/text-0/")
            .file("sizes/text-0/was a file", "yes")
            .end();
        write(&at("first.tar"), &first);
        Packing::Gzip.pack(&at("first.tar"), &at("first"));

        // An update of part of the tree, as tar makes it.
        let update = at("update");
        fs::create_dir_all(update.join("sizes")).expect("make directories");
        fs::write(update.join("sizes/text-512"), "shorter").expect("write a file");
        fs::set_permissions(update.join("sizes"), Permissions::from_mode(0o2775)).expect("chmod");
        fs::write(update.join("new"), "new").expect("write a file");
        fs::hard_link(update.join("new"), update.join("newer")).expect("link");
        tar(&update, &at("second"), format.options());

        let disk = OnDisk::new(&at("base"), at("disk"));
        disk.layer(
            &at("first"),
            &["sizes/zeros", "names", "links/first", "sizes/text-0"],
        );
        disk.layer(&at("second"), &[]);
        let changes = [
            ("sizes", 0o1777),
            ("/new", 0o4755),
            ("empty/", 0o700),
            ("/", 0o751),
        ];
        disk.chmod(&changes);
        let (fs, notes) = serve(&[at("base"), at("first"), at("second")], &changes);
        assert_eq!(notes, [""; 0], "{what}");
        assert_same(&what, &disk.0, &fs);
        println!("{what}: equal");
    }
}

/// An image with links that lead out of it, and names like whiteouts.
fn threatened() -> Vec<u8> {
    Raw::default()
        .dir("./")
        .dir("etc/")
        .file("etc/passwd", "root")
        .dir("usr/")
        .dir("usr/lib/")
        .file("usr/lib/a", "a")
        .symlink("lib", "usr/lib")
        .symlink("out", "../../../../etc")
        .symlink("loop", "loop")
        .dir("full/")
        .dir("full/of/")
        .file("full/of/it", "it")
        .file("plain", "plain")
        .file("shared", "shared")
        .hard_link("shared2", "shared")
        .file(".wh.base", "not a layer")
        .end()
}

fn hostile() -> Vec<u8> {
    Raw::default()
        .file(".wh...", "")
        .file(".wh..", "")
        .file(".wh.", "")
        .file("etc/.wh...", "")
        .file("../.wh.etc", "")
        .file("etc/../.wh.etc", "")
        .file("/.wh.plain/x", "")
        .file("loop/.wh.x", "")
        .file("out/.wh.hostname", "")
        .file("full", "now a file")
        .dir("plain/")
        .file("plain/in", "in")
        .hard_link("kept", "shared")
        .hard_link("lost", "shared2")
        .file(".wh.shared2", "")
        .file("both", "1")
        .file(".wh.both", "")
        .file(".wh.usr", "")
        .file("usr/lib/b", "b")
        .head(&Head::new(b'6', "usr/lib/.wh.a"))
        .file(".wh..wh.plnk/12.3", "")
        .file("new/.wh..wh..opq", "")
        .end()
}

/// What somebody would try who wants out of the image, or to see whiteouts.
#[test]
fn hostile_patches_change_what_they_may_and_nothing_else() {
    let dir = common::temp_dir();
    let at = |name: &str| dir.path().join(name);
    write(&at("base"), &threatened());
    write(&at("patch"), &hostile());
    let changes = [
        ("out/passwd", 0o666),
        ("lib/b", 0o666),
        ("lib", 0o777),
        ("loop", 0o666),
        ("loop/x", 0o666),
        ("full/of/it", 0o666),
        ("nowhere", 0o666),
    ];
    let (fs, notes) = serve(&[at("base"), at("patch")], &changes);
    let (found, inodes) = walk(&fs);
    let names: Vec<_> = found
        .keys()
        .map(|name| name.to_str().expect("text"))
        .collect();
    assert_eq!(
        names,
        [
            "",
            ".wh.base",
            "both",
            "etc",
            "etc/passwd",
            "full",
            "kept",
            "lib",
            "loop",
            "out",
            "plain",
            "plain/in",
            "shared",
            "usr",
            "usr/lib",
            "usr/lib/b",
        ]
    );
    for (name, body) in [
        ("both", "1"),
        ("kept", "shared"),
        ("usr/lib/b", "b"),
        ("full", "now a file"),
    ] {
        assert_eq!(
            read(&fs, inodes[Path::new(name)]),
            body.as_bytes(),
            "{name}"
        );
    }
    assert_eq!(found[Path::new("kept")].links, 2);
    assert_eq!(found[Path::new("usr/lib/b")].mode & 0o7777, 0o644);
    assert_eq!(found[Path::new("etc/passwd")].mode & 0o7777, 0o644);
    let told = notes.join("\n");
    for line in [
        "/out/passwd: a parent is a symbolic link",
        "/lib/b: a parent is a symbolic link",
        "/lib: a symbolic link has no mode",
        "/loop: a symbolic link has no mode",
        "/loop/x: a parent is a symbolic link",
        "/full/of/it: a parent is not a directory",
        "/nowhere: not in this version",
        "patch patch: 1 entries: left out, hard link to something that is not there: lost",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[test]
fn an_opaque_root_leaves_only_the_layer() {
    let dir = common::temp_dir();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("tree")).expect("make a directory");
    synthetic::build(&at("tree"), Format::Gnu);
    tar(&at("tree"), &at("base"), Format::Gnu.options());
    let patch = Raw::default()
        .file("a/b", "kept")
        .file(".wh..wh..opq", "")
        .dir("./")
        .end();
    write(&at("patch"), &patch);
    fs::create_dir(at("disk")).expect("make a directory");
    let disk = OnDisk(at("disk"));
    disk.layer(&at("patch"), &[]);
    let (fs, notes) = serve(&[at("base"), at("patch")], &[]);
    assert_eq!(notes, [""; 0]);
    let (found, _) = walk(&fs);
    // What is implied takes the time of whatever implies it here, and of the
    // unpacking on disk.
    set_mtime(&at("disk/a"), found[Path::new("a")].mtime.0, 0);
    assert_same("opaque root", &disk.0, &fs);
}

/// An update of a system: every file of the patch replaces one of the image.
#[test]
fn a_patch_of_ten_thousand_entries() {
    let dir = common::temp_dir();
    let at = |name: &str| dir.path().join(name);
    let of = |body: &str| {
        let mut all = Raw::default().dir("./");
        for d in 0..100 {
            all = all.dir(format!("{d:02}/"));
            for f in 0..100 {
                all = all.file(format!("{d:02}/{f:02}"), format!("{body} {d} {f}"));
            }
        }
        all
    };
    write(&at("base"), &of("old").end());
    let patch = of("new").file("07/.wh.07", "").file("08/.wh..wh..opq", "");
    let mut file = File::create(at("patch.tar")).expect("make the patch");
    file.write_all(&patch.end()).expect("write it");
    Packing::Pigz.pack(&at("patch.tar"), &at("patch"));
    let disk = OnDisk::new(&at("base"), at("disk"));
    disk.layer(&at("patch"), &["07/07"]);
    let (fs, notes) = serve(&[at("base"), at("patch")], &[]);
    assert_eq!(notes, [""; 0]);
    assert_same("ten thousand", &disk.0, &fs);
}
