//! A mounted archive is what GNU tar makes of it on a disk: every entry, every
//! attribute, every byte, whatever the archive's dialect and compression.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use common::archive::{Packing, tar, untar};
use common::mount::Mount;
use common::synthetic::{Format, build};
use common::tree::{Tree, assert_same, tree};

/// The archive's owners as they are, whoever they are.
const AS_IS: [&str; 3] = ["--owner", "keep", "--i-know"];

/// An archive and what tar unpacks it to.
struct Unpacked {
    dir: tempfile::TempDir,
    tar: PathBuf,
    expected: PathBuf,
}

impl Unpacked {
    fn new(make: impl FnOnce(&Path, &Path)) -> Self {
        common::need_real_mounts();
        let dir = common::temp_dir();
        let (tar, expected) = (dir.path().join("plain"), dir.path().join("expected"));
        fs::create_dir(&expected).expect("make a directory");
        make(dir.path(), &tar);
        untar(&tar, &expected);
        Self { dir, tar, expected }
    }

    fn synthetic(format: Format) -> Self {
        Self::new(|dir, archive| {
            let original = dir.join("original");
            fs::create_dir(&original).expect("make a directory");
            build(&original, format);
            tar(&original, archive, format.options());
        })
    }

    fn debian() -> Self {
        Self::new(|_, archive| {
            std::os::unix::fs::symlink(common::archive::debian_tar(), archive)
                .expect("link the image");
        })
    }

    /// Asserts that the archive, packed in each way, mounts to what it unpacks
    /// to. The name says nothing about the packing: content decides.
    fn assert_equal_when_packed(&self, what: &str) {
        let archive = self.dir.path().join("image");
        for packing in Packing::ALL {
            packing.pack(&self.tar, &archive);
            let what = format!("{what}, {packing:?}");
            // Every way once with device nodes shown.
            self.assert_equal(
                &what,
                &archive,
                ["--devices"].into_iter().chain(AS_IS),
                |_| {},
            );
        }
    }

    fn assert_equal<S: AsRef<OsStr>>(
        &self,
        what: &str,
        archive: &Path,
        options: impl IntoIterator<Item = S>,
        adjust: impl FnOnce(&mut Tree),
    ) {
        let mount = Mount::new(archive, options);
        assert_same(what, &self.expected, mount.path(), adjust);
        mount.end();
        println!("{what}: equal");
    }
}

#[test]
fn a_pax_archive_is_what_tar_makes_of_it() {
    Unpacked::synthetic(Format::Pax).assert_equal_when_packed("pax");
}

#[test]
fn a_gnu_archive_is_what_tar_makes_of_it() {
    Unpacked::synthetic(Format::Gnu).assert_equal_when_packed("gnu");
}

#[test]
fn a_ustar_archive_is_what_tar_makes_of_it() {
    Unpacked::synthetic(Format::Ustar).assert_equal_when_packed("ustar");
}

#[test]
fn a_debian_is_what_tar_makes_of_it() {
    Unpacked::debian().assert_equal_when_packed("Debian");
}

/// The tree has what the comparison is for: without it, equal means nothing.
#[test]
fn the_synthetic_tree_holds_one_of_everything() {
    let unpacked = Unpacked::synthetic(Format::Pax);
    let tree = tree(&unpacked.expected);
    let any = |what: &str, has: &dyn Fn(&common::tree::Node) -> bool| {
        assert!(tree.values().any(has), "no {what}");
    };
    any("attributes", &|n| n.xattrs.len() == 5);
    any("capability", &|n| {
        n.xattrs.contains_key(OsStr::new("security.capability"))
    });
    any("inode with three names", &|n| {
        n.links == 3 && n.mode & libc::S_IFMT == libc::S_IFREG
    });
    any("set-user-id bit", &|n| n.mode & 0o7777 == 0o4755);
    any("nanosecond", &|n| n.mtime.1 % 1000 == 999);
    any("time before 1970", &|n| n.mtime == (-1, 500_000_000));
    any("large owner", &|n| n.owner.0 == 3_000_000_000);
    any("device", &common::tree::Node::is_device);
    any("long target", &|n| {
        n.target
            .as_ref()
            .is_some_and(|t| t.as_os_str().len() == 4_000)
    });
    assert!(
        tree.keys().any(|name| name.as_os_str().len() > 2_000),
        "no deep path"
    );
}

/// What an archive calls a device is no device in the mount.
#[test]
fn device_nodes_are_left_out_unless_asked_for() {
    let unpacked = Unpacked::synthetic(Format::Gnu);
    unpacked.assert_equal("no devices", &unpacked.tar, AS_IS, |expected| {
        let before = expected.len();
        expected.retain(|_, node| !node.is_device());
        assert_eq!(before - expected.len(), 2);
    });
}

#[test]
fn owners_are_those_that_were_asked_for() {
    let unpacked = Unpacked::synthetic(Format::Pax);
    // A capability would grant what the change of owner takes away.
    let squashed = |owner| {
        move |expected: &mut Tree| {
            for node in expected.values_mut() {
                node.owner = owner;
                node.xattrs.remove(OsStr::new("security.capability"));
            }
        }
    };
    let options = ["--devices", "--owner", "30001:30002"];
    unpacked.assert_equal(
        "asked for",
        &unpacked.tar,
        options,
        squashed((30_001, 30_002)),
    );
    std::os::unix::fs::chown(&unpacked.tar, Some(30_003), Some(30_004)).expect("change the owner");
    unpacked.assert_equal(
        "the file's",
        &unpacked.tar,
        ["--devices"],
        squashed((30_003, 30_004)),
    );
}
