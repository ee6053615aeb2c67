//! apk's records: paragraphs of lines `X:value`, a paragraph for each package.

use std::io::BufRead;

use super::{Package, PackageSink, text};
use crate::inspect::lines::Lines;
use crate::inspect::subject::{InspectError, unreadable};

/// The packages of a file `installed`.
pub(super) fn installed(
    file: impl BufRead,
    path: &[u8],
    sink: &mut PackageSink<'_>,
) -> Result<(), InspectError> {
    let mut lines = Lines::new(file, u64::MAX);
    let mut package = Package::default();
    while let Some(line) = lines.next().map_err(unreadable(path))? {
        match line {
            [b'P', b':', value @ ..] => package.name = text(value),
            [b'V', b':', value @ ..] => package.version = text(value),
            [b'A', b':', value @ ..] => package.architecture = text(value),
            [] if !package.name.is_empty() && sink(std::mem::take(&mut package)).is_break() => {
                return Ok(());
            }
            _ => {}
        }
    }
    if !package.name.is_empty() {
        let _last = sink(package);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn packages_are_listed() {
        let file = &b"C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:the c library\nF:lib\nR:a\n\n\
                      P:busybox\nV:1.36\nA:x86_64\n"[..];
        let mut all = Vec::new();
        let mut sink = |p: Package| {
            all.push(format!("{} {} {}", p.name, p.version, p.architecture));
            ControlFlow::Continue(())
        };
        installed(file, b"installed", &mut sink).unwrap();
        assert_eq!(all, ["musl 1.2.4-r2 x86_64", "busybox 1.36 x86_64"]);
    }
}
