//! `distrofs profile … --image`: of an image that a service serves; its worker records
//! and keeps what is read.

use std::io::{self, Write};
use std::time::Duration;

use super::show::share;
use crate::cli::args::{OfService, ProfileRecord, ProfileShow};
use crate::cli::service::image::{ask_of, print_json};
use crate::cli::{Failure, text};
use crate::types::{ImageOf, Timestamp};
use crate::worker::questions::{ProfileInfo, Question};

/// The longest that a worker records.
const RECORDED_MAX: Duration = Duration::from_secs(600);

pub(super) fn record(image: &ImageOf, job: &ProfileRecord) -> Result<(), Failure> {
    let limit = job.limit.filter(|limit| *limit <= RECORDED_MAX);
    let limit = limit.ok_or("say for how long, ten minutes at most: --for 10s")?;
    let question = Question::RecordProfile {
        path: image.path.clone(),
        millis: u64::try_from(limit.as_millis())?,
    };
    let profile: ProfileInfo = ask_of(image, &job.of.service.run, &question)?;
    if job.json {
        return print_json(&profile);
    }
    let (spans, bytes) = (text::count(profile.spans), text::bytes(profile.bytes));
    eprintln!("distrofs: {spans} spans, {bytes}, for starts of {image}");
    Ok(())
}

pub(super) fn show(image: &ImageOf, job: &ProfileShow) -> Result<(), Failure> {
    let path = image.path.clone();
    let question = Question::Profile { path };
    let profile: ProfileInfo = ask_of(image, &job.profile.of.service.run, &question)?;
    match job.json {
        true => print_json(&profile),
        false => Ok(print(&profile, &mut io::stdout().lock())?),
    }
}

fn print(profile: &ProfileInfo, out: &mut impl Write) -> io::Result<()> {
    let secs = i64::try_from(profile.recorded_at).unwrap_or(i64::MAX);
    let at = text::time(Timestamp { secs, nanos: 0 });
    let all = u64::from(profile.span_count);
    let of_spans = share(profile.spans, all);
    let (spans, all) = (text::count(profile.spans), text::count(all));
    let of_bytes = share(profile.bytes, profile.stream_bytes);
    let bytes = text::bytes(profile.bytes);
    let all_bytes = text::bytes(profile.stream_bytes);
    let fits = match profile.fits {
        true => "yes",
        false => "no, it is ignored: record it again",
    };
    writeln!(out, "version   {}", profile.version)?;
    writeln!(out, "recorded  {at}")?;
    writeln!(out, "spans     {spans} of {all}{of_spans}")?;
    writeln!(out, "content   {bytes} of {all_bytes}{of_bytes}")?;
    writeln!(out, "fits      {fits}")
}

pub(super) fn remove(image: &ImageOf, of: &OfService) -> Result<(), Failure> {
    let path = image.path.clone();
    let question = Question::RemoveProfile { path };
    let profile: ProfileInfo = ask_of(image, &of.service.run, &question)?;
    let version = profile.version.short();
    eprintln!("distrofs: the start profile of {image} ({version}) is removed");
    Ok(())
}
