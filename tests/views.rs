//! Views come up and go down: what a container wrote stays, what failed leaves
//! nothing, and an image that was mounted for views ends with the last of them.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::mount::{END_LIMIT, Mount};
use common::program::{Ran, binary, distrofs, eventually, run};
use common::view::{Views, dir, file, sh_as};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::{Signal, kill_process};

/// Three places that everybody may write, and one nobody may.
fn small(tree: &Path) {
    dir(&tree.join("tmp"), 0o1777);
    dir(&tree.join("var/tmp"), 0o1777);
    file(&tree.join("tmp/seed"), 0o666, b"of the image\n");
    file(&tree.join("var/state"), 0o666, b"state of the image\n");
    file(&tree.join("etc/conf"), 0o644, b"version 1\n");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

#[test]
fn what_a_container_wrote_stays_over_down_and_up() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    for (container, writable) in [(30_001, "paths"), (30_002, "tree")] {
        let options = ["--writable", writable];
        let view = views.up(&image, container, "a", &options);
        assert_eq!(read(&view.join("tmp/seed")), "of the image\n");
        sh_as(
            container,
            &view,
            "echo mine >tmp/seed; echo new >var/tmp/new; echo s >var/state",
        )
        .ok();
        views.down(&view).ok();
        assert_eq!(fs::read_dir(&view).expect("read").count(), 0, "{writable}");
        // Where it is attached makes no difference.
        let view = views.up(&image, container, "b", &options);
        assert_eq!(read(&view.join("tmp/seed")), "mine\n", "{writable}");
        assert_eq!(read(&view.join("var/tmp/new")), "new\n", "{writable}");
        assert_eq!(read(&view.join("var/state")), "s\n", "{writable}");
        let owner = fs::metadata(view.join("var/tmp/new")).expect("stat").uid();
        assert_eq!(owner, container, "new files belong to the writer");
        views.down(&view).ok();
    }
    views.assert_nothing_left();
}

#[test]
fn containers_and_images_are_kept_apart() {
    let views = Views::new();
    let (one, other) = (
        views.archive("one.tar", small),
        views.archive("other.tar", small),
    );
    let a = views.up(&one, 30_001, "a", &[]);
    let b = views.up(&one, 30_002, "b", &[]);
    let c = views.up(&other, 30_001, "c", &["--writable", "tree"]);
    sh_as(
        30_001,
        &a,
        "echo a >tmp/seed; echo a >var/state; echo a >tmp/new",
    )
    .ok();
    for untouched in [&b, &c] {
        assert_eq!(read(&untouched.join("tmp/seed")), "of the image\n");
        assert_eq!(read(&untouched.join("var/state")), "state of the image\n");
        assert!(!untouched.join("tmp/new").exists());
    }
    for view in [a, b, c] {
        views.down(&view).ok();
    }
    let a = views.up(&one, 30_001, "a", &[]);
    assert_eq!(read(&a.join("tmp/new")), "a\n");
    views.down(&a).ok();
    views.assert_nothing_left();
}

/// An upload replaces the archive: a container that starts again has the new image
/// and what it wrote, and one that runs has what it had.
#[test]
fn a_new_version_keeps_what_was_written() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    for mode in ["paths", "tree"] {
        let container = if mode == "paths" { 30_001 } else { 30_002 };
        let options = ["--writable", mode];
        let first = views.try_up(&image, container, mode, &options).ok();
        assert!(!first.stderr.contains("version"), "{first:?}");
        let view = views.at(mode);
        sh_as(
            container,
            &view,
            "echo mine >tmp/seed; echo s >var/state; mkdir var/tmp/d",
        )
        .ok();
    }
    let (paths, tree) = (views.at("paths"), views.at("tree"));
    views.down(&paths).ok();
    views.archive("image.tar", |tree| {
        small(tree);
        file(&tree.join("etc/conf"), 0o644, b"version 2, longer\n");
        file(&tree.join("tmp/added"), 0o644, b"by version 2\n");
    });
    // It could not be done: the next time says it again.
    views
        .try_up(
            &image,
            30_001,
            "tree/nothing/../../tree",
            &["--writable", "paths"],
        )
        .refused(1, &["is a view already"]);
    let again = views.try_up(&image, 30_001, "paths", &[]).ok();
    assert!(again.stderr.contains("another version"), "{again:?}");
    assert_eq!(read(&paths.join("etc/conf")), "version 2, longer\n");
    assert_eq!(read(&paths.join("tmp/added")), "by version 2\n");
    assert_eq!(read(&paths.join("tmp/seed")), "mine\n");
    assert_eq!(read(&paths.join("var/state")), "s\n");
    assert!(paths.join("var/tmp/d").is_dir());
    assert_eq!(read(&tree.join("etc/conf")), "version 1\n");
    assert_eq!(views.daemons().len(), 2, "a daemon for each version");
    views.down(&paths).ok();
    let again = views.try_up(&image, 30_001, "paths", &[]).ok();
    assert!(!again.stderr.contains("version"), "{again:?}");
    for view in [paths, tree] {
        views.down(&view).ok();
    }
    views.assert_nothing_left();
}

