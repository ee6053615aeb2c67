//! Why a view could not be made or taken down, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::compose::COPIES_BYTES_MAX;
use super::plan::{Crowded, PLACES_MAX};
use crate::index::Escaped;
use crate::sys::tree::TreeError;

/// Why a view could not be made or taken down.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// It takes root.
    #[error(
        "making views needs root: run it as root, or use `distrofs run`, which makes a namespace \
         of your own"
    )]
    NotRoot,
    /// What was named as the image is something else.
    #[error("{} is no mounted image: mount the archive there with `distrofs mount`", .0.display())]
    NotAnImage(PathBuf),
    /// Nothing is known of a tree that was exploded.
    #[error("{} is an exploded tree, and where everybody may write in it is not known: take --writable tree, or upload the archive instead", .0.display())]
    Exploded(PathBuf),
    /// The image's daemon gave no answer.
    #[error(
        "the process that serves the image does not answer ({0}): unmount it and mount it again \
         with this version of distrofs"
    )]
    Ask(io::Error),
    /// The image's daemon gave an answer that makes no sense.
    #[error(
        "the process that serves the image gave an answer that makes no sense: check the archive \
         with `distrofs verify`"
    )]
    Answer,
    /// A place of the image cannot be opened.
    #[error("cannot open /{} of the image: {cause}", Escaped(path))]
    Place {
        /// From the root on.
        path: Vec<u8>,
        /// Why not.
        cause: io::Error,
    },
    /// A layer above the image cannot be made.
    #[error("cannot make the layer above /{} of the image: {cause}", Escaped(path))]
    Layer {
        /// From the root on.
        path: Vec<u8>,
        /// Why not.
        cause: io::Error,
    },
    /// Each place that everybody may write is a mount of its own.
    #[error(
        "the image has {count} places that everybody may write, and a view may have {PLACES_MAX}\
         {}: take --writable tree, or chmod o-w them in the image",
        Worst(crowded)
    )]
    TooMany {
        /// How many there are.
        count: u32,
        /// Where most of them are.
        crowded: Vec<Crowded>,
    },
    /// Private copies would take too much.
    #[error(
        "everybody may write to single files of the image, /{} among them, and together they are \
         larger than the {} MiB that private copies may take: take --writable tree, or chmod o-w \
         them in the image",
        Escaped(path),
        COPIES_BYTES_MAX >> 20
    )]
    TooLarge {
        /// The file that was one too many.
        path: Vec<u8>,
    },
    /// A view is there already.
    #[error("{} is a view already: `distrofs view down` it first", .0.display())]
    Exists(PathBuf),
    /// What a container writes is in use by another view of it.
    #[error(
        "container {container} has a view of this image already, at {}: take that down first",
        at.display()
    )]
    Occupied {
        /// The user of the container.
        container: u32,
        /// Where the other view is.
        at: PathBuf,
    },
    /// The same by one that is not seen from here.
    #[error(
        "what container {container} wrote is in use by a view of it that is not mounted here any \
         more: end the processes of that container first"
    )]
    InUse {
        /// The user of the container.
        container: u32,
    },
    /// The directory for a view cannot be used.
    #[error("cannot make a view at {}: {cause}", at.display())]
    At {
        /// The directory.
        at: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// There is none.
    #[error("{} is not a view of distrofs (`distrofs view list` shows them)", .0.display())]
    NotAView(PathBuf),
    /// Something else is mounted above the view.
    #[error(
        "something else is mounted above the view {}, or it belongs to another mount namespace: \
         unmount what is above it, or take it down there",
        .0.display()
    )]
    Covered(PathBuf),
    /// What views are remembered by cannot be read or written.
    #[error("cannot {doing} in {}: {cause}", state.display())]
    State {
        /// The directory.
        state: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// The directory for state could be changed by others.
    #[error(
        "{} could be changed by others than user {owner}: chown it and chmod 700 it, or name \
         another directory with --state",
        state.display()
    )]
    OpenState {
        /// The directory.
        state: PathBuf,
        /// Who is to own it.
        owner: u32,
    },
    /// The directory for state has another purpose.
    #[error(
        "{} holds something else and others may look into it: name another directory with \
         --state, or chmod 700 it if it is meant",
        .0.display()
    )]
    NotState(PathBuf),
    /// The kernel refused.
    #[error("{}", Refused(.0))]
    Tree(#[from] TreeError),
}

/// Where most of the places are.
struct Worst<'a>(&'a [Crowded]);

impl fmt::Display for Worst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, crowded) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { " (" } else { ", " })?;
            write!(f, "{} in /{}", crowded.count, Escaped(&crowded.path))?;
        }
        f.write_str(if self.0.is_empty() { "" } else { ")" })
    }
}

/// What the kernel refused, and what can be done.
struct Refused<'a>(&'a TreeError);

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0;
        write!(f, "{error}: ")?;
        f.write_str(match Errno::from_io_error(&error.cause) {
            Some(Errno::NODEV) => "this kernel has no overlayfs: modprobe overlay",
            Some(Errno::PERM | Errno::ACCESS) => {
                "there is no right to mount here: run it as root, with CAP_SYS_ADMIN if this is a \
                 container"
            }
            Some(Errno::NOSYS) => {
                "take Linux 5.2 or newer; in a container, check its seccomp profile"
            }
            Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::STALE) => {
                "see the kernel's log (dmesg); the directory for state has to be on a filesystem \
                 that overlayfs can write to, such as ext4, xfs or tmpfs: name one with --state"
            }
            _ => "see the kernel's log (dmesg)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(cause: Errno) -> ViewError {
        ViewError::Tree(TreeError {
            doing: "mount an overlay",
            cause: cause.into(),
            said: String::new(),
        })
    }

    #[test]
    fn what_is_missing_is_named() {
        for (cause, words) in [
            (Errno::NODEV, "modprobe overlay"),
            (Errno::PERM, "run it as root"),
            (Errno::NOSYS, "Linux 5.2"),
            (Errno::INVAL, "--state"),
        ] {
            let text = tree(cause).to_string();
            assert!(
                text.contains(words) && text.contains("mount an overlay"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_worst_are_listed_with_their_counts() {
        let crowded = |path: &str, count| Crowded {
            path: path.into(),
            count,
        };
        let error = ViewError::TooMany {
            count: 10_003,
            crowded: vec![crowded("srv\n", 10_000), crowded("", 3)],
        };
        let text = error.to_string();
        assert!(text.contains("10000 in /srv\\x0a, 3 in /)"), "{text}");
        assert!(text.contains("--writable tree"), "{text}");
    }
}
