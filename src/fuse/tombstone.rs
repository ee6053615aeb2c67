//! A connection whose image is not read any more: who uses it gets errors, and
//! nobody else notices.
//!
//! Guarantees: no archive and no index is touched; every request is answered at
//! once, EIO unless it lets go of something; the connection stays alive until its
//! last user is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::adopt::ask_again;
use crate::fs::FsError;
use crate::sys::nonblock::set_nonblocking;

/// `struct fuse_in_header`, in words, and its fields.
const IN_WORDS: usize = 10;
const OPCODE: usize = 1;
const UNIQUE: std::ops::Range<usize> = 2..4;
/// The kernel wants room for the longest write that was agreed upon, 1 MiB at most,
/// and its headers. Nobody writes to an image: this is never touched.
const REQUEST_BYTES_MAX: usize = 1024 * 1024 + 4096;
/// `struct fuse_out_header`.
const OUT_BYTES: u32 = 16;

const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const RELEASEDIR: u32 = 29;
const DESTROY: u32 = 38;

/// A connection that is answered by a thread of this process.
#[derive(Debug)]
pub struct Tombstone(JoinHandle<io::Result<()>>);

impl Tombstone {
    /// Answers on `connection`, and what a process before was asked there.
    pub fn raise(connection: OwnedFd) -> io::Result<Tombstone> {
        set_nonblocking(&connection, false)?;
        ask_again(&connection);
        std::thread::Builder::new()
            .name("tombstone".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || answer_all(&connection))
            .map(Tombstone)
    }

    /// Whether its last user is gone.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for that.
    pub fn wait(self) -> io::Result<()> {
        let ended = self.0.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }
}

fn answer_all(connection: impl AsFd) -> io::Result<()> {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    loop {
        let len = match rustix::io::read(&connection, &mut request[..]) {
            Ok(0) | Err(Errno::NODEV) => return Ok(()),
            Ok(len) => len,
            // A request that was given up while it was read, and signals.
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(answer) = answer(&request[..len]) else {
            continue;
        };
        match rustix::io::write(&connection, answer.as_bytes()) {
            // Nobody waits for it any more.
            Ok(_) | Err(Errno::NOENT | Errno::INVAL) => {}
            Err(Errno::NODEV) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The answer, a `struct fuse_out_header`, if there is to be one.
fn answer(request: &[u8]) -> Option<[u32; 4]> {
    let (header, _) = <[u32; IN_WORDS]>::read_from_prefix(request).ok()?;
    let errno = match header[OPCODE] {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        RELEASE | RELEASEDIR | FLUSH | DESTROY => 0,
        _ => -FsError::Buried.errno(),
    };
    let mut answer = [OUT_BYTES, errno.cast_unsigned(), 0, 0];
    answer[2..].copy_from_slice(&header[UNIQUE]);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn requests_get_errors_and_what_lets_go_succeeds() {
        const LOOKUP: u32 = 1;
        const READ: u32 = 15;
        let (kernel, ours) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let tombstone = Tombstone::raise(ours).unwrap();
        let mut answer = [0_u32; 4];
        let mut receive = || {
            let len = rustix::io::read(&kernel, answer.as_mut_bytes()).unwrap();
            assert_eq!(len, 16);
            answer
        };
        // What was not answered before is asked for first.
        assert_eq!(receive(), [16, 7, 0, 0]);
        let mut request = [0_u32; 20];
        rustix::io::write(&kernel, &[1; 7]).unwrap();
        for (opcode, expected) in [
            (FORGET, None),
            (LOOKUP, Some(-5)),
            (READ, Some(-5)),
            (BATCH_FORGET, None),
            (RELEASE, Some(0)),
            (INTERRUPT, None),
            (9999, Some(-5)),
            (RELEASEDIR, Some(0)),
            (DESTROY, Some(0)),
        ] {
            request[OPCODE] = opcode;
            request[2] = opcode + 1;
            request[3] = 1 << 31;
            rustix::io::write(&kernel, request.as_bytes()).unwrap();
            if let Some(errno) = expected {
                let errno: i32 = errno;
                let expected = [16, errno.cast_unsigned(), opcode + 1, 1 << 31];
                assert_eq!(receive(), expected, "{opcode}");
            }
        }
        assert!(!tombstone.is_finished());
        drop(kernel);
        tombstone.wait().unwrap();
    }
}
