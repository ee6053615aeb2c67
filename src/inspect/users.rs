//! Whether a container's user would have a name.

use super::lines::Lines;
use super::subject::{InspectError, Subject, unreadable};
use super::survey::CONTAINER_IDS;

const PASSWD: &[u8] = b"/etc/passwd";
const NSSWITCH: &[u8] = b"/etc/nsswitch.conf";

/// The platform's module for names of containers.
const MODULE: &str = "unbit";

/// More of these files is not read: no real one is so long.
const BYTES_MAX: u64 = 16 << 20;

/// Where the name of a container's user comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The platform's module is asked.
    Module,
    /// /etc/passwd has the very user asked for.
    Entry,
    /// Nobody asked for one; /etc/passwd has this user of a container.
    SomeEntry(u32),
    /// From nowhere.
    None,
}

/// Where the name of user `uid`, or of any container, comes from.
pub(super) fn name(subject: &Subject, uid: Option<u32>) -> Result<Name, InspectError> {
    if module_is_named(subject)? {
        return Ok(Name::Module);
    }
    let wanted = |id: u32| match uid {
        Some(uid) => id == uid,
        None => (CONTAINER_IDS..NOBODY).contains(&id),
    };
    let mut some = None;
    for_each_line(subject, PASSWD, |line| {
        let id = line.split(|b| *b == b':').nth(2).and_then(number);
        some = some.or(id.filter(|id| wanted(*id)));
    })?;
    Ok(match (some, uid) {
        (Some(_), Some(_)) => Name::Entry,
        (Some(id), None) => Name::SomeEntry(id),
        (None, _) => Name::None,
    })
}

/// `nobody`, and what is above: no containers.
const NOBODY: u32 = 65_534;

/// `passwd: files unbit`, in any order and with actions in brackets.
fn module_is_named(subject: &Subject) -> Result<bool, InspectError> {
    let mut named = false;
    for_each_line(subject, NSSWITCH, |line| {
        let line = String::from_utf8_lossy(line);
        let line = line.split('#').next().unwrap_or("");
        if let Some((database, services)) = line.split_once(':') {
            let mut services = services.split_whitespace();
            named |= database.trim() == "passwd" && services.any(|name| name == MODULE);
        }
    })?;
    Ok(named)
}

fn for_each_line(
    subject: &Subject,
    path: &[u8],
    mut with: impl FnMut(&[u8]),
) -> Result<(), InspectError> {
    let Some(file) = subject.open(path)? else {
        return Ok(());
    };
    let mut lines = Lines::new(file, BYTES_MAX);
    while let Some(line) = lines.next().map_err(unreadable(path))? {
        with(line);
    }
    Ok(())
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Node};
    use super::*;

    fn name_with(passwd: &str, nsswitch: &str, uid: Option<u32>) -> Name {
        let subject = testing::subject(&[
            Node::file("etc/passwd", 0o644, passwd.as_bytes()),
            Node::file("etc/nsswitch.conf", 0o644, nsswitch.as_bytes()),
        ]);
        name(&subject, uid).unwrap()
    }

    #[test]
    fn an_entry_of_the_very_uid_counts() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nc:x:30002:30002::/:/bin/sh\nnobody:x:65534:65534::/:";
        assert_eq!(name_with(passwd, "", Some(30_002)), Name::Entry);
        assert_eq!(name_with(passwd, "", Some(3000)), Name::None);
        assert_eq!(name_with(passwd, "", None), Name::SomeEntry(30_002));
        assert_eq!(name_with("nobody:x:65534:0::/:", "", None), Name::None);
    }

    #[test]
    fn the_module_counts_where_it_is_asked_for_users() {
        let with = |nsswitch| name_with("", nsswitch, Some(30_002));
        assert_eq!(
            with("group: unbit\npasswd:\tfiles [NOTFOUND=continue] unbit\n"),
            Name::Module
        );
        for without in [
            "group: unbit",
            "#passwd: unbit",
            "passwd: files # unbit",
            "passwd: unbit2",
        ] {
            assert_eq!(with(without), Name::None, "{without}");
        }
        assert_eq!(name(&testing::subject(&[]), Some(1)).unwrap(), Name::None);
    }
}
