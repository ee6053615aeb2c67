//! `distrofs profile show`: what was recorded of an image.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::{archive_of, named, no_profile, served};
use crate::budget::MemoryBudget;
use crate::cli::args::ProfileShow;
use crate::cli::{Failure, text};
use crate::profile::Profile;
use crate::source::BlockSource;
use crate::store::{Archive, Image, profile_places_of, read_profile};
use crate::types::{BLOCK_BYTES, Digest, Timestamp};

/// For the tables.
const BUDGET_BYTES: u64 = 16 << 20;

/// What is told of a profile.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) profile: PathBuf,
    image: Digest,
    /// Whether it is of the archive and the index that are there.
    fits: bool,
    recorded_at: u64,
    command: Option<String>,
    spans: usize,
    blocks: u64,
    bytes: u64,
    /// Of the archive that is there, if it has an index.
    span_count: Option<u32>,
    stream_bytes: Option<u64>,
}

impl Shown {
    /// A profile, of an archive with these spans and bytes.
    pub(super) fn new(place: PathBuf, profile: &Profile, of: Option<(Digest, u32, u64)>) -> Shown {
        Shown {
            profile: place,
            image: profile.image(),
            fits: of.is_some_and(|(image, spans, _)| profile.fits(image, spans)),
            recorded_at: profile.recorded_at(),
            command: profile.command().map(str::to_owned),
            spans: profile.steps().len(),
            blocks: profile.blocks(),
            bytes: profile.blocks() * u64::from(BLOCK_BYTES),
            span_count: of.map(|(_, spans, _)| spans),
            stream_bytes: of.map(|(.., bytes)| bytes),
        }
    }

    /// Says that it was recorded.
    pub(super) fn tell(&self) {
        eprintln!(
            "distrofs: {} spans, {}, in {}",
            text::count(self.spans as u64),
            text::bytes(self.bytes),
            self.profile.display()
        );
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let secs = i64::try_from(self.recorded_at).unwrap_or(i64::MAX);
        let at = text::time(Timestamp { secs, nanos: 0 });
        let command = self
            .command
            .as_deref()
            .unwrap_or("what was read of a mount");
        let command = text::printable(command.as_bytes());
        let spans = text::count(self.spans as u64);
        let of_spans = self.span_count.map(|all| {
            let of = format!(" of {}", text::count(all.into()));
            of + &share(self.spans as u64, all.into())
        });
        let of_bytes = self.stream_bytes.map(|all| {
            let of = format!(" of {}", text::bytes(all));
            of + &share(self.bytes, all)
        });
        let fits = match self.fits {
            true => "yes",
            false => "no, it is ignored: the archive or its index is another one; record it again",
        };
        writeln!(out, "profile   {}", self.profile.display())?;
        writeln!(out, "image     {}", self.image)?;
        writeln!(out, "recorded  {at}, {command}")?;
        writeln!(out, "spans     {spans}{}", of_spans.unwrap_or_default())?;
        let bytes = text::bytes(self.bytes);
        writeln!(out, "content   {bytes}{}", of_bytes.unwrap_or_default())?;
        writeln!(out, "fits      {fits}")
    }
}

/// How much of something that is, for people.
pub(super) fn share(part: u64, whole: u64) -> String {
    format!(" ({:.1} %)", part as f64 * 100.0 / whole.max(1) as f64)
}

pub(super) fn run(job: &ProfileShow) -> Result<(), Failure> {
    if let Some(image) = &job.profile.of.served {
        return served::show(image, job);
    }
    let path = archive_of(named(job.profile.image.as_deref())?)?;
    let archive = Archive::open(&path)?;
    let of = facts(&archive, job)?;
    for place in profile_places_of(&archive, job.profile.index.as_deref())? {
        let Some(profile) = read_profile(&place)? else {
            continue;
        };
        let shown = Shown::new(place, &profile, of);
        let mut out = io::stdout().lock();
        match job.json {
            true => writeln!(out, "{}", serde_json::to_string(&shown)?)?,
            false => shown.print(&mut out)?,
        }
        return Ok(());
    }
    Err(no_profile(&path))
}

/// The version, spans and bytes of the archive, if it has an index.
fn facts(archive: &Archive, job: &ProfileShow) -> Result<Option<(Digest, u32, u64)>, Failure> {
    let Ok(index) = archive.existing_index(job.profile.index.as_deref())? else {
        return Ok(None);
    };
    let budget = MemoryBudget::new(BUDGET_BYTES);
    let image = Image::open(archive, &index, &budget, &Arc::default())?;
    let source = image.source;
    Ok(Some((index.digest(), source.span_count(), source.len())))
}
