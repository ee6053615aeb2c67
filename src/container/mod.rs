//! A container of its own for one command: a view as its root, processes that see
//! only each other, a minimal `/dev`.
//!
//! Guarantees: nothing of it is left when the process that started it ends, in
//! whatever way; the command gets no right that an ordinary container lacks, even
//! as root; signals are passed to it, and its status is passed on.
//!
//! | module | what |
//! |---|---|
//! | [`Outside`] | what is taken from the host, before it goes out of sight |
//! | `inside` | from the first process of the container to the command |
//! | `rights` | what root may not do in there |

mod inside;
mod outside;
mod rights;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

pub use inside::{Program, run};
pub use outside::{Bind, Outside};

use crate::sys::tree::TreeError;
use crate::view::ViewError;

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// What is to be bound is not there.
    #[error("--bind {}: cannot take it from here: {cause}", from.display())]
    BindFrom {
        /// The path outside.
        from: PathBuf,
        /// Why not.
        cause: TreeError,
    },
    /// There is nothing to bind it on.
    #[error(
        "--bind: {} cannot be mounted on: {cause}; the image has to hold a {wanted} there", to.display()
    )]
    BindTo {
        /// The path inside.
        to: PathBuf,
        /// Why not.
        cause: io::Error,
        /// A directory or a file.
        wanted: &'static str,
    },
    /// The kernel refused something.
    #[error("cannot start the container: {cause}{}", advice(&.cause.cause))]
    Tree {
        /// What, and why.
        #[from]
        cause: TreeError,
    },
    /// Something of the view.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A call that failed.
    #[error("cannot start the container: cannot {doing}: {cause}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// The command cannot be run.
    #[error("cannot run {}: {cause}", program.display())]
    Command {
        /// As it was given.
        program: OsString,
        /// Why not.
        cause: io::Error,
    },
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            ": run it as root, or see `distrofs doctor` for what user namespaces may do here"
        }
        _ => "",
    }
}

/// For `map_err`, of a call.
fn failed(doing: &'static str) -> impl Fn(io::Error) -> ContainerError {
    move |cause| ContainerError::System { doing, cause }
}

/// The same of a call that answers with a number.
fn refused(doing: &'static str) -> impl Fn(rustix::io::Errno) -> ContainerError {
    move |cause| ContainerError::System {
        doing,
        cause: cause.into(),
    }
}
