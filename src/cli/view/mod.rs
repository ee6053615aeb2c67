//! `distrofs view`: what containers see of an image.

mod list;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::Failure;
use super::args::{Indexing, View, ViewDown, ViewReset, ViewUp};
use super::opening::{self, say_made};
use crate::sys::mount;
use crate::sys::mountinfo;
use crate::view::{Image, NewView, State, Turn, ViewError};

/// This very program, even if its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

pub(super) fn run(job: &View) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(ViewError::NotRoot.into());
    }
    match job {
        View::Up(job) => up(job),
        View::Down(job) => down(job),
        View::List(job) => list::run(job),
        View::Reset(job) => reset(job),
    }
}

fn up(job: &ViewUp) -> Result<(), Failure> {
    let state = State::open(&job.state.state)?;
    let (image, turn) = match Found::new(&job.image)? {
        Found::Mounted(_) if job.owner.is_some() => {
            return Err(
                "--owner is for archives: who owns the files of a mounted image was said \
                 when it was mounted"
                    .into(),
            );
        }
        Found::Mounted(path) => (Image::mounted(&path)?, None),
        Found::Archive(path) => {
            // Until the view is there, so that nobody unmounts the image meanwhile.
            let turn = state.turn(&path)?;
            let opened = opening::open(&path, &Indexing::default(), false, &Arc::default())?;
            say_made(&opened.index);
            (mounted(&turn, job, &path)?, Some(turn))
        }
    };
    let done = state.up(&NewView {
        image: &image,
        container: job.container,
        at: &job.at,
        writable: job.writable,
        passwd: job.passwd,
        is_for_views: turn.is_some(),
    });
    if done.is_err()
        && let Some(turn) = &turn
    {
        state.release(turn, &image.mounted_at)?;
    }
    for note in done? {
        eprintln!("distrofs: {note}");
    }
    Ok(())
}

fn down(job: &ViewDown) -> Result<(), Failure> {
    let state = State::open(&job.state.state)?;
    if !state.down(&job.dir)? {
        eprintln!("distrofs: no view was up at {}", job.dir.display());
    }
    Ok(())
}

fn reset(job: &ViewReset) -> Result<(), Failure> {
    let state = State::open(&job.state.state)?;
    let archive = match Found::new(&job.image) {
        Ok(Found::Mounted(path)) => Image::archive_at(&path)?,
        Ok(Found::Archive(path)) => path,
        // What was written to an image that is gone can be removed, too.
        Err(_) => mountinfo::resolve(&job.image).or_else(|_| std::path::absolute(&job.image))?,
    };
    Ok(state.reset(&archive, job.container)?)
}

/// What was named as an image.
enum Found {
    /// A directory, where one is mounted.
    Mounted(PathBuf),
    /// A file, by the path that a mount of it shows.
    Archive(PathBuf),
}

impl Found {
    fn new(path: &Path) -> Result<Found, Failure> {
        // Without asking a daemon that may be dead.
        let resolved = mountinfo::resolve(path);
        if let Ok(at) = resolved
            && mountinfo::is_mount_point(&at)?
        {
            return Ok(Found::Mounted(at));
        }
        let found = path
            .canonicalize()
            .and_then(|path| Ok((path.metadata()?.is_dir(), path)));
        match found {
            Ok((true, path)) => Ok(Found::Mounted(path)),
            Ok((false, path)) => Ok(Found::Archive(path)),
            Err(cause) => Err(format!("cannot open the image {}: {cause}", path.display()).into()),
        }
    }
}

/// The archive, mounted for views: one mount for all views of a version.
fn mounted(turn: &Turn, job: &ViewUp, archive: &Path) -> Result<Image, Failure> {
    let file = archive.metadata()?;
    let owner = job.owner.map_or_else(
        || format!("{}:{}", file.uid(), file.gid()),
        |owner| owner.to_string(),
    );
    let version = format!(
        "{}-{}-{}-{}-{}",
        file.ino(),
        file.len(),
        file.mtime(),
        file.mtime_nsec(),
        owner.replace(':', "-"),
    );
    let point = turn.mount_point(&version)?;
    if mountinfo::find(&point)?.is_some() {
        match Image::mounted(&point) {
            Ok(image) => return Ok(image),
            Err(error) => {
                tracing::warn!(%error, "mounting the image again");
                mount::unmount(&point, true)?;
            }
        }
    }
    let mut command = Command::new(THIS_PROGRAM);
    command.arg("mount").args(["--owner", &owner]);
    if job.i_know {
        command.arg("--i-know");
    }
    if job.no_profile {
        command.arg("--no-profile");
    }
    let status = command
        .arg("--")
        .arg(archive)
        .arg(&point)
        .stdin(Stdio::null())
        .status()
        .map_err(|cause| format!("cannot start the process that serves the image: {cause}"))?;
    if !status.success() {
        // It said why.
        let text = format!("{} could not be mounted", archive.display());
        return Err(io::Error::other(text).into());
    }
    Ok(Image::mounted(&point)?)
}