/// Which version a container has is noted when it has it, not when it was to get
/// it: else nobody would ever be told.
#[test]
fn a_new_version_is_told_although_the_first_try_failed() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let view = views.up(&image, 30_001, "a", &[]);
    views.down(&view).ok();
    views.archive("image.tar", |tree| {
        small(tree);
        file(&tree.join("added"), 0o644, b"by version 2\n");
    });
    let mounted = Mount::new(&image, ["--owner", "30000:30000"]);
    inject(&views, mounted.path(), "move_mount:error=EIO").refused(1, &["attach a mount"]);
    let told = views.try_up(mounted.path(), 30_001, "a", &[]).ok();
    assert!(told.stderr.contains("another version"), "{told:?}");
    views.down(&view).ok();
    mounted.end();
    views.assert_nothing_left();
}

/// `view up` of a mounted image, with a system call that fails as `strace` is told.
#[track_caller]
fn inject(views: &Views, image: &Path, fault: &str) -> Ran {
    run(&mut injected(views, image, fault))
}

fn injected(views: &Views, image: &Path, fault: &str) -> Command {
    let call = fault.split(':').next().expect("a system call");
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={call}"),
    ]);
    command
        .args(["-e", &format!("inject={fault}")])
        .arg(binary());
    command.args(["view", "up", "--container", "30001", "--image"]);
    command.arg(image).arg("--at").arg(views.at("a"));
    command.arg("--state").arg(views.state());
    command
}

#[test]
fn what_the_kernel_lacks_is_named_and_nothing_is_left() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let mounted = Mount::new(&image, ["--owner", "30000:30000"]);
    for (fault, words) in [
        (
            "fsopen:error=ENODEV",
            &["no overlayfs", "modprobe overlay"][..],
        ),
        (
            "fsopen:error=EPERM",
            &["no right to mount", "CAP_SYS_ADMIN"],
        ),
        ("fsopen:error=ENOSYS", &["Linux 5.2"]),
        ("fsmount:error=EPERM:when=3", &["no right to mount"]),
        ("mount_setattr:error=ENOSYS", &["restrict a mount"]),
        ("openat2:error=ENOSYS:when=2+", &["cannot"]),
        // All places are made by then.
        (
            "move_mount:error=EPERM:when=3",
            &["attach a mount", "no right to mount"],
        ),
    ] {
        let ran = inject(&views, mounted.path(), fault);
        println!("{fault}: {}", ran.stderr);
        ran.refused(1, words);
        assert!(views.mounts().is_empty(), "{fault}: {:?}", views.mounts());
        assert!(views.list().is_empty(), "{fault}: {:?}", views.list());
    }
    // The whole view is attached last; the record of it is there by then.
    let mut tree = injected(&views, mounted.path(), "move_mount:error=EBUSY");
    run(tree.args(["--writable", "tree"])).refused(1, &["attach a mount"]);
    assert!(views.mounts().is_empty(), "{:?}", views.mounts());
    assert!(views.list().is_empty(), "{:?}", views.list());
    let view = views.up(mounted.path(), 30_001, "a", &[]);
    views.down(&view).ok();
    // A kernel that attaches nothing to what is not attached: there is another way.
    // (Only of this process's first thread: in the other one it is right.)
    let old = injected(&views, mounted.path(), "move_mount:error=EINVAL:when=1");
    let mut of_one_thread = Command::new(old.get_program());
    of_one_thread.args(old.get_args().filter(|argument| *argument != "-f"));
    run(&mut of_one_thread).ok();
    assert_eq!(views.mounts().len(), 4, "{:?}", views.mounts());
    assert_eq!(read(&view.join("tmp/seed")), "of the image\n");
    views.down(&view).ok();
    // One that takes no layer of what is not attached: the layer is on disk then.
    let mut old = injected(&views, mounted.path(), "fsconfig:error=EINVAL:when=3");
    run(old.args(["--passwd", "--writable", "tree"])).ok();
    assert!(read(&view.join("etc/passwd")).contains("30001:x:30001:"));
    views.down(&view).ok();
    mounted.end();
    views.assert_nothing_left();
}

