//! Going on with a connection that another process served until it ended.
//!
//! `fuser` begins a session with a handshake, which a connection makes once. So it
//! gets a socket that plays the kernel of that time, and the connection is put in
//! the socket's place afterwards. Then the kernel is asked to send again what the
//! other process had not answered.
//!
//! Guarantees: both processes understood the same offer of the kernel, so that they
//! agreed to the same; no request is answered twice (the other process is gone) and
//! none is left (but before Linux 6.9, which sends nothing again).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use fuser::{Config, Session, SessionACL};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use zerocopy::IntoBytes;

use crate::fuse::adapter::Adapter;
use crate::sys::replace::replace;
use crate::types::KernelOffer;

/// `FUSE_INIT`.
const INIT: u32 = 26;
/// `FUSE_KERNEL_VERSION`.
const MAJOR: u32 = 7;
/// `FUSE_INIT_EXT`: the flags have a second word.
const EXTENDED: u64 = 1 << 30;
/// Read-ahead was agreed upon the first time, and is not changed by this.
const READ_AHEAD_BYTES: u32 = 128 * 1024;
/// `FUSE_NOTIFY_RESEND`.
const RESEND: u32 = 7;
/// `struct fuse_in_header` and `struct fuse_init_in`, in words.
const INIT_WORDS: usize = 10 + 16;
const INIT_BYTES: u32 = 40 + 64;

/// A session on `connection`, whose kernel offered `offer` when it began.
pub(super) fn session(
    adapter: Adapter,
    connection: &OwnedFd,
    offer: KernelOffer,
    config: Config,
) -> io::Result<Session<Adapter>> {
    let (kernel, ours) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    send(&kernel, init_request(offer).as_bytes(), SendFlags::NOSIGNAL)?;
    let session = Session::from_fd(adapter, ours, SessionACL::All, config)?;
    replace(session.as_fd(), connection.as_fd())?;
    ask_again(connection);
    Ok(session)
}

/// Has the kernel send again what the process before did not answer.
pub(super) fn ask_again(connection: &OwnedFd) {
    if let Err(error) = rustix::io::write(connection, RESEND_NOTICE.as_bytes()) {
        tracing::warn!(
            %error,
            "the kernel cannot send again what was not answered (Linux 6.9 can): who waits for \
             an answer waits for ever, unless the mount is aborted"
        );
    }
}

/// The request that began the connection, as far as it matters.
fn init_request(offer: KernelOffer) -> [u32; INIT_WORDS] {
    let [a, b, c, d, e, f, g, h] = (offer.flags | EXTENDED).to_le_bytes();
    let mut words = [0; INIT_WORDS];
    words[0] = INIT_BYTES;
    words[1] = INIT;
    // `unique` is no zero for a request.
    words[2] = 1;
    words[10] = MAJOR;
    words[11] = offer.minor;
    words[12] = READ_AHEAD_BYTES;
    words[13] = u32::from_le_bytes([a, b, c, d]);
    words[14] = u32::from_le_bytes([e, f, g, h]);
    words
}

/// Asks for all that was not answered: a `struct fuse_out_header`.
const RESEND_NOTICE: [u32; 4] = [16, RESEND, 0, 0];
