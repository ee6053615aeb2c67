//! Collecting what serving processes note, into a trace.
//!
//! Guarantees: what could not be fetched in time or does not fit is counted in the trace;
//! a mount that goes away ends its part, not the recording.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::record::Recorded;
use crate::cli::Failure;
use crate::serving::recording::{Begun, Recording};
use crate::sys::ioctl::{self, Question, Trace};
use crate::trace::{Fetched, Origin, Read, TraceWriter, TracedImage, decoded_image, fetched};

/// How long nothing is fetched when nothing was there: short enough for what a mount
/// keeps of its fastest reader. Asking keeps a mount busy for a moment.
const PAUSE: Duration = Duration::from_millis(100);

/// The largest description of an image that is taken.
const IMAGE_BYTES_MAX: usize = 16 << 20;

/// What notes reads somewhere.
#[derive(Debug)]
pub(in crate::cli) enum Feed {
    /// Another process, asked through its mount.
    Mounted(Asking),
    /// This one.
    Here(Arc<Recording>),
}

/// A mount that is asked now and then. Nothing of it is kept open, so that it can be
/// unmounted.
#[derive(Debug)]
pub(in crate::cli) struct Asking {
    path: PathBuf,
    device: u64,
}

impl Asking {
    /// The mount at `path`, or that `path` is in.
    pub(in crate::cli) fn new(path: &Path) -> io::Result<Asking> {
        let opened = ioctl::open_mount(path)?;
        Ok(Asking {
            path: std::path::absolute(path)?,
            device: opened.metadata()?.dev(),
        })
    }

    fn ask(&self, question: Trace) -> io::Result<Vec<u8>> {
        let opened = File::open(&self.path)?;
        if opened.metadata()?.dev() != self.device {
            return Err(ErrorKind::NotConnected.into());
        }
        ioctl::ask(opened.as_fd(), Question::Trace(question))
    }
}

impl Feed {
    fn ask(&self, question: Trace) -> io::Result<Vec<u8>> {
        match self {
            Feed::Mounted(mount) => mount.ask(question),
            Feed::Here(recording) => recording.answer(question).map_err(io::Error::other),
        }
    }

    fn begin(self) -> Result<(Begun, TracedImage, Running), Failure> {
        let began = Instant::now();
        let answer = self.ask(Trace::Begin).map_err(refused)?;
        let begun: Begun = serde_json::from_slice(&answer)?;
        let number = begun.number;
        // From here on it is ended, whatever fails.
        let running = Running {
            feed: self,
            number,
            image: 0,
            began,
            is_over: false,
        };
        let image = running.image(begun.image_bytes.min(IMAGE_BYTES_MAX))?;
        Ok((begun, image, running))
    }
}

fn refused(cause: io::Error) -> Failure {
    match Errno::from_io_error(&cause) {
        Some(Errno::NOTTY) => {
            "its daemon cannot record: it is of an older version; mount it again".into()
        }
        Some(Errno::BUSY) => {
            "somebody else records it: wait for the end of that, ten seconds at most after \
             its process ended"
                .into()
        }
        Some(Errno::PERM) => {
            "only root and the user whose daemon it is may record what is read".into()
        }
        _ => cause.into(),
    }
}

/// A recording that is under way.
#[derive(Debug)]
struct Running {
    feed: Feed,
    number: u32,
    /// Its image's number in the trace.
    image: u32,
    began: Instant,
    is_over: bool,
}

impl Running {
    fn image(&self, len: usize) -> Result<TracedImage, Failure> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let from = u32::try_from(bytes.len())?;
            let page = self.feed.ask(Trace::Image(from))?;
            if page.is_empty() {
                break;
            }
            bytes.extend_from_slice(&page);
        }
        let (_, image) = decoded_image(&bytes).map_err(|what| format!("its image: {what}"))?;
        Ok(image)
    }

    fn fetch(&mut self) -> Option<Fetched> {
        let answer = self.feed.ask(Trace::Fetch(self.number));
        let parsed = answer.map(|bytes| {
            let (left_out, rest) = bytes.split_first_chunk::<4>()?;
            let (has_more, payload) = rest.split_first()?;
            Some(Fetched {
                left_out: u32::from_le_bytes(*left_out).into(),
                has_more: *has_more != 0,
                payload: payload.to_vec(),
            })
        });
        match parsed {
            Ok(Some(found)) => Some(found),
            Ok(None) => {
                tracing::warn!("an answer of a mount cannot be understood");
                self.is_over = true;
                None
            }
            // It answers, but knows nothing of this recording.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => {
                tracing::warn!(
                    "a mount was not asked for so long that it forgot the recording: what was \
                     read since is not in the trace"
                );
                self.is_over = true;
                None
            }
            Err(error) => {
                tracing::info!(%error, "a mount went away");
                self.is_over = true;
                None
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.feed.ask(Trace::End(self.number)) {
            tracing::debug!(%error, "a recording could not be ended");
        }
    }
}