#[test]
fn a_user_is_told_to_be_root() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    for command in ["up", "list"] {
        let mut as_user = Command::new("setpriv");
        as_user.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
        // By its descriptor: the program may be where this user cannot go.
        let program = fs::File::open(binary()).expect("open the program");
        as_user.args([
            "sh",
            "-c",
            "exec /proc/self/fd/0 \"$@\"",
            "sh",
            "view",
            command,
        ]);
        if command == "up" {
            as_user
                .arg("--image")
                .arg(&image)
                .arg("--at")
                .arg(views.at("a"));
            as_user.args(["--container", "30001"]);
        }
        let output = as_user
            .arg("--state")
            .arg(views.state())
            .stdin(program)
            .output();
        let output = output.expect("start setpriv");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("needs root") && said.contains("distrofs run"),
            "{said}"
        );
    }
    assert!(!views.state().exists());
}

/// Root without the capability, as in most containers.
#[test]
fn root_that_may_not_mount_is_told_so() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let mounted = Mount::new(&image, ["--owner", "keep"]);
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
        .arg(binary());
    command
        .args(["view", "up", "--container", "30001", "--image"])
        .arg(mounted.path());
    command
        .arg("--at")
        .arg(views.at("a"))
        .arg("--state")
        .arg(views.state());
    run(&mut command).refused(1, &["no right to mount", "CAP_SYS_ADMIN"]);
    mounted.end();
    views.assert_nothing_left();
}

/// A view whose second place cannot be made, on filesystems that overlayfs cannot
/// write to, and of something that is no image.
#[test]
fn a_view_that_fails_leaves_nothing() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let view = views.up(&image, 30_001, "a", &[]);
    views.down(&view).ok();
    let places = views.home(30_001).join("places");
    let of_tmp = places.join("var%2ftmp");
    fs::remove_dir_all(of_tmp.join("upper")).expect("remove a layer");
    fs::write(of_tmp.join("upper.new"), "no directory").expect("write");
    views
        .try_up(&image, 30_001, "a", &[])
        .refused(1, &["layer above /var/tmp"]);
    fs::remove_file(of_tmp.join("upper.new")).expect("remove it");
    views.assert_nothing_left();

    let mounted = Mount::new(&image, ["--owner", "keep"]);
    let on_image = mounted.path().join("etc/state");
    up_in(&views, &image, &on_image).refused(1, &["make the directory", "Read-only"]);
    let overlay = views.at("overlay");
    for name in ["lower", "upper", "work"] {
        dir(&views.path().join(name), 0o700);
    }
    let below = views.path().display();
    let options = format!("lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work");
    let options = std::ffi::CString::new(options).expect("options");
    mount(
        "overlay",
        &overlay,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .expect("mount");
    up_in(&views, &image, &overlay.join("state")).refused(1, &["--state", "ext4"]);
    unmount(&overlay, UnmountFlags::empty()).expect("nothing is left in it");
    up_in(&views, mounted.path(), &views.state()).ok();
    views.down(&views.at("a")).ok();
    mounted.end();

    let wrong = views.path().join("wrong.tar");
    fs::write(&wrong, "no archive").expect("write");
    views
        .try_up(&wrong, 30_001, "a", &[])
        .refused(1, &["wrong.tar"]);
    views
        .try_up(&views.at("a"), 30_001, "a", &[])
        .refused(1, &["no mounted image"]);
    views
        .try_up(&views.path().join("none"), 30_001, "a", &[])
        .refused(1, &["none"]);
    let mut command = views.up_command(&image, 30_001, "a");
    command.arg("--at").arg(&wrong);
    run(command.arg("--writable").arg("none")).refused(2, &["--at"]);
    let mut command = distrofs(["view", "up", "--container", "30001", "--at"]);
    command.arg(&wrong).arg("--image").arg(&image);
    run(command.arg("--state").arg(views.state())).refused(1, &["wrong.tar", "directory"]);
    views.assert_nothing_left();
}

