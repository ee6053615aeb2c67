//! An archive that is a local file, read by `pread`: a map of it would make
//! its pages part of the process, and a truncation a signal.
//!
//! Guarantees: reads are positioned and may happen at the same time; a file
//! that became shorter is [`SourceError::Truncated`], never short or zero
//! bytes. The length is that at the time of opening, or what it will be.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};

use super::{ReadAt, SourceError};
use crate::metrics::Metrics;

/// An opened archive file.
#[derive(Debug)]
pub struct ArchiveFile {
    file: File,
    len: u64,
    metrics: Arc<Metrics>,
}

impl ArchiveFile {
    /// Takes an open file; what is read of it is counted in `metrics`.
    pub fn new(file: File, metrics: Arc<Metrics>) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len, metrics })
    }

    /// The same of a file that will be `len` bytes long, of which nothing is read
    /// that is not there yet.
    pub fn of_len(file: File, len: u64, metrics: Arc<Metrics>) -> Self {
        Self { file, len, metrics }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Says that the file will be read from start to end.
    pub fn advise_sequential(&self) {
        self.advise(0..self.len, Advice::Sequential);
    }

    /// Says that what is read next follows no order, so that the kernel does
    /// not read ahead.
    pub fn advise_random(&self) {
        self.advise(0..self.len, Advice::Random);
    }

    /// Says that `range` is not needed any more: its pages count in the memory
    /// cgroup of whoever read them.
    pub fn advise_done(&self, range: Range<u64>) {
        self.advise(range, Advice::DontNeed);
    }

    /// Only a hint: some filesystems know no advice, and reading works without.
    fn advise(&self, range: Range<u64>, advice: Advice) {
        if let Some(len) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            let _hint = fadvise(&self.file, range.start, Some(len), advice);
        }
    }
}

impl ReadAt for ArchiveFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let len = buf.len() as u64;
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(SourceError::OutOfRange {
                at,
                len,
                stream_len: self.len,
            });
        }
        let mut done = 0;
        while done < buf.len() {
            let here = at + done as u64;
            match self.file.read_at(&mut buf[done..], here) {
                Ok(0) => {
                    return Err(SourceError::Truncated {
                        end: here,
                        wanted: len - done as u64,
                    });
                }
                Ok(n) => {
                    done += n;
                    self.metrics.counters.archive_read_bytes.add(n as u64);
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    return Err(SourceError::Io {
                        at: here,
                        len: buf.len() - done,
                        cause,
                    });
                }
            }
        }
        Ok(())
    }

    fn will_need(&self, range: Range<u64>) {
        self.advise(range, Advice::WillNeed);
    }

    fn forget(&self, range: Range<u64>) {
        self.advise_done(range);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file_of(bytes: &[u8]) -> (ArchiveFile, File) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let other = file.try_clone().unwrap();
        (ArchiveFile::new(file, Arc::default()).unwrap(), other)
    }

    #[test]
    fn reads_are_exact_and_counted() {
        let (archive, _) = file_of(b"0123456789");
        let mut buf = [0; 4];
        archive.read_exact_at(6, &mut buf).unwrap();
        assert_eq!(&buf, b"6789");
        archive.forget(0..10);
        archive.forget(7..7);
        archive.advise_sequential();
        archive.advise_random();
        archive.read_exact_at(10, &mut []).unwrap();
        assert_eq!(archive.metrics.counters.archive_read_bytes.get(), 4);
        for at in [7, 11, u64::MAX] {
            let error = archive.read_exact_at(at, &mut buf).unwrap_err();
            assert!(matches!(error, SourceError::OutOfRange { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_truncated() {
        let (archive, file) = file_of(b"0123456789");
        file.set_len(5).unwrap();
        let error = archive.read_exact_at(3, &mut [0; 4]).unwrap_err();
        assert!(
            matches!(error, SourceError::Truncated { end: 5, wanted: 2 }),
            "{error}"
        );
    }
}
