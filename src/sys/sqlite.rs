//! How sqlite finds files.
//!
//! It replaces each link in a path by what readlink(2) says. A path through
//! `/proc/self/fd` leads to what is open; what readlink(2) says of it may lead through
//! directories that this process cannot enter.

#![expect(unsafe_code, reason = "rusqlite has no way to say that")]

use std::ffi::{c_char, c_int};
use std::io;
use std::ptr::null;
use std::sync::OnceLock;

use rusqlite::ffi::{SQLITE_OK, sqlite3_vfs_find};

type Call = unsafe extern "C" fn();
type Stat = unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int;

/// What sqlite calls instead of lstat(2), which it does to find links.
unsafe extern "C" fn stat(path: *const c_char, found: *mut libc::stat) -> c_int {
    // SAFETY: as of lstat(2), in whose place it is called.
    unsafe { libc::stat(path, found) }
}

/// Has sqlite open paths as they are given, in all of this process. To be called
/// before it opens anything.
pub fn keep_paths() -> io::Result<()> {
    static KEPT: OnceLock<bool> = OnceLock::new();
    match KEPT.get_or_init(replace_lstat) {
        true => Ok(()),
        false => Err(io::Error::other("sqlite does not let its paths be kept")),
    }
}

fn replace_lstat() -> bool {
    // SAFETY: it takes a name, or null for the default, and starts sqlite if need be.
    let vfs = unsafe { sqlite3_vfs_find(null()) };
    if vfs.is_null() {
        return false;
    }
    // SAFETY: sqlite never removes its default.
    let Some(set) = (unsafe { (*vfs).xSetSystemCall }) else {
        return false;
    };
    // SAFETY: sqlite casts it back to what it is before it calls it, as it does with
    // what it has for lstat(2) itself.
    let call = unsafe { std::mem::transmute::<Stat, Call>(stat) };
    // SAFETY: the name ends with a null byte, and the function lives for ever; nothing
    // else uses sqlite meanwhile.
    unsafe { set(vfs, c"lstat".as_ptr(), Some(call)) == SQLITE_OK }
}