#[track_caller]
fn up_in(views: &Views, image: &Path, state: &Path) -> Ran {
    let mut command = distrofs(["view", "up", "--container", "30001", "--image"]);
    command.arg(image).arg("--at").arg(views.at("a"));
    let before = views.daemons();
    let ran = run(command.arg("--state").arg(state));
    if !ran.status.success() {
        let is_view = |at: &PathBuf| *at == views.at("a") || at.starts_with(state);
        let mounts = views.mounts();
        let left: Vec<_> = mounts
            .iter()
            .filter(|at| is_view(at) && *at != state.parent().unwrap_or(state))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(eventually(END_LIMIT, || views.daemons() == before));
    }
    ran
}

#[test]
fn views_go_down_twice_and_after_every_crash() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    for mode in ["paths", "tree", "none"] {
        let up = || views.up(&image, 30_001, "a", &["--writable", mode]);
        // Twice.
        let view = up();
        assert_eq!(views.down(&view).ok().stderr, "");
        views.down(&view).ok();
        views.assert_nothing_left();
        // The daemon was killed.
        let view = up();
        for daemon in views.daemons() {
            kill_process(daemon, Signal::KILL).expect("kill the daemon");
        }
        views.down(&view).ok();
        views.down(&view).ok();
        views.assert_nothing_left();
        // Somebody else took the view down; the record is left, and the image.
        let view = up();
        unmount(&view, UnmountFlags::DETACH).expect("unmount");
        assert_eq!(views.list()[0]["attached"], false);
        views.down(&view).ok();
        views.assert_nothing_left();
        // And both, with nobody to take it down before the next start.
        let view = up();
        for daemon in views.daemons() {
            kill_process(daemon, Signal::KILL).expect("kill the daemon");
        }
        unmount(&view, UnmountFlags::DETACH).expect("unmount");
        up();
        assert_eq!(read(&view.join("etc/conf")), "version 1\n", "{mode}");
        assert_eq!(views.list().len(), 1);
        views.down(&view).ok();
        views.assert_nothing_left();
    }
}

/// The next start finds the record of a view that is gone and the mount that was
/// made for it: that stays what the new view is made of, and ends with it.
#[test]
fn a_view_that_is_gone_is_made_again_above_the_same_mount() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    for (at, container) in [("a", 30_001), ("b", 30_001), ("a", 30_002)] {
        for mode in ["paths", "tree"] {
            let gone = views.up(&image, 30_001, "a", &["--writable", mode]);
            let before = views.daemons();
            unmount(&gone, UnmountFlags::DETACH).expect("unmount");
            let view = views.up(&image, container, at, &["--writable", mode]);
            assert_eq!(read(&view.join("etc/conf")), "version 1\n");
            assert_eq!(views.daemons(), before, "{at} {container} {mode}");
            let mounts = views.mounts();
            let is_image = |at: &&PathBuf| at.starts_with(views.state());
            assert_eq!(mounts.iter().filter(is_image).count(), 1, "{mounts:?}");
            assert_eq!(views.list().len(), 1);
            views.down(&view).ok();
            views.assert_nothing_left();
        }
    }
}

