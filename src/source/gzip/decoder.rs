//! A decoder that stands somewhere in the stream and yields what follows.
//!
//! Guarantees: memory is what [`DECODER_BYTES`] says, whatever the archive; it
//! reads no further than the span that it was last aimed at. What it yields is
//! not verified: that is up to the caller. After an error it is of no use.

use std::ops::Range;

use super::super::deflate::{Inflate, Status};
use super::super::tables::{Prelude, Span};
use super::super::{ReadAt, SourceError};
use super::input::Input;
use super::member::{self, FrameError, Next};
use super::window::{Checkpoint, WindowRestorer, start_at};

/// Compressed bytes that a decoder holds, and reads at once, at most.
const INPUT_BYTES: usize = 64 * 1024;
/// Compressed bytes that are read at once by a decoder that goes on.
const LATER_READ_BYTES: usize = 48 * 1024;
/// Added to the estimate of what the first read has to hold, because code is
/// not equally dense everywhere.
const SLACK_BYTES: u64 = 8 * 1024;

/// What one decoder counts for in the memory budget: inflate state with its
/// window and output (120 KB), what restores windows (130 KB), input buffer, and
/// allocator overhead.
pub(crate) const DECODER_BYTES: u64 = 320 * 1024;

/// An inflate state with its input.
#[derive(Debug)]
pub(crate) struct GzipDecoder {
    inflate: Inflate,
    input: Input,
    windows: WindowRestorer,
    /// Stream offset of the next byte that comes out.
    position: u64,
    /// Whether the member's last block is done, so that a trailer follows.
    member_ended: bool,
}

impl GzipDecoder {
    /// A decoder that stands nowhere yet.
    pub(crate) fn new() -> Self {
        Self {
            inflate: Inflate::new(),
            input: Input::new(INPUT_BYTES),
            windows: WindowRestorer::new(),
            position: 0,
            member_ended: false,
        }
    }

    /// Where in the stream it stands.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Forgets what was read: the next archive is another one.
    pub(crate) fn forget(&mut self) {
        self.input.forget();
    }

    /// Goes to the start of `span`, restoring what comes before its code, to
    /// decode at least up to stream offset `wanted_end`.
    pub(crate) fn restore(
        &mut self,
        archive: &dyn ReadAt,
        span: &Span,
        wanted_end: u64,
        prelude: Prelude<'_>,
    ) -> Result<(), SourceError> {
        self.aim(span);
        let window = match prelude.frame {
            [] => &[],
            frame => self.windows.restore(frame)?,
        };
        let checkpoint = Checkpoint {
            archive_bit: span.archive_bit,
            header: prelude.header,
            window,
        };
        let reads = (first_read_bytes(span, wanted_end), LATER_READ_BYTES);
        let (inflate, input) = (&mut self.inflate, &mut self.input);
        start_at(inflate, input, archive, checkpoint, reads)?;
        self.position = span.start;
        self.member_ended = false;
        Ok(())
    }

    /// Says that decoding goes on within `span`, where it stands.
    pub(crate) fn aim(&mut self, span: &Span) {
        self.input.set_limit(span.archive_end);
    }

    /// Fills `out` with what follows.
    pub(crate) fn fill(&mut self, archive: &dyn ReadAt, out: &mut [u8]) -> Result<(), SourceError> {
        let mut filled = 0;
        while filled < out.len() {
            let pending = self.inflate.pending();
            if !pending.is_empty() {
                let n = pending.len().min(out.len() - filled);
                out[filled..filled + n].copy_from_slice(&pending[..n]);
                self.inflate.take(n);
                filled += n;
                self.position += n as u64;
                continue;
            }
            if self.member_ended {
                self.next_member(archive)?;
            }
            let input = self.input.available();
            let result = self.inflate.inflate(input, out.len() - filled);
            let (used, status) = result.map_err(|what| self.error(what))?;
            self.input.consume(used);
            match status {
                Status::End => self.member_ended = true,
                Status::NeedInput if !self.input.more(archive)? => {
                    return Err(self.error("it goes on behind the next checkpoint"));
                }
                Status::NeedInput | Status::Enough | Status::Block => {}
            }
        }
        Ok(())
    }

    /// Steps over the trailer, whose checksum those of the blocks make
    /// superfluous, and the header of the next member.
    fn next_member(&mut self, archive: &dyn ReadAt) -> Result<(), SourceError> {
        let next = member::trailer(&mut self.input, archive)
            .and_then(|_| member::next(&mut self.input, archive));
        match next {
            Ok(Next::Member) => {
                self.member_ended = false;
                self.inflate.start(&[]);
                Ok(())
            }
            Ok(Next::End | Next::Garbage(_)) | Err(FrameError::Cut) => {
                Err(self.error("it ends too early"))
            }
            Err(FrameError::Bad(at, what)) => Err(SourceError::Inflate { at, what }),
            Err(FrameError::Source(error)) => Err(error),
        }
    }

    fn error(&self, what: &'static str) -> SourceError {
        SourceError::Inflate {
            at: self.input.position(),
            what,
        }
    }
}

/// What of the archive decoding a span up to `wanted_end` reads first.
pub(crate) fn first_read(span: &Span, wanted_end: u64) -> Range<u64> {
    let start = span.archive_bit / 8;
    let end = start + first_read_bytes(span, wanted_end) as u64;
    start..end.min(span.archive_end)
}

/// How much the first read for a span asks for, so that a random read of a cold
/// archive takes one access to the disk: the part of the span's code that is
/// likely to lead to `wanted_end`, and some slack.
fn first_read_bytes(span: &Span, wanted_end: u64) -> usize {
    let code = u128::from(span.archive_end.saturating_sub(span.archive_bit / 8));
    let wanted = u128::from(wanted_end.clamp(span.start, span.end) - span.start);
    let share = code * wanted / u128::from((span.end - span.start).max(1));
    let bytes = share + share / 8 + u128::from(SLACK_BYTES);
    usize::try_from(bytes).map_or(INPUT_BYTES, |bytes| bytes.min(INPUT_BYTES))
}
