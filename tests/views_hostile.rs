//! Images and containers that mean harm: what an image says leads to nothing
//! outside of its view, and what a container does to what it may write is its own
//! matter, until it is removed.

mod common;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::archive::tar;
use common::mount::Mount;
use common::program::{distrofs, run};
use common::tree::tree;
use common::view::{STORAGE, Views, as_user, dir, file, open, sh_as};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

const A: u32 = 30_001;
const MODES: [&str; 3] = ["paths", "tree", "none"];

/// Opens a path as a process does whose root the view is.
fn within(view: &Path, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    below(open(view).as_fd(), path, flags)
}

/// The same of a view that is open.
fn below(view: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(if flags.contains(OFlags::CREATE) {
        0o644
    } else {
        0
    });
    let flags = flags | OFlags::CLOEXEC;
    loop {
        // Somebody mounted something meanwhile, anywhere.
        match rustix::fs::openat2(view, path, flags, mode, ResolveFlags::IN_ROOT) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// Mounts within a view, without the view itself.
fn mounts_in(views: &Views, view: &Path) -> Vec<PathBuf> {
    let mut mounts = views.mounts();
    mounts.retain(|at| at.starts_with(view) && at != view);
    mounts
}

/// Where everybody writes is a link to where only the host's root may.
#[test]
fn links_in_place_of_writable_directories_lead_nowhere() {
    let views = Views::new();
    let outside = views.path().join("outside");
    dir(&outside, 0o777);
    let image = views.archive("image.tar", |tree| {
        file(&tree.join("etc/conf"), 0o644, b"conf of the image\n");
        dir(&tree.join("open"), 0o777);
        symlink("/etc", tree.join("tmp")).expect("link");
        dir(&tree.join("var"), 0o755);
        symlink("../../..", tree.join("var/tmp")).expect("link");
        symlink(&outside, tree.join("var/out")).expect("link");
        symlink("loop", tree.join("loop")).expect("link");
        symlink("open", tree.join("to-open")).expect("link");
    });
    for mode in MODES {
        let view = views.up(&image, A, "a", &["--writable", mode]);
        let expected = if mode == "paths" {
            vec![view.join("open")]
        } else {
            Vec::new()
        };
        assert_eq!(mounts_in(&views, &view), expected, "{mode}");
        assert_eq!(
            fs::read_link(view.join("tmp")).expect("a link"),
            Path::new("/etc")
        );
        let create = OFlags::CREATE | OFlags::WRONLY;
        let root = open(&view);
        for name in ["tmp/new", "tmp/conf", "var/tmp/new", "etc/conf"] {
            let made = as_user(A, || below(root.as_fd(), name, create));
            assert!(
                matches!(made, Err(Errno::ROFS | Errno::ACCESS)),
                "{mode} {name}: {made:?}"
            );
        }
        drop(root);
        assert_eq!(
            within(&view, "var/out/new", create).map(drop),
            Err(Errno::NOENT)
        );
        assert_eq!(within(&view, "to-open/new", create).is_ok(), mode != "none");
        views.down(&view).ok();
    }
    assert_eq!(fs::read_dir(&outside).expect("read").count(), 0);
    views.assert_nothing_left();
}

/// The archive has the directory first, with something in it, and then a link of
/// the same name; and the other way round.
#[test]
fn directories_that_become_links_are_not_places() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        dir(&tree.join("tmp/below"), 0o777);
        dir(&tree.join("tmp"), 0o777);
        symlink("/etc", tree.join("dir")).expect("link");
    });
    let second = views.path().join("second");
    dir(&second, 0o755);
    symlink("/etc", second.join("tmp")).expect("link");
    dir(&second.join("dir"), 0o777);
    let mut append = Command::new("tar");
    append
        .arg("-rf")
        .arg(&image)
        .arg("-C")
        .arg(&second)
        .args(["./tmp", "./dir"]);
    run(&mut append).ok();
    let view = views.up(&image, A, "a", &[]);
    let is_link = |name: &str| {
        view.join(name)
            .symlink_metadata()
            .expect("stat")
            .is_symlink()
    };
    let mut expected: Vec<_> = ["tmp", "dir"]
        .into_iter()
        .filter(|name| !is_link(name))
        .collect();
    expected.sort_unstable();
    let mut mounts = mounts_in(&views, &view);
    mounts.sort();
    assert_eq!(
        mounts,
        expected
            .iter()
            .map(|name| view.join(name))
            .collect::<Vec<_>>()
    );
    for name in ["tmp", "dir"] {
        let made = within(
            &view,
            &format!("{name}/new"),
            OFlags::CREATE | OFlags::WRONLY,
        );
        assert_eq!(made.is_err(), is_link(name), "{name}");
    }
    views.down(&view).ok();
    views.assert_nothing_left();
}

