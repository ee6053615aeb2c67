//! What a platform's launcher needs of an image, row by row.
//!
//! Three states: a row is [`State::Missing`] if containers would not start, or
//! not be reachable, as they should; [`State::Warning`] if they would, but
//! something about it should be known. Paths are looked up as after chroot(2).

use super::programs::{PATH, Program, in_path, program};
use super::subject::{InspectError, Subject};
use super::users::{self, Name};
use crate::index::{Escaped, FileKind, IndexError};

/// How it is with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Containers start; something should be known.
    Warning,
    /// Required, and not there.
    Missing,
}

impl State {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "missing",
        }
    }
}

/// One thing that an image has to hold, and what was found of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was looked for.
    pub what: &'static str,
    /// How it is.
    pub state: State,
    /// What was found; names in it are escaped.
    pub found: String,
    /// What it is needed for.
    pub why: &'static str,
    /// What to do; nothing where all is well.
    pub advice: Option<String>,
}

impl Row {
    fn ok(what: &'static str, why: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Ok,
            found: found.into(),
            why,
            advice: None,
        }
    }

    fn with(self, state: State, advice: impl Into<String>) -> Self {
        Self {
            state,
            advice: Some(advice.into()),
            ..self
        }
    }
}

/// Directories that make a tree a rootfs in the platform's eyes.
const MARKERS: [(&str, &str); 2] = [
    (
        "/.old_root",
        "pivot_root puts the host's root there; without it containers get their default distro, and an alarm",
    ),
    (
        "/containers",
        "the container's home is mounted below it; without it the container does not start",
    ),
];

const DIRECTORIES: [&str; 8] = [
    "/proc",
    "/dev",
    "/run",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/var/spool",
    "/usr/local",
];

/// All rows, in the order of the platform's documentation. `uid` is the
/// container that will use the image, if that is known.
pub fn requirements(subject: &Subject, uid: Option<u32>) -> Result<Vec<Row>, InspectError> {
    let mut rows = Vec::new();
    for (path, why) in MARKERS {
        rows.push(marker(subject, path, why)?);
    }
    for path in DIRECTORIES {
        rows.push(directory(subject, path)?);
    }
    rows.push(shell(
        subject,
        "/bin/sh",
        "the launcher's hooks and rc.local run with it",
    )?);
    for (name, advice) in [
        (
            "ifconfig",
            "install net-tools, or link busybox to /sbin/ifconfig",
        ),
        ("route", "install net-tools, or link busybox to /sbin/route"),
    ] {
        rows.push(hook(subject, name, advice)?);
    }
    rows.push(shell(
        subject,
        "/bin/bash",
        "the login shell; without it there is no ssh",
    )?);
    rows.push(user(subject, uid)?);
    rows.push(uwsgi(subject, uid)?);
    rows.push(rc_local(subject)?);
    Ok(rows)
}

/// A directory that has to be one itself: a link would be followed outside of
/// the image, before the root is changed.
fn marker(subject: &Subject, path: &'static str, why: &'static str) -> Result<Row, IndexError> {
    let advice = format!(
        "make it a directory in the tree and archive it again: mkdir TREE{path}, or RUN mkdir -p {path} in a Dockerfile"
    );
    let found = subject.find_unfollowed(path.as_bytes())?;
    Ok(match found.map(|inode| inode.kind) {
        Some(FileKind::Directory) => Row::ok(path, why, "a directory"),
        Some(FileKind::Symlink) => {
            Row::ok(path, why, "a symbolic link, which does not count").with(State::Missing, advice)
        }
        Some(_) => Row::ok(path, why, "not a directory").with(State::Missing, advice),
        None => Row::ok(path, why, "not there").with(State::Missing, advice),
    })
}

/// A directory that something is mounted on.
fn directory(subject: &Subject, path: &'static str) -> Result<Row, IndexError> {
    const WHY: &str = "the launcher mounts over it; without it the container does not start";
    let advice = format!("make it in the tree and archive it again: mkdir -p TREE{path}");
    let link = subject.find_unfollowed(path.as_bytes())?;
    let link = link.filter(|inode| inode.kind == FileKind::Symlink);
    let target = link.map(|link| subject.index().link_target(link.ino));
    let target = target
        .transpose()?
        .map(|target| Escaped(target).to_string());
    let found = subject.find(path.as_bytes())?.map(|inode| inode.kind);
    Ok(match (found, target) {
        (Some(FileKind::Directory), None) => Row::ok(path, WHY, "a directory"),
        (Some(FileKind::Directory), Some(target)) => {
            Row::ok(path, WHY, format!("a link to the directory {target}")).with(
                State::Warning,
                "what is mounted here is mounted there: make it a directory of its own",
            )
        }
        (Some(_), _) => Row::ok(path, WHY, "not a directory").with(State::Missing, advice),
        (None, Some(target)) => {
            Row::ok(path, WHY, format!("a link to {target}, which is not there"))
                .with(State::Missing, advice)
        }
        (None, None) => Row::ok(path, WHY, "not there").with(State::Missing, advice),
    })
}

