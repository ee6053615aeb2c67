//! Which cache, block and span would have served a trace best within a budget of
//! memory.
//!
//! What is compared is simulated: LRU and decoding ahead, as it serves. The cost of a configuration is the
//! bytes that are decoded for each byte that is served: time is spent there. Its
//! memory is what a mount is given, of which the cache is a part, as decoders and
//! buffers are; what is left has to hold the pages of the index that a reader of
//! everything touches: each span has a window, so smaller spans decode less and take a
//! larger index.
//!
//! The choice is the smallest configuration that is within [`NEAR_BEST`] of the best.

use super::LabError;
use super::policy::Rule;
use super::replay::{Decoding, Figures, OnProgress, Setting, replay_settings};
use crate::budget::{Kind, MemoryBudget};
use crate::trace::Trace;
use crate::types::BLOCK_BYTES;

/// A configuration that costs at most this more than the best one is as good.
pub const NEAR_BEST: f64 = 0.01;

/// A mount takes no less.
const MEMORY_MIN: u64 = 8 << 20;

/// What is compared, and what things take.
#[derive(Clone, Debug)]
pub struct Options {
    /// What all of it may take.
    pub memory_bytes: u64,
    /// What to try; what is more than all is left out. If there are none: all of it, and
    /// halves of it down to an eighth, but not less than a mount takes.
    pub tried_bytes: Vec<u64>,
    /// Lengths of a block to try.
    pub block_bytes: Vec<u64>,
    /// Lengths of a span to try; `None` is as recorded.
    pub span_bytes: Vec<Option<u64>>,
    /// What a window and the rest of a span take in the index.
    pub window_bytes_per_span: u64,
    /// What a block takes in the index.
    pub checksum_bytes_per_block: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory_bytes: 64 << 20,
            tried_bytes: Vec::new(),
            block_bytes: vec![BLOCK_BYTES.into()],
            span_bytes: vec![
                Some(64 << 10),
                Some(128 << 10),
                None,
                Some(512 << 10),
                Some(1 << 20),
            ],
            // 6.1 MB for 2,610 spans of 256 KiB, and a record of 40 bytes.
            window_bytes_per_span: 2400 + 40,
            checksum_bytes_per_block: 4,
        }
    }
}

/// One configuration.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Candidate {
    /// What was simulated.
    pub figures: Figures,
    /// Bytes decoded for each byte served: what is compared.
    pub cost: f64,
    /// What a mount is given.
    pub memory_bytes: u64,
    /// The index of all images: windows and checksums; not the files in it.
    pub index_bytes: u64,
}

/// Where the chosen value can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applies {
    /// `--memory SIZE` of `distrofs mount`.
    Memory,
    /// `--span SIZE` of `distrofs index`.
    Span,
    /// Nowhere: the length of a block is fixed.
    Fixed,
}

/// One setting to apply.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Apply {
    /// Where.
    pub applies: Applies,
    /// Which value, in bytes.
    pub bytes: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Advice {
    /// All that fit, the cheapest first; of equal ones the smaller first.
    pub ranked: Vec<Candidate>,
    /// Which of them is the choice.
    pub choice: usize,
    /// What of it can be set, and where.
    pub apply: Vec<Apply>,
}

/// Simulates the candidates and chooses.
pub fn advise(
    trace: &Trace,
    options: &Options,
    progress: &OnProgress<'_>,
) -> Result<Advice, LabError> {
    let (memory, settings): (Vec<u64>, Vec<Setting>) = settings(trace, options).into_iter().unzip();
    if settings.is_empty() {
        return Err(LabError::Setting {
            what: "a budget",
            found: options.memory_bytes,
            must: "at least 8M, and larger for the index of this image",
        });
    }
    let figures = replay_settings(trace, &settings, progress)?;
    let mut ranked: Vec<Candidate> = memory
        .into_iter()
        .zip(figures)
        .map(|(memory_bytes, figures)| candidate(trace, options, memory_bytes, figures))
        .collect();
    ranked.sort_by(|a, b| {
        let by_cost = a.cost.total_cmp(&b.cost);
        by_cost.then(a.memory_bytes.cmp(&b.memory_bytes))
    });
    let best = ranked.first().map_or(0.0, |best| best.cost);
    let near = ranked
        .iter()
        .enumerate()
        .filter(|(_, one)| one.cost <= best * (1.0 + NEAR_BEST));
    let choice = near.min_by_key(|(_, one)| one.memory_bytes);
    let choice = choice.map_or(0, |(i, _)| i);
    let apply = ranked.get(choice).map_or(Vec::new(), apply);
    Ok(Advice {
        ranked,
        choice,
        apply,
    })
}

