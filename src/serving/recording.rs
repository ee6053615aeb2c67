//! Answers who records which files of a mount are read.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::budget::{Kind, MemoryBudget};
use crate::fs::FsError;
use crate::source::{BlockSource, SourceError};
use crate::sys::ioctl;
use crate::trace::{Origin, Recorder, SpanStart, TracedImage, encoded_image};
use crate::types::{BLOCK_BYTES, SpanNo};

/// What of an image's description goes into one answer.
pub const PAGE_BYTES: usize = 16_000;

/// The name of an image in a trace is the end of its archive's path.
const NAME_CHARS_MAX: usize = 200;

/// What is answered when a recording begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its number.
    pub number: u32,
    /// Where the trace comes from.
    pub origin: Origin,
    /// How long the description of the image is.
    pub image_bytes: usize,
}

/// Records the reads of one image.
pub struct Recording {
    recorder: Arc<Recorder>,
    source: Arc<dyn BlockSource>,
    name: String,
    digest: [u8; 32],
    cache_bytes: u64,
    /// The description of the image, while somebody records.
    image: Mutex<Vec<u8>>,
}

impl Recording {
    /// Of an image that is made of `source`.
    pub fn new(
        source: Arc<dyn BlockSource>,
        name: &Path,
        digest: [u8; 32],
        budget: &MemoryBudget,
    ) -> Recording {
        let name = name.to_string_lossy();
        let skipped = name.chars().count().saturating_sub(NAME_CHARS_MAX);
        Recording {
            recorder: Arc::default(),
            source,
            name: name.chars().skip(skipped).collect(),
            digest,
            cache_bytes: budget.limit_bytes(Kind::Blocks),
            image: Mutex::default(),
        }
    }

    /// What notes the reads.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Where traces of this process come from.
    pub fn origin(&self) -> Origin {
        Origin {
            program: concat!("distrofs ", env!("CARGO_PKG_VERSION")).to_owned(),
            recorded_at: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .ok()
                .map(|since| since.as_secs()),
            cache_bytes: Some(self.cache_bytes),
            block_bytes: Some(BLOCK_BYTES),
            decoders: None,
            command: None,
        }
    }

    /// The image that is read.
    pub fn image(&self) -> Result<TracedImage, SourceError> {
        let mut spans = Vec::new();
        for span in 0..self.source.span_count() {
            let place = self.source.place_of(SpanNo(span))?;
            let start = SpanStart {
                stream: place.stream,
                archive: place.archive,
            };
            // Nothing can be read of a span without bytes.
            match spans.last_mut() {
                Some(SpanStart { stream, archive }) if *stream == start.stream => {
                    *archive = start.archive;
                }
                _ if start.stream < self.source.len() => spans.push(start),
                _ => {}
            }
        }
        self.source.intact()?;
        Ok(TracedImage {
            digest: self.digest,
            name: self.name.clone(),
            stream_bytes: self.source.len(),
            archive_bytes: self.source.archive_len(),
            spans,
        })
    }

    /// Answers what was asked by ioctl.
    pub fn answer(&self, asked: ioctl::Trace) -> Result<Vec<u8>, FsError> {
        match asked {
            ioctl::Trace::Begin => self.begin(),
            ioctl::Trace::Image(from) => {
                let image = self.image.lock();
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(image.len());
                let page = &image[from..image.len().min(from + PAGE_BYTES)];
                Ok(page.to_vec())
            }
            ioctl::Trace::Fetch(number) => {
                let fetched = self.recorder.fetch(number).ok_or(FsError::NotNow)?;
                let left_out = u32::try_from(fetched.left_out).unwrap_or(u32::MAX);
                let mut answer = left_out.to_le_bytes().to_vec();
                answer.push(fetched.has_more.into());
                answer.extend_from_slice(&fetched.payload);
                Ok(answer)
            }
            ioctl::Trace::End(number) => {
                self.recorder.end(number);
                *self.image.lock() = Vec::new();
                Ok(Vec::new())
            }
        }
    }

    fn begin(&self) -> Result<Vec<u8>, FsError> {
        let image = encoded_image(0, &self.image()?);
        let number = self.recorder.begin().ok_or(FsError::NotNow)?;
        let begun = Begun {
            number,
            origin: self.origin(),
            image_bytes: image.len(),
        };
        *self.image.lock() = image;
        Ok(serde_json::to_vec(&begun).unwrap_or_default())
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
