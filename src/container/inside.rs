//! From the first process of a container to its command.
//!
//! The first process stays: it passes signals on and reaps what nobody waits for,
//! which the command could not be expected to do. When it ends, all end.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, chownat, openat, symlinkat};

use super::{ContainerError, Outside, failed, refused, rights};
use crate::sys::contain::{self, Child, FAILED};
use crate::sys::pass;
use crate::sys::signal::{Signals, unblock_in};
use crate::sys::tree::{self, Restriction};
use crate::view::Dir;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Statuses of a command that could not be run, as shells have them.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What is in `/dev` besides devices.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// What to run in a container.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name or path, and its arguments.
    pub command: Vec<OsString>,
    /// The user and group that it runs as.
    pub uid: u32,
    /// Whether the first process is root only of a user namespace.
    pub is_of_user: bool,
    /// Name of the host, inside.
    pub hostname: String,
    /// Variables besides `PATH`, `HOME` and `TERM`.
    pub env: Vec<(OsString, OsString)>,
}

/// The work of the first process: gets the root over `socket`, enters it, runs the
/// program. The status for the process to end with. `place` is an empty directory
/// of its own mount namespace.
pub fn run(
    outside: Outside,
    program: &Program,
    place: &Path,
    mut signals: Signals,
    socket: &UnixStream,
) -> u8 {
    // Without a terminal of its own nothing can be typed into that of the caller
    // (`TIOCSTI`); what is typed there is passed on.
    if let Err(error) = rustix::process::setsid() {
        eprintln!("distrofs: cannot start a session: {error}");
        return FAILED;
    }
    let root = match pass::receive(socket) {
        Ok(Some(root)) => root,
        // Whoever was to send it has said why.
        Ok(None) | Err(_) => return FAILED,
    };
    let started = enter(&root, outside, program, place).and_then(|()| start(program));
    let status = match started {
        Ok(child) => child.attend(&mut signals).map_err(failed("wait")),
        Err(error) => Err(error),
    };
    status.unwrap_or_else(|error| {
        eprintln!("distrofs: {error}");
        match &error {
            ContainerError::Command { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                NOT_FOUND
            }
            ContainerError::Command { .. } => NOT_EXECUTABLE,
            _ => FAILED,
        }
    })
}

/// Mounts what a container needs into the root and goes there.
fn enter(
    root: &OwnedFd,
    outside: Outside,
    program: &Program,
    place: &Path,
) -> Result<(), ContainerError> {
    let place = Dir::open(place).map_err(failed("open a directory"))?;
    tree::attach(root.as_fd(), place.as_fd())?;
    let root = Dir::from(root.try_clone().map_err(failed("copy a descriptor"))?);
    if let Some(at) = directory(&root, "proc") {
        tree::attach(tree::filesystem("proc", &[], false)?.as_fd(), at.as_fd())?;
        close_proc(&root, program)?;
    }
    if let Some(at) = directory(&root, "run") {
        let run = tree::filesystem("tmpfs", &[("mode", "755")], false)?;
        tree::attach(run.as_fd(), at.as_fd())?;
        own(&Dir::from(run), program)?;
    }
    if let Some(at) = directory(&root, "dev") {
        devices(&at, &outside)?;
    }
    for (bound, to) in &outside.binds {
        bind(&root, bound, to)?;
    }
    drop(outside);
    tree::enter(root.as_fd())?;
    let hostname = program.hostname.as_bytes();
    rustix::system::sethostname(hostname).map_err(refused("set the host's name"))
}

/// Settings of the whole host, which are root's of any namespace to change as far as
/// the kernel is concerned.
const SETTINGS: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];
/// What tells of the host, and no program of a container needs.
const SECRETS: [&str; 8] = [
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "sched_debug",
    "kmsg",
    "acpi",
    "scsi",
];

