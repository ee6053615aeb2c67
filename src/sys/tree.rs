//! Trees of mounts that are made and put together before anybody sees them, and
//! attached whole (fsopen(2), open_tree(2), move_mount(2)).
//!
//! Guarantees: no path is walked but `/proc/self/fd`, and the place where
//! [`attach`] is told to attach: directories are given as descriptors, so that
//! their names may hold anything and cannot be exchanged meanwhile. A tree that
//! is never attached is gone when its descriptor is closed.

#![expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper")]

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

use super::namespace;

/// What overlays are mounted with, all but their directories. A directory of the
/// lower layer can be renamed; inode numbers stay over a copy-up; nothing in the
/// upper layer binds it to this very lower one, which the next version of an
/// image replaces.
pub const OVERLAY_OPTIONS: [(&str, &str); 5] = [
    ("index", "off"),
    ("metacopy", "off"),
    ("nfs_export", "off"),
    ("redirect_dir", "on"),
    ("xino", "on"),
];

/// A step that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {cause}{said}")]
pub struct TreeError {
    /// What was tried.
    pub doing: &'static str,
    /// Why not.
    pub cause: io::Error,
    /// What else the kernel said, in parentheses; empty if nothing.
    pub said: String,
}

impl TreeError {
    /// Whether the kernel does not know what was asked of it, as old ones may not.
    pub fn is_invalid(&self) -> bool {
        Errno::from_io_error(&self.cause) == Some(Errno::INVAL)
    }
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> TreeError {
    move |cause| TreeError {
        doing,
        cause: cause.into(),
        said: String::new(),
    }
}

/// An overlay to be mounted (the kernel's overlayfs documentation).
#[derive(Clone, Debug)]
pub struct Overlay<'a> {
    /// The read-only layers, the topmost first.
    pub lower: Vec<BorrowedFd<'a>>,
    /// Where changes go, and an empty directory beside it for the kernel's own
    /// use. Without, nothing can be changed, and there must be two lower layers.
    pub upper: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// What is shown as its source.
    pub source: &'a str,
    /// Whether it is mounted without rights outside of a user namespace.
    pub is_of_user: bool,
}

/// Mounts an overlay, to be attached: nosuid, nodev, and read-only without an
/// upper layer, which no later remount changes.
pub fn overlay(wanted: &Overlay<'_>) -> Result<OwnedFd, TreeError> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(failed("open the filesystem type overlay"))?;
    let configured = configure(context.as_fd(), wanted);
    configured.map_err(|cause| TreeError {
        doing: "mount an overlay",
        cause: cause.into(),
        said: said(&context),
    })?;
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, wanted.upper.is_none());
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(failed("mount an overlay"))
}

fn configure(context: BorrowedFd<'_>, wanted: &Overlay<'_>) -> Result<(), Errno> {
    let lower: Vec<String> = wanted.lower.iter().map(path_of).collect();
    fsconfig_set_string(context, "source", wanted.source)?;
    fsconfig_set_string(context, "lowerdir", lower.join(":"))?;
    if let Some((upper, work)) = &wanted.upper {
        fsconfig_set_string(context, "upperdir", path_of(upper))?;
        fsconfig_set_string(context, "workdir", path_of(work))?;
    }
    for (key, value) in OVERLAY_OPTIONS {
        // Attributes of a user's own cannot say where a directory was.
        if !(wanted.is_of_user && key == "redirect_dir") {
            fsconfig_set_string(context, key, value)?;
        }
    }
    if wanted.is_of_user {
        fsconfig_set_flag(context, "userxattr")?;
    }
    fsconfig_create(context)
}

