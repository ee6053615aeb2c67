//! What an owner should know about an image before containers start from it:
//! whether it holds what the platform's launcher needs, what in it is open to
//! everybody, whose files are in it, which packages.
//!
//! Guarantees: only reads; nothing here knows FUSE or a mount. All walks are
//! iterative. Memory is bounded for any image: what can be long is handed over
//! piece by piece ([`Findings`], [`packages::list`]). Names in texts made here
//! are escaped; those in values ([`Finding::path`]) are the archive's own bytes.
//!
//! | module | what |
//! |---|---|
//! | [`Subject`] | an image to look at: paths to inodes, inodes to bytes |
//! | [`requirements()`] | what a launcher needs, row by row |
//! | [`Survey`] | everything that is counted in one walk |
//! | [`Findings`] | the paths of one kind, one after the other |
//! | [`report`] | all of it as JSON |
//! | [`packages`] | what is installed, as dpkg, apk or rpm know it |

mod lines;
pub mod packages;
mod programs;
mod reader;
pub mod report;
mod requirements;
mod subject;
mod survey;
mod users;
mod walk;

pub use reader::FileReader;
pub use requirements::{Row, State, requirements};
pub use subject::{InspectError, Subject};
pub use survey::{CONTAINER_IDS, Newest, Owners, Survey};
pub use walk::{Category, Finding, Findings, Step, Walk};

#[cfg(test)]
mod testing;
