//! From slices of a tar stream to its entries.
//!
//! Guarantees: the slices may be cut anywhere, each byte is looked at once at
//! most, and content not at all: who can jump in the stream may leave it out.
//! An archive that expands beyond the limits is refused while it does.

use std::ops::ControlFlow;

use super::BuildOptions;
use super::arena::{ArenaProvider, bytes_u64};
use super::decode::{Decoder, Next};
use super::entry::Entry;
use super::error::BuildError;
use super::frame::{Ending, Framer, Piece};
use super::header::BLOCK_BYTES;
use super::report::{Report, WarningKind};
use crate::index::escape::EntryName;

/// Takes entries in the order of the archive.
pub(super) type EntrySink<'a> = dyn FnMut(&Entry<'_>, &mut Report) -> Result<(), BuildError> + 'a;

pub(super) struct EntryStream {
    framer: Framer,
    decoder: Decoder,
    options: BuildOptions,
    stream_bytes_max: u64,
    ended: bool,
    /// Whether the end of the archive was found to be not that of the stream.
    is_more_known: bool,
}

impl EntryStream {
    pub(super) fn new(
        options: BuildOptions,
        arenas: &mut dyn ArenaProvider,
    ) -> Result<Self, BuildError> {
        let archive_bytes = options.archive_bytes.unwrap_or(u64::MAX);
        Ok(Self {
            framer: Framer::new(),
            decoder: Decoder::new(&options, arenas)?,
            stream_bytes_max: options.limits.stream_bytes_max(archive_bytes).0,
            options,
            ended: false,
            is_more_known: false,
        })
    }

    /// Where in the stream it is.
    pub(super) fn offset(&self) -> u64 {
        self.framer.offset()
    }

    /// Where in the stream the next byte is that has to be looked at.
    pub(super) fn wanted(&self) -> u64 {
        self.framer.wanted()
    }

    /// Passes over content up to stream offset `to`, or as far as it goes.
    pub(super) fn jump(&mut self, to: u64) {
        self.framer.jump(to);
    }

    /// Takes the next bytes of the stream; breaks when the archive has ended.
    pub(super) fn push(
        &mut self,
        stream_offset: u64,
        bytes: &[u8],
        report: &mut Report,
        sink: &mut EntrySink<'_>,
    ) -> Result<ControlFlow<()>, BuildError> {
        self.check_expansion(stream_offset, bytes.len())?;
        if self.ended {
            self.look_behind_end(bytes, report);
            return Ok(ControlFlow::Break(()));
        }
        self.framer.expect(stream_offset, bytes.len())?;
        let mut rest = bytes;
        let mut at = stream_offset;
        while let Some(piece) = self.framer.feed(at, &mut rest) {
            at = self.framer.offset();
            match piece {
                Piece::Text => {
                    let next = self.decoder.text(self.framer.text())?;
                    self.follow(next, report, sink)?;
                }
                Piece::Block => {
                    let start = at.saturating_sub(bytes_u64(BLOCK_BYTES));
                    self.block(start, report, sink)?;
                }
            }
            if self.ended {
                self.look_behind_end(rest, report);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Says that the stream has ended. One without end marker is complete if it
    /// ends between two entries.
    pub(super) fn finish(
        &mut self,
        report: &mut Report,
        sink: &mut EntrySink<'_>,
    ) -> Result<(), BuildError> {
        if !self.ended {
            self.end_of_stream(report, sink)?;
        }
        if self.decoder.is_announced() {
            report.add(WarningKind::UnusedHeader, self.decoder.last_path());
        }
        Ok(())
    }

    /// Takes the block that starts at `offset`.
    fn block(
        &mut self,
        offset: u64,
        report: &mut Report,
        sink: &mut EntrySink<'_>,
    ) -> Result<(), BuildError> {
        if self.decoder.is_undecided() {
            let content = self.decoder.decide(Some(self.framer.block()));
            self.emit(report, sink)?;
            if let Some(rest) = content {
                self.framer.pass_over(rest);
                return Ok(());
            }
        }
        let block = self.framer.block();
        let next = self.decoder.block(offset, block, report)?;
        self.follow(next, report, sink)
    }

    /// Does what the decoder wants next.
    fn follow(
        &mut self,
        next: Next,
        report: &mut Report,
        sink: &mut EntrySink<'_>,
    ) -> Result<(), BuildError> {
        match next {
            Next::Block => {}
            Next::End { more } => {
                self.ended = true;
                self.is_more_known = more;
            }
            Next::Text(len) => self.framer.gather(len),
            Next::Content(len) => {
                self.decoder.entry_done();
                self.framer.pass_over(len);
            }
            Next::Entry(len) => {
                self.emit(report, sink)?;
                self.framer.pass_over(len);
            }
        }
        Ok(())
    }

    fn emit(&mut self, report: &mut Report, sink: &mut EntrySink<'_>) -> Result<(), BuildError> {
        sink(&self.decoder.entry(), report)?;
        self.decoder.entry_done();
        Ok(())
    }

    /// Reports data behind the end of the archive; once is enough.
    fn look_behind_end(&mut self, bytes: &[u8], report: &mut Report) {
        let is_zero = |bytes: &[u8]| bytes.iter().fold(0, |any, byte| any | byte) == 0;
        if !self.is_more_known && !bytes.chunks(4096).all(is_zero) {
            self.is_more_known = true;
            let last = self.decoder.last_path();
            report.add(WarningKind::BehindEnd, last);
        }
    }

    fn check_expansion(&self, offset: u64, len: usize) -> Result<(), BuildError> {
        let end = offset.saturating_add(bytes_u64(len));
        if end <= self.stream_bytes_max {
            return Ok(());
        }
        let (limits, archive) = (&self.options.limits, self.options.archive_bytes);
        let archive = archive.unwrap_or(u64::MAX).max(1);
        let entry = self.decoder.entry();
        Err(match limits.stream_bytes_max(archive) {
            (max, limit @ "expanded_bytes_max") => entry.limit(limit, end, max),
            (_, limit) => entry.limit(limit, end.div_ceil(archive), limits.ratio_max),
        })
    }

    fn end_of_stream(
        &mut self,
        report: &mut Report,
        sink: &mut EntrySink<'_>,
    ) -> Result<(), BuildError> {
        let offset = self.framer.offset();
        let last = self.decoder.last_path();
        if !self.decoder.is_started() {
            return Err(BuildError::NotTar { offset: 0 });
        }
        if self.framer.ending() == Ending::Inside {
            return Err(BuildError::Truncated {
                offset,
                entry: EntryName::new(last),
            });
        }
        if !self.options.ignore_zeros || !self.decoder.is_after_zero() {
            report.add(WarningKind::MissingEnd, last);
        }
        if self.decoder.is_undecided() {
            self.decoder.decide(None);
            self.emit(report, sink)?;
        }
        Ok(())
    }
}
