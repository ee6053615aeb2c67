//! No container changes what another reads, nor the image: everything that a
//! container can do to its view, in each mode, also after its launcher took flags
//! of the mount away (`mount(none, VIEW, MS_REMOUNT|MS_NOSUID)`).

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::archive::{debian_tar, untar};
use common::mapping::{Mapping, drop_caches};
use common::mount::Mount;
use common::program::{distrofs, run};
use common::tree::{Node, tree};
use common::view::{STORAGE, Views, as_user, dir, file, open, sh_as};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mm::ProtFlags;
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{Signal, kill_process};

const A: u32 = 30_001;
const B: u32 = 30_002;

/// Writable places with everything in them, and what is not writable.
fn image(tree: &Path) {
    for place in ["tmp", "srv/open"] {
        dir(&tree.join(place), 0o1777);
        file(
            &tree.join(place).join("file"),
            0o666,
            b"file of the image\n",
        );
        file(
            &tree.join(place).join("other"),
            0o666,
            b"other of the image\n",
        );
        file(
            &tree.join(place).join("private"),
            0o600,
            b"private of the image\n",
        );
        fs::hard_link(tree.join(place).join("file"), tree.join(place).join("hard")).expect("link");
        dir(&tree.join(place).join("below"), 0o777);
        file(
            &tree.join(place).join("below/deep"),
            0o666,
            b"deep in the image\n",
        );
        dir(&tree.join(place).join("empty"), 0o777);
    }
    file(&tree.join("var/state"), 0o666, b"state of the image\n");
    file(&tree.join("etc/conf"), 0o644, b"conf of the image\n");
    dir(&tree.join("home/dir"), 0o755);
}

/// All that can be seen of a tree, contents included.
fn everything(root: &Path) -> BTreeMap<PathBuf, (Node, Vec<u8>)> {
    let content = |name: &PathBuf, node: &Node| match node.mode & libc::S_IFMT {
        libc::S_IFREG => fs::read(root.join(name)).expect("read a file"),
        _ => Vec::new(),
    };
    let all = tree(root).into_iter();
    all.map(|(name, node)| {
        let bytes = content(&name, &node);
        (name, (node, bytes))
    })
    .collect()
}

/// Something done below the root of a view, by paths that do not begin with `/`.
type Change = (&'static str, fn(BorrowedFd<'_>) -> Result<(), Errno>);

fn opened(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::openat(root, path, flags | OFlags::CLOEXEC, mode)
}

