//! Files as another user would make and find them.

#![expect(unsafe_code, reason = "setfsuid(2) of a thread has no safe wrapper")]

use std::io;

/// What `work` does with files, it does with the rights of this user and group, and
/// what it makes is theirs. In a thread of its own; other threads are as before.
pub fn as_user<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let worked = std::thread::Builder::new().spawn_scoped(scope, || {
            become_user(uid, gid)?;
            Ok(work())
        })?;
        let panicked = |_| io::Error::other("what was done for a user failed");
        worked.join().map_err(panicked)?
    })
}

/// For the files of this thread, until it ends.
fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: both take numbers. The second call of each tells what the first one did,
    // and changes nothing: no user has that number.
    let (group, user) = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsgid(u32::MAX), libc::setfsuid(u32::MAX))
    };
    if group.cast_unsigned() == gid && user.cast_unsigned() == uid {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};

    use super::*;

    #[test]
    fn what_is_made_is_theirs_and_what_is_not_theirs_stays() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(30_000), Some(30_000)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let made = as_user(30_000, 30_000, || {
            assert!(fs::create_dir(dir.path().join("other")).is_err());
            fs::DirBuilder::new()
                .mode(0o750)
                .create(theirs.join("made"))
        });
        made.unwrap().unwrap();
        let found = fs::metadata(theirs.join("made")).unwrap();
        assert_eq!((found.uid(), found.gid()), (30_000, 30_000));
        // Only that thread.
        fs::create_dir(dir.path().join("other")).unwrap();
    }
}
