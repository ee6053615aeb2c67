//! `distrofs profile`: which parts of an image a start reads, for the next one.

mod record;
mod served;
mod show;

use std::path::{Path, PathBuf};

use super::Failure;
use super::args::{Profile, ProfileOf};
use crate::store::{Archive, profile_places_of, remove_profiles};
use crate::sys::mountinfo;
use crate::view::Image;

pub(super) fn run(job: &Profile) -> Result<(), Failure> {
    match job {
        Profile::Record(job) => record::run(job),
        Profile::Show(job) => show::run(job),
        Profile::Rm(job) => remove(job),
    }
}

fn remove(job: &ProfileOf) -> Result<(), Failure> {
    if let Some(image) = &job.of.served {
        return served::remove(image, &job.of);
    }
    let archive = archive_of(named(job.image.as_deref())?)?;
    let places = profile_places_of(&Archive::open(&archive)?, job.index.as_deref())?;
    let removed = remove_profiles(&places)?;
    if removed.is_empty() {
        return Err(no_profile(&archive));
    }
    for place in removed {
        eprintln!("distrofs: {} is removed", place.display());
    }
    Ok(())
}

fn no_profile(archive: &Path) -> Failure {
    let archive = archive.display();
    format!("there is no start profile of {archive}: make one with `distrofs profile record`")
        .into()
}

/// What was named; clap asks for it.
fn named(image: Option<&Path>) -> Result<&Path, Failure> {
    image.ok_or_else(|| "name an archive, where one is mounted, or --image".into())
}

/// Whether an archive is mounted there.
fn is_mount(path: &Path) -> bool {
    let entry = mountinfo::resolve(path).and_then(|at| mountinfo::find(&at));
    entry.is_ok_and(|entry| entry.is_some_and(|entry| mountinfo::is_distrofs(&entry.fs_type)))
}

/// The archive that was named, or the one that is mounted there.
fn archive_of(path: &Path) -> Result<PathBuf, Failure> {
    match is_mount(path) {
        true => Ok(Image::archive_at(path)?),
        false => Ok(path.to_owned()),
    }
}