/// A program at a place of its own.
fn shell(subject: &Subject, path: &'static str, why: &'static str) -> Result<Row, IndexError> {
    let found = program(subject, path.as_bytes())?;
    let advice = format!("install it in the tree, executable for everybody, as {path}");
    Ok(row_of(path, why, None, found, advice))
}

/// A program that is searched for.
fn hook(subject: &Subject, name: &'static str, advice: &str) -> Result<Row, IndexError> {
    const WHY: &str = "a hook of the launcher runs it; without it the container does not start";
    Ok(match in_path(subject, name)? {
        Some((path, found)) => row_of(name, WHY, Some(&path), found, advice.to_owned()),
        None => Row::ok(name, WHY, format!("in none of {}", PATH.join(":")))
            .with(State::Missing, advice),
    })
}

fn row_of(
    what: &'static str,
    why: &'static str,
    path: Option<&str>,
    found: Program,
    advice: String,
) -> Row {
    let at = |text: &str| match path {
        Some(path) => format!("{path}: {text}"),
        None => text.to_owned(),
    };
    match found {
        Program::Runs => Row::ok(what, why, path.unwrap_or("a program")),
        Program::NotByOthers => Row::ok(what, why, at("not executable for others")).with(
            State::Warning,
            "containers run as users of their own: chmod o+rx",
        ),
        Program::CannotRun(reason) => Row::ok(what, why, at(&reason)).with(State::Missing, advice),
        Program::Absent => Row::ok(what, why, "not there").with(State::Missing, advice),
    }
}

fn user(subject: &Subject, uid: Option<u32>) -> Result<Row, InspectError> {
    const WHAT: &str = "name of the user";
    const WHY: &str = "without one, shells say \"I have no name!\"";
    const ADVICE: &str = "name the module unbit in the line passwd: of /etc/nsswitch.conf and install it, or add the user to /etc/passwd";
    Ok(match (users::name(subject, uid)?, uid) {
        (Name::Module, _) => Row::ok(WHAT, WHY, "the module unbit in /etc/nsswitch.conf"),
        (Name::Entry, _) => Row::ok(WHAT, WHY, "an entry in /etc/passwd"),
        (Name::SomeEntry(id), _) => {
            Row::ok(WHAT, WHY, format!("an entry for {id} in /etc/passwd")).with(
                State::Warning,
                format!("other containers than {id} have no name: {ADVICE}; --uid N asks for one container"),
            )
        }
        (Name::None, Some(uid)) => Row::ok(WHAT, WHY, format!("nothing names {uid}"))
            .with(State::Warning, ADVICE),
        (Name::None, None) => Row::ok(WHAT, WHY, "nothing names users of containers")
            .with(State::Warning, ADVICE),
    })
}

/// The places in their documented order. The container's home is mounted over
/// all but the last one, so that the image's own file is not seen there.
fn uwsgi(subject: &Subject, uid: Option<u32>) -> Result<Row, IndexError> {
    const WHAT: &str = "uwsgi";
    const WHY: &str = "the container's Emperor; without one, processes start from rc.local";
    let home = uid.map(|uid| format!("/containers/{uid}/bin/uwsgi"));
    let hidden = home.into_iter().chain(["/usr/local/bin/uwsgi".to_owned()]);
    let mut found = None;
    for path in hidden {
        if found.is_none() && program(subject, path.as_bytes())? == Program::Runs {
            found = Some(path);
        }
    }
    const LAST: &str = "/opt/unbit/uwsgi/uwsgi";
    if program(subject, LAST.as_bytes())? == Program::Runs {
        return Ok(Row::ok(WHAT, WHY, LAST));
    }
    Ok(match found {
        Some(path) => Row::ok(WHAT, WHY, format!("{path}, which the container's home hides"))
            .with(
                State::Warning,
                format!("move it to {LAST}, or keep it in the container's home"),
            ),
        None => Row::ok(WHAT, WHY, "not in the image").with(
            State::Warning,
            format!("install it as {LAST}, or in the container's home as bin/uwsgi; or start processes from /etc/rc.local"),
        ),
    })
}