/// A name for what is open, which holds no character that means something.
fn path_of(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What a filesystem context has to say.
fn said(context: &OwnedFd) -> String {
    let mut lines = String::new();
    let mut line = [0; 1024];
    while let Ok(copy) = context.try_clone()
        && let Ok(len @ 1..) = std::fs::File::from(copy).read(&mut line)
    {
        let text = String::from_utf8_lossy(&line[..len]);
        // "e text", "w text" or "i text".
        let text = text.get(2..).unwrap_or_default().trim();
        lines.push_str(if lines.is_empty() { " (" } else { "; " });
        lines.push_str(text);
    }
    if !lines.is_empty() {
        lines.push(')');
    }
    lines
}

/// Whether a superblock of this device number may be there still, though no mount
/// of it can be seen any more. Numbers are used again; and where the kernel cannot
/// be asked (ustat(2) is not on every architecture), it may.
pub fn may_be_there(device: u64) -> bool {
    // Overlays have no such entry. FUSE and NFS have, and would be asked, who may not
    // answer.
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if Path::new(&format!("/sys/class/bdi/{major}:{minor}")).exists() {
        return false;
    }
    #[cfg(target_arch = "x86_64")]
    {
        /// `struct ustat`, of 28 bytes, whose content is of no interest.
        #[repr(C, align(8))]
        struct Ustat([u8; 32]);
        let mut answer = Ustat([0; 32]);
        // SAFETY: the pointer is to more than what is written.
        let code = unsafe { libc::syscall(libc::SYS_ustat, device, &raw mut answer) };
        code == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = device;
        true
    }
}

/// The device number of what is open.
pub fn device_of(tree: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstat(tree)?.st_dev)
}

/// Whether an upper layer belongs to an overlay that is still mounted, wherever
/// and in whichever namespace. If not, the kernel logs a mount that failed.
pub fn is_in_use(upper: BorrowedFd<'_>, work: BorrowedFd<'_>) -> Result<bool, TreeError> {
    let doing = "find out whether a writable layer is in use";
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed(doing))?;
    let options = [
        ("lowerdir", path_of(&work)),
        ("upperdir", path_of(&upper)),
        // Only then an upper layer that is in use is refused. One that is not is
        // refused after that: a layer cannot work in itself.
        ("index", "on".to_owned()),
        ("workdir", path_of(&upper)),
    ];
    for (key, value) in options {
        fsconfig_set_string(&context, key, value).map_err(failed(doing))?;
    }
    match fsconfig_create(&context) {
        Err(Errno::BUSY) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(cause) => Err(failed(doing)(cause)),
        Ok(()) => Err(failed(doing)(Errno::INVAL)),
    }
}

/// A filesystem that the kernel fills, to be attached: nosuid, and nodev unless it
/// `has_devices`.
pub fn filesystem(
    kind: &str,
    options: &[(&str, &str)],
    has_devices: bool,
) -> Result<OwnedFd, TreeError> {
    let doing = "mount a filesystem in a container";
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed(doing))?;
    let configured = options
        .iter()
        .try_for_each(|(key, value)| match *value {
            "" => fsconfig_set_flag(&context, *key),
            value => fsconfig_set_string(&context, *key, value),
        })
        .and_then(|()| fsconfig_create(&context));
    configured.map_err(|cause| TreeError {
        doing,
        cause: cause.into(),
        said: format!(" ({kind})") + &said(&context),
    })?;
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID;
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !has_devices);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(failed(doing))
}

/// Another mount of what is open, a directory or a file, to be attached.
pub fn clone(what: BorrowedFd<'_>) -> Result<OwnedFd, TreeError> {
    open_tree(what, "", CLONE).map_err(failed("clone a mount"))
}

/// The same of what is at `path`, with all that is mounted below.
pub fn clone_all(path: &Path) -> Result<OwnedFd, TreeError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(failed("clone mounts"))
}

/// Makes the root of an attached tree the root of this process, and all of before
/// unreachable.
pub fn enter(root: BorrowedFd<'_>) -> Result<(), TreeError> {
    let failed = failed("enter a new root");
    rustix::process::fchdir(root).map_err(&failed)?;
    // The old root comes to lie above the new one, from where it is taken.
    rustix::process::pivot_root(".", ".").map_err(&failed)?;
    unmount(".", UnmountFlags::DETACH).map_err(&failed)?;
    rustix::process::chdir("/").map_err(&failed)
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE
    .union(OpenTreeFlags::OPEN_TREE_CLOEXEC)
    .union(OpenTreeFlags::AT_EMPTY_PATH);

/// `struct mount_attr` (mount_setattr(2)).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What is taken from mounts that a container gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Set-user-id programs and devices.
    Content,
    /// Set-user-id programs, and every change; a device can be written to all the
    /// same, but not its owner or mode.
    Change,
}

