//! Image and layers become one tree of mounts.
//!
//! Guarantees: the tree is attached nowhere yet; its root can be made writable by
//! no remount unless it is an overlay with a layer of the container's own. (A bind
//! of the image could: `MS_REMOUNT` on it makes the image's superblock writable for
//! all who use it. So what is read-only is an overlay without an upper layer.)

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use super::ViewError;
use super::dir::Dir;
use super::layers::{Kept, Layers, Upper, check_file, open_directory};
use super::plan::Plan;
use crate::sys::tree::{self, Overlay, Restriction};

/// What the private copies of files of one view may take. They are made by root,
/// whom no quota stops, and a hole of any size takes no room in an archive.
pub(super) const COPIES_BYTES_MAX: u64 = 256 << 20;

/// Shown as the source of all mounts of views.
pub const SOURCE: &str = "distrofs";

/// The same of those that all containers share.
pub(super) const SHARED_SOURCE: &str = "distrofs-shared";

/// What of an image a container may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// What everybody may write, as mounts of their own; all else is read-only, for
    /// root too.
    Paths,
    /// What permissions let it, in one mount.
    Tree,
    /// Nothing.
    None,
}

impl Writable {
    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Writable::Paths => "paths",
            Writable::Tree => "tree",
            Writable::None => "none",
        }
    }
}

/// A view to be composed.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The root of the image.
    pub image: &'a Dir,
    /// Where in it everybody may write.
    pub plan: &'a Plan,
    /// Where the container's layers are kept.
    pub home: &'a Dir,
    /// What it may write.
    pub writable: Writable,
    /// The user whose lines are added to `/etc/passwd` and others.
    pub passwd: Option<u32>,
    /// Whether this happens in a user namespace.
    pub is_of_user: bool,
    /// Shown as the source of its mounts.
    pub source: &'static str,
}

/// A view that is to be attached.
#[derive(Debug)]
pub struct Composed {
    /// All its mounts.
    pub tree: OwnedFd,
    /// What the container may write: `Tree` if it may write to the root itself.
    pub writable: Writable,
    /// Device numbers of the overlays with writable layers.
    pub devices: Vec<u64>,
    /// What is worth knowing.
    pub notes: Vec<Note>,
}

/// What is worth knowing of a view that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Everybody may write to the root of the image.
    RootIsWritable,
    /// What the container wrote was above another version of the image.
    NewVersion,
    /// Its user's lines were not added, and why.
    NoLines(&'static str),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::RootIsWritable => f.write_str(
                "everybody may write to the root of this image, so that the view is a writable \
                 tree",
            ),
            Note::NewVersion => f.write_str(
                "the image is another version than when this container had it last; what it wrote \
                 is kept",
            ),
            Note::NoLines(why) => {
                write!(
                    f,
                    "--passwd: no lines were added, because {why} in the image"
                )
            }
        }
    }
}

/// Composes a view. Makes those layers that are not there yet.
pub fn compose(wanted: &Wanted<'_>) -> Result<Composed, ViewError> {
    match composed(wanted, Kept::InMemory) {
        Err(ViewError::Tree(error)) if wanted.passwd.is_some() && error.is_invalid() => {
            composed(wanted, Kept::OnDisk)
        }
        composed => composed,
    }
}

fn composed(wanted: &Wanted<'_>, kept: Kept) -> Result<Composed, ViewError> {
    let (plan, image) = (wanted.plan, wanted.image);
    let layers = Layers {
        home: wanted.home,
        image,
    };
    let writable = match wanted.writable {
        Writable::Paths if plan.root_is_writable => Writable::Tree,
        Writable::Paths if plan.is_too_long() => {
            return Err(ViewError::TooMany {
                count: plan.count,
                crowded: plan.crowded.clone(),
            });
        }
        writable => writable,
    };
    // An overlay that nobody may change takes two layers.
    let (top, no_lines) = match (writable, wanted.passwd) {
        (Writable::Tree, None) => (None, None),
        (_, None) => (Some(layers.empty()?), None),
        (_, Some(uid)) => layers
            .with_lines(uid, kept)
            .map(|(top, why)| (Some(top), why))?,
    };
    let below = Below {
        layers: [top.as_ref(), Some(image)].into_iter().flatten().collect(),
        is_of_user: wanted.is_of_user,
        source: wanted.source,
    };
    let mut devices = Vec::new();
    let tree = match writable {
        Writable::Tree => below.writable(b"", &layers.of_tree()?, &mut devices)?,
        Writable::None => below.overlay(b"", None)?,
        Writable::Paths => with_places(&below, &layers, plan, &mut devices)?,
    };
    let was_changed = (writable != wanted.writable).then_some(Note::RootIsWritable);
    let notes = was_changed.into_iter().chain(no_lines.map(Note::NoLines));
    Ok(Composed {
        tree,
        writable,
        devices,
        notes: notes.collect(),
    })
}

/// The layers below a writable one, the topmost first.
struct Below<'a> {
    layers: Vec<&'a Dir>,
    is_of_user: bool,
    source: &'static str,
}

impl Below<'_> {
    /// The same with a writable layer; its device number is noted.
    fn writable(
        &self,
        path: &[u8],
        upper: &Upper,
        devices: &mut Vec<u64>,
    ) -> Result<OwnedFd, ViewError> {
        let mounted = self.overlay(path, Some(upper))?;
        let device = tree::device_of(mounted.as_fd());
        devices.push(device.map_err(|cause| ViewError::Layer {
            path: path.to_vec(),
            cause,
        })?);
        Ok(mounted)
    }

    /// An overlay above what these layers have at `path`.
    fn overlay(&self, path: &[u8], upper: Option<&Upper>) -> Result<OwnedFd, ViewError> {
        let mut found = Vec::new();
        for layer in &self.layers {
            let at = match path {
                b"" => layer.sub(b".").map(Some),
                path => layer.find(path),
            };
            found.extend(at.map_err(|cause| ViewError::Place {
                path: path.to_vec(),
                cause,
            })?);
        }
        let overlay = Overlay {
            lower: found.iter().map(Dir::as_fd).collect(),
            upper: upper.map(|upper| (upper.upper.as_fd(), upper.work.as_fd())),
            source: self.source,
            is_of_user: self.is_of_user,
        };
        Ok(tree::overlay(&overlay)?)
    }
}

/// The whole image, which nobody may change, with what everybody may write on top.
fn with_places(
    below: &Below<'_>,
    layers: &Layers<'_>,
    plan: &Plan,
    devices: &mut Vec<u64>,
) -> Result<OwnedFd, ViewError> {
    let base = Dir::from(below.overlay(b"", None)?);
    let mut places = Vec::with_capacity(plan.places.len());
    let mut copies_bytes = 0_u64;
    for place in &plan.places {
        let mounted = if place.is_directory {
            let like = open_directory(layers.image, place)?;
            below.writable(&place.path, &layers.of_place(place, &like)?, devices)?
        } else {
            copies_bytes = copies_bytes.saturating_add(check_file(layers.image, place)?);
            if copies_bytes > COPIES_BYTES_MAX {
                return Err(ViewError::TooLarge {
                    path: place.path.clone(),
                });
            }
            let copy = tree::clone(layers.copy_of(place, &base)?.as_fd())?;
            tree::restrict(copy.as_fd(), Restriction::Content)?;
            copy
        };
        let at = base.place(&place.path);
        let at = at.map_err(|cause| ViewError::Place {
            path: place.path.clone(),
            cause,
        })?;
        places.push((mounted, at));
    }
    Ok(tree::assemble(base.into(), &places)?)
}
