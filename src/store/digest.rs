//! SHA-256 of an archive, beside the scan that reads it.
//!
//! Guarantees: reads only what the scan has read already, so that every byte
//! comes from the disk once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::Receiver;

use sha2::{Digest, Sha256};

const CHUNK_BYTES: usize = 128 * 1024;

/// Read between two calls of `progress`.
const PROGRESS_BYTES: u64 = 4 << 20;

/// The digest of the first `len` bytes of `file`, read behind `marks`: offsets
/// up to which somebody else has read. Once `marks` closes the rest is read
/// too, unless `wanted` says that nobody needs it.
pub(super) fn follow(
    file: &File,
    len: u64,
    marks: &Receiver<u64>,
    wanted: impl Fn() -> bool,
) -> io::Result<[u8; 32]> {
    let mut running = Running {
        sha: Sha256::new(),
        at: 0,
        chunk: vec![0; CHUNK_BYTES],
    };
    while let Ok(mark) = marks.recv() {
        running.advance(file, mark.min(len))?;
    }
    if wanted() {
        running.advance(file, len)?;
    }
    Ok(running.sha.finalize().into())
}

/// The digest of all of `file`. `progress` gets the number of bytes read.
pub(super) fn whole(file: &File, len: u64, progress: &dyn Fn(u64)) -> io::Result<[u8; 32]> {
    let mut running = Running {
        sha: Sha256::new(),
        at: 0,
        chunk: vec![0; CHUNK_BYTES],
    };
    while running.at < len {
        running.advance(file, len.min(running.at + PROGRESS_BYTES))?;
        progress(running.at);
    }
    Ok(running.sha.finalize().into())
}

struct Running {
    sha: Sha256,
    at: u64,
    chunk: Vec<u8>,
}

impl Running {
    fn advance(&mut self, file: &File, to: u64) -> io::Result<()> {
        while self.at < to {
            let n = usize::try_from(to - self.at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            file.read_exact_at(&mut self.chunk[..n], self.at)?;
            self.sha.update(&self.chunk[..n]);
            self.at += n as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn following_and_reading_at_once_agree() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        file.write_all(&bytes).unwrap();
        let len = bytes.len() as u64;
        let (marks, received) = sync_channel(8);
        for mark in [1, 1, 200_000, len + 5] {
            marks.send(mark).unwrap();
        }
        drop(marks);
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(follow(&file, len, &received, || true).unwrap(), expected);
        assert_eq!(whole(&file, len, &|_| {}).unwrap(), expected);
    }
}
