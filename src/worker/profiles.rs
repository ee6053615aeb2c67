//! Start profiles of images that are served: recorded when somebody asks, kept in the
//! store, prefetched when an image is mounted and whenever a container gets a view.
//!
//! Guarantees: one profile for each version, removed with the indexes of versions that
//! are not used; whatever is wrong with one, its image is served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::images::Images;
use super::questions::ProfileInfo;
use crate::profile::{Place, Profile, Touched};
use crate::serving::recording::Recording;
use crate::serving::{Prepared, Warmer};
use crate::source::BlockSource;
use crate::store::{find_profile, keep_profile, read_profile, remove_profiles};
use crate::trace::{Recorder, fetched};
use crate::types::{BLOCK_BYTES, ImagePath};
use crate::wire::{MountNo, Version};

/// How often what was read is fetched.
const FETCH_EVERY: Duration = Duration::from_millis(100);

/// The longest recording.
const RECORDED_MAX: Duration = Duration::from_secs(600);

/// Nobody but the customer has to read it.
const MODE: u32 = 0o600;

type Refused = Box<dyn std::error::Error>;

/// What an image is recorded and prefetched with.
pub(super) struct Start {
    version: Version,
    warmer: Arc<Warmer>,
    recording: Arc<Recording>,
    source: Arc<dyn BlockSource>,
}

impl Start {
    /// Of an image that is about to be served.
    pub(super) fn new(
        version: Version,
        prepared: &Prepared,
        source: Arc<dyn BlockSource>,
    ) -> Start {
        Start {
            version,
            warmer: Arc::clone(prepared.warmer()),
            recording: Arc::clone(prepared.recording()),
            source,
        }
    }

    /// Prefetches by the profile at `place`, if it is of this image.
    pub(super) fn warm(&self, place: &Path) {
        let places = [place.to_owned()];
        if let Some((_, profile)) = find_profile(&places, self.version, self.source.span_count()) {
            self.warmer.warm(&profile);
        }
    }

    /// What is read for so long.
    fn record(&self, time: Duration) -> Result<Profile, Refused> {
        let running = Running::begin(self.recording.recorder())?;
        let place = |at| {
            let block = self.source.block_at(at).ok()?;
            Some(Place {
                span: block.span,
                block: block.no,
                end: block.end(),
            })
        };
        let (began, mut touched) = (Instant::now(), Touched::default());
        loop {
            let is_over = began.elapsed() >= time;
            while running.fetch(&mut touched, &place)? {}
            if is_over {
                break;
            }
            std::thread::sleep(FETCH_EVERY.min(time.saturating_sub(began.elapsed())));
        }
        drop(running);
        self.source.intact()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let profile = Profile::new(self.version, self.source.span_count(), now, None, &touched);
        profile.ok_or_else(|| {
            "nothing was read: what the kernel holds is not asked for again; record when it is \
             mounted anew, or after `echo 1 > /proc/sys/vm/drop_caches`"
                .into()
        })
    }

    fn info(&self, profile: &Profile) -> ProfileInfo {
        let span_count = self.source.span_count();
        ProfileInfo {
            version: profile.image(),
            fits: profile.fits(self.version, span_count),
            recorded_at: profile.recorded_at(),
            spans: profile.steps().len() as u64,
            blocks: profile.blocks(),
            bytes: profile.blocks() * u64::from(BLOCK_BYTES),
            span_count,
            stream_bytes: self.source.len(),
        }
    }
}

/// A recording, which ends with this.
struct Running<'a> {
    recorder: &'a Recorder,
    number: u32,
}

impl Running<'_> {
    fn begin(recorder: &Recorder) -> Result<Running<'_>, Refused> {
        let number = recorder
            .begin()
            .ok_or("somebody else records it: wait for its end")?;
        Ok(Running { recorder, number })
    }

    /// Notes what was read; whether there is more.
    fn fetch(
        &self,
        touched: &mut Touched,
        place: &dyn Fn(u64) -> Option<Place>,
    ) -> Result<bool, Refused> {
        let found = self.recorder.fetch(self.number);
        let found = found.ok_or("the recording was ended by somebody else")?;
        for read in fetched(&found.payload)? {
            touched.note(&read, place);
        }
        Ok(found.has_more)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.recorder.end(self.number);
    }
}

impl Images {
    /// Prefetches for a container that gets a view.
    pub(super) fn prefetch(&self, mount: MountNo) {
        let Some(start) = self.start_of(mount) else {
            return;
        };
        if let Some(place) = self.profile_place(&start.version) {
            start.warm(&place);
        }
    }

    /// Records what is read of an image for so long, and keeps it.
    pub(super) fn record_profile(
        &self,
        path: &ImagePath,
        time: Duration,
    ) -> Result<ProfileInfo, Refused> {
        let (start, place) = self.newest(path)?;
        let profile = start.record(time.min(RECORDED_MAX))?;
        keep_profile(&[place], &profile, MODE)?;
        Ok(start.info(&profile))
    }

    /// The profile of the version that new starts get.
    pub(super) fn profile(&self, path: &ImagePath) -> Result<ProfileInfo, Refused> {
        let (start, place) = self.newest(path)?;
        match read_profile(&place)? {
            Some(profile) => Ok(start.info(&profile)),
            None => Err(none(path)),
        }
    }

    /// Forgets it; what it was.
    pub(super) fn remove_profile(&self, path: &ImagePath) -> Result<ProfileInfo, Refused> {
        let info = self.profile(path)?;
        let (_, place) = self.newest(path)?;
        remove_profiles(&[place])?;
        Ok(info)
    }

    fn newest(&self, path: &ImagePath) -> Result<(Arc<Start>, PathBuf), Refused> {
        let start = self.newest_start(path);
        let start = start.ok_or_else(|| format!("the image {path} is not served at the moment"))?;
        let place = self.profile_place(&start.version);
        let place = place.ok_or("the store is not open yet: try again")?;
        Ok((start, place))
    }
}

fn none(path: &ImagePath) -> Refused {
    format!(
        "there is no start profile of the version of {path} that is served: make one with \
         `distrofs profile record --image`"
    )
    .into()
}