/// What fits into the budget, each with what a mount is given.
fn settings(trace: &Trace, options: &Options) -> Vec<(u64, Setting)> {
    let all = options.memory_bytes;
    let tried = match options.tried_bytes.as_slice() {
        [] => [all, all / 2, all / 4, all / 8].to_vec(),
        given => given.to_vec(),
    };
    let mut settings = Vec::new();
    for span_bytes in &options.span_bytes {
        let index = index_bytes(trace, options, *span_bytes);
        let fits = |memory: &&u64| {
            let budget = MemoryBudget::new(**memory);
            let parts = Kind::ALL.iter().map(|kind| budget.limit_bytes(*kind));
            (MEMORY_MIN..=all).contains(*memory) && index <= **memory - parts.sum::<u64>()
        };
        for memory in tried.iter().filter(fits) {
            settings.extend(options.block_bytes.iter().map(|block_bytes| {
                let setting = Setting {
                    cache_bytes: MemoryBudget::new(*memory).limit_bytes(Kind::Blocks),
                    block_bytes: *block_bytes,
                    span_bytes: *span_bytes,
                    policy: Rule::Lru,
                    decode_ahead: true,
                };
                (*memory, setting)
            }));
        }
    }
    settings
}

fn candidate(trace: &Trace, options: &Options, memory_bytes: u64, figures: Figures) -> Candidate {
    let index_bytes = index_bytes(trace, options, figures.setting.span_bytes);
    let cost = figures
        .decoding
        .map_or(f64::INFINITY, |decoding: Decoding| {
            decoding.decoded_per_served
        });
    Candidate {
        cost,
        memory_bytes,
        index_bytes,
        figures,
    }
}

/// Windows and checksums of all images, were their spans so long.
fn index_bytes(trace: &Trace, options: &Options, span_bytes: Option<u64>) -> u64 {
    let of = |image: &crate::trace::TracedImage| {
        let recorded = image.spans.len() as u64;
        let spans = span_bytes.map_or(recorded, |span| image.stream_bytes / span.max(1) + 1);
        let blocks = image.stream_bytes / u64::from(BLOCK_BYTES) + spans;
        let windows = spans.saturating_mul(options.window_bytes_per_span);
        windows.saturating_add(blocks.saturating_mul(options.checksum_bytes_per_block))
    };
    let images = trace.images().iter();
    images.fold(0, |sum: u64, image| sum.saturating_add(of(image)))
}

/// What can be set of a choice.
fn apply(choice: &Candidate) -> Vec<Apply> {
    let setting = choice.figures.setting;
    let mut apply = Vec::new();
    // An index is made before it is mounted.
    if let Some(bytes) = setting.span_bytes {
        apply.push(Apply {
            applies: Applies::Span,
            bytes,
        });
    }
    apply.push(Apply {
        applies: Applies::Memory,
        bytes: choice.memory_bytes,
    });
    if setting.block_bytes != u64::from(BLOCK_BYTES) {
        apply.push(Apply {
            applies: Applies::Fixed,
            bytes: setting.block_bytes,
        });
    }
    apply
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::super::testing::{read, trace, uneven};
    use super::*;

    /// Single blocks at random places: smaller spans decode less for each.
    fn random_blocks(hot_bytes: u64) -> Trace {
        let mut random = Random::new(2);
        let image = uneven(&mut random, 64 << 20, 256);
        let reads: Vec<_> = (0..4000)
            .map(|_| read(0, random.below(hot_bytes), 4096))
            .collect();
        trace(&[image], &reads)
    }

    #[test]
    fn random_readers_get_small_spans_within_the_budget() {
        let options = Options {
            memory_bytes: 16 << 20,
            ..Options::default()
        };
        let advice = advise(&random_blocks(60 << 20), &options, &|_| ()).unwrap();
        let choice = &advice.ranked[advice.choice];
        assert_eq!(choice.figures.setting.span_bytes, Some(64 << 10));
        assert!(choice.figures.approximate);
        assert!(advice.ranked.iter().all(|one| one.memory_bytes <= 16 << 20));
        assert!(advice.ranked.is_sorted_by(|a, b| a.cost <= b.cost));
        assert!(advice.apply.contains(&Apply {
            applies: Applies::Span,
            bytes: 64 << 10
        }));
    }

    #[test]
    fn the_smallest_that_is_as_good_is_chosen() {
        // All that is read fits into each of these.
        let options = Options {
            tried_bytes: vec![64 << 20, 16 << 20, 32 << 20],
            span_bytes: vec![None],
            ..Options::default()
        };
        let advice = advise(&random_blocks(2 << 20), &options, &|_| ()).unwrap();
        assert_eq!(advice.ranked.len(), 3);
        let choice = &advice.ranked[advice.choice];
        assert_eq!(choice.figures.setting.cache_bytes, 6 << 20);
        assert_eq!(
            advice.apply,
            [Apply {
                applies: Applies::Memory,
                bytes: 16 << 20
            }]
        );
    }

    #[test]
    fn a_budget_that_holds_nothing_is_refused() {
        let options = Options {
            memory_bytes: 1 << 20,
            ..Options::default()
        };
        let result = advise(&random_blocks(1 << 20), &options, &|_| ());
        assert!(matches!(result, Err(LabError::Setting { .. })));
    }
}