/// Takes something from mounts; and they do not come or go with others any more.
pub fn restrict(tree: BorrowedFd<'_>, restriction: Restriction) -> Result<(), TreeError> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | match restriction {
            Restriction::Content => MountAttrFlags::MOUNT_ATTR_NODEV,
            Restriction::Change => MountAttrFlags::MOUNT_ATTR_RDONLY,
        };
    let attr = MountAttr {
        set: flags.bits().into(),
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is a string, and the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(TreeError {
        doing: "restrict a mount",
        cause: io::Error::last_os_error(),
        said: String::new(),
    })
}

/// Attaches a tree where a directory or file is open.
pub fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<(), TreeError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", at, "", flags).map_err(failed("attach a mount"))
}

/// `MOVE_MOUNT_BENEATH` (Linux 6.5).
const BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);

/// Attaches a tree in place of the mount that is open as `at`, its root: there is no
/// moment without either, where the kernel can do that.
pub fn replace(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<(), TreeError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let doing = "mount in place of another";
    let detach = || {
        detach_open(at).map_err(|cause| TreeError {
            doing,
            cause,
            said: String::new(),
        })
    };
    match move_mount(tree, "", at, "", flags | BENEATH) {
        Ok(()) => detach(),
        Err(Errno::INVAL) => {
            // What is below is seen for a moment.
            let below = std::fs::read_link(path_of(&at)).map_err(|cause| TreeError {
                doing,
                cause,
                said: String::new(),
            })?;
            detach()?;
            move_mount(
                tree,
                "",
                CWD,
                &below,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .map_err(failed(doing))
        }
        Err(cause) => Err(failed(doing)(cause)),
    }
}

/// Detaches the mount whose root is open; who uses it may finish.
pub fn detach_open(root: BorrowedFd<'_>) -> io::Result<()> {
    Ok(unmount(path_of(&root), UnmountFlags::DETACH)?)
}

/// One tree of `base` and others, each at a place that is open within `base`.
pub fn assemble(base: OwnedFd, others: &[(OwnedFd, OwnedFd)]) -> Result<OwnedFd, TreeError> {
    for (number, (tree, at)) in others.iter().enumerate() {
        match attach(tree.as_fd(), at.as_fd()) {
            Ok(()) => {}
            // Before Linux 6.15 nothing can be attached to what is not attached.
            Err(error) if number == 0 && error.is_invalid() => {
                return assemble_in_namespace(&base, others);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(base)
}

/// The same by way of a namespace, in which all is attached for a moment.
fn assemble_in_namespace(
    base: &OwnedFd,
    others: &[(OwnedFd, OwnedFd)],
) -> Result<OwnedFd, TreeError> {
    let doing = "put mounts together";
    let done = namespace::of_a_thread(|directory| {
        let place = rustix::fs::open(
            directory,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(failed(doing))?;
        attach(base.as_fd(), place.as_fd())?;
        for (tree, at) in others {
            attach(tree.as_fd(), at.as_fd())?;
        }
        let whole = CLONE.union(OpenTreeFlags::AT_RECURSIVE);
        open_tree(base, "", whole).map_err(failed(doing))
    });
    done.map_err(|cause| TreeError {
        doing,
        cause,
        said: String::new(),
    })?
}

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a number that no other mount ever gets.
const UNIQUE_MOUNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The kernel's number of a mount; it stays when that is attached. Before Linux
/// 6.8 numbers are used again.
pub fn id_of(tree: BorrowedFd<'_>) -> io::Result<u64> {
    id(tree, Path::new(""), AtFlags::EMPTY_PATH)
}

/// The number of the mount on top at `target`, which no filesystem is asked for.
pub fn id_at(target: &Path) -> io::Result<u64> {
    id(CWD, target, AtFlags::SYMLINK_NOFOLLOW)
}

fn id(at: BorrowedFd<'_>, path: &Path, flags: AtFlags) -> io::Result<u64> {
    let flags = flags | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    for wanted in [UNIQUE_MOUNT_ID, StatxFlags::MNT_ID] {
        let found = statx(at, path, flags, wanted)?;
        if found.stx_mask & wanted.bits() != 0 {
            return Ok(found.stx_mnt_id);
        }
    }
    Err(io::Error::other(
        "this kernel does not number its mounts: take Linux 5.8 or newer",
    ))
}

/// Detaches the tree that is attached on top at `target`; who uses it may finish.
pub fn detach(target: &Path) -> io::Result<()> {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    Ok(unmount(target, flags)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{Mode, OFlags, openat};

    use super::*;

    fn place(root: BorrowedFd<'_>, path: &str) -> OwnedFd {
        openat(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// A filesystem with a directory, and another one that goes there.
    fn parts() -> (OwnedFd, Vec<(OwnedFd, OwnedFd)>) {
        let base = filesystem("tmpfs", &[], false).unwrap();
        rustix::fs::mkdirat(&base, "at", Mode::RWXU).unwrap();
        let other = filesystem("tmpfs", &[], false).unwrap();
        rustix::fs::mkdirat(&other, "found", Mode::RWXU).unwrap();
        let at = place(base.as_fd(), "at");
        (base, vec![(other, at)])
    }

    /// The one way is that of old kernels, and the other that of new ones.
    #[test]
    fn both_ways_give_one_tree_that_is_seen_nowhere() {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (base, others) = parts();
        let whole = assemble_in_namespace(&base, &others).unwrap();
        place(whole.as_fd(), "at/found");
        let (base, others) = parts();
        let whole = assemble(base, &others).unwrap();
        place(whole.as_fd(), "at/found");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        let id = id_of(whole.as_fd()).unwrap();
        let seen = namespace::of_a_thread(|directory| {
            let at = place(CWD, directory.to_str().unwrap());
            attach(whole.as_fd(), at.as_fd()).unwrap();
            (
                id_at(directory).unwrap(),
                directory.join("at/found").is_dir(),
            )
        });
        assert_eq!(seen.unwrap(), (id, true));
    }

    #[test]
    fn a_layer_that_is_in_use_is_told_from_one_that_is_not() {
        let disk = filesystem("tmpfs", &[], false).unwrap();
        let made = |name: &str| {
            rustix::fs::mkdirat(&disk, name, Mode::RWXU).unwrap();
            place(disk.as_fd(), name)
        };
        // Old kernels take no layers of what is not attached.
        let answers = namespace::of_a_thread(|directory| {
            attach(
                disk.as_fd(),
                place(CWD, directory.to_str().unwrap()).as_fd(),
            )
            .unwrap();
            let (lower, upper, work) = (made("lower"), made("upper"), made("work"));
            let in_use = || is_in_use(upper.as_fd(), work.as_fd()).unwrap();
            let before = in_use();
            let overlay = overlay(&Overlay {
                lower: vec![lower.as_fd()],
                upper: Some((upper.as_fd(), work.as_fd())),
                source: "test",
                is_of_user: false,
            });
            let overlay = overlay.unwrap();
            let device = device_of(overlay.as_fd()).unwrap();
            (before, in_use(), may_be_there(device))
        });
        assert_eq!(answers.unwrap(), (false, true, true));
    }

    #[test]
    fn what_the_kernel_says_is_told() {
        let error = filesystem("tmpfs", &[("no-such-option", "1")], false).unwrap_err();
        assert!(error.to_string().contains("no-such-option"), "{error}");
        let error = filesystem("no-such-filesystem", &[], false).unwrap_err();
        assert_eq!(Errno::from_io_error(&error.cause), Some(Errno::NODEV));
    }
}
