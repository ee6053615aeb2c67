//! A mount namespace that only one thread is in.
//!
//! Guarantees: what is mounted there is seen by nobody else, other threads of this
//! process included, and goes with the thread.

#![expect(unsafe_code, reason = "unshare(2) has no safe wrapper")]

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, unshare_unsafe};

/// Places to mount on; one of them is on every system.
const PLACES: [&str; 4] = ["/tmp", "/run", "/var", "/mnt"];

/// Whether this thread has the right to mount.
pub fn may_mount() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Runs `work` on an empty directory in a mount namespace of its own. Takes the
/// right to mount.
pub fn of_a_thread<T: Send>(work: impl FnOnce(&Path) -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".to_owned());
        let thread = thread.spawn_scoped(scope, || {
            let directory = private_directory()?;
            Ok(work(&directory))
        })?;
        let done = thread.join();
        done.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// A mount namespace for this whole process, which must have one thread. What is
/// mounted or unmounted outside from now on is so in here, too, but not the other
/// way round.
pub fn of_this_process() -> io::Result<()> {
    super::daemon::refuse_threads()?;
    enter(MountPropagationFlags::DOWNSTREAM)
}

/// A user namespace of this process's own, which must have one thread, and the
/// right to mount in it.
pub(super) fn unshare_user() -> io::Result<()> {
    super::daemon::refuse_threads()?;
    // SAFETY: this is the only thread, and no descriptor goes away.
    let done = unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) };
    done.map_err(io::Error::from)
}

/// An empty filesystem in memory, in a mount namespace that only this thread
/// is in.
fn private_directory() -> io::Result<PathBuf> {
    enter(MountPropagationFlags::PRIVATE)?;
    cover()
}

fn enter(propagation: MountPropagationFlags) -> io::Result<()> {
    // SAFETY: without `FILES` no descriptor of other threads goes away for
    // this one. The current directory becomes this thread's own, and that of no
    // other one changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    Ok(mount_change("/", propagation | MountPropagationFlags::REC)?)
}

/// Mounts an empty filesystem in memory over some directory, of which nothing is
/// seen any more in this namespace, which has to be a private one.
pub fn cover() -> io::Result<PathBuf> {
    let place = PLACES
        .into_iter()
        .map(Path::new)
        .find(|place| place.is_dir());
    let place = place.unwrap_or(Path::new("/"));
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("none", place, "tmpfs", flags, c"size=1m,mode=755")?;
    Ok(place.to_owned())
}
