//! Mounting and unmounting, by ourselves: the session gets a descriptor and
//! knows no path.
//!
//! Guarantees: a [`Mount`] that is dropped leaves nothing behind; a mount is
//! only ever undone if it is still the one that was made, so that one made by
//! somebody else at the same place meanwhile is left alone.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::fusermount;
pub use super::mount_error::MountError;
use super::mountinfo::{self, Device, FS_TYPE};
use super::tree;

/// Major and minor number of `/dev/fuse` (`MISC_MAJOR`, `FUSE_MINOR`).
const FUSE_DEVICE: (u32, u32) = (10, 229);

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// What is shown as the source: the archive.
    pub source: OsString,
    /// The directory to mount on.
    pub target: PathBuf,
    /// Whether other users may enter; permission bits apply to them.
    pub allow_other: bool,
    /// Kernel flags; read-only is added in any case.
    pub flags: MountOptions,
}

/// The options of mount(8) that an image can be mounted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Ignore set-user-id bits and file capabilities.
    pub nosuid: bool,
    /// Ignore device nodes.
    pub nodev: bool,
    /// Refuse to run programs.
    pub noexec: bool,
    /// `allow_other` if it was said, else nothing.
    pub allow_other: Option<bool>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            nosuid: true,
            nodev: true,
            noexec: false,
            allow_other: None,
        }
    }
}

impl MountOptions {
    /// Reads the value of `-o`: names separated by commas, the last one wins.
    pub fn parse(text: &str) -> Result<MountOptions, MountError> {
        let mut options = MountOptions::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option {
                "suid" => options.nosuid = false,
                "nosuid" => options.nosuid = true,
                "dev" => options.nodev = false,
                "nodev" => options.nodev = true,
                "exec" => options.noexec = false,
                "noexec" => options.noexec = true,
                "allow_other" => options.allow_other = Some(true),
                // What a mount of ours is anyway, or what mount(8) passes on.
                "ro"
                | "noatime"
                | "nodiratime"
                | "default_permissions"
                | "defaults"
                | "auto"
                | "noauto"
                | "nofail"
                | "_netdev" => {}
                other => {
                    return Err(MountError::Option {
                        option: other.to_owned(),
                    });
                }
            }
        }
        Ok(options)
    }
}

/// A mount of ours. Dropping it unmounts, lazily, what is still mounted.
#[derive(Debug)]
pub struct Mount {
    target: PathBuf,
    device: Device,
    identity: Identity,
}

/// What tells a mount from a later one at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    id: u64,
    device: Device,
}

/// Mounts, and returns the connection that has to be served.
pub fn mount(request: &MountRequest) -> Result<(Mount, OwnedFd), MountError> {
    let failed = |cause| MountError::Target {
        target: request.target.clone(),
        cause,
    };
    let target = request.target.canonicalize().map_err(failed)?;
    if !target.is_dir() {
        return Err(MountError::NotADirectory(target));
    }
    let fd = if rustix::process::geteuid().is_root() {
        match mount_directly(request, &target) {
            // Root of a container without the capability for it.
            Err(Errno::PERM) => fusermount::mount(&target, &helper_options(request))?,
            Err(cause) => return Err(failed(cause.into())),
            Ok(opened) => opened?,
        }
    } else {
        fusermount::mount(&target, &helper_options(request))?
    };
    let Some(identity) = Identity::of(&target).map_err(MountError::System)? else {
        return Err(MountError::NotMounted { target });
    };
    Ok((
        Mount {
            target,
            device: identity.device,
            identity,
        },
        fd,
    ))
}

/// The outer result is that of mount(2), which may lead to the helper.
fn mount_directly(
    request: &MountRequest,
    target: &Path,
) -> Result<Result<OwnedFd, MountError>, Errno> {
    let fd = match rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => fd,
        Err(cause) => return Ok(Err(MountError::NoDevice(cause.into()))),
    };
    // The kernel would only say that some argument is invalid.
    let device = rustix::fs::fstat(&fd)?;
    let is_device = FileType::from_raw_mode(device.st_mode) == FileType::CharacterDevice;
    if !is_device || device.st_rdev != rustix::fs::makedev(FUSE_DEVICE.0, FUSE_DEVICE.1) {
        let cause = io::Error::other("something else is in its place");
        return Ok(Err(MountError::NoDevice(cause)));
    }
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if request.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let mut flags = MountFlags::RDONLY | MountFlags::NOATIME;
    flags.set(MountFlags::NOSUID, request.flags.nosuid);
    flags.set(MountFlags::NODEV, request.flags.nodev);
    flags.set(MountFlags::NOEXEC, request.flags.noexec);
    rustix::mount::mount(
        request.source.as_bytes(),
        target,
        FS_TYPE,
        flags,
        data.as_c_str(),
    )?;
    Ok(Ok(fd))
}

