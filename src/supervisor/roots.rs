//! Which root a container gets when it starts.
//!
//! The custom distro that the registry chose for it, if it is one: a directory
//! `.old_root`, for the host's root, and one `containers`, for its home. If not, the
//! platform's distro, so that the container starts at all, and an alarm.
//!
//! Guarantees: nothing of an image is opened but these two names, without links. The
//! platform's distro is a directory below the setting `distros`, without links.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::decisions::Chosen;
use super::emperor_log::Tone;
use super::home::Home;
use super::{Supervisor, SupervisorError};
use crate::sys::tree::{self, Restriction};
use crate::types::ImageOf;
use crate::view::{Composed, Detached, Dir, Writable};

/// What an image must have to be a root.
const NEEDED: [&str; 2] = [".old_root", "containers"];

/// Nothing outside of it, and no link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// How long a start may wait for a home that is being started.
const STARTING_WITHIN: Duration = Duration::from_secs(30);

/// A root to be attached.
pub(super) struct Root {
    pub(super) tree: OwnedFd,
    /// Where it is, if it is the platform's.
    pub(super) platform: Option<PathBuf>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

/// Why a custom distro is not taken.
enum Unfit {
    /// It lacks something.
    Lacks(&'static str),
    /// Anything else.
    Unusable(SupervisorError),
}

/// How a view is to be.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) container: u32,
    pub(super) writable: Option<String>,
    pub(super) passwd: bool,
    /// Where it will be.
    pub(super) at: Option<String>,
}

impl Supervisor {
    pub(super) fn wanted(&self, shape: &Shape, decided: Option<&String>) -> Detached {
        let writable = shape.writable.as_ref().or(decided);
        let writable = match &**writable.unwrap_or(&self.config.writable) {
            "paths" => Writable::Paths,
            "none" => Writable::None,
            _ => Writable::Tree,
        };
        Detached {
            container: shape.container,
            writable,
            passwd: shape.passwd,
        }
    }

    /// The root that is decided for a container, or the platform's.
    pub(super) fn root(&self, chosen: &Chosen, shape: &Shape) -> Result<Root, SupervisorError> {
        if let Some(image) = &chosen.image {
            match self.custom(image, chosen, shape) {
                Ok(view) => {
                    if let Ok(home) = self.home(image.home) {
                        let at = shape.at.as_deref();
                        home.consumers.attached(shape.container, &image.path, at);
                    }
                    let notes = view.notes.iter().map(ToString::to_string);
                    let given = format!(
                        "the root of container {} is the image {image}",
                        shape.container
                    );
                    return Ok(Root {
                        tree: view.tree,
                        platform: None,
                        notes: notes.chain([given]).collect(),
                    });
                }
                Err(unfit) => self.alarm(shape.container, image, &unfit),
            }
        }
        self.platform(chosen, shape)
    }

    fn custom(&self, image: &ImageOf, chosen: &Chosen, shape: &Shape) -> Result<Composed, Unfit> {
        let home = self.home(image.home).or_else(|_| {
            // It may be about to begin.
            drop(self.following());
            self.home(image.home)
        });
        // What stores no image has none.
        let home = home.map_err(|_| Unfit::Lacks(NEEDED[0]))?;
        let wanted = self.wanted(shape, chosen.writable.as_ref());
        let view = match home.view(&image.path, &wanted) {
            Err(SupervisorError::Starting { .. }) => {
                home.wait_for(&image.path, STARTING_WITHIN);
                home.view(&image.path, &wanted)
            }
            view => view,
        };
        let view = view.map_err(|error| match error {
            SupervisorError::NoImage { .. } => Unfit::Lacks(NEEDED[0]),
            error => {
                home.consumers.refused_quietly();
                Unfit::Unusable(error)
            }
        })?;
        let fit = NEEDED.iter().try_for_each(|name| has(&view, name));
        fit.inspect_err(|_| home.consumers.refused_quietly())?;
        Ok(view)
    }

    /// Says why a container does not get its custom distro.
    fn alarm(&self, container: u32, image: &ImageOf, unfit: &Unfit) {
        let homes = self.config.homes.join(image.home.to_string());
        let path = homes.join("distros").join(image.path.as_str());
        let path = path.display();
        let text = match unfit {
            Unfit::Lacks(name) => {
                format!("[DANGER] {path}/{name} does not exist as a custom distro")
            }
            Unfit::Unusable(why) => {
                format!("[DANGER] {path} cannot be used as a custom distro: {why}")
            }
        };
        self.raise(container, &text);
    }

    /// Raises an alarm of a container, in the registry and in its log.
    pub(super) fn raise(&self, container: u32, text: &str) {
        tracing::warn!(container, text, "an alarm");
        self.alarms.raise(container, text);
        self.log.write(container, Tone::Danger, text);
    }

    fn platform(&self, chosen: &Chosen, shape: &Shape) -> Result<Root, SupervisorError> {
        let container = shape.container;
        let name = chosen.default.as_ref();
        let name = name.ok_or_else(|| self.no_platform(container))?;
        let path = self.platform_path(name.as_str());
        let opened =
            Dir::open(&self.config.distros).and_then(|all| all.sub(name.as_str().as_bytes()));
        let opened = opened.map_err(|error| {
            let why = format!("{}: {error}", path.display());
            self.rootless(SupervisorError::NoPlatform { container, why }, container)
        })?;
        let cloned = tree::clone(opened.as_fd())?;
        tree::restrict(cloned.as_fd(), Restriction::Content)?;
        let at = shape.at.as_deref().unwrap_or("its root");
        let text = format!("mounted {} on {at}", path.display());
        self.log.write(container, Tone::Notice, &text);
        let note = format!(
            "the root of container {container} is the platform's {}",
            path.display()
        );
        Ok(Root {
            tree: cloned,
            platform: Some(path),
            notes: vec![note],
        })
    }

    /// That nobody chose a platform's distro for a container that needs it.
    pub(super) fn no_platform(&self, container: u32) -> SupervisorError {
        let why = "none is chosen for it".to_owned();
        self.rootless(SupervisorError::NoPlatform { container, why }, container)
    }

    /// Says in a container's log that it gets no root.
    fn rootless(&self, error: SupervisorError, container: u32) -> SupervisorError {
        self.log.write(container, Tone::Alarm, &error.to_string());
        error
    }

    /// Where a home is, served or not.
    pub(super) fn home_path(&self, uid: u32) -> PathBuf {
        self.config.homes.join(uid.to_string())
    }

    /// Where a distro of the platform is.
    pub(super) fn platform_path(&self, name: &str) -> PathBuf {
        self.config.distros.join(name)
    }
}

/// Looks for a directory of a view.
fn has(view: &Composed, name: &'static str) -> Result<(), Unfit> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(&view.tree, name, flags, Mode::empty(), BENEATH) {
        Ok(_) => Ok(()),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Err(Unfit::Lacks(name)),
        Err(cause) => {
            let (doing, cause) = ("look into it", cause.into());
            Err(Unfit::Unusable(SupervisorError::System { doing, cause }))
        }
    }
}

impl Home {
    /// Whether it is served, or still goes on with something.
    pub(super) fn is_there(&self) -> bool {
        let known = self.known();
        known.is_running || !known.is_retired
    }

    /// Whether new starts may get images of it.
    pub(super) fn is_served(&self) -> bool {
        !self.known().is_retired
    }
}
