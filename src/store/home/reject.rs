//! What can never be an image: moved out of the way, with the reason beside it.
//!
//! Layout: `distros/.rejected/NAME`, and `NAME.reason` with a first line that names
//! the upload and then the reason. An earlier upload of that name that was rejected
//! makes room.

use std::io;

use rustix::fs::FileType;

use super::Home;
use super::error::HomeError;
use super::fault::{Step, system_step};
use super::folder::{Folder, Stamp};
use super::name::{Meaning, meaning, with_end};
use crate::index::Escaped;
use crate::types::ImagePath;

const REJECTED: &str = ".rejected";
const REASON: &str = ".reason";
const FIRST_LINE: &str = "distrofs: rejected ";
const REASON_BYTES_MAX: u64 = 8 << 10;
/// The customer may read it and remove it.
const REASON_MODE: u32 = 0o644;

/// Something that was rejected and is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The image that it was to be.
    pub path: ImagePath,
    /// Its name as it was uploaded.
    pub name: String,
    /// Why; of several lines, perhaps, and with nothing that drives a terminal.
    pub reason: String,
    /// When, in seconds since 1970.
    pub when: u64,
}

impl Home {
    /// Moves an upload out of the way; whether that was done. It is left if it is
    /// another file by now, or if something is where it should go.
    pub(super) fn reject(
        &self,
        distros: &Folder,
        name: &[u8],
        stamp: Stamp,
        reason: &str,
    ) -> Result<bool, HomeError> {
        const DOING: &str = "move a rejected upload to distros/.rejected";
        let folder = distros.make(REJECTED).map_err(HomeError::doing(DOING))?;
        let text = format!("{FIRST_LINE}{}\n{reason}\n", Escaped(name));
        system_step(Step::Reason, "write why an upload was rejected", || {
            folder.replace(&with_end(name, REASON), text.as_bytes(), REASON_MODE)
        })?;
        system_step(Step::Reject, DOING, || {
            distros.rename(name, &folder, name)?;
            folder.sync()?;
            distros.sync()
        })?;
        let moved = folder.stamp(name).map_err(HomeError::doing(DOING))?;
        if moved == Some(stamp) {
            return Ok(true);
        }
        // Somebody was faster.
        let removed = folder.remove(&with_end(name, REASON));
        self.give_back(&folder, name, name)?;
        removed.map_err(HomeError::doing(DOING))?;
        Ok(false)
    }

    /// What was rejected and is still there. The customer may have put anything
    /// there, so it says nothing but to the customer.
    pub fn rejections(&self) -> Result<Vec<Rejection>, HomeError> {
        let folder = match self.distros()?.sub(REJECTED.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(HomeError::doing("open distros/.rejected"))?,
        };
        let entries = folder.entries(self.options.names_max);
        let (entries, _) = entries.map_err(HomeError::doing("read distros/.rejected"))?;
        let reasons = entries.into_iter().filter(|entry| {
            let is_file = matches!(entry.kind, FileType::RegularFile | FileType::Unknown);
            is_file && entry.name.ends_with(REASON.as_bytes())
        });
        let mut rejections: Vec<_> = reasons
            .filter_map(|entry| rejection(&folder, &entry.name))
            .collect();
        rejections.sort_by(|a, b| (a.when, &a.name).cmp(&(b.when, &b.name)));
        Ok(rejections)
    }
}

/// What a file of ours says, if it is one.
fn rejection(folder: &Folder, file: &[u8]) -> Option<Rejection> {
    let when = folder.stamp(file).ok()??.mtime().0;
    let text = folder.read(file, REASON_BYTES_MAX).ok()??;
    let text = String::from_utf8_lossy(&text);
    let (name, reason) = text.strip_prefix(FIRST_LINE)?.split_once('\n')?;
    let Meaning::Image(path) = meaning(name.as_bytes()) else {
        return None;
    };
    // Its owner has done something about it.
    folder.stamp(name.as_bytes()).ok()??;
    let lines = reason
        .lines()
        .map(|line| Escaped(line.as_bytes()).to_string());
    Some(Rejection {
        path,
        name: name.to_owned(),
        reason: lines.collect::<Vec<_>>().join("\n"),
        when: u64::try_from(when).unwrap_or(0),
    })
}