/// Writes a trace of several images.
#[derive(Debug)]
pub(in crate::cli) struct Collector {
    writer: TraceWriter<BufWriter<File>>,
    running: Vec<Running>,
    began: Instant,
    records: u64,
    left_out: u64,
}

impl Collector {
    /// Begins a recording of all of them, of at most `bytes_max`, into what `to` opens
    /// once they agreed.
    pub(in crate::cli) fn begin(
        feeds: Vec<Feed>,
        to: impl FnOnce() -> Result<File, Failure>,
        bytes_max: u64,
        command: &str,
    ) -> Result<Collector, Failure> {
        let began = Instant::now();
        let begun = feeds.into_iter().map(Feed::begin);
        let begun: Vec<_> = begun.collect::<Result<_, _>>()?;
        let origin = begun.first().map(|(begun, ..)| begun.origin.clone());
        let origin = Origin {
            command: Some(command.to_owned()),
            ..origin.unwrap_or_default()
        };
        let mut writer = TraceWriter::new(BufWriter::new(to()?), &origin, bytes_max)?;
        let mut running = Vec::with_capacity(begun.len());
        for (_, image, mut one) in begun {
            one.image = writer.image(&image)?;
            running.push(one);
        }
        Ok(Collector {
            writer,
            running,
            began,
            records: 0,
            left_out: 0,
        })
    }

    /// Collects until `ended`, or nothing is left to be collected.
    pub(in crate::cli) fn until(
        &mut self,
        ended: &AtomicBool,
        limit: Option<Duration>,
        mut tell: impl FnMut(u64, Duration),
    ) -> Result<(), Failure> {
        while !self.writer.is_full() && self.running.iter().any(|one| !one.is_over) {
            let had_all = self.round()?;
            tell(self.records, self.began.elapsed());
            let is_late = limit.is_some_and(|limit| self.began.elapsed() >= limit);
            if had_all && (is_late || ended.load(Ordering::Relaxed)) {
                return Ok(());
            }
            if had_all {
                std::thread::sleep(PAUSE);
            }
        }
        if self.writer.is_full() {
            let seconds = self.began.elapsed().as_secs();
            tracing::warn!(
                seconds,
                "the trace is full: what was read since is not in it; give it more room with --max"
            );
        }
        Ok(())
    }

    /// Ends the recording and the trace.
    pub(in crate::cli) fn finish(mut self) -> Result<Recorded, Failure> {
        self.running.clear();
        let micros = self.began.elapsed().as_micros();
        self.writer.left_out(self.left_out);
        let (file, totals) = self.writer.finish(u64::try_from(micros)?)?;
        Recorded::new(totals, file.get_ref())
    }

    /// Fetches from each once; answers whether that was all.
    fn round(&mut self) -> Result<bool, Failure> {
        let (mut reads, mut had_all) = (Vec::new(), true);
        for one in self.running.iter_mut().filter(|one| !one.is_over) {
            let Some(found) = one.fetch() else {
                continue;
            };
            had_all &= !found.has_more;
            self.left_out += found.left_out;
            let after = one.began.saturating_duration_since(self.began);
            let after = u64::try_from(after.as_micros())?;
            let theirs = fetched(&found.payload).map_err(|what| format!("a mount says {what}"))?;
            reads.extend(theirs.into_iter().map(|read| Read {
                at_us: read.at_us.saturating_add(after),
                image: one.image,
                ..read
            }));
        }
        // As they arrived; pieces of one read stay together.
        reads.sort_by_key(|read| (read.at_us, read.image));
        for read in &reads {
            self.writer.read(read)?;
        }
        self.records += reads.len() as u64;
        Ok(had_all)
    }
}