#[test]
fn places_have_any_name() {
    let long = "n".repeat(255);
    let mut names: Vec<OsString> = [
        "a:b,c\\d",
        " ",
        "-rf",
        "new\nline",
        "\\072",
        "%s",
        "*",
        "a=b",
        "/",
    ]
    .into_iter()
    .filter(|name| *name != "/")
    .map(OsString::from)
    .collect();
    names.push(long.clone().into());
    names.push(OsString::from_vec(b"\xff\xfe".to_vec()));
    names.push(format!("x/{long}/{long}/{long}/y").into());
    let views = Views::new();
    let image = views.archive("a:b,c\\d.tar", |tree| {
        for name in &names {
            dir(&tree.join(name), 0o777);
            file(&tree.join(name).join("file"), 0o666, b"of the image");
            file(&tree.join("single").join(name), 0o666, b"of the image");
        }
    });
    for mode in ["paths", "tree"] {
        for round in ["first", "second"] {
            // Of a directory that is named like options, too.
            let view = views.up(&image, A, "x:y,z\\w", &["--writable", mode]);
            for name in &names {
                let (place, single) = (view.join(name), view.join("single").join(name));
                if round == "first" {
                    assert_eq!(read(&place.join("file")), "of the image", "{name:?}");
                    assert_eq!(read(&single), "of the image", "{name:?}");
                    let root = open(&place);
                    let (file, single) = (root.as_fd(), File::options().write(true).open(&single));
                    let single = single.expect("open");
                    as_user(A, || {
                        let flags = OFlags::WRONLY | OFlags::TRUNC;
                        let fd = rustix::fs::openat(file, "file", flags, Mode::empty())?;
                        rustix::io::write(fd, b"mine")?;
                        rustix::io::pwrite(&single, b"mine", 0)
                    })
                    .expect("write");
                } else {
                    assert_eq!(read(&place.join("file")), "mine", "{name:?}");
                    assert_eq!(read(&single), "minehe image", "{name:?}");
                }
            }
            views.down(&view).ok();
        }
    }
    views.assert_nothing_left();
}

#[test]
fn an_image_of_which_all_is_writable_is_a_tree() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        dir(tree, 0o777);
        file(&tree.join("etc/conf"), 0o644, b"conf");
        dir(&tree.join("tmp"), 0o1777);
    });
    let said = views.try_up(&image, A, "a", &["--writable", "paths"]).ok();
    assert!(
        said.stderr.contains("everybody may write to the root"),
        "{said:?}"
    );
    assert_eq!(views.list()[0]["writable"], "tree");
    let view = views.at("a");
    sh_as(A, &view, "echo x >new; echo y >tmp/new; ! echo z >etc/conf").ok();
    assert!(mounts_in(&views, &view).is_empty());
    // In another container's there is nothing of it.
    let other = views.up(&image, 30_002, "b", &[]);
    assert!(!other.join("new").exists() && !other.join("tmp/new").exists());
    for view in [&view, &other] {
        views.down(view).ok();
    }
    // What may not be written may not.
    let said = views
        .try_up(&image, 30_003, "a", &["--writable", "none"])
        .ok();
    assert_eq!(said.stderr, "");
    assert!(
        fs::write(view.join("new"), "x").is_err_and(|e| e.kind() == ErrorKind::ReadOnlyFilesystem)
    );
    views.down(&view).ok();
    views.assert_nothing_left();
}

