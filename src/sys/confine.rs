//! What a process can reach from now on (Landlock).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use rustix::fs::{Mode, OFlags};

/// What is asked of the kernel at most; less where it can less.
const KNOWN: ABI = ABI::V5;

/// Lets this process, all its threads that are started from now on, reach nothing but
/// what is below some directories, and read about itself in `/proc`; nor any other
/// machine or process by TCP, but through what it has open. To be called while there is
/// one thread. Whether the kernel can do that.
pub fn confine(directories: &[&OwnedFd]) -> io::Result<bool> {
    let itself = rustix::fs::open(
        "/proc/self",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let all: BitFlags<AccessFs> = AccessFs::from_all(KNOWN);
    let of_data = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let restricted = (|| {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .handle_access(AccessNet::from_all(KNOWN))?
            .create()?
            .add_rule(PathBeneath::new(itself.as_fd(), reading))?;
        for directory in directories {
            rules = rules.add_rule(PathBeneath::new(directory.as_fd(), of_data))?;
        }
        rules.restrict_self()
    })();
    let status = restricted.map_err(|error: landlock::RulesetError| io::Error::other(error))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    /// A thread of its own is confined by itself.
    #[test]
    fn what_was_not_open_before_is_out_of_reach() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("inside"), "x").unwrap();
        let confined = std::thread::spawn(move || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let at = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(at).unwrap();
            let directory = OwnedFd::from(File::open(dir.path()).unwrap());
            if !confine(&[&directory]).unwrap() {
                return false;
            }
            assert!(File::open("/etc/passwd").is_err());
            assert!(File::open(dir.path().join("inside")).is_ok());
            assert!(TcpStream::connect(at).is_err());
            assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_err());
            // Who connected to what was open is answered.
            listener.accept().unwrap().0.write_all(b"x").unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "x");
            true
        });
        assert!(
            confined.join().unwrap(),
            "this kernel has no Landlock: it confines workers by their user only"
        );
    }
}
