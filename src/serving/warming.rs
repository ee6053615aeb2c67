//! Prefetching what a start of an image will read.
//!
//! Guarantees: it takes no thread and no memory beyond the cache, and ends with the
//! image: see [`Prefetcher::plan`].

use std::sync::{Arc, Weak};

use crate::cache::{CachedReader, Prefetcher};
use crate::profile::Profile;
use crate::types::BLOCK_BYTES;

/// Prefetches for starts of one image.
#[derive(Debug)]
pub struct Warmer {
    reader: Weak<CachedReader>,
    prefetcher: Prefetcher,
}

impl Warmer {
    /// For the image that `reader` reads.
    pub(super) fn new(reader: &Arc<CachedReader>, prefetcher: Prefetcher) -> Warmer {
        Warmer {
            reader: Arc::downgrade(reader),
            prefetcher,
        }
    }

    /// Has prefetched what `profile` names, as far as there is room, at the lowest
    /// priority. What is cached already costs nothing.
    pub fn warm(&self, profile: &Profile) {
        let Some(reader) = self.reader.upgrade() else {
            return;
        };
        self.prefetcher.plan(&reader, profile);
        let bytes = profile.blocks() * u64::from(BLOCK_BYTES);
        let spans = profile.steps().len();
        tracing::info!(spans, bytes, "prefetching for a start");
    }
}