#[test]
fn more_places_than_a_view_may_have_are_counted() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        for n in 0..9_000 {
            dir(&tree.join(format!("srv/many/{n}")), 0o777);
        }
        for n in 0..997 {
            file(&tree.join(format!("var/some/{n}")), 0o666, b"x");
        }
        for name in ["a", "b", "c"] {
            dir(&tree.join(name), 0o777);
        }
    });
    let said = views.try_up(&image, A, "a", &[]);
    said.refused(
        1,
        &[
            "10000 places",
            "128",
            "9000 in /srv/many",
            "997 in /var/some",
            "3 in /",
            "--writable tree",
        ],
    );
    views.assert_nothing_left();
    let view = views.up(&image, A, "a", &["--writable", "tree"]);
    sh_as(
        A,
        &view,
        "echo x >srv/many/8999/x; echo y >var/some/996; echo z >a/z",
    )
    .ok();
    views.down(&view).ok();
    let view = views.up(&image, A, "a", &["--writable", "none"]);
    views.down(&view).ok();
    views.assert_nothing_left();
}

#[test]
fn a_view_has_as_many_places_as_it_may() {
    let views = Views::new();
    for count in [128, 129] {
        let name = format!("{count}.tar");
        let image = views.archive(&name, |tree| {
            for n in 0..count {
                dir(&tree.join(format!("{n}")), 0o777);
            }
        });
        let made = views.try_up(&image, A, "a", &[]);
        if count == 129 {
            made.refused(1, &["129 places"]);
            continue;
        }
        made.ok();
        assert_eq!(mounts_in(&views, &views.at("a")).len(), 128);
        sh_as(
            A,
            &views.at("a"),
            "for place in *; do echo x >$place/x; done",
        )
        .ok();
        views.down(&views.at("a")).ok();
    }
    views.assert_nothing_left();
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n";

#[test]
fn a_containers_lines_are_in_its_view_alone() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        file(&tree.join("etc/passwd"), 0o644, PASSWD.as_bytes());
        file(&tree.join("etc/group"), 0o644, b"root:x:0:");
        file(
            &tree.join("etc/shadow"),
            0o640,
            b"root:*:19000:0:99999:7:::\n",
        );
        file(&tree.join("etc/other"), 0o600, b"other");
        dir(&tree.join("tmp"), 0o1777);
    });
    let mounted = Mount::new(&image, ["--owner", "30000:30000"]);
    let before = tree(mounted.path());
    for mode in MODES {
        let view = views.up(mounted.path(), A, "a", &["--passwd", "--writable", mode]);
        let other = views.up(
            mounted.path(),
            30_002,
            "b",
            &["--passwd", "--writable", mode],
        );
        let without = views.up(mounted.path(), 30_003, "c", &["--writable", mode]);
        for (uid, view) in [(A, &view), (30_002, &other)] {
            let line = format!("{PASSWD}{uid}:x:{uid}:{uid}:{uid}:/containers/{uid}:/bin/bash\n");
            assert_eq!(read(&view.join("etc/passwd")), line, "{mode}");
            assert_eq!(
                read(&view.join("etc/group")),
                format!("root:x:0:\n{uid}:x:{uid}:\n")
            );
            let shadow = read(&view.join("etc/shadow"));
            let (root, line) = shadow.split_once('\n').expect("two lines");
            assert_eq!(root, "root:*:19000:0:99999:7:::");
            assert!(line.starts_with(&format!("{uid}:!:")), "{shadow}");
            assert_eq!(line.matches(':').count(), 8, "{shadow}");
            assert_eq!(read(&view.join("etc/other")), "other");
            for (name, mode) in [("passwd", 0o644), ("group", 0o644), ("shadow", 0o640)] {
                let stat = fs::metadata(view.join("etc").join(name)).expect("stat");
                assert_eq!(
                    (stat.mode() & 0o7777, stat.uid()),
                    (mode, STORAGE),
                    "{name}"
                );
            }
            let etc = fs::metadata(view.join("etc")).expect("stat");
            assert_eq!((etc.mode() & 0o7777, etc.uid()), (0o755, STORAGE));
        }
        assert_eq!(read(&without.join("etc/passwd")), PASSWD);
        for view in [&view, &other, &without] {
            views.down(view).ok();
        }
        // The next start says anew whether they are there.
        views.up(mounted.path(), A, "a", &["--writable", mode]);
        assert_eq!(read(&view.join("etc/passwd")), PASSWD, "{mode}");
        views.down(&view).ok();
    }
    assert_eq!(tree(mounted.path()), before);
    assert_eq!(read(&mounted.path().join("etc/passwd")), PASSWD);
    mounted.end();
    views.assert_nothing_left();
}

