//! What is counted, and what comes of it.

use super::Setting;
use crate::lab::layout::Layout;
use crate::lab::policy::Rule;

/// What is counted while replaying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::lab) struct Counts {
    pub(in crate::lab) reads: u64,
    pub(in crate::lab) reads_all_hits: u64,
    pub(in crate::lab) hits: u64,
    pub(in crate::lab) misses: u64,
    pub(in crate::lab) served_bytes: u64,
    pub(in crate::lab) hit_bytes: Option<u64>,
    pub(in crate::lab) decoded_bytes: u64,
    pub(in crate::lab) restores: u64,
    pub(in crate::lab) resumes: u64,
}

/// What one setting would have done.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Which setting.
    #[serde(flatten)]
    pub setting: Setting,
    /// Whether its spans are made up: divided where no decoder can really begin.
    pub approximate: bool,
    /// Reads that asked for a byte of an image; pieces of one count once.
    pub reads: u64,
    /// Bytes that they asked for.
    pub served_bytes: u64,
    /// Blocks that they asked for.
    pub blocks: u64,
    /// How many of those were found.
    pub hits: u64,
    /// How many were decoded for the reader.
    pub misses: u64,
    /// Found blocks of all, 0 to 1.
    pub hit_ratio: f64,
    /// What had to be decoded; nothing for OPT, which bounds hits only.
    pub decoding: Option<Decoding>,
}

/// What had to be decoded.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Decoding {
    /// Reads all of whose blocks were found.
    pub reads_all_hits: u64,
    /// Bytes in found blocks, of all bytes asked for, 0 to 1; nothing where the cache
    /// that serves was measured, which counts blocks.
    pub byte_hit_ratio: Option<f64>,
    /// Bytes that a decoder produced, or that were read of an uncompressed archive.
    pub decoded_bytes: u64,
    /// The same for each byte that was asked for.
    pub decoded_per_served: f64,
    /// Decodes that began at the start of a span.
    pub restores: u64,
    /// Decodes that went on with a kept decoder.
    pub resumes: u64,
}

impl Figures {
    pub(in crate::lab) fn new(setting: Setting, layout: &Layout, counts: &Counts) -> Self {
        let decoding = Decoding {
            reads_all_hits: counts.reads_all_hits,
            byte_hit_ratio: counts
                .hit_bytes
                .map(|bytes| ratio(bytes, counts.served_bytes)),
            decoded_bytes: counts.decoded_bytes,
            decoded_per_served: ratio(counts.decoded_bytes, counts.served_bytes),
            restores: counts.restores,
            resumes: counts.resumes,
        };
        Figures {
            setting,
            approximate: layout.is_approximate(),
            reads: counts.reads,
            served_bytes: counts.served_bytes,
            blocks: counts.hits + counts.misses,
            hits: counts.hits,
            misses: counts.misses,
            hit_ratio: ratio(counts.hits, counts.hits + counts.misses),
            decoding: (setting.policy != Rule::Opt).then_some(decoding),
        }
    }
}

/// One of the other; 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(in crate::lab) fn ratio(part: u64, all: u64) -> f64 {
    match all {
        0 => 0.0,
        _ => part as f64 / all as f64,
    }
}