/// The same for the helper, which knows `fsname` and `subtype`.
fn helper_options(request: &MountRequest) -> OsString {
    let mut options = b"ro,noatime,default_permissions,subtype=distrofs".to_vec();
    for (set, name) in [
        (request.flags.nosuid, ",nosuid"),
        (!request.flags.nosuid, ",suid"),
        (request.flags.nodev, ",nodev"),
        (!request.flags.nodev, ",dev"),
        (request.flags.noexec, ",noexec"),
        (request.allow_other, ",allow_other"),
    ] {
        if set {
            options.extend_from_slice(name.as_bytes());
        }
    }
    options.extend_from_slice(b",fsname=");
    for byte in request.source.as_bytes() {
        // A comma would begin an option of the archive's own choosing.
        if matches!(byte, b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
    OsString::from_vec(options)
}

impl Mount {
    /// The mount at `target`, if one of ours is there, whoever made it. Dropping it
    /// unmounts it, too.
    pub fn found(target: &Path) -> io::Result<Option<Mount>> {
        Ok(Identity::of(target)?.map(|identity| Mount {
            target: target.to_owned(),
            device: identity.device,
            identity,
        }))
    }

    /// Where it is mounted.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Its superblock.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether this very mount is still at its place.
    pub fn is_mounted(&self) -> bool {
        Identity::of(&self.target).is_ok_and(|found| found == Some(self.identity))
    }

    /// Unmounts, if it is not in use or if `lazy`; nothing to do if it is gone.
    pub fn unmount(&self, lazy: bool) -> Result<(), MountError> {
        if self.is_mounted() {
            unmount_at(&self.target, lazy)
        } else {
            Ok(())
        }
    }

    /// Makes the kernel read ahead this far. Root only; once the session has
    /// shaken hands, because that resets it.
    pub fn set_read_ahead(&self, kib: u32) -> io::Result<()> {
        std::fs::write(
            format!("/sys/class/bdi/{}/read_ahead_kb", self.device),
            kib.to_string(),
        )
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(cause) = self.unmount(true) {
            tracing::error!(target = %self.target.display(), %cause, "cannot unmount");
        }
    }
}

impl Identity {
    /// What is mounted at `target`, which no daemon is asked for.
    fn of(target: &Path) -> io::Result<Option<Identity>> {
        let Some(entry) = mountinfo::find(target)? else {
            return Ok(None);
        };
        if !mountinfo::is_distrofs(&entry.fs_type) {
            return Ok(None);
        }
        Ok(Some(Identity {
            id: tree::id_at(target).unwrap_or(entry.id),
            device: entry.device,
        }))
    }
}

/// Unmounts the image at `target`, which may be any process's; `lazy` also if
/// it is in use: it goes when the last user does.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    let failed = |cause| MountError::Target {
        target: target.to_owned(),
        cause,
    };
    let target = mountinfo::resolve(target).map_err(failed)?;
    match mountinfo::find(&target).map_err(MountError::System)? {
        Some(entry) if mountinfo::is_distrofs(&entry.fs_type) => unmount_at(&target, lazy),
        _ => Err(MountError::NotMounted { target }),
    }
}

fn unmount_at(target: &Path, lazy: bool) -> Result<(), MountError> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    match rustix::mount::unmount(target, flags) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::Busy {
            target: target.to_owned(),
        }),
        Err(Errno::PERM) => fusermount::unmount(target, lazy),
        Err(cause) => Err(MountError::System(cause.into())),
    }
}

/// Ends a connection whose daemon does not answer: everything that waits for
/// it gets an error. Root, or whoever mounted it.
pub fn abort_connection(device: Device) -> io::Result<()> {
    let file = format!("{}/abort", device.minor);
    // Where nobody has mounted the filesystem of connections, root does, for itself.
    if let Ok(connections) = tree::filesystem("fusectl", &[], false) {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let abort = rustix::fs::openat(&connections, &file, flags, Mode::empty())?;
        rustix::io::write(&abort, b"1")?;
        return Ok(());
    }
    std::fs::write(Path::new("/sys/fs/fuse/connections").join(file), "1")
}

/// The same by the descriptor of a connection, also if it is mounted nowhere that can
/// be seen from here.
pub fn abort(connection: BorrowedFd<'_>) -> io::Result<()> {
    // `fdinfo` has had the number of the connection since Linux 6.6.
    let number = connection.as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let mut lines = info.lines();
    let minor = lines.find_map(|line| line.strip_prefix("fuse_connection:"));
    let minor = minor.and_then(|minor| minor.trim().parse().ok());
    let minor = minor.ok_or_else(|| {
        io::Error::other("this kernel does not say which connection it is: unmount it instead")
    })?;
    abort_connection(Device { major: 0, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(source: &str) -> MountRequest {
        MountRequest {
            source: source.into(),
            target: "/nowhere".into(),
            allow_other: false,
            flags: MountOptions::default(),
        }
    }

    #[test]
    fn options_are_read_and_unknown_ones_are_named() {
        let options = MountOptions::parse("ro,suid,noexec,,allow_other").unwrap();
        assert!(!options.nosuid && options.nodev && options.noexec);
        assert_eq!(options.allow_other, Some(true));
        assert_eq!(MountOptions::parse("").unwrap(), MountOptions::default());
        let error = MountOptions::parse("rw").unwrap_err().to_string();
        assert!(error.contains("\"rw\""), "{error}");
    }

    #[test]
    fn the_name_of_an_archive_cannot_become_an_option() {
        let options = helper_options(&request("/a,suid\\,dev.tgz"));
        let text = options.to_string_lossy();
        assert!(
            text.ends_with(",nosuid,nodev,fsname=/a\\,suid\\\\\\,dev.tgz"),
            "{text}"
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = mount(&request("x")).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot mount on /nowhere: No such file"),
            "{error}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        let on_file = MountRequest {
            target: file.path().into(),
            ..request("x")
        };
        assert!(matches!(mount(&on_file), Err(MountError::NotADirectory(_))));
        assert!(matches!(
            unmount(Path::new("/proc"), true),
            Err(MountError::NotMounted { .. })
        ));
    }
}
