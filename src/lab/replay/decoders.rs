//! Where decoders stand: what `source` does, without decoding.
//!
//! Invariants are those of its pool: at most [`KEPT_MAX`] wait, the one that was used
//! least recently first; one is found by its place, and the furthest of those that fit.

use super::engine::{Run, Supply, Touched};
use crate::lab::LabError;
use crate::source::KEPT_MAX;

/// A supply that counts what would be decoded.
#[derive(Debug, Default)]
pub(in crate::lab) struct Simulated {
    /// Image and place.
    kept: Vec<(u32, u64)>,
}

impl Supply for Simulated {
    type Kept = ();

    fn run(&mut self, run: &Run, sink: &mut impl FnMut(u32, ())) -> Result<Touched, LabError> {
        let (span, wanted) = (&run.span, run.span.start_of(run.first));
        let mut touched = Touched::default();
        let mut first = run.first;
        if !run.is_plain {
            let start = self.take(span.image, span.start, wanted);
            match start {
                Some(_) => touched.resumes = 1,
                None => touched.restores = 1,
            }
            first = span.index_of(start.unwrap_or(span.start));
        }
        for unit in first..=run.last {
            sink(unit, ());
        }
        let end = span.end_of(run.last);
        touched.decoded_bytes = end - span.start_of(first);
        if !run.is_plain && end < run.stream_bytes {
            self.kept.push((span.image, end));
        }
        Ok(touched)
    }

    fn serve(&mut self, (): &(), _: u64, _: u64, _: u64) {}
}

impl Simulated {
    /// Takes the decoder that stands furthest in `start..=wanted`, or else any other:
    /// that begins anew.
    fn take(&mut self, image: u32, start: u64, wanted: u64) -> Option<u64> {
        let kept = self.kept.iter().enumerate();
        let standing = kept
            .filter(|(_, (of, at))| *of == image && (start..=wanted).contains(at))
            .max_by_key(|(_, (_, at))| *at);
        match standing.map(|(i, _)| i) {
            Some(i) => Some(self.kept.remove(i).1),
            None => {
                if self.kept.len() == KEPT_MAX {
                    self.kept.remove(0);
                }
                None
            }
        }
    }
}
