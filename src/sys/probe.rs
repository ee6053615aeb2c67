//! Tries what the kernel can do, without leaving anything behind.
//!
//! Guarantees: mounts are tried in a [namespace](super::namespace) of a thread's
//! own, so that nobody ever sees them.

#![expect(
    unsafe_code,
    reason = "unshare(2), fork(2) and Landlock have no safe wrapper here"
)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::daemon::status_of;
use super::tree::{self, Overlay};

/// The least that can be read from `/dev/fuse` at a time.
const FUSE_READ_BYTES: usize = 8192;

const FUSE_INIT: u32 = 26;

/// Mounts an overlay within `directory`, as above images, and writes through it.
pub fn overlay(directory: &Path) -> io::Result<()> {
    let made = |name: &str| {
        let path = directory.join(format!("overlay-{name}"));
        fs::create_dir_all(&path).map(|()| path)
    };
    let (lower, upper_path, work) = (made("lower")?, made("upper")?, made("work")?);
    let merged = made("merged")?;
    let (lower, upper, work) = (open(&lower)?, open(&upper_path)?, open(&work)?);
    let mounted = tree::overlay(&Overlay {
        lower: vec![lower.as_fd()],
        upper: Some((upper.as_fd(), work.as_fd())),
        source: "none",
        is_of_user: false,
    });
    let place = open(&merged)?;
    let attached = mounted.and_then(|tree| tree::attach(tree.as_fd(), place.as_fd()));
    attached.map_err(io::Error::other)?;
    fs::write(merged.join("file"), "x")?;
    fs::read(upper_path.join("file")).map(drop)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Clones the mount at `directory` without attaching it, then attaches it
/// below: open_tree(2) and move_mount(2).
pub fn detached_mounts(directory: &Path) -> io::Result<()> {
    let target = directory.join("attached");
    fs::create_dir_all(&target)?;
    let tree = tree::clone_all(directory).map_err(|error| error.cause)?;
    tree::attach(tree.as_fd(), open(&target)?.as_fd()).map_err(|error| error.cause)
}

/// What the kernel offers in its first FUSE request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuseOffer {
    /// Version of the protocol: 7 and this.
    pub minor: u32,
    /// `FUSE_*` capabilities, both halves.
    pub capabilities: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct InitRequest {
    len: u32,
    opcode: u32,
    _header: [u64; 4],
    major: u32,
    minor: u32,
    _max_readahead: u32,
    flags: u32,
    flags2: u32,
    _unused: [u32; 11],
}
const _: () = assert!(size_of::<InitRequest>() == 40 + 64);
const _: () = assert!(std::mem::offset_of!(InitRequest, major) == 40);

/// Mounts a FUSE filesystem in `directory` and reads what the kernel offers.
/// Nobody serves it: closing the connection ends it.
pub fn fuse_offer(directory: &Path) -> io::Result<FuseOffer> {
    let target = directory.join("fuse");
    fs::create_dir_all(&target)?;
    let mut device = File::options().read(true).write(true).open("/dev/fuse")?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        device.as_raw_fd()
    );
    let data = CString::new(data)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
    mount("none", &target, "fuse", flags, data.as_c_str())?;
    // The request is there when mount(2) returns.
    let mut buffer = vec![0; FUSE_READ_BYTES];
    let len = device.read(&mut buffer)?;
    let mut request = InitRequest::new_zeroed();
    let known = len.min(size_of::<InitRequest>());
    request.as_mut_bytes()[..known].copy_from_slice(&buffer[..known]);
    if request.opcode != FUSE_INIT || request.major != 7 {
        return Err(io::Error::other(
            "the kernel began with another request than INIT",
        ));
    }
    Ok(FuseOffer {
        minor: request.minor,
        capabilities: u64::from(request.flags) | u64::from(request.flags2) << 32,
    })
}

/// The version of Landlock that the kernel has.
pub fn landlock_abi() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag nothing is read from the pointer, which must be
    // null, and a number is returned.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(abi).map_err(|_| io::Error::last_os_error())
}

/// Makes a user namespace and mounts in it, in a child process that ends at
/// once.
pub fn user_namespace() -> io::Result<()> {
    // SAFETY: the child makes system calls and ends; it takes no lock that
    // another thread could have held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let errno = try_user_namespace().map_or_else(Errno::raw_os_error, |()| 0);
            // SAFETY: ends the child at once, as nothing of the parent's may
            // be flushed or dropped here.
            unsafe { libc::_exit(errno) }
        }
        child => match status_of(child)? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno.into())),
        },
    }
}

fn try_user_namespace() -> Result<(), Errno> {
    // SAFETY: this process has one thread and ends right after.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)? };
    // Where a namespace is allowed but rights in it are not, this fails.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
}

#[cfg(test)]
mod tests {
    use super::super::namespace;
    use super::*;

    #[test]
    fn nothing_that_was_tried_stays() {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let tried = namespace::of_a_thread(|directory| {
            overlay(directory).unwrap();
            detached_mounts(directory).unwrap();
            let offer = fuse_offer(directory).unwrap();
            assert!(offer.minor >= 28, "{offer:?}");
            directory.join("overlay-merged")
        });
        let merged = tried.unwrap_or_else(|error| panic!("needs root: {error}"));
        assert!(!merged.exists());
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    }

    #[test]
    fn landlock_and_namespaces_answer() {
        // Whether there or not: a number or an error, and no child is left.
        if let Ok(abi) = landlock_abi() {
            assert!(abi > 0);
        }
        drop(user_namespace());
        let namespace = fs::read_link("/proc/self/ns/user").unwrap();
        assert_eq!(
            namespace,
            fs::read_link("/proc/1/ns/user").unwrap_or(namespace.clone())
        );
    }
}
