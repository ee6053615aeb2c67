//! Views: what one container sees of an image. Read-only but for what everybody
//! may write, and that is the container's own.
//!
//! Guarantees: the kernel composes a view (overlayfs, binds), no write passes
//! through a process of ours; a view appears whole or not at all; what one
//! container writes is kept apart from what others do, by image and container,
//! until [`reset`](State::reset); nothing of an image is parsed here, and no
//! path of one is followed through a link.
//!
//! | module | what |
//! |---|---|
//! | [`Plan`] | where in an image everybody may write, found in its index |
//! | [`State`] | what is kept on disk: writable layers, and which views there are |
//! | `layers` | the writable layers of one container |
//! | `users` | the lines that name a container's user |
//! | `compose` | layers and image become one tree of mounts |
//! | `views` | up, down, list, reset |

mod compose;
mod dir;
mod error;
mod layers;
mod plan;
mod state;
mod users;
mod views;

pub use compose::{Composed, Note, SOURCE, Wanted, Writable, compose};
pub use dir::Dir;
pub use error::ViewError;
pub use plan::{Crowded, PLACES_MAX, Place, Plan};
pub use state::{Record, State, Turn};
pub use views::{Detached, Image, Listed, NewView, is_ours};