/// Nothing is made of what leads elsewhere, or is of a wrong kind.
#[test]
fn lines_are_added_to_no_link() {
    let secret = || fs::read_to_string("/etc/passwd").expect("read the host's");
    let before = secret();
    type Prepare = fn(&Path);
    let images: [(&str, &str, Prepare); 6] = [
        ("passwd", "/etc/passwd is a symbolic link", |etc| {
            symlink("/etc/passwd", etc.join("passwd")).expect("link");
        }),
        ("shadow", "/etc/shadow is a symbolic link", |etc| {
            file(&etc.join("passwd"), 0o644, PASSWD.as_bytes());
            symlink("../../../../../../etc/shadow", etc.join("shadow")).expect("link");
        }),
        ("dangling", "/etc/group is a symbolic link", |etc| {
            symlink("none", etc.join("group")).expect("link");
        }),
        ("fifo", "/etc/passwd is no regular file", |etc| {
            let fifo = etc.join("passwd");
            rustix::fs::mknodat(rustix::fs::CWD, fifo, FileType::Fifo, Mode::RWXU, 0)
                .expect("mkfifo");
        }),
        ("directory", "/etc/group is no regular file", |etc| {
            dir(&etc.join("group"), 0o777)
        }),
        ("etc", "/etc is a symbolic link", |etc| {
            fs::remove_dir(etc).expect("remove");
            symlink("/etc", etc).expect("link");
        }),
    ];
    let views = Views::new();
    for (name, why, prepare) in images {
        let image = views.archive(&format!("{name}.tar"), |tree| {
            dir(&tree.join("etc"), 0o755);
            dir(&tree.join("tmp"), 0o1777);
            prepare(&tree.join("etc"));
        });
        for mode in MODES {
            let said = views
                .try_up(&image, A, "a", &["--passwd", "--writable", mode])
                .ok();
            assert!(
                said.stderr.contains("--passwd") && said.stderr.contains(why),
                "{name}: {said:?}"
            );
            let view = views.at("a");
            let found = within(&view, "etc/passwd", OFlags::RDONLY | OFlags::NONBLOCK);
            if let Ok(fd) = found {
                let text = std::io::read_to_string(File::from(fd)).unwrap_or_default();
                assert!(
                    !text.contains("30001") && text.len() <= PASSWD.len(),
                    "{name}: {text}"
                );
            }
            views.down(&view).ok();
        }
    }
    assert_eq!(secret(), before);
    views.assert_nothing_left();
}

/// A file of accounts that everybody may write is a private copy, and has the lines
/// too.
#[test]
fn lines_are_added_to_what_everybody_may_write() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        file(&tree.join("etc/passwd"), 0o666, PASSWD.as_bytes());
    });
    for mode in ["paths", "tree"] {
        let container = if mode == "paths" { A } else { 30_002 };
        let said = views
            .try_up(&image, container, "a", &["--passwd", "--writable", mode])
            .ok();
        assert_eq!(said.stderr, "");
        let view = views.at("a");
        let passwd = read(&view.join("etc/passwd"));
        assert!(
            passwd.contains(&format!("{container}:x:{container}:")),
            "{mode}: {passwd}"
        );
        sh_as(container, &view, "echo mine >>etc/passwd").ok();
        views.down(&view).ok();
        views.up(&image, container, "a", &["--passwd", "--writable", mode]);
        assert_eq!(read(&view.join("etc/passwd")), format!("{passwd}mine\n"));
        views.down(&view).ok();
    }
    views.assert_nothing_left();
}

