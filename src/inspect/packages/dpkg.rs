//! dpkg's records: paragraphs of `Field: value`, a paragraph for each package
//! (deb-control(5)).

use std::io::BufRead;
use std::ops::ControlFlow;

use super::{Package, PackageSink, text};
use crate::index::{FileKind, Inode};
use crate::inspect::lines::Lines;
use crate::inspect::subject::{InspectError, Subject, unreadable};

/// The packages of a status file that are there, if only in part.
pub(super) fn status(
    file: impl BufRead,
    path: &[u8],
    sink: &mut PackageSink<'_>,
) -> Result<ControlFlow<()>, InspectError> {
    let mut lines = Lines::new(file, u64::MAX);
    let mut paragraph = Paragraph::default();
    while let Some(line) = lines.next().map_err(unreadable(path))? {
        if !line.is_empty() {
            paragraph.line(line);
        } else if let Some(package) = std::mem::take(&mut paragraph).package()
            && sink(package).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(paragraph.package().map_or(ControlFlow::Continue(()), sink))
}

/// The packages of a directory of status files, beside which are lists of
/// checksums.
pub(super) fn status_dir(
    subject: &Subject,
    dir: &Inode,
    path: &[u8],
    sink: &mut PackageSink<'_>,
) -> Result<(), InspectError> {
    for entry in subject.index().dirents(dir.ino, 0)? {
        let entry = entry?;
        let inode = subject.index().inode(entry.ino)?;
        if inode.kind != FileKind::Regular || entry.name.ends_with(b".md5sums") {
            continue;
        }
        let path = [path, b"/", entry.name].concat();
        if status(subject.read(&inode), &path, sink)?.is_break() {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Paragraph {
    package: Package,
    gone: bool,
}

impl Paragraph {
    fn line(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return;
        };
        // Continued lines begin with a space, and so have no name of a field.
        let (field, value) = (&line[..colon], &line[colon + 1..]);
        let is = |name: &str| field.eq_ignore_ascii_case(name.as_bytes());
        if is("Package") {
            self.package.name = text(value);
        } else if is("Version") {
            self.package.version = text(value);
        } else if is("Architecture") {
            self.package.architecture = text(value);
        } else if is("Status") {
            let state = value.trim_ascii().rsplit(|b| *b == b' ').next();
            self.gone = matches!(state, Some(b"not-installed" | b"config-files"));
        }
    }

    fn package(self) -> Option<Package> {
        let is_there = !self.gone && !self.package.name.is_empty();
        is_there.then_some(self.package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(file: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        let flow = status(file, b"status", &mut |p: Package| {
            all.push(format!("{} {} {}", p.name, p.version, p.architecture));
            ControlFlow::Continue(())
        });
        assert!(flow.unwrap().is_continue());
        all
    }

    #[test]
    fn packages_that_are_there_are_listed() {
        let file = b"Package: a\nStatus: install ok installed\nArchitecture: amd64\n\
                     Description: x\n Package: not-this\n .\nVersion: 1:2.0-3+b1\n\n\
                     Package: removed\nStatus: deinstall ok config-files\nVersion: 1\n\n\n\
                     package: half\nStatus: install reinstreq half-installed\nVersion: 2";
        assert_eq!(list(file), ["a 1:2.0-3+b1 amd64", "half 2 "]);
        assert!(list(b"").is_empty());
    }

    #[test]
    fn a_list_ends_when_enough_is_known() {
        let file = &b"Package: a\n\nPackage: b\n\n"[..];
        let mut seen = 0;
        let flow = status(file, b"status", &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert!(flow.unwrap().is_break() && seen == 1);
    }
}
