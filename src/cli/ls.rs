//! `distrofs ls`: what is in an archive, in archive order.

use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use serde::Serialize;

use super::opening::{self, say_made};
use super::{Failure, args, text};
use crate::budget::MemoryBudget;
use crate::index::{FileKind, Index, IndexError, Inode};
use crate::metrics::Metrics;
use crate::store::Image;
use crate::types::Ino;

const BUDGET_BYTES: u64 = 64 << 20;

/// One line of `ls --json`.
#[derive(Serialize)]
struct Line {
    /// Bytes that are not UTF-8 are replaced.
    name: String,
    kind: &'static str,
    /// Permission bits in octal.
    mode: String,
    nlink: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    mtime_nanos: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

pub(super) fn run(job: &args::Ls) -> Result<(), Failure> {
    let metrics = Arc::new(Metrics::default());
    let opened = opening::open(&job.archive, &job.indexing, false, &metrics)?;
    say_made(&opened.index);
    let budget = MemoryBudget::new(BUDGET_BYTES);
    let index = Image::open(&opened.archive, &opened.index, &budget, &metrics)?.index;
    let path = job.path.as_bytes();
    let ino = index
        .resolve(index.summary().root.unwrap_or(Ino::ROOT), path, !job.long)
        .map_err(|e| format!("{}: {e}", text::printable(path)))?;
    let mut out = Printer {
        job,
        index: &index,
        out: io::BufWriter::new(io::stdout().lock()),
    };
    if index.inode(ino)?.kind == FileKind::Directory {
        for entry in index.dirents(ino, 0)? {
            let entry = entry?;
            out.entry(entry.name, entry.ino)?;
        }
    } else {
        out.entry(path, ino)?;
    }
    out.out.flush()?;
    Ok(())
}

struct Printer<'a, W: Write> {
    job: &'a args::Ls,
    index: &'a Index,
    out: W,
}

impl<W: Write> Printer<'_, W> {
    fn entry(&mut self, name: &[u8], ino: Ino) -> Result<(), Failure> {
        if self.job.json {
            let line = serde_json::to_string(&self.line(name, ino)?)?;
            writeln!(self.out, "{line}")?;
            return Ok(());
        }
        if self.job.long {
            let inode = self.index.inode(ino)?;
            write!(
                self.out,
                "{}{} {:>3} {:>5} {:>5} {:>11} {} ",
                text::kind_letter(inode.kind),
                text::permissions(inode.perm),
                inode.nlink,
                inode.uid,
                inode.gid,
                inode.size,
                text::time(inode.mtime),
            )?;
        }
        self.name(name)?;
        if let (true, Some(target)) = (self.job.long, self.target(ino)?) {
            write!(self.out, " -> ")?;
            self.name(&target)?;
        }
        writeln!(self.out)?;
        Ok(())
    }

    /// Names go to a terminal escaped, to a pipe as they are.
    fn name(&mut self, name: &[u8]) -> io::Result<()> {
        if io::stdout().is_terminal() {
            self.out.write_all(text::printable(name).as_bytes())
        } else {
            self.out.write_all(name)
        }
    }

    fn target(&self, ino: Ino) -> Result<Option<Vec<u8>>, IndexError> {
        match self.index.inode(ino)?.kind {
            FileKind::Symlink => Ok(Some(self.index.link_target(ino)?.to_vec())),
            _ => Ok(None),
        }
    }

    fn line(&self, name: &[u8], ino: Ino) -> Result<Line, IndexError> {
        let Inode {
            kind,
            perm,
            nlink,
            uid,
            gid,
            size,
            mtime,
            ..
        } = self.index.inode(ino)?;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Line {
            name: lossy(name),
            kind: text::kind(kind),
            mode: format!("{perm:04o}"),
            nlink,
            uid,
            gid,
            size,
            mtime: mtime.secs,
            mtime_nanos: mtime.nanos,
            target: self.target(ino)?.as_deref().map(lossy),
        })
    }
}