/// A hole takes no room in an archive; a private copy of it would fill the host.
#[test]
fn endless_files_are_not_copied() {
    let views = Views::new();
    let tree = views.path().join("tree");
    dir(&tree.join("tmp"), 0o1777);
    file(&tree.join("var/endless"), 0o666, b"");
    let endless = File::options()
        .write(true)
        .open(tree.join("var/endless"))
        .expect("open");
    endless.set_len(1 << 40).expect("make a hole");
    let image = views.path().join("image.tar");
    tar(&tree, &image, &["--format=pax", "--sparse"]);
    // So that a copy would fill nothing but this.
    views.keep_state_in_memory(c"size=16m,mode=700");
    views
        .try_up(&image, A, "a", &[])
        .refused(1, &["/var/endless", "--writable tree", "chmod o-w"]);
    assert_eq!(views.mounts(), [views.state()]);
    let view = views.up(&image, A, "a", &["--writable", "tree"]);
    assert_eq!(
        fs::metadata(view.join("var/endless")).expect("stat").len(),
        1 << 40
    );
    views.down(&view).ok();
    unmount(views.state(), UnmountFlags::DETACH).expect("unmount");
    views.assert_nothing_left();
}

/// What overlays keep in attributes of their upper layers means nothing in an image.
#[test]
fn attributes_of_overlays_in_an_image_mean_nothing() {
    let views = Views::new();
    let tree = views.path().join("tree");
    file(&tree.join("tmp/evil/own"), 0o644, b"own");
    file(&tree.join("etc/passwd"), 0o644, PASSWD.as_bytes());
    file(&tree.join("etc/secret"), 0o644, b"secret");
    dir(&tree.join("tmp"), 0o1777);
    for prefix in ["trusted", "user"] {
        for (path, name, value) in [
            ("tmp/evil", "redirect", &b"/etc"[..]),
            ("tmp/evil", "opaque", b"y"),
            ("etc", "opaque", b"y"),
            ("etc", "redirect", b"/tmp"),
            ("etc/secret", "metacopy", b""),
            ("etc/secret", "whiteout", b"y"),
        ] {
            let name = format!("{prefix}.overlay.{name}");
            rustix::fs::setxattr(tree.join(path), &*name, value, XattrFlags::empty())
                .expect("setxattr");
        }
    }
    let image = views.path().join("image.tar");
    tar(
        &tree,
        &image,
        &["--format=pax", "--xattrs", "--xattrs-include=*"],
    );
    for mode in MODES {
        let view = views.up(&image, A, "a", &["--passwd", "--writable", mode]);
        assert_eq!(read(&view.join("tmp/evil/own")), "own", "{mode}");
        assert_eq!(read(&view.join("etc/secret")), "secret", "{mode}");
        assert!(!view.join("tmp/evil/passwd").exists() && !view.join("etc/evil").exists());
        let names = |path: &str| fs::read_dir(view.join(path)).expect("read").count();
        assert_eq!((names("tmp/evil"), names("tmp")), (1, 1), "{mode}");
        views.down(&view).ok();
    }
    views.assert_nothing_left();
}

