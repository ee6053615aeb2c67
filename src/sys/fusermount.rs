//! Mounting without privilege, through the set-user-id helper of libfuse.
//!
//! The helper opens `/dev/fuse`, mounts, and hands the descriptor back over a
//! socket whose number it finds in `_FUSE_COMMFD`. That socket is its standard
//! input, so that nothing has to be done between fork and exec.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::mount_error::MountError;
use super::pass;

/// The helper of libfuse 3, then that of libfuse 2.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Mounts at `target` and returns the connection.
pub(super) fn mount(target: &Path, options: &OsStr) -> Result<OwnedFd, MountError> {
    let (ours, theirs) = UnixStream::pair().map_err(MountError::System)?;
    let mut theirs = Some(theirs);
    let run = |helper: &str| {
        let socket = match theirs.take() {
            Some(socket) => socket,
            None => return Err(io::Error::other("no socket is left")),
        };
        // Kept for the next helper if this one is not installed.
        theirs = Some(socket.try_clone()?);
        Command::new(helper)
            .arg("-o")
            .args([options, OsStr::new("--"), target.as_os_str()])
            .env("_FUSE_COMMFD", "0")
            .stdin(OwnedFd::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    };
    let mut child = first_installed(run)?;
    // With the last copy of their end closed, a helper that fails ends the wait.
    drop(theirs);
    let received = pass::receive(&ours);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What cannot be read is not shown; the status decides.
        let _unreadable = stderr.read_to_string(&mut said).is_err();
    }
    let status = child.wait().map_err(MountError::System)?;
    match received {
        Ok(Some(fd)) if status.success() => Ok(fd),
        Err(cause) if status.success() => Err(MountError::System(cause)),
        _ => Err(refused(status, &said)),
    }
}

/// Unmounts `target`; `lazy` also where it is in use.
pub(super) fn unmount(target: &Path, lazy: bool) -> Result<(), MountError> {
    let mut arguments: Vec<OsString> = vec!["-u".into()];
    if lazy {
        arguments.push("-z".into());
    }
    arguments.extend(["--".into(), target.into()]);
    let child = first_installed(|helper| {
        Command::new(helper)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    })?;
    let output = child.wait_with_output().map_err(MountError::System)?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false if said.contains("busy") => Err(MountError::Busy {
            target: target.to_owned(),
        }),
        false => Err(refused(output.status, &said)),
    }
}

fn first_installed<T>(mut run: impl FnMut(&str) -> io::Result<T>) -> Result<T, MountError> {
    for helper in HELPERS {
        match run(helper) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            other => return other.map_err(MountError::System),
        }
    }
    Err(MountError::NoHelper)
}

fn refused(status: ExitStatus, said: &str) -> MountError {
    let said = said.trim();
    if said.contains("user_allow_other") {
        return MountError::AllowOtherForbidden;
    }
    let what = if said.is_empty() {
        status.to_string()
    } else {
        said.to_owned()
    };
    if said.contains("/dev/fuse") {
        return MountError::DeviceClosed { what };
    }
    MountError::Helper { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_helper_says_leads_to_what_to_do() {
        let said = "fusermount3: option allow_other only allowed if 'user_allow_other' is set";
        let error = refused(ExitStatus::default(), said);
        assert!(matches!(error, MountError::AllowOtherForbidden));
        let said = "fusermount3: failed to open /dev/fuse: Permission denied";
        let error = refused(ExitStatus::default(), said);
        assert!(matches!(error, MountError::DeviceClosed { .. }));
        let error = refused(ExitStatus::default(), " some reason\n");
        assert!(matches!(error, MountError::Helper { what } if what == "some reason"));
    }
}
