//! Sockets that carry messages with descriptors (`SOCK_SEQPACKET`, unix(7)).
//!
//! Guarantees: a message comes whole, with all its descriptors, or is an error; no
//! descriptor of one that is refused stays open; nothing raises SIGPIPE.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg, shutdown, socket_with,
    socketpair,
};

/// The longest message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The most descriptors of one message (the kernel's limit is 253).
pub const MESSAGE_FDS_MAX: usize = 200;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// One end of a connection.
#[derive(Debug)]
pub struct Packets(OwnedFd);

/// Where connections come in.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process, in this namespace; zero if that is elsewhere.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// A message.
#[derive(Debug)]
pub struct Packet {
    /// What it says.
    pub bytes: Vec<u8>,
    /// What came with it.
    pub fds: Vec<OwnedFd>,
}

impl Packets {
    /// Two ends of one connection.
    pub fn pair() -> io::Result<(Packets, Packets)> {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Packets(a), Packets(b)))
    }

    /// Connects to the listener at `path`.
    pub fn connect(path: &Path) -> io::Result<Packets> {
        let socket = socket()?;
        short(path, |address| connect(&socket, address))?;
        Ok(Packets(socket))
    }

    /// Another handle to the same end.
    pub fn try_clone(&self) -> io::Result<Packets> {
        self.0.try_clone().map(Packets)
    }

    /// Who is at the other end, as the kernel saw it when the connection was made.
    pub fn peer(&self) -> io::Result<Peer> {
        let peer = socket_peercred(&self.0)?;
        Ok(Peer {
            pid: peer.pid.as_raw_nonzero().get().cast_unsigned(),
            uid: peer.uid.as_raw(),
        })
    }

    /// How long sending may wait for the other end to receive.
    pub fn set_sending(&self, patience: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(patience))?)
    }

    /// How long receiving may wait.
    pub fn set_receiving(&self, patience: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, Some(patience))?)
    }

    /// Ends the connection for all who have a handle to either end.
    pub fn close(&self) {
        // It fails if that happened already.
        let _closed = shutdown(&self.0, Shutdown::Both).is_ok();
    }

    /// Sends a message.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MESSAGE_BYTES_MAX || fds.len() > MESSAGE_FDS_MAX {
            return Err(io::Error::other("a message is too long"));
        }
        let mut space = space();
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("no room for descriptors"));
        }
        loop {
            let parts = [IoSlice::new(bytes)];
            match sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// The next message; nothing once the other end is closed.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = space();
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                received => break received?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                fds.extend(came);
            }
        }
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        if received.flags.intersects(cut) {
            return Err(io::Error::other("a message was too long"));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        bytes.truncate(received.bytes);
        bytes.shrink_to_fit();
        Ok(Some(Packet { bytes, fds }))
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Packets {
    fn from(fd: OwnedFd) -> Self {
        Packets(fd)
    }
}

impl Listener {
    /// Listens at `path`, in place of what a process before left there. Who may
    /// connect is said by `mode`.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Listener> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = socket()?;
        short(path, |address| bind(&socket, address))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listen(&socket, BACKLOG)?;
        Ok(Listener(socket))
    }

    /// The next connection.
    pub fn accept(&self) -> io::Result<Packets> {
        loop {
            match accept_with(&self.0, SocketFlags::CLOEXEC) {
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                accepted => return Ok(Packets(accepted?)),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Listener(fd)
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Room for the descriptors of a message.
fn space() -> [MaybeUninit<u8>; rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))] {
    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))]
}

/// Gives `act` an address for `path`, which may be longer than addresses can.
pub(super) fn short(
    path: &Path,
    act: impl FnOnce(&SocketAddrUnix) -> Result<(), Errno>,
) -> io::Result<()> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok(act(&address)?);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    let address = Path::new("/proc/self/fd")
        .join(number.to_string())
        .join(name);
    Ok(act(&SocketAddrUnix::new(address)?)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn messages_come_whole_with_their_descriptors() {
        let (ours, theirs) = Packets::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let fds = vec![file.as_fd(); MESSAGE_FDS_MAX];
        let long = vec![7; MESSAGE_BYTES_MAX];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ours.send(b"one", &[]).unwrap();
                ours.send(&long, &fds).unwrap();
            });
            let one = theirs.receive().unwrap().unwrap();
            assert_eq!((&one.bytes[..], one.fds.len()), (&b"one"[..], 0));
            let two = theirs.receive().unwrap().unwrap();
            assert_eq!((two.bytes.len(), two.fds.len()), (long.len(), fds.len()));
            let mut null = File::from(two.fds.into_iter().last().unwrap());
            assert_eq!(null.read(&mut [0]).unwrap(), 0);
        });
        assert!(ours.send(&[], &[]).is_err());
        assert!(ours.send(&vec![0; MESSAGE_BYTES_MAX + 1], &[]).is_err());
        drop(ours);
        assert!(theirs.receive().unwrap().is_none());
        assert!(theirs.send(b"x", &[]).is_err());
    }

    #[test]
    fn whoever_connects_is_known_and_paths_may_be_long() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("socket");
        for _ in 0..2 {
            let listener = Listener::bind(&path, 0o600).unwrap();
            let client = Packets::connect(&path).unwrap();
            let server = listener.accept().unwrap();
            let peer = server.peer().unwrap();
            assert_eq!(peer.pid, std::process::id());
            assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
            client.send(b"hello", &[]).unwrap();
            assert_eq!(server.receive().unwrap().unwrap().bytes, b"hello");
            server.set_receiving(Duration::from_millis(1)).unwrap();
            let error = server.receive().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
