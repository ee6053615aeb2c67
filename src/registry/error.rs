//! [`RegistryError`]: why the registry did not do something, and [`Refusal`]: what was
//! wrong with what it was asked.
//!
//! Guarantees: what a customer may cause is a refusal, all else is of the machine. What
//! is not there and what is somebody else's is one and the same refusal.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use super::password::PasswordError;
use crate::types::NameError;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It may not be done; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another process has been writing for too long.
    #[error("the registry is busy: try again; if it stays so, find who holds it open")]
    Busy,
    /// It cannot be opened, or not be written.
    #[error(
        "the registry cannot be opened and written: see that its directory is there, belongs to \
         the user of the setting `api_user`, and is on a filesystem that can be written"
    )]
    ReadOnly,
    /// There is no space.
    #[error("the registry's filesystem is full: make space there")]
    Full,
    /// It is no registry, or not a whole one.
    #[error("the registry is damaged: {0}: restore a backup with `distrofs admin restore`")]
    Damaged(String),
    /// It was made by a later version of this program.
    #[error(
        "the registry has version {found}, and this program knows up to {known}: use a later \
         version of distrofs, or restore a backup from before"
    )]
    Later {
        /// Its version.
        found: i64,
        /// The last one that is known.
        known: i64,
    },
    /// Anything else.
    #[error("the registry failed to {doing}: {cause}: see that its disk works")]
    Other {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        cause: String,
    },
}

impl RegistryError {
    /// The same, known to have happened while `doing` something.
    pub(super) fn during(self, doing: &'static str) -> RegistryError {
        match self {
            RegistryError::Other { cause, .. } => RegistryError::Other { doing, cause },
            other => other,
        }
    }
}

impl From<rusqlite::Error> for RegistryError {
    fn from(error: rusqlite::Error) -> RegistryError {
        use rusqlite::Error as E;
        let (code, extended) = match &error {
            E::SqliteFailure(failure, _) => (failure.code, failure.extended_code),
            // What is stored is not what can have been stored.
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..) => return RegistryError::Damaged(error.to_string()),
            _ => (ErrorCode::Unknown, 0),
        };
        match code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => RegistryError::Busy,
            ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
                RegistryError::ReadOnly
            }
            ErrorCode::DiskFull => RegistryError::Full,
            // The memory that processes share is a file that is made longer first.
            ErrorCode::SystemIoFailure if extended == ffi::SQLITE_IOERR_SHMSIZE => {
                RegistryError::Full
            }
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                RegistryError::Damaged(error.to_string())
            }
            _ => RegistryError::Other {
                doing: "be used",
                cause: error.to_string(),
            },
        }
    }
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A customer.
    Customer,
    /// A server.
    Server,
    /// A container.
    Container,
    /// A platform's distro.
    PlatformDistro,
    /// A custom distro.
    Distro,
    /// An alarm.
    Alarm,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Customer => "customer",
            Kind::Server => "server",
            Kind::Container => "container",
            Kind::PlatformDistro => "default distro",
            Kind::Distro => "custom distro",
            Kind::Alarm => "alarm",
        })
    }
}

/// What was wrong with what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not there, or not of who asks: nothing tells which.
    #[error("there is no such {0}, or it is of another customer")]
    NotThere(Kind),
    /// Nothing has this name.
    #[error("there is no {kind} {name}: `distrofs admin {command} list` shows all", command = command(*.kind))]
    Unknown {
        /// What was looked for.
        kind: Kind,
        /// By which name.
        name: String,
    },
    /// Nothing was to be changed.
    #[error("there is nothing to change: name a setting")]
    Empty,
    /// A text is too short, too long, or has characters that it may not have.
    #[error("{what}: give {expected}")]
    Text {
        /// Which one.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A path is none of an image.
    #[error("path: {0}")]
    Path(#[from] NameError),
    /// There is one already.
    #[error("there is a {kind} with this {what} already: choose another one")]
    Taken {
        /// Of what.
        kind: Kind,
        /// What must be different.
        what: &'static str,
    },
    /// There are as many as there may be.
    #[error("there are {max} of {what}, and no more may be: remove some")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// The container does not store images.
    #[error("container {0} stores no images: set custom_distros_storage on it first")]
    NoStorage(u32),
    /// The container stores images.
    #[error(
        "container {0} stores images, and can have no custom distro itself: unset \
         custom_distros_storage on it first"
    )]
    IsStorage(u32),
    /// The image is on another server.
    #[error(
        "custom distro {distro} is stored in container {stored}, which is on another server: a \
         container has images of its own server only"
    )]
    OtherServer {
        /// Which.
        distro: i64,
        /// Where it is.
        stored: u32,
    },
    /// The image is stored in the container that is to have it.
    #[error("custom distro {distro} is stored in container {stored} itself")]
    InItself {
        /// Which.
        distro: i64,
        /// Where it is.
        stored: u32,
    },
    /// The container that stores it does so no longer.
    #[error(
        "custom distro {distro} is stored in container {stored}, which stores images no longer: \
         set custom_distros_storage on it again"
    )]
    StoredNoLonger {
        /// Which.
        distro: i64,
        /// Where it is.
        stored: u32,
    },
    /// Something else needs it.
    #[error("{what} has {by} still: remove or change these first")]
    InUse {
        /// What was to be removed.
        what: String,
        /// What needs it.
        by: String,
    },
    /// Something has to be said of a new container.
    #[error("container {uid} is a new one: name its {what}")]
    Missing {
        /// Which container.
        uid: u32,
        /// What is not said.
        what: &'static str,
    },
    /// A password is not taken, or a hash.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A file is no backup, or not a whole one.
    #[error("this is no backup that can be restored: {0}: nothing was changed, take another one")]
    Backup(String),
    /// An entry of a file is wrong.
    #[error("{list}[{at}]: {why}")]
    Entry {
        /// In which list of it.
        list: &'static str,
        /// Which one, from 0.
        at: usize,
        /// What is wrong.
        why: Box<Refusal>,
    },
    /// A number is not one that it may be.
    #[error("{what}: give {expected}")]
    Number {
        /// Which one.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

/// What administrators call it.
fn command(kind: Kind) -> &'static str {
    match kind {
        Kind::Customer => "customer",
        Kind::Server => "server",
        Kind::PlatformDistro => "default-distro",
        Kind::Distro => "distro",
        Kind::Container | Kind::Alarm => "container",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_is_told_apart() {
        let of = |code: i32| {
            RegistryError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
        };
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_LOCKED,
        ] {
            assert_eq!(of(code), RegistryError::Busy, "{code}");
        }
        for code in [
            ffi::SQLITE_READONLY,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_PERM,
        ] {
            assert_eq!(of(code), RegistryError::ReadOnly, "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert_eq!(of(code), RegistryError::Full, "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
            let error = of(code);
            assert!(matches!(error, RegistryError::Damaged(_)), "{error}");
        }
        for code in [ffi::SQLITE_IOERR, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_NOMEM] {
            let error = of(code).during("count");
            let said = error.to_string();
            assert!(said.contains("failed to count"), "{said}");
        }
    }
}