/// As deep and as full as it likes, and odd in every way.
#[test]
fn what_a_container_made_can_be_removed() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        dir(&tree.join("tmp"), 0o1777);
        file(&tree.join("tmp/of-image/file"), 0o666, b"x");
        dir(&tree.join("tmp/of-image"), 0o777);
    });
    for (mode, user) in [("paths", A), ("tree", A), ("paths", 0), ("tree", 0)] {
        let view = views.up(&image, A, "a", &["--writable", mode]);
        sh_as(
            user,
            &view.join("tmp"),
            "mkfifo fifo; ln -s / root; ln -s .. up; mkdir .removed-1 -- -rf; echo x >.removed-2
             rm -r of-image/file; mkdir -m 0 closed; echo x >unreadable; chmod 0 unreadable
             for n in $(seq 300); do echo x >many-$n; done; mkdir upper work .new",
        )
        .ok();
        let root = open(&view.join("tmp"));
        as_user(user, || {
            let mut at = root.try_clone().map(OwnedFd::from).expect("clone");
            for n in 0..1500 {
                let name = ["d", ".removed-1", "of-image"][n % 3];
                rustix::fs::mkdirat(&at, name, Mode::RWXU).or_else(|e| match e {
                    Errno::EXIST => Ok(()),
                    other => Err(other),
                })?;
                at = rustix::fs::openat(
                    &at,
                    name,
                    OFlags::DIRECTORY | OFlags::RDONLY,
                    Mode::empty(),
                )?;
                rustix::fs::symlinkat("/etc/passwd", &at, "link")?;
            }
            Ok::<_, Errno>(())
        })
        .expect("make deep directories");
        drop(root);
        if user == 0 {
            // Where the filesystem below has such flags.
            let mut chattr = Command::new("chattr");
            let ran = run(chattr
                .arg("+i")
                .arg(view.join("tmp/many-1"))
                .arg(view.join("tmp/upper")));
            println!("chattr: {}", ran.stderr);
        }
        views.down(&view).ok();
        let home = views.home(A);
        views.reset(&image, A).ok();
        assert!(!home.exists());
        views.up(&image, A, "a", &["--writable", mode]);
        let left: Vec<_> = tree(&view.join("tmp")).into_keys().collect();
        assert_eq!(
            left,
            ["", "of-image", "of-image/file"].map(PathBuf::from),
            "{mode}"
        );
        views.down(&view).ok();
        views.reset(&image, A).ok();
    }
    assert!(Path::new("/etc/passwd").exists());
    views.assert_nothing_left();
}

/// A container fills the filesystem that its layers are on. What others have stays,
/// and what it wrote can be removed.
#[test]
fn a_full_filesystem_can_be_emptied() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| dir(&tree.join("tmp"), 0o1777));
    views.keep_state_in_memory(c"size=2m,nr_inodes=200,mode=700");
    let other = views.up(&image, 30_002, "b", &[]);
    fs::write(other.join("tmp/kept"), "kept").expect("write");
    let view = views.up(&image, A, "a", &[]);
    let full = "head -c 10M /dev/zero >tmp/big 2>/dev/null || true
                while mkdir tmp/$((n += 1)) 2>/dev/null; do :; done; test $n -gt 5";
    sh_as(A, &view, full).ok();
    views
        .try_up(&image, 30_003, "c", &[])
        .refused(1, &["cannot", "No space"]);
    assert_eq!(mounts_in(&views, &views.at("c")).len(), 0);
    views.down(&view).ok();
    views.reset(&image, A).ok();
    assert_eq!(read(&other.join("tmp/kept")), "kept");
    views.up(&image, 30_003, "c", &[]);
    for name in ["b", "c"] {
        views.down(&views.at(name)).ok();
    }
    assert!(views.list().is_empty());
    unmount(views.state(), UnmountFlags::DETACH).expect("unmount");
    views.assert_nothing_left();
}