/// Takes from `/proc` what is not the container's. A user's own namespace has no
/// rights there anyway.
fn close_proc(root: &Dir, program: &Program) -> Result<(), ContainerError> {
    if program.is_of_user {
        return Ok(());
    }
    let find = |name: &str| root.place(format!("proc/{name}").as_bytes()).ok();
    for at in SETTINGS.iter().filter_map(|name| find(name)) {
        let same = tree::clone(at.as_fd())?;
        tree::restrict(same.as_fd(), Restriction::Change)?;
        tree::attach(same.as_fd(), at.as_fd())?;
    }
    for at in SECRETS.iter().filter_map(|name| find(name)) {
        let kind = rustix::fs::fstat(&at).map_err(refused("look into /proc"))?;
        let nothing = match FileType::from_raw_mode(kind.st_mode) {
            FileType::Directory => tree::filesystem("tmpfs", &[("mode", "755")], false)?,
            _ => tree::clone_all(Path::new("/dev/null"))?,
        };
        tree::restrict(nothing.as_fd(), Restriction::Change)?;
        tree::attach(nothing.as_fd(), at.as_fd())?;
    }
    Ok(())
}

/// A directory of the image to mount on; without, programs miss what would be there.
fn directory(root: &Dir, path: &str) -> Option<OwnedFd> {
    match root.place(path.as_bytes()) {
        Ok(at) => Some(at),
        Err(cause) => {
            eprintln!(
                "distrofs: /{path} of the image cannot be mounted on, and stays as it is: {cause}"
            );
            None
        }
    }
}

/// Gives a fresh filesystem to the user of the container.
fn own(at: &Dir, program: &Program) -> Result<(), ContainerError> {
    if program.is_of_user {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(program.uid), Gid::from_raw(program.uid));
    let flags = rustix::fs::AtFlags::empty();
    chownat(at, ".", Some(uid), Some(gid), flags).map_err(refused("give away a directory"))
}

/// A minimal `/dev`.
fn devices(at: &OwnedFd, outside: &Outside) -> Result<(), ContainerError> {
    let failed = refused("make /dev");
    let dev = tree::filesystem("tmpfs", &[("mode", "755"), ("size", "64k")], false)?;
    tree::attach(dev.as_fd(), at.as_fd())?;
    for (name, device) in &outside.devices {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&dev, *name, flags, Mode::RUSR | Mode::WUSR).map_err(&failed)?;
        tree::attach(device.as_fd(), file.as_fd())?;
    }
    for (target, name) in LINKS {
        symlinkat(target, &dev, name).map_err(&failed)?;
    }
    let terminals = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "620")];
    let mounted = [
        ("pts", tree::filesystem("devpts", &terminals, true)?),
        (
            "shm",
            tree::filesystem("tmpfs", &[("mode", "1777")], false)?,
        ),
    ];
    for (name, filesystem) in &mounted {
        rustix::fs::mkdirat(&dev, *name, Mode::from_raw_mode(0o755)).map_err(&failed)?;
        let path = OFlags::PATH | OFlags::CLOEXEC;
        let at = openat(&dev, *name, path, Mode::empty()).map_err(&failed)?;
        tree::attach(filesystem.as_fd(), at.as_fd())?;
    }
    Ok(())
}

/// Attaches what was taken from the host.
fn bind(root: &Dir, bound: &OwnedFd, to: &Path) -> Result<(), ContainerError> {
    let is_directory = rustix::fs::fstat(bound)
        .map(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        .unwrap_or(false);
    let at = root.within(to).map_err(|cause| ContainerError::BindTo {
        to: to.to_owned(),
        cause,
        wanted: if is_directory { "directory" } else { "file" },
    })?;
    Ok(tree::attach(bound.as_fd(), at.as_fd())?)
}

/// Starts the command.
fn start(program: &Program) -> Result<Child, ContainerError> {
    rights::drop_all_but_kept().map_err(refused("give up rights"))?;
    contain::keep_descriptors().map_err(failed("keep descriptors to itself"))?;
    let (name, arguments) = match program.command.split_first() {
        Some((name, arguments)) => (name.clone(), arguments),
        None => (OsString::from("/bin/sh"), &[][..]),
    };
    let mut command = Command::new(&name);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", if program.uid == 0 { "/root" } else { "/" })
        .envs(std::env::var_os("TERM").map(|term| ("TERM", term)))
        .envs(program.env.iter().map(|(key, value)| (key, value)));
    if program.is_of_user {
        if program.uid != 0 {
            let become_user = contain::become_user_of_own(program.uid);
            become_user.map_err(failed("become another user"))?;
        }
    } else {
        command.uid(program.uid).gid(program.uid);
    }
    unblock_in(&mut command);
    let child = command.spawn().map_err(|cause| ContainerError::Command {
        program: name,
        cause,
    })?;
    Ok(child.into())
}
