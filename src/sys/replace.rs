//! One descriptor in the place of another.

#![expect(
    unsafe_code,
    reason = "dup3(2) over a borrowed descriptor has no safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What has the number `place` is closed, and `with` has that number, too (dup3(2)).
/// In one step: nobody finds it closed.
pub fn replace(place: BorrowedFd<'_>, with: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor stays open for whoever owns its number.
    let done = unsafe { libc::dup3(with.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_owner_has_something_else_then() {
        let (mut read, _write) = io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        replace(read.as_fd(), null.as_fd()).unwrap();
        assert_eq!(read.read(&mut [0]).unwrap(), 0);
    }
}
