//! Sockets that carry streams (unix(7)).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen as listen_at, socket_with};

use super::packets::short;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens at `path`, in place of a socket that a process before left there. Who may connect is
/// said by `mode`.
pub fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something else is there: remove it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    short(path, |address| bind(&socket, address))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listen_at(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_was_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("socket");
        drop(listen(&at, 0o666).unwrap());
        let listener = UnixListener::from(listen(&at, 0o640).unwrap());
        assert_eq!(
            fs::metadata(&at).unwrap().permissions().mode() & 0o777,
            0o640
        );
        // But nothing that is no socket.
        let file = dir.path().join("file");
        fs::write(&file, "kept").unwrap();
        listen(&file, 0o666).unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        let mut client = UnixStream::connect(&at).unwrap();
        client.write_all(b"x").unwrap();
        let mut got = [0];
        listener.accept().unwrap().0.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"x");
    }
}