/// Programs that give rights, and devices: not of a container, nor of an image.
#[test]
fn nothing_in_a_view_gives_rights() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        dir(&tree.join("tmp"), 0o1777);
        file(&tree.join("single"), 0o6777, b"#!/bin/sh\n");
        file(&tree.join("usr/bin/su"), 0o4755, b"#!/bin/sh\n");
        let null = rustix::fs::makedev(1, 3);
        let device = FileType::CharacterDevice;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            tree.join("tmp/null"),
            device,
            Mode::RWXU,
            null,
        )
        .expect("mknod");
    });
    let mounted = Mount::new(&image, ["--owner", "0:0", "--devices"]);
    for mode in MODES {
        let view = views.up(mounted.path(), A, "a", &["--writable", mode]);
        let mut mounts = mounts_in(&views, &view);
        mounts.push(view.clone());
        assert_eq!(
            mounts.len(),
            if mode == "paths" { 3 } else { 1 },
            "{mounts:?}"
        );
        for at in mounts {
            use rustix::fs::StatVfsMountFlags as Flags;
            let flags = rustix::fs::statvfs(&at).expect("statvfs").f_flag;
            assert!(
                flags.contains(Flags::NOSUID | Flags::NODEV),
                "{mode} {}",
                at.display()
            );
            let is_private = mode == "none" || mode == "paths" && at == view;
            assert_eq!(
                flags.contains(Flags::RDONLY),
                is_private,
                "{mode} {}",
                at.display()
            );
        }
        assert_eq!(
            File::open(view.join("tmp/null"))
                .map(drop)
                .map_err(|e| e.kind()),
            Err(ErrorKind::PermissionDenied)
        );
        if mode == "none" {
            views.down(&view).ok();
            continue;
        }
        let root = open(&view);
        let make = |name| {
            let null = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(
                &root,
                name,
                FileType::CharacterDevice,
                Mode::from_raw_mode(0o666),
                null,
            )
        };
        make("tmp/own-null").expect("root may make it");
        for user in [0, A] {
            let opened = as_user(user, || {
                rustix::fs::openat(&root, "tmp/own-null", OFlags::RDWR, Mode::empty()).map(drop)
            });
            assert_eq!(opened, Err(Errno::ACCESS), "{mode} by {user}");
        }
        assert_eq!(as_user(A, || make("tmp/users-null")), Err(Errno::PERM));
        drop(root);
        views.down(&view).ok();
        views.reset(mounted.path(), A).ok();
    }
    mounted.end();
    views.assert_nothing_left();
}

/// A container's directory for what it wrote is closed to it, and a link that stands
/// where one of ours should be is followed by no later start.
#[test]
fn no_link_among_the_layers_is_followed() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        dir(&tree.join("tmp"), 0o1777);
        file(&tree.join("single"), 0o666, b"single");
    });
    let view = views.up(&image, A, "a", &[]);
    // What it makes itself.
    sh_as(
        A,
        &view.join("tmp"),
        "ln -s / upper; ln -s ../../.. work; ln -s /etc link",
    )
    .ok();
    views.down(&view).ok();
    views.up(&image, A, "a", &[]);
    assert_eq!(
        fs::read_link(view.join("tmp/link")).expect("a link"),
        Path::new("/etc")
    );
    views.down(&view).ok();
    let outside = views.path().join("outside");
    file(&outside.join("file"), 0o600, b"secret");
    let home = views.home(A);
    let is_readable = as_user(A, || fs::read_dir(&home).map(drop).map_err(|e| e.kind()));
    assert_eq!(is_readable, Err(ErrorKind::PermissionDenied));
    let mut planted = 0;
    let mut names: Vec<PathBuf> = tree(&home)
        .into_keys()
        .filter(|name| name != Path::new(""))
        .collect();
    names.retain(|name| {
        let ours = [
            "upper", "work", "file", "places", "tree", "top", "path", "version", "view",
        ];
        let is_place = name.parent() == Some(Path::new("places"));
        is_place
            || name
                .file_name()
                .is_some_and(|last| ours.iter().any(|one| last == *one))
    });
    names.retain(|name| name.components().count() <= 3);
    names.push(PathBuf::new());
    for name in names {
        let aside = views.path().join("aside");
        // Without a slash behind it if it is the directory of the container.
        let real: PathBuf = home.join(&name).components().collect();
        let is_file = real.symlink_metadata().expect("stat").is_file();
        fs::rename(&real, &aside).expect("move aside");
        let target = if is_file {
            outside.join("file")
        } else {
            outside.clone()
        };
        symlink(&target, &real).expect("link");
        let tried = views.try_up(&image, A, "a", &[]);
        planted += 1;
        if tried.status.success() {
            assert!(
                !view.join("tmp/file").exists(),
                "{} was followed",
                name.display()
            );
            assert_ne!(
                read(&view.join("single")),
                "secret",
                "{} was followed",
                name.display()
            );
            sh_as(0, &view, "echo x >tmp/x; echo x >single").ok();
            views.down(&view).ok();
        } else {
            println!("{}: {}", name.display(), tried.stderr);
            tried.refused(1, &["cannot"]);
        }
        assert_eq!(
            read(&outside.join("file")),
            "secret",
            "{} was followed",
            name.display()
        );
        assert_eq!(
            fs::read_dir(&outside).expect("read").count(),
            1,
            "{}",
            name.display()
        );
        if real.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            fs::remove_file(&real).expect("remove the link");
        } else if is_file {
            fs::remove_file(&real).expect("remove what took its place");
        } else if real.exists() {
            fs::remove_dir_all(&real).expect("remove what took its place");
        }
        fs::rename(&aside, &real).expect("move back");
    }
    assert!(planted >= 9, "only {planted}");
    assert_eq!(fs::metadata(&outside).expect("stat").nlink(), 2);
    views.reset(&image, A).ok();
    views.assert_nothing_left();
}

