//! A file of an image as [`std::io::Read`].

use std::io::{self, Read};

use crate::fs::{ImageFs, Patience};
use crate::types::Ino;

/// Reads a regular file from its start to its end; every byte is verified.
#[derive(Debug)]
pub struct FileReader<'a> {
    fs: &'a ImageFs,
    ino: Ino,
    at: u64,
    size: u64,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(fs: &'a ImageFs, ino: Ino, size: u64) -> Self {
        Self {
            fs,
            ino,
            at: 0,
            size,
        }
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self
            .fs
            .read(self.ino.number(), self.at, buf, Patience::Wait)
            .map_err(io::Error::other)?
            .unwrap_or(0);
        self.at += read as u64;
        Ok(read)
    }
}