fn wrote(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<(), Errno> {
    let fd = opened(root, path, OFlags::WRONLY | flags)?;
    rustix::io::pwrite(&fd, b"changed", 0).map(drop)?;
    rustix::fs::fsync(&fd)
}

/// A store through a shared mapping.
fn stored(root: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let file = File::from(opened(root, path, OFlags::RDWR)?);
    let map =
        |prot| Mapping::new(&file, prot).map_err(|e| Errno::from_io_error(&e).expect("errno"));
    let mapping = map(ProtFlags::READ | ProtFlags::WRITE)?;
    mapping.store_first(b'X');
    common::attempt(mapping.sync());
    Ok(())
}

/// What may be done where everybody may write; in this order all can be.
const CHANGES: &[Change] = &[
    ("create", |r| {
        wrote(r, "tmp/new", OFlags::CREATE | OFlags::EXCL)
    }),
    ("write", |r| wrote(r, "tmp/other", OFlags::empty())),
    ("write to one name of two", |r| {
        wrote(r, "tmp/hard", OFlags::empty())
    }),
    ("append", |r| wrote(r, "tmp/below/deep", OFlags::APPEND)),
    ("truncate", |r| {
        opened(r, "srv/open/other", OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    ("store", |r| stored(r, "srv/open/file")),
    ("store to a single file", |r| stored(r, "var/state")),
    ("write to a single file", |r| {
        wrote(r, "var/state", OFlags::empty())
    }),
    ("hard link", |r| {
        rustix::fs::linkat(r, "tmp/other", r, "tmp/linked", AtFlags::empty())
    }),
    ("mkdir", |r| rustix::fs::mkdirat(r, "tmp/made", Mode::RWXU)),
    ("symbolic link", |r| {
        rustix::fs::symlinkat("/etc/conf", r, "tmp/made/link")
    }),
    ("fifo", |r| {
        rustix::fs::mknodat(r, "tmp/made/fifo", FileType::Fifo, Mode::RWXU, 0)
    }),
    ("rename", |r| {
        rustix::fs::renameat(r, "tmp/new", r, "tmp/made/renamed")
    }),
    ("unlink in a directory of the image", |r| {
        rustix::fs::unlinkat(r, "srv/open/below/deep", AtFlags::empty())
    }),
    ("create in a directory of the image", |r| {
        wrote(r, "srv/open/below/deep", OFlags::CREATE | OFlags::EXCL)
    }),
];

/// What takes being the owner, or root.
const CHANGES_OF_OWNER: &[Change] = &[
    ("chmod", |r| {
        rustix::fs::chmodat(r, "tmp/file", Mode::RWXU, AtFlags::empty())
    }),
    ("setxattr", |r| {
        let fd = opened(r, "tmp/file", OFlags::RDONLY)?;
        rustix::fs::fsetxattr(&fd, "user.new", b"1", XattrFlags::empty())
    }),
    ("unlink", |r| {
        rustix::fs::unlinkat(r, "srv/open/hard", AtFlags::empty())
    }),
    ("rename over another", |r| {
        rustix::fs::renameat(r, "tmp/file", r, "tmp/other")
    }),
    ("rename of a directory", |r| {
        rustix::fs::renameat(r, "tmp/below", r, "tmp/moved")
    }),
    ("exchange", |r| {
        let (one, other) = ("srv/open/below", "srv/open/empty");
        rustix::fs::renameat_with(r, one, r, other, RenameFlags::EXCHANGE)
    }),
    ("rmdir", |r| {
        rustix::fs::unlinkat(r, "tmp/empty", AtFlags::REMOVEDIR)
    }),
    ("remove a directory of the image", |r| {
        rustix::fs::unlinkat(r, "tmp/moved/deep", AtFlags::empty())?;
        rustix::fs::unlinkat(r, "tmp/moved", AtFlags::REMOVEDIR)
    }),
];

/// What nobody may do outside of the writable places.
const FORBIDDEN: &[Change] = &[
    ("create", |r| {
        wrote(r, "etc/new", OFlags::CREATE | OFlags::EXCL)
    }),
    ("create in the root", |r| wrote(r, "new", OFlags::CREATE)),
    ("write", |r| wrote(r, "etc/conf", OFlags::empty())),
    ("truncate", |r| {
        opened(r, "etc/conf", OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    ("store", |r| stored(r, "etc/conf")),
    ("mkdir", |r| rustix::fs::mkdirat(r, "home/new", Mode::RWXU)),
    ("unlink", |r| {
        rustix::fs::unlinkat(r, "etc/conf", AtFlags::empty())
    }),
    ("rmdir", |r| {
        rustix::fs::unlinkat(r, "home/dir", AtFlags::REMOVEDIR)
    }),
    ("rename", |r| {
        rustix::fs::renameat(r, "etc/conf", r, "etc/moved")
    }),
    ("rename of a directory", |r| {
        rustix::fs::renameat(r, "home/dir", r, "home/moved")
    }),
    ("hard link", |r| {
        rustix::fs::linkat(r, "etc/conf", r, "etc/linked", AtFlags::empty())
    }),
    ("symbolic link", |r| {
        rustix::fs::symlinkat("x", r, "srv/link")
    }),
    ("device", |r| {
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(r, "home/null", FileType::CharacterDevice, Mode::RWXU, null)
    }),
    ("chmod", |r| {
        rustix::fs::chmodat(r, "etc/conf", Mode::RWXU, AtFlags::empty())
    }),
    ("chmod of the root", |r| {
        rustix::fs::chmodat(r, ".", Mode::RWXU, AtFlags::empty())
    }),
    ("chmod above a place", |r| {
        rustix::fs::chmodat(r, "srv", Mode::RWXU, AtFlags::empty())
    }),
    ("setxattr", |r| {
        let fd = opened(r, "etc/conf", OFlags::RDONLY)?;
        rustix::fs::fsetxattr(&fd, "user.new", b"1", XattrFlags::empty())
    }),
    ("access", |r| {
        rustix::fs::accessat(r, "etc/conf", Access::WRITE_OK, AtFlags::empty())
    }),
];

/// What of these does not end as it should.
fn wrong(
    view: &Path,
    user: u32,
    changes: &[Change],
    expected: impl Fn(Result<(), Errno>) -> bool + Sync,
) -> Vec<String> {
    let root = open(view);
    as_user(user, || {
        let done = changes
            .iter()
            .map(|(name, change)| (name, change(root.as_fd())));
        let wrong = done.filter(|(_, result)| !expected(*result));
        wrong
            .map(|(name, result)| format!("{name} by {user}: {result:?}"))
            .collect()
    })
}

#[track_caller]
fn all_done(view: &Path, user: u32, changes: &[Change]) {
    let wrong = wrong(view, user, changes, |result| result.is_ok());
    assert!(
        wrong.is_empty(),
        "not done in {}: {wrong:#?}",
        view.display()
    );
}

#[track_caller]
fn all_refused(view: &Path, user: u32, changes: &[Change], expected: &[Errno]) {
    let refused = |result: Result<(), Errno>| result.is_err_and(|errno| expected.contains(&errno));
    let wrong = wrong(view, user, changes, refused);
    assert!(
        wrong.is_empty(),
        "not refused in {}: {wrong:#?}",
        view.display()
    );
}

/// Two containers' views of one image, and what is to stay as it was.
struct Pair {
    views: Views,
    mounted: Mount,
    a: PathBuf,
    b: PathBuf,
    before: BTreeMap<PathBuf, (Node, Vec<u8>)>,
}

impl Pair {
    fn new(mode: &str) -> Self {
        let views = Views::new();
        let archive = views.archive("image.tar", image);
        let mounted = Mount::new(&archive, ["--owner", "30000:30000"]);
        let options = ["--writable", mode];
        let a = views.up(mounted.path(), A, "a", &options);
        let b = views.up(mounted.path(), B, "b", &options);
        let before = everything(&b);
        assert_eq!(before.len(), 24, "{:?}", before.keys());
        Self {
            views,
            mounted,
            a,
            b,
            before,
        }
    }

    /// As launchers do it; the kernel may refuse.
    fn remount(&self) -> Result<(), Errno> {
        mount_remount(&self.a, MountFlags::NOSUID, c"")
    }

    /// Asserts that nobody but the first container sees a change.
    #[track_caller]
    fn assert_apart(&self) {
        for caches in ["as they are", "dropped"] {
            let image = everything(self.mounted.path());
            let b = everything(&self.b);
            for (name, seen) in &self.before {
                assert_eq!(b.get(name), Some(seen), "the other view, caches {caches}");
                let of_image = &image[name];
                assert_eq!(of_image.1, seen.1, "{} in the image", name.display());
                assert_eq!(
                    of_image.0.mode,
                    seen.0.mode,
                    "{} in the image",
                    name.display()
                );
            }
            assert_eq!(
                b.len(),
                self.before.len(),
                "the other view, caches {caches}"
            );
            assert_eq!(image.len(), self.before.len(), "the image, caches {caches}");
            drop_caches();
        }
    }

    #[track_caller]
    fn end(self) {
        for view in [&self.a, &self.b] {
            self.views.down(view).ok();
        }
        assert_eq!(
            self.mounted.stats().counters["refused_writes"],
            0,
            "a write came through"
        );
        self.mounted.end();
        self.views.assert_nothing_left();
    }
}

#[test]
fn paths_are_a_containers_own_and_all_else_is_nobodys() {
    let pair = Pair::new("paths");
    for user in [0, A, STORAGE] {
        all_refused(
            &pair.a,
            user,
            FORBIDDEN,
            if user == 0 {
                &[Errno::ROFS]
            } else {
                &[Errno::ROFS, Errno::ACCESS, Errno::PERM]
            },
        );
    }
    all_done(&pair.a, A, CHANGES);
    all_done(&pair.a, 0, CHANGES_OF_OWNER);
    pair.assert_apart();
    // A launcher that remounts gains nothing.
    println!("remounting: {:?}", pair.remount());
    common::attempt(mount_remount(pair.a.join("tmp"), MountFlags::NOSUID, c""));
    common::attempt(mount_remount(
        pair.a.join("var/state"),
        MountFlags::NOSUID,
        c"",
    ));
    all_refused(&pair.a, 0, FORBIDDEN, &[Errno::ROFS]);
    let stores: &[Change] = &[
        ("store", |r| stored(r, "srv/open/private")),
        ("store to a single file", |r| stored(r, "var/state")),
    ];
    all_done(&pair.a, 0, stores);
    // A place is a mount: it stays where it is.
    for user in [0, A] {
        let places: &[Change] = &[
            ("rename", |r| {
                rustix::fs::renameat(r, "tmp", r, "srv/open/tmp")
            }),
            ("unlink", |r| {
                rustix::fs::unlinkat(r, "var/state", AtFlags::empty())
            }),
            ("hard link out", |r| {
                rustix::fs::linkat(r, "var/state", r, "tmp/state", AtFlags::empty())
            }),
        ];
        let refused = [
            Errno::BUSY,
            Errno::XDEV,
            Errno::ROFS,
            Errno::ACCESS,
            Errno::PERM,
        ];
        all_refused(&pair.a, user, places, &refused);
    }
    pair.assert_apart();
    pair.end();
}

#[test]
fn a_tree_is_a_containers_own() {
    let pair = Pair::new("tree");
    all_done(&pair.a, A, CHANGES);
    let not_owner = [Errno::ACCESS, Errno::PERM];
    let refused: Vec<_> = FORBIDDEN
        .iter()
        .filter(|(name, _)| *name != "setxattr")
        .copied()
        .collect();
    all_refused(&pair.a, A, &refused, &not_owner);
    all_done(&pair.a, 0, CHANGES_OF_OWNER);
    pair.assert_apart();
    pair.remount().expect("a launcher can remount");
    let flags = rustix::fs::statvfs(&pair.a).expect("statvfs").f_flag;
    assert!(!flags.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    // Root stores into what no permission protects from it: its own copy.
    let stores: &[Change] = &[
        ("store", |r| stored(r, "etc/conf")),
        ("store in a place", |r| stored(r, "srv/open/private")),
        ("write", |r| wrote(r, "etc/conf", OFlags::empty())),
        ("rename", |r| rustix::fs::renameat(r, "etc", r, "moved")),
        ("remove", |r| {
            rustix::fs::unlinkat(r, "moved/conf", AtFlags::empty())
        }),
    ];
    all_done(&pair.a, 0, stores);
    all_refused(
        &pair.a,
        A,
        &[("store", |r| stored(r, "home/none"))],
        &[Errno::NOENT],
    );
    pair.assert_apart();
    // Nor is a mapping of the other container's changed, that was there before.
    let held = File::open(pair.b.join("tmp/file")).expect("open");
    let mapping = Mapping::new(&held, ProtFlags::READ).expect("map");
    assert_eq!(mapping.first(), b'f');
    let root = open(&pair.a);
    assert_eq!(stored(root.as_fd(), "tmp/hard"), Ok(()));
    assert_eq!(mapping.first(), b'f');
    drop((mapping, held, root));
    pair.end();
}

#[test]
fn nothing_is_nobodys() {
    let pair = Pair::new("none");
    for remounted in [false, true] {
        if remounted {
            println!("remounting: {:?}", pair.remount());
        }
        for changes in [FORBIDDEN, CHANGES, CHANGES_OF_OWNER] {
            let changes: Vec<_> = changes
                .iter()
                .filter(|(name, _)| *name != "remove a directory of the image")
                .copied()
                .collect();
            // What an earlier one was to make is not there, or to remove is.
            all_refused(
                &pair.a,
                0,
                &changes,
                &[Errno::ROFS, Errno::NOENT, Errno::EXIST],
            );
        }
        assert_eq!(everything(&pair.a), pair.before);
        pair.assert_apart();
    }
    pair.end();
}

/// A regular file that everybody may write, in a directory that nobody may: each
/// container has its own, with what it wrote, and with the attributes of the image's.
#[test]
fn a_single_writable_file_is_a_private_copy() {
    let pair = Pair::new("paths");
    let (of_image, copy) = (&pair.before[Path::new("var/state")], everything(&pair.a));
    assert_eq!(&copy[Path::new("var/state")], of_image);
    assert_eq!(
        of_image.0,
        everything(pair.mounted.path())[Path::new("var/state")].0
    );
    sh_as(A, &pair.a, "echo mine >var/state").ok();
    assert_eq!(
        fs::read_to_string(pair.a.join("var/state")).expect("read"),
        "mine\n"
    );
    pair.assert_apart();
    pair.views.down(&pair.a).ok();
    pair.views.up(pair.mounted.path(), A, "a", &[]);
    assert_eq!(
        fs::read_to_string(pair.a.join("var/state")).expect("read"),
        "mine\n"
    );
    pair.end();
}

/// With the user's lines a tree has a layer besides the image's. Neither the image
/// has a UUID nor, on some machines, the disk: with that layer on it the kernel gave
/// files other numbers after a copy-up.
#[test]
fn inode_numbers_stay() {
    for (mode, passwd) in [
        ("paths", false),
        ("tree", false),
        ("tree", true),
        ("paths", true),
    ] {
        let views = Views::new();
        let archive = views.archive("image.tar", image);
        let mounted = Mount::new(&archive, ["--owner", "30000:30000"]);
        let mut options = vec!["--writable", mode];
        options.extend(passwd.then_some("--passwd"));
        let view = views.up(mounted.path(), A, "a", &options);
        let names = [
            "tmp/private",
            "tmp/other",
            "srv/open/private",
            "tmp/below",
            "tmp/below/deep",
            "etc/conf",
        ];
        let numbers = || -> Vec<(&str, u64, u64)> {
            let number = |name| {
                let stat = fs::metadata(view.join(name)).expect("stat");
                (name, stat.ino(), stat.dev())
            };
            names.into_iter().map(number).collect()
        };
        let what = format!("{mode}, passwd {passwd}");
        let before = numbers();
        drop_caches();
        assert_eq!(numbers(), before, "{what}, caches dropped");
        for name in ["tmp/private", "tmp/other", "srv/open/private"] {
            fs::write(view.join(name), "changed").expect("write");
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(view.join("tmp/below"), mode).expect("chmod");
        assert_eq!(numbers(), before, "{what}, copied up");
        drop_caches();
        assert_eq!(numbers(), before, "{what}, copied up, caches dropped");
        // A directory of the image can be renamed, and what is in it stays.
        fs::rename(view.join("tmp/below"), view.join("tmp/moved")).expect("rename a directory");
        let deep = view.join("tmp/moved/deep");
        assert_eq!(
            fs::read(&deep).expect("read"),
            b"deep in the image\n",
            "{what}"
        );
        assert_eq!(
            fs::metadata(&deep).expect("stat").ino(),
            before[4].1,
            "{what}"
        );
        drop_caches();
        assert_eq!(
            fs::metadata(&deep).expect("stat").ino(),
            before[4].1,
            "{what}"
        );
        // Also over an end of the view.
        let file = fs::metadata(view.join("tmp/private")).expect("stat").ino();
        views.down(&view).ok();
        views.up(mounted.path(), A, "a", &options);
        assert_eq!(
            fs::metadata(view.join("tmp/private")).expect("stat").ino(),
            file,
            "{what}"
        );
        assert_eq!(
            fs::read(&deep).expect("read"),
            b"deep in the image\n",
            "{what}"
        );
        views.down(&view).ok();
        mounted.end();
        views.assert_nothing_left();
    }
}

#[test]
fn a_synced_write_survives_the_daemon() {
    let views = Views::new();
    let archive = views.archive("image.tar", image);
    for mode in ["paths", "tree"] {
        let options = ["--writable", mode];
        let container = if mode == "paths" { A } else { B };
        let view = views.up(&archive, container, "a", &options);
        let root = open(&view);
        as_user(container, || wrote(root.as_fd(), "tmp/other", OFlags::SYNC)).expect("write");
        let write_after_death = || {
            let fd = opened(root.as_fd(), "tmp/new", OFlags::CREATE | OFlags::WRONLY)?;
            rustix::io::write(&fd, b"while it was dead")?;
            rustix::fs::fsync(&fd)
        };
        as_user(container, write_after_death).expect("write");
        for daemon in views.daemons() {
            kill_process(daemon, Signal::KILL).expect("kill the daemon");
        }
        drop(root);
        // The start after that says that the one before was not ended.
        let mut command = views.up_command(&archive, container, "a");
        run(command.args(options)).refused(1, &["is a view already"]);
        views.down(&view).ok();
        views.up(&archive, container, "a", &options);
        let other = fs::read_to_string(view.join("tmp/other")).expect("read");
        assert_eq!(other, "changedf the image\n", "{mode}");
        assert_eq!(
            fs::read(view.join("tmp/new")).expect("read"),
            b"while it was dead"
        );
        views.down(&view).ok();
    }
    views.assert_nothing_left();
}

/// The demo's Debian as it was exploded by the user who keeps images, and as a
/// view: whoever else may do the same to both.
#[test]
fn a_tree_lets_a_container_write_where_the_exploded_image_does() {
    let views = Views::new();
    let archive = debian_tar();
    let exploded = views.path().join("exploded");
    dir(&exploded, 0o755);
    untar(&archive, &exploded);
    let mut chown = std::process::Command::new("chown");
    run(chown.args(["-Rh", "30000:30000"]).arg(&exploded)).ok();
    let index = views.path().join("index");
    let mounted = Mount::new(
        &archive,
        [
            "--index".as_ref(),
            index.as_os_str(),
            "--owner".as_ref(),
            "30000:30000".as_ref(),
        ],
    );
    let view = views.up(mounted.path(), A, "a", &["--writable", "tree"]);
    let paths = views.up(mounted.path(), B, "b", &["--writable", "paths"]);
    let names: Vec<_> = tree(&exploded)
        .into_iter()
        .filter(|(_, node)| {
            let is_link = node.mode & libc::S_IFMT == libc::S_IFLNK;
            !is_link && !node.is_device()
        })
        .collect();
    let [one, other, strict] = [open(&exploded), open(&view), open(&paths)];
    let may = |root: &File, name: &Path, access| {
        let name = if name == Path::new("") {
            Path::new(".")
        } else {
            name
        };
        rustix::fs::accessat(root, name, access, AtFlags::empty())
    };
    let (mut writable, mut denied) = (0, 0);
    as_user(A, || {
        for (name, node) in &names {
            for access in [Access::WRITE_OK, Access::READ_OK, Access::EXEC_OK] {
                let expected = may(&one, name, access);
                let seen = may(&other, name, access);
                assert_eq!(seen, expected, "{access:?} {} {node:?}", name.display());
                if access == Access::WRITE_OK {
                    *(if expected.is_ok() {
                        &mut writable
                    } else {
                        &mut denied
                    }) += 1;
                    // The strict mode lets nobody write more than that, and writes
                    // to all that the permissions of which say so to everybody.
                    let seen = may(&strict, name, access);
                    assert_eq!(seen.is_ok(), expected.is_ok(), "paths: {}", name.display());
                }
            }
        }
    });
    println!("{writable} writable, {denied} not");
    assert!(
        writable >= 3 && denied > 5000,
        "{writable} writable, {denied} not"
    );
    drop((one, other, strict));
    for view in [&view, &paths] {
        views.down(view).ok();
    }
    mounted.end();
    views.assert_nothing_left();
}

/// The whole of it again for views of a user who knows the command line only.
#[test]
fn without_options_a_view_is_strict() {
    let views = Views::new();
    let archive = views.archive("image.tar", image);
    let mut command = distrofs(["view", "up", "--container", "30001", "--image"]);
    command.arg(&archive).arg("--at").arg(views.at("a"));
    run(command.arg("--state").arg(views.state())).ok();
    assert_eq!(views.list()[0]["writable"], "paths");
    all_refused(&views.at("a"), 0, FORBIDDEN, &[Errno::ROFS]);
    views.down(&views.at("a")).ok();
    views.assert_nothing_left();
}
