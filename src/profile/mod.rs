//! Which parts of an image a container's start reads, kept for the next start.
//!
//! Guarantees: this module does no I/O. A [`Profile`] is bounded ([`SPANS_MAX`]), its
//! spans ascend and each has blocks; what is read from a file that is damaged, too
//! large or something else is an error, never a wrong profile.
#![doc = include_str!("FORMAT.md")]

mod file;
mod touched;

pub use file::{BYTES_MAX, ProfileError, is_profile};
pub use touched::{Place, Touched};

use crate::types::{BlockNo, Digest, SpanNo};

/// More spans than a cache has room for: 16 GiB of the usual ones.
pub const SPANS_MAX: usize = 65_536;

/// How many blocks are prefetched in the order of the archive, before what was read later:
/// 2 MiB. The order of reads alone would seek, that of the archive alone would bring most
/// of it after it was read.
const TOGETHER_BLOCKS: u64 = 128;

/// How much is kept of the command that was recorded.
const COMMAND_CHARS_MAX: usize = 1000;

/// What was read of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// The span.
    pub span: SpanNo,
    /// Its first block that was read.
    pub first: BlockNo,
    /// Its last block that was read.
    pub last: BlockNo,
    /// The how manieth of all spans it was to be read, from 0.
    pub nth: u32,
}

impl Step {
    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        u64::from(self.last.0.saturating_sub(self.first.0)) + 1
    }
}

/// What a start reads of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    image: Digest,
    span_count: u32,
    recorded_at: u64,
    command: Option<String>,
    steps: Vec<Step>,
}

impl Profile {
    /// A profile of what was touched of an image with so many spans; nothing if
    /// nothing was.
    pub fn new(
        image: Digest,
        span_count: u32,
        recorded_at: u64,
        command: Option<&str>,
        touched: &Touched,
    ) -> Option<Profile> {
        let steps = touched.steps();
        let command = command.map(|command| command.chars().take(COMMAND_CHARS_MAX).collect());
        (!steps.is_empty()).then_some(Profile {
            image,
            span_count,
            recorded_at,
            command,
            steps,
        })
    }

    /// The version of the image that it is of.
    pub fn image(&self) -> Digest {
        self.image
    }

    /// When it was recorded, in seconds since 1970.
    pub fn recorded_at(&self) -> u64 {
        self.recorded_at
    }

    /// What ran meanwhile.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// What was read, in the order of the stream.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.steps.iter().map(Step::blocks).sum()
    }

    /// Whether it is of that version of an image, with an index of so many spans.
    pub fn fits(&self, image: Digest, span_count: u32) -> bool {
        self.image == image && self.span_count == span_count
    }

    /// What to prefetch, in which order: what was read first, but always 2 MiB together
    /// in the order of the archive.
    pub fn plan(&self) -> Vec<Step> {
        let mut steps = self.steps.clone();
        steps.sort_unstable_by_key(|step| step.nth);
        let mut before = 0;
        let numbered = steps.into_iter().map(|step| {
            let group = before / TOGETHER_BLOCKS;
            before += step.blocks();
            (group, step)
        });
        let mut numbered: Vec<_> = numbered.collect();
        numbered.sort_unstable();
        numbered.into_iter().map(|(_, step)| step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_begins_with_what_is_read_first_some_together_in_the_order_of_the_archive() {
        let mut touched = Touched::default();
        let many = u32::try_from(TOGETHER_BLOCKS).unwrap();
        for (span, blocks) in [(9, 4), (2, 4), (5, many - 8), (1, 1), (8, 4), (0, 1)] {
            for block in 0..blocks {
                touched.add(SpanNo(span), BlockNo(span * many + block));
            }
        }
        let profile = Profile::new(Digest::new([1; 32]), 10, 0, None, &touched).unwrap();
        let spans: Vec<u32> = profile.plan().iter().map(|step| step.span.0).collect();
        assert_eq!(spans, [2, 5, 9, 0, 1, 8]);
        assert_eq!(profile.blocks(), TOGETHER_BLOCKS + 6);
        assert!(profile.fits(Digest::new([1; 32]), 10));
        assert!(!profile.fits(Digest::new([2; 32]), 10));
        assert!(!profile.fits(Digest::new([1; 32]), 11));
    }

    #[test]
    fn nothing_read_is_no_profile() {
        let touched = Touched::default();
        assert!(Profile::new(Digest::new([1; 32]), 10, 0, None, &touched).is_none());
    }
}