#[test]
fn no_two_views_are_at_one_place_or_write_the_same() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let view = views.up(&image, 30_001, "a", &[]);
    views
        .try_up(&image, 30_002, "a", &[])
        .refused(1, &["is a view already", "view down"]);
    views
        .try_up(&image, 30_001, "a", &[])
        .refused(1, &["is a view already"]);
    let at = view.display().to_string();
    for options in [&[][..], &["--writable", "tree"]] {
        let again = views.try_up(&image, 30_001, "b", options);
        again.refused(
            1,
            &["container 30001 has a view of this image already", &at],
        );
    }
    // By whatever name the directory is called, and wherever the state is.
    symlink(&view, views.path().join("link")).expect("link");
    let mut command = distrofs(["view", "up", "--container", "30002", "--at"]);
    command
        .arg(views.path().join("link"))
        .arg("--image")
        .arg(&image);
    run(command.arg("--state").arg(views.state())).refused(1, &["is a view already"]);
    let mut command = distrofs(["view", "up", "--container", "30002", "--at"]);
    command.arg(&view).arg("--image").arg(&image);
    run(command.arg("--state").arg(views.path().join("other"))).refused(1, &["is a view already"]);
    assert_eq!(views.list().len(), 1);
    assert_eq!(views.mounts().iter().filter(|at| **at == view).count(), 1);
    assert_eq!(views.daemons().len(), 1);
    views.down(&view).ok();
    views.assert_nothing_left();
}

/// Whoever waits for a daemon that hangs must not keep others waiting.
#[test]
fn an_image_that_does_not_answer_hinders_no_other() {
    let views = Views::new();
    let stuck = Mount::new(&views.archive("stuck.tar", small), [""; 0]);
    let image = views.archive("image.tar", small);
    let daemon = stuck.daemon();
    kill_process(daemon, Signal::STOP).expect("stop a daemon");
    let mut waiting = views.up_command(stuck.path(), 30_001, "stuck");
    let mut waiting = waiting.spawn().expect("start distrofs");
    let ioctl = format!("{} ", libc::SYS_ioctl);
    let asks = || {
        let path = format!("/proc/{}/syscall", waiting.id());
        fs::read_to_string(path).is_ok_and(|call| call.starts_with(&ioctl))
    };
    assert!(eventually(END_LIMIT, asks), "it asks the daemon");
    let view = views.up(&image, 30_001, "other", &[]);
    views.down(&view).ok();
    kill_process(daemon, Signal::CONT).expect("let it go on");
    assert!(waiting.wait().expect("wait").success());
    views.down(&views.at("stuck")).ok();
    stuck.end();
    views.assert_nothing_left();
}

/// Sixteen at once: of those at one place one is made, of the others all, above
/// one mount of the image.
#[test]
fn views_that_are_made_at_once_do_not_hinder_each_other() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let start = |n: u32, name: &str| {
        let mut command = views.up_command(&image, 30_001 + n, name);
        command.stderr(std::process::Stdio::null());
        command.spawn().expect("start distrofs")
    };
    let same: Vec<_> = (0..8).map(|n| start(n, "same")).collect();
    let own: Vec<_> = (8..16).map(|n| start(n, &format!("own-{n}"))).collect();
    let made = |children: Vec<std::process::Child>| {
        let ended = children
            .into_iter()
            .map(|mut child| child.wait().expect("wait"));
        ended.filter(|status| status.success()).count()
    };
    assert_eq!(made(same), 1);
    assert_eq!(made(own), 8);
    assert_eq!(views.list().len(), 9);
    assert_eq!(views.daemons().len(), 1);
    for view in views.list() {
        views
            .down(Path::new(view["dir"].as_str().expect("a path")))
            .ok();
    }
    views.assert_nothing_left();
}

#[test]
fn an_image_that_is_mounted_for_views_ends_with_the_last() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let a = views.up(&image, 30_001, "a", &[]);
    let one = views.daemons();
    let b = views.up(&image, 30_002, "b", &["--writable", "tree"]);
    let c = views.up(&image, 30_003, "c", &["--writable", "none"]);
    assert_eq!((one.len(), views.daemons()), (1, one.clone()));
    // Another owner is another mount.
    let d = views.up(&image, 30_004, "d", &["--owner", "5:6"]);
    assert_eq!(views.daemons().len(), 2);
    assert_eq!(
        fs::metadata(a.join("etc/conf")).expect("stat").uid(),
        common::view::STORAGE
    );
    assert_eq!(fs::metadata(d.join("etc/conf")).expect("stat").uid(), 5);
    // A running one does not lose it.
    let kept = fs::File::open(c.join("etc/conf")).expect("open");
    for view in [&d, &a, &b] {
        assert!(!views.daemons().is_empty());
        views.down(view).ok();
    }
    assert!(eventually(END_LIMIT, || views.daemons() == one));
    assert_eq!(read(&c.join("etc/conf")), "version 1\n");
    views.down(&c).ok();
    assert!(views.mounts().is_empty());
    assert_eq!(
        std::io::read_to_string(&kept).expect("read on"),
        "version 1\n"
    );
    drop(kept);
    views.assert_nothing_left();
}

