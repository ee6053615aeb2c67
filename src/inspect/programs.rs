//! Whether a program could be started from an image.

use super::subject::Subject;
use crate::index::{Escaped, FileKind, IndexError};

/// Where the launcher's hooks look for programs, in this order.
pub(super) const PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// What is at a path where a program is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// A file that everybody may execute.
    Runs,
    /// A file that its owner or group may execute, but nobody else.
    NotByOthers,
    /// Something that cannot be executed, and why not.
    CannotRun(String),
    /// Nothing.
    Absent,
}

/// What is at `path`, links followed as after chroot(2).
pub(super) fn program(subject: &Subject, path: &[u8]) -> Result<Program, IndexError> {
    let Some(inode) = subject.find(path)? else {
        return Ok(match subject.find_unfollowed(path)? {
            Some(link) => {
                let target = Escaped(subject.index().link_target(link.ino)?).to_string();
                Program::CannotRun(format!("a link to {target}, which is not there"))
            }
            None => Program::Absent,
        });
    };
    Ok(match inode.kind {
        FileKind::Regular if inode.perm & 0o001 != 0 => Program::Runs,
        FileKind::Regular if inode.perm & 0o111 != 0 => Program::NotByOthers,
        FileKind::Regular => {
            Program::CannotRun(format!("not executable (mode {:04o})", inode.perm))
        }
        _ => Program::CannotRun("not a regular file".to_owned()),
    })
}

/// The first file called `name` in [`PATH`] that can be executed, or else the
/// first that is there at all: its path, and what it is.
pub(super) fn in_path(
    subject: &Subject,
    name: &str,
) -> Result<Option<(String, Program)>, IndexError> {
    let mut useless = None;
    for directory in PATH {
        let path = format!("{directory}/{name}");
        match program(subject, path.as_bytes())? {
            Program::Absent => {}
            found @ Program::CannotRun(_) => {
                useless.get_or_insert((path, found));
            }
            found => return Ok(Some((path, found))),
        }
    }
    Ok(useless)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Node};
    use super::*;

    #[test]
    fn links_lead_as_after_chroot() {
        let subject = testing::subject(&[
            Node::file("usr/bin/busybox", 0o755, b"elf"),
            Node::link("bin", "usr/bin"),
            Node::link("usr/bin/sh", "/bin/../../usr/bin/busybox"),
            Node::link("usr/bin/gone", "/nowhere"),
            Node::file("usr/bin/text", 0o644, b""),
            Node::file("usr/bin/own", 0o700, b""),
            Node::dir("usr/bin/dir", 0o755),
        ]);
        let at = |path: &str| program(&subject, path.as_bytes()).unwrap();
        assert_eq!(at("/bin/sh"), Program::Runs);
        assert_eq!(at("/bin/own"), Program::NotByOthers);
        assert_eq!(at("/bin/none"), Program::Absent);
        for useless in ["/bin/gone", "/bin/text", "/bin/dir"] {
            assert!(matches!(at(useless), Program::CannotRun(_)), "{useless}");
        }
    }

    #[test]
    fn a_search_goes_on_behind_what_cannot_be_executed() {
        let subject = testing::subject(&[
            Node::file("usr/local/bin/route", 0o644, b""),
            Node::file("sbin/route", 0o755, b""),
            Node::file("bin/route", 0o755, b""),
            Node::file("bin/only", 0o644, b""),
            Node::file("opt/route2", 0o755, b""),
        ]);
        let found = in_path(&subject, "route").unwrap().unwrap();
        assert_eq!(found, ("/sbin/route".to_owned(), Program::Runs));
        let (path, what) = in_path(&subject, "only").unwrap().unwrap();
        assert!(path == "/bin/only" && matches!(what, Program::CannotRun(_)));
        assert_eq!(in_path(&subject, "route2").unwrap(), None);
    }
}
