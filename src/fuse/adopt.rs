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
const RESEND: i32 = 7;
/// `struct fuse_in_header` and `struct fuse_init_in`.
const INIT_BYTES: usize = 40 + 64;
/// `struct fuse_out_header`.
const OUT_HEADER_BYTES: usize = 16;

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
    send(&kernel, &init_request(offer), SendFlags::NOSIGNAL)?;
    let session = Session::from_fd(adapter, ours, SessionACL::All, config)?;
    replace(session.as_fd(), connection.as_fd())?;
    if let Err(error) = rustix::io::write(connection, &resend()) {
        tracing::warn!(
            %error,
            "the kernel cannot send again what was not answered (Linux 6.9 can): who waits for \
             an answer waits for ever, unless the mount is aborted"
        );
    }
    Ok(session)
}

/// The request that began the connection, as far as it matters.
fn init_request(offer: KernelOffer) -> [u8; INIT_BYTES] {
    let flags = (offer.flags | EXTENDED).to_le_bytes();
    let [a, b, c, d, e, f, g, h] = flags;
    let words = [
        (0, INIT_BYTES as u32),
        (4, INIT),
        // `unique` is no zero for a request.
        (8, 1),
        (40, MAJOR),
        (44, offer.minor),
        (48, READ_AHEAD_BYTES),
        (52, u32::from_le_bytes([a, b, c, d])),
        (56, u32::from_le_bytes([e, f, g, h])),
    ];
    let mut request = [0; INIT_BYTES];
    for (at, word) in words {
        request[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    request
}

/// Asks for all that was not answered.
fn resend() -> [u8; OUT_HEADER_BYTES] {
    let mut notice = [0; OUT_HEADER_BYTES];
    notice[..4].copy_from_slice(&(OUT_HEADER_BYTES as u32).to_ne_bytes());
    notice[4..8].copy_from_slice(&RESEND.to_ne_bytes());
    notice
}
