//! [`Frames`]: what is in the frames of an archive that is sent.
//!
//! Guarantees: memory is what the caller gives; a frame that is too long is an error
//! before any of it is taken, and so is anything behind the end.

use crate::wire::upload::FRAME_BYTES_MAX;

const HEAD_BYTES: usize = 4;

/// Why frames cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// One is too long.
    #[error("a frame of {0} bytes was sent, where {FRAME_BYTES_MAX} are allowed")]
    Long(u32),
    /// Something follows the end.
    #[error("something was sent behind the end of the archive")]
    AfterEnd,
}

/// Where in the frames reading is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// How much of the head is there.
    head_bytes: usize,
    /// Bytes of the frame that are to come.
    left: usize,
    has_ended: bool,
}

impl Frames {
    /// Whether the end came.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes what came next, and moves what is in the frames to the front of it; how
    /// much that is.
    pub(super) fn strip(&mut self, bytes: &mut [u8]) -> Result<usize, FrameError> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            if self.has_ended {
                return Err(FrameError::AfterEnd);
            }
            if self.left > 0 {
                let n = self.left.min(bytes.len() - at);
                bytes.copy_within(at..at + n, kept);
                (at, kept, self.left) = (at + n, kept + n, self.left - n);
                continue;
            }
            self.head[self.head_bytes] = bytes[at];
            (at, self.head_bytes) = (at + 1, self.head_bytes + 1);
            if self.head_bytes == HEAD_BYTES {
                self.begin()?;
            }
        }
        Ok(kept)
    }

    /// Begins the frame whose head is there.
    fn begin(&mut self) -> Result<(), FrameError> {
        let len = u32::from_le_bytes(self.head);
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::Long(len));
        }
        self.head_bytes = 0;
        self.left = usize::try_from(len).unwrap_or(usize::MAX);
        self.has_ended = len == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in pieces {
            all.extend_from_slice(&u32::try_from(piece.len()).unwrap().to_le_bytes());
            all.extend_from_slice(piece);
        }
        all
    }

    #[test]
    fn what_is_in_frames_is_found_wherever_they_are_cut() {
        let sent = framed(&[b"one", b"t", b"wo and three", b""]);
        for size in 1..=sent.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in sent.chunks(size) {
                assert!(!frames.has_ended());
                let mut piece = piece.to_vec();
                let kept = frames.strip(&mut piece).unwrap();
                found.extend_from_slice(&piece[..kept]);
            }
            assert!(frames.has_ended());
            assert_eq!(found, b"onetwo and three");
        }
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        let mut long = (FRAME_BYTES_MAX + 1).to_le_bytes();
        let error = Frames::default().strip(&mut long).unwrap_err();
        assert_eq!(error, FrameError::Long(FRAME_BYTES_MAX + 1));
        let mut most = FRAME_BYTES_MAX.to_le_bytes();
        assert_eq!(Frames::default().strip(&mut most), Ok(0));
        let mut more = framed(&[b"one", b"", b"x"]);
        assert_eq!(
            Frames::default().strip(&mut more),
            Err(FrameError::AfterEnd)
        );
    }
}