#[test]
fn an_image_that_was_mounted_before_stays() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let mounted = Mount::new(&image, ["--owner", "7:7"]);
    let owner = views.try_up(mounted.path(), 30_001, "a", &["--owner", "5:6"]);
    owner.refused(1, &["--owner is for archives"]);
    let view = views.up(mounted.path(), 30_001, "a", &[]);
    assert_eq!(fs::metadata(view.join("etc/conf")).expect("stat").uid(), 7);
    assert!(views.daemons().iter().all(|pid| *pid == mounted.daemon()));
    sh_as(30_001, &view, "echo kept >tmp/kept").ok();
    views.down(&view).ok();
    assert_eq!(read(&mounted.path().join("etc/conf")), "version 1\n");
    // It is the archive that counts, not where it is mounted.
    let view = views.up(&image, 30_001, "a", &[]);
    assert_eq!(read(&view.join("tmp/kept")), "kept\n");
    views.down(&view).ok();
    mounted.end();
    views.assert_nothing_left();
}

#[test]
fn the_list_tells_what_is_there() {
    let views = Views::new();
    let image = views.archive("a b\u{1b}.tar", small);
    assert_eq!(views.view(["list"]).ok().stdout, "No views.\n");
    let b = views.up(&image, 30_002, "b", &["--writable", "tree"]);
    let a = views.up(&image, 30_001, "a", &[]);
    let listed = views.list();
    let fact = |n: usize, name: &str| listed[n][name].clone();
    assert_eq!(listed.len(), 2);
    for (n, (at, container, writable)) in [(&a, 30_001, "paths"), (&b, 30_002, "tree")]
        .into_iter()
        .enumerate()
    {
        assert_eq!(fact(n, "dir"), at.to_str().expect("a plain name"));
        assert_eq!(fact(n, "image"), image.to_str().expect("a plain name"));
        assert_eq!(fact(n, "container"), container);
        assert_eq!(fact(n, "writable"), writable);
        assert_eq!(fact(n, "attached"), true);
        assert!(fact(n, "made").as_u64().expect("a time") > 1_700_000_000);
    }
    let table = views.view(["list"]).ok().stdout;
    assert!(
        table.contains("30001") && table.contains("attached"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "{table:?}");
    for view in [a, b] {
        views.down(&view).ok();
    }
    views.assert_nothing_left();
}

#[test]
fn a_reset_removes_what_one_container_wrote() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let (a, b) = (
        views.up(&image, 30_001, "a", &[]),
        views.up(&image, 30_002, "b", &[]),
    );
    for (container, view) in [(30_001, &a), (30_002, &b)] {
        sh_as(container, view, "echo mine >tmp/seed; echo mine >var/state").ok();
    }
    views
        .reset(&image, 30_001)
        .refused(1, &["has a view of this image", "take that down"]);
    assert_eq!(read(&a.join("tmp/seed")), "mine\n");
    views.down(&a).ok();
    views.reset(&image, 30_001).ok();
    views.reset(&image, 30_001).ok();
    views.up(&image, 30_001, "a", &[]);
    assert_eq!(read(&a.join("tmp/seed")), "of the image\n");
    assert_eq!(read(&a.join("var/state")), "state of the image\n");
    assert_eq!(read(&b.join("tmp/seed")), "mine\n");
    for view in [&a, &b] {
        views.down(view).ok();
    }
    // Of an image that is gone, whichever way its path is said.
    let home = views.home(30_002);
    fs::remove_file(&image).expect("remove the archive");
    symlink(views.path(), views.path().join("here")).expect("link");
    views
        .reset(&views.path().join("here/image.tar"), 30_002)
        .ok();
    assert!(!home.exists());
    views.assert_nothing_left();
}