fn rc_local(subject: &Subject) -> Result<Row, IndexError> {
    const WHAT: &str = "/etc/rc.local";
    const WHY: &str = "optional: /bin/sh runs it at every start";
    let found = subject.find(WHAT.as_bytes())?;
    Ok(match found.map(|inode| (inode.kind, inode.perm & 0o004)) {
        None => Row::ok(WHAT, WHY, "none, and none is needed"),
        Some((FileKind::Regular, 0)) => Row::ok(WHAT, WHY, "not readable for others")
            .with(State::Warning, "it runs as the container's user: chmod o+r"),
        Some((FileKind::Regular, _)) => Row::ok(WHAT, WHY, "a file"),
        Some(_) => Row::ok(WHAT, WHY, "not a regular file")
            .with(State::Warning, "make it a shell script, or remove it"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Node};
    use super::*;

    /// All that an image must hold.
    fn complete() -> Vec<Node<'static>> {
        let mut nodes: Vec<_> = [".old_root", "containers"]
            .into_iter()
            .chain(DIRECTORIES.iter().map(|path| &path[1..]))
            .map(|path| Node::dir(path, 0o755))
            .collect();
        for program in [
            "bin/sh",
            "bin/bash",
            "sbin/ifconfig",
            "sbin/route",
            "opt/unbit/uwsgi/uwsgi",
        ] {
            nodes.push(Node::file(program, 0o755, b"elf"));
        }
        nodes.push(Node::file(
            "etc/nsswitch.conf",
            0o644,
            b"passwd: files unbit\n",
        ));
        nodes
    }

    fn states(nodes: &[Node<'_>], uid: Option<u32>) -> Vec<(&'static str, State)> {
        let rows = requirements(&testing::subject(nodes), uid).unwrap();
        for row in &rows {
            assert_eq!(row.advice.is_none(), row.state == State::Ok, "{row:?}");
        }
        rows.iter().map(|row| (row.what, row.state)).collect()
    }

    fn changed(nodes: Vec<Node<'static>>) -> Vec<(&'static str, State)> {
        let states = states(&nodes, None);
        states
            .into_iter()
            .filter(|row| row.1 != State::Ok)
            .collect()
    }

    #[test]
    fn a_complete_image_has_no_complaint() {
        assert_eq!(states(&complete(), Some(30_001)).len(), 17);
        assert_eq!(changed(complete()), []);
    }

    #[test]
    fn an_empty_image_misses_everything_that_is_required() {
        let states = states(&[], None);
        let missing = states.iter().filter(|row| row.1 == State::Missing).count();
        assert_eq!(missing, 14);
        assert_eq!(
            states[14..].iter().map(|row| row.1).collect::<Vec<_>>(),
            [State::Warning, State::Warning, State::Ok]
        );
    }

    #[test]
    fn markers_must_be_directories_themselves() {
        for marker in [".old_root", "containers"] {
            let mut nodes = complete();
            nodes.push(Node::dir("elsewhere", 0o755));
            nodes.push(Node::link(marker, "elsewhere"));
            assert_eq!(changed(nodes)[0].1, State::Missing, "{marker}");
        }
    }

    #[test]
    fn other_directories_may_be_links_within_the_image() {
        let mut nodes = complete();
        nodes.push(Node::link("var/tmp", "/tmp"));
        assert_eq!(changed(nodes), [("/var/tmp", State::Warning)]);
        let mut nodes = complete();
        nodes.push(Node::link("run", "/nowhere"));
        nodes.push(Node::file("tmp", 0o644, b""));
        let both = [("/run", State::Missing), ("/tmp", State::Missing)];
        assert_eq!(changed(nodes), both);
    }

    #[test]
    fn a_uwsgi_under_the_home_is_not_seen() {
        let mut nodes = complete();
        nodes.push(Node::file("opt/unbit/uwsgi/uwsgi", 0o644, b""));
        nodes.push(Node::file("usr/local/bin/uwsgi", 0o755, b"elf"));
        assert_eq!(changed(nodes), [("uwsgi", State::Warning)]);
    }
}
