//! A forward-only view of a part of the archive through one buffer.
//!
//! Guarantees: never reads at or behind `limit`, so that what is read for one
//! span is not read again for the next; memory is the buffer and nothing else.

use std::cmp::min;

use super::super::{ReadAt, SourceError};

/// The buffer and what is in it.
#[derive(Debug)]
pub(crate) struct Input {
    buf: Box<[u8]>,
    /// `buf[start..end]` holds archive bytes from offset `at` on.
    start: usize,
    end: usize,
    at: u64,
    limit: u64,
    /// How much the next read asks for, and the ones after it.
    next_read: usize,
    later_reads: usize,
}

impl Input {
    /// An input over nothing yet, with a buffer of `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let buf = vec![0; capacity].into_boxed_slice();
        let (next_read, later_reads) = (capacity, capacity);
        Self {
            buf,
            start: 0,
            end: 0,
            at: 0,
            limit: 0,
            next_read,
            later_reads,
        }
    }

    /// Goes to archive offset `at`: the first read will be of `first` bytes,
    /// later ones of `later`. What is in the buffer is not read again.
    pub(crate) fn seek(&mut self, at: u64, first: usize, later: usize) {
        self.later_reads = later.clamp(1, self.buf.len());
        let start = at.checked_sub(self.at - self.start as u64);
        let start = start.and_then(|n| usize::try_from(n).ok());
        if let Some(start) = start.filter(|start| *start < self.end) {
            (self.start, self.at) = (start, at);
            self.next_read = self.later_reads;
        } else {
            (self.start, self.end, self.at) = (0, 0, at);
            self.next_read = first.clamp(1, self.buf.len());
        }
    }

    /// Forgets what is in the buffer: the archive will be another one.
    pub(crate) fn forget(&mut self) {
        (self.start, self.end, self.at) = (0, 0, 0);
    }

    /// Sets the first archive offset that is out of bounds.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Archive offset of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The bytes at hand.
    pub(crate) fn available(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Steps over `n` of the bytes at hand.
    pub(crate) fn consume(&mut self, n: usize) {
        let n = min(n, self.end - self.start);
        self.start += n;
        self.at += n as u64;
    }

    /// Reads on if there are no bytes at hand; false at the limit.
    pub(crate) fn fill(&mut self, archive: &dyn ReadAt) -> Result<bool, SourceError> {
        Ok(self.start < self.end || self.more(archive)?)
    }

    /// Reads on behind the bytes at hand, which stay; false at the limit, or if
    /// there is no room.
    pub(crate) fn more(&mut self, archive: &dyn ReadAt) -> Result<bool, SourceError> {
        self.buf.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let from = self.at.saturating_add(self.end as u64);
        let left = usize::try_from(self.limit.saturating_sub(from)).unwrap_or(usize::MAX);
        let len = min(left, min(self.next_read, self.buf.len() - self.end));
        if len == 0 {
            return Ok(false);
        }
        let room = &mut self.buf[self.end..self.end + len];
        archive.read_exact_at(from, room)?;
        self.end += len;
        self.next_read = self.later_reads;
        Ok(true)
    }

    /// The next byte, without stepping over it; `None` at the limit.
    pub(crate) fn peek(&mut self, archive: &dyn ReadAt) -> Result<Option<u8>, SourceError> {
        Ok(if self.fill(archive)? {
            self.available().first().copied()
        } else {
            None
        })
    }

    /// Takes the next byte; `None` at the limit.
    pub(crate) fn take(&mut self, archive: &dyn ReadAt) -> Result<Option<u8>, SourceError> {
        let byte = self.peek(archive)?;
        self.consume(1);
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::MemoryArchive;
    use super::*;

    #[test]
    fn reads_in_the_sizes_asked_for_and_never_behind_the_limit() {
        let archive = MemoryArchive::new((0..100).collect());
        let mut input = Input::new(16);
        input.seek(10, 4, 8);
        input.set_limit(25);
        let mut sizes = Vec::new();
        let mut bytes = Vec::new();
        while input.fill(&archive).unwrap() {
            sizes.push(input.available().len());
            bytes.extend_from_slice(input.available());
            input.consume(usize::MAX);
        }
        assert_eq!(sizes, [4, 8, 3]);
        assert_eq!(bytes, (10..25).collect::<Vec<u8>>());
        assert_eq!(
            (input.position(), input.take(&archive).unwrap()),
            (25, None)
        );
        input.set_limit(26);
        assert_eq!(input.take(&archive).unwrap(), Some(25));
        input.seek(200, 1, 1);
        input.set_limit(300);
        assert!(input.fill(&archive).is_err());
    }
}
