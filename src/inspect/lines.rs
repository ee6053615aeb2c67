//! Lines of a file that may be of any length, in bounded memory.

use std::io::{self, BufRead};

/// What is kept of a line: names and versions are shorter, descriptions need
/// not be kept.
const LINE_BYTES_MAX: usize = 4096;

/// Lines, one at a time, the ends of long ones left out.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    left: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines within the first `bytes_max` bytes of `reader`.
    pub(super) fn new(reader: R, bytes_max: u64) -> Self {
        Self {
            reader,
            line: Vec::new(),
            left: bytes_max,
        }
    }

    /// The next line, without its end; `None` behind the last one.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut any = false;
        loop {
            let found = self.reader.fill_buf()?;
            let len = usize::try_from(self.left).map_or(found.len(), |left| left.min(found.len()));
            let found = &found[..len];
            if found.is_empty() {
                return Ok(any.then_some(&self.line));
            }
            any = true;
            let end = found.iter().position(|b| *b == b'\n');
            let text = &found[..end.unwrap_or(len)];
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            let used = end.map_or(len, |end| end + 1);
            self.reader.consume(used);
            self.left -= used as u64;
            if end.is_some() {
                return Ok(Some(&self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], max: u64) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(io::BufReader::with_capacity(3, text), max);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(line.to_vec());
        }
        all
    }

    #[test]
    fn lines_are_split_with_and_without_a_last_newline() {
        for text in [&b"one\n\nthree"[..], b"one\n\nthree\n"] {
            assert_eq!(lines(text, 100), [&b"one"[..], b"", b"three"]);
        }
        assert!(lines(b"", 100).is_empty());
        assert_eq!(lines(b"one\ntwo\n", 5), [&b"one"[..], b"t"]);
    }

    #[test]
    fn long_lines_are_cut_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; 10_000];
        text.extend(b"\nnext\n");
        let all = lines(&text, u64::MAX);
        assert_eq!(all[0].len(), LINE_BYTES_MAX);
        assert_eq!(all[1], b"next");
    }
}
