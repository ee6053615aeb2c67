//! Whether reading a descriptor waits.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Sets or clears `O_NONBLOCK`. It belongs to the open file, so it takes
/// effect for every duplicate of the descriptor, from the next call on.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    let wanted = if on {
        flags | OFlags::NONBLOCK
    } else {
        flags - OFlags::NONBLOCK
    };
    if wanted != flags {
        fcntl_setfl(&fd, wanted)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_follows() {
        let (read, _write) = rustix::pipe::pipe().unwrap();
        let duplicate = read.try_clone().unwrap();
        set_nonblocking(&duplicate, true).unwrap();
        assert_eq!(
            rustix::io::read(&read, &mut [0; 1]),
            Err(rustix::io::Errno::AGAIN)
        );
        set_nonblocking(&duplicate, false).unwrap();
        assert!(!fcntl_getfl(&read).unwrap().contains(OFlags::NONBLOCK));
    }
}
