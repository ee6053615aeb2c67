//! `distrofs cat`: one file of an archive, to standard output.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::opening::{self, say_made};
use super::{Failure, args, text};
use crate::budget::MemoryBudget;
use crate::fs::{FsOptions, ImageFs, Owner, Patience};
use crate::index::FileKind;
use crate::metrics::Metrics;
use crate::source::{BlockSource, DirectReader};
use crate::store::Image;
use crate::types::Ino;

const BUDGET_BYTES: u64 = 64 << 20;

/// Read and written at a time.
const CHUNK_BYTES: usize = 256 * 1024;

pub(super) fn run(job: &args::Cat) -> Result<(), Failure> {
    let metrics = Arc::new(Metrics::default());
    let opened = opening::open(&job.archive, &job.indexing, false, &metrics)?;
    say_made(&opened.index);
    let budget = MemoryBudget::new(BUDGET_BYTES);
    let Image { index, source } = Image::open(&opened.archive, &opened.index, &budget, &metrics)?;
    let root = index.summary().root.unwrap_or(Ino::ROOT);
    let path = job.path.as_bytes();
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", text::printable(path));
    let ino = index.resolve(root, path, true).map_err(|e| named(&e))?;
    let inode = index.inode(ino)?;
    if inode.kind != FileKind::Regular {
        return Err(named(&format!("is a {}, not a file", text::kind(inode.kind))).into());
    }
    let blocks: Arc<dyn BlockSource> = source;
    let options = FsOptions {
        root: Ino::ROOT,
        owner: Owner::Keep,
        devices: true,
    };
    let fs = ImageFs::new(index, Arc::new(DirectReader::new(blocks)), options, metrics)?;
    let ino = ino.number();
    let mut out = io::stdout().lock();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < inode.size {
        let n = fs
            .read(ino, at, &mut chunk, Patience::Wait)
            .map_err(|e| named(&e))?
            .unwrap_or(0);
        out.write_all(&chunk[..n])?;
        at += n as u64;
    }
    out.flush()?;
    Ok(())
}