/// A view of which processes have files open is gone from its place, and its layers
/// are still written to: they are given to nobody else, and not removed.
#[test]
fn layers_in_use_are_left_alone() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    for mode in ["paths", "tree"] {
        let view = views.up(&image, 30_001, "a", &["--writable", mode]);
        let held = fs::File::create(view.join("tmp/held")).expect("create");
        views.down(&view).ok();
        let refused = match mode {
            "paths" => views.try_up(&image, 30_001, "a", &["--writable", "tree"]),
            _ => views.reset(&image, 30_001),
        };
        refused.refused(1, &["end the processes"]);
        drop(held);
        views.up(&image, 30_001, "a", &["--writable", mode]);
        assert!(view.join("tmp/held").exists());
        views.down(&view).ok();
    }
    views.assert_nothing_left();
}

/// A view that something else hides is neither forgotten nor made twice.
#[test]
fn a_view_that_is_covered_is_not_forgotten() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let view = views.up(&image, 30_001, "a", &[]);
    let other = views.at("other");
    mount_bind(&other, &view).expect("mount above it");
    views
        .down(&view)
        .refused(1, &["mounted above", "unmount what is above"]);
    for (container, at) in [(30_001, "a"), (30_002, "a"), (30_001, "b")] {
        views
            .try_up(&image, container, at, &[])
            .refused(1, &["above"]);
    }
    views.reset(&image, 30_001).refused(1, &["above"]);
    assert_eq!(views.list().len(), 1, "forgotten");
    unmount(&view, UnmountFlags::empty()).expect("unmount");
    assert_eq!(views.list()[0]["attached"], true);
    assert_eq!(views.down(&view).ok().stderr, "");
    views.assert_nothing_left();
}

/// A link to the directory of a view names the view.
#[test]
fn a_view_goes_down_by_a_link_to_it() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let link = views.path().join("link");
    symlink(views.at("a"), &link).expect("link");
    let view = views.up(&image, 30_001, "a", &[]);
    assert_eq!(views.down(&link).ok().stderr, "");
    assert!(!view.join("etc").exists());
    views.assert_nothing_left();
    // What is no view stays.
    let mounted = Mount::new(&image, ["--owner", "keep"]);
    views.down(mounted.path()).refused(1, &["is not a view"]);
    views.down(&views.at("b")).ok();
    views
        .down(&views.path().join("none/none"))
        .refused(1, &["none"]);
    mounted.end();
}

/// The directory for state is closed to others, and only one that is meant to be
/// it: `--state /usr` must not lock everybody out of `/usr`.
#[test]
fn the_state_is_closed_to_others() {
    let views = Views::new();
    let image = views.archive("image.tar", small);
    let view = views.up(&image, 30_001, "a", &[]);
    let mode = |path: &Path| fs::metadata(path).expect("stat").permissions().mode() & 0o7777;
    let state = fs::metadata(views.state()).expect("stat");
    assert_eq!((mode(&views.state()), state.uid()), (0o700, 0));
    for below in ["images", "views"] {
        assert_eq!(mode(&views.state().join(below)), 0o700, "{below}");
    }
    views.down(&view).ok();
    views.assert_nothing_left();
    let used = views.path().join("used");
    file(&used.join("file"), 0o644, b"of others");
    fs::set_permissions(&used, PermissionsExt::from_mode(0o755)).expect("set the mode");
    up_in(&views, &image, &used).refused(1, &["used", "--state"]);
    assert_eq!(mode(&used), 0o755);
    assert_eq!(fs::read_dir(&used).expect("read").count(), 1);
    // Of another user, or open to a group.
    let wrong = views.path().join("wrong");
    dir(&wrong, 0o770);
    up_in(&views, &image, &wrong).refused(1, &["could be changed by others"]);
    dir(&wrong, 0o700);
    std::os::unix::fs::chown(&wrong, Some(30_001), None).expect("chown");
    up_in(&views, &image, &wrong).refused(1, &["could be changed by others"]);
}