/// Nor does a reset remove what a link leads to.
#[test]
fn a_reset_follows_no_link() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| dir(&tree.join("tmp"), 0o1777));
    let view = views.up(&image, A, "a", &[]);
    views.down(&view).ok();
    let outside = views.path().join("outside");
    file(&outside.join("file"), 0o600, b"secret");
    let home = views.home(A);
    fs::remove_dir_all(home.join("places")).expect("remove");
    for name in ["places", "odd"] {
        symlink(&outside, home.join(name)).expect("link");
    }
    views.reset(&image, A).ok();
    assert!(!home.exists());
    // Not even where the directory of the container should be.
    symlink(&outside, &home).expect("link");
    println!("{}", views.reset(&image, A).stderr);
    assert_eq!(read(&outside.join("file")), "secret");
    views.assert_nothing_left();
}

/// A view may be attached nowhere in the way of what it is made of.
#[test]
fn odd_places_for_views_are_refused_or_work() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| dir(&tree.join("tmp"), 0o1777));
    let first = views.up(&image, A, "a", &[]);
    // In a view of another container, and gone with it.
    let mut command = distrofs(["view", "up", "--container", "30002", "--image"]);
    command
        .arg(&image)
        .arg("--at")
        .arg(first.join("tmp"))
        .arg("--state")
        .arg(views.state());
    let refused = run(&mut command);
    refused.refused(1, &["is a view already"]);
    fs::create_dir(first.join("tmp/inner")).expect("mkdir");
    let inner = first.join("tmp/inner");
    let mut command = distrofs(["view", "up", "--container", "30002", "--image"]);
    command
        .arg(&image)
        .arg("--at")
        .arg(&inner)
        .arg("--state")
        .arg(views.state());
    run(&mut command).ok();
    fs::write(inner.join("tmp/x"), "x").expect("write");
    assert_eq!(fs::read_dir(first.join("tmp")).expect("read").count(), 1);
    views.down(&first).ok();
    assert_eq!(views.list().len(), 1);
    views.down(&inner).refused(1, &["inner"]);
    views.reset(&image, 30_002).ok();
    views.assert_nothing_left();
    let names = [OsStr::new("up"), OsStr::new("--image"), image.as_os_str()];
    views.view(names).refused(2, &["--container", "--at"]);
}

/// A launcher takes `nodev` of a tree away; devices of the image still are none.
#[test]
fn a_remount_opens_no_device_of_the_image() {
    let views = Views::new();
    let image = views.archive("image.tar", |tree| {
        dir(&tree.join("dev"), 0o755);
        let kmsg = rustix::fs::makedev(1, 3);
        let device = FileType::CharacterDevice;
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, tree.join("dev/null"), device, mode, kmsg)
            .expect("mknod");
    });
    let view = views.up(&image, A, "a", &["--writable", "tree"]);
    mount_remount(&view, MountFlags::NOSUID, c"").expect("remount");
    let opened = rustix::fs::openat(open(&view), "dev/null", OFlags::RDWR, Mode::empty()).map(drop);
    assert_eq!(opened, Err(Errno::NOENT));
    let root = open(&view);
    let unlinked = as_user(A, || rustix::fs::unlinkat(&root, "dev", AtFlags::REMOVEDIR));
    drop(root);
    assert!(unlinked.is_err());
    let permissions = fs::metadata(&view).expect("stat").permissions();
    assert_eq!(permissions.mode() & 0o7777, 0o755);
    views.down(&view).ok();
    views.assert_nothing_left();
}
