//! A mount namespace that only one thread is in.
//!
//! Guarantees: what is mounted there is seen by nobody else, other threads of this
//! process included, and goes with the thread.

#![expect(unsafe_code, reason = "unshare(2) has no safe wrapper")]

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Places to mount on; one of them is on every system.
const PLACES: [&str; 4] = ["/tmp", "/run", "/var", "/mnt"];

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

/// An empty filesystem in memory, in a mount namespace that only this thread
/// is in.
fn private_directory() -> io::Result<PathBuf> {
    // SAFETY: without `FILES` no descriptor of other threads goes away for
    // this one. The current directory becomes this thread's own, which ends
    // before anybody relies on it.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let place = PLACES
        .into_iter()
        .map(Path::new)
        .find(|place| place.is_dir());
    let place = place.unwrap_or(Path::new("/"));
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("none", place, "tmpfs", flags, c"size=1m,mode=700")?;
    Ok(place.to_owned())
}
