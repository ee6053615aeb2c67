//! Which packages are installed in an image, as its package managers recorded
//! it: names, versions and architectures.
//!
//! Guarantees: memory does not grow with the number of packages; each is handed
//! over as it is read. Records that are damaged end the list with an error, and
//! none is made up.

mod apk;
mod dpkg;
mod rpm;

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::subject::{InspectError, Subject};
use crate::index::{FileKind, IndexError};
use crate::types::{Ino, Timestamp};

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision as the manager writes it.
    pub version: String,
    /// The architecture; empty if none was recorded.
    pub architecture: String,
}

/// What receives packages; breaks when it has enough.
pub type PackageSink<'a> = dyn FnMut(Package) -> ControlFlow<()> + 'a;

/// A way to record packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/var/lib/dpkg/status`: Debian and what is made of it.
    DpkgStatus,
    /// `/var/lib/dpkg/status.d`: a file for each package, as distroless has it.
    DpkgStatusDir,
    /// `/lib/apk/db/installed`: Alpine.
    Apk,
    /// rpm since 4.16: Fedora, RHEL 9.
    RpmSqlite,
    /// rpm of SUSE.
    RpmNdb,
    /// rpm before 4.16: CentOS 7, RHEL 8.
    RpmBdb,
}

impl Format {
    /// The package manager.
    pub fn manager(self) -> &'static str {
        match self {
            Format::DpkgStatus | Format::DpkgStatusDir => "dpkg",
            Format::Apk => "apk",
            Format::RpmSqlite | Format::RpmNdb | Format::RpmBdb => "rpm",
        }
    }

    /// How it records.
    pub fn name(self) -> &'static str {
        match self {
            Format::DpkgStatus => "status file",
            Format::DpkgStatusDir => "status directory",
            Format::Apk => "installed file",
            Format::RpmSqlite => "sqlite",
            Format::RpmNdb => "ndb",
            Format::RpmBdb => "Berkeley DB",
        }
    }
}

/// Where to look, in the order of reports. The places of one manager may be
/// links to each other.
const PLACES: [(&str, Format); 12] = [
    ("/var/lib/dpkg/status", Format::DpkgStatus),
    ("/var/lib/dpkg/status.d", Format::DpkgStatusDir),
    ("/lib/apk/db/installed", Format::Apk),
    ("/usr/lib/apk/db/installed", Format::Apk),
    ("/usr/lib/sysimage/rpm/rpmdb.sqlite", Format::RpmSqlite),
    ("/var/lib/rpm/rpmdb.sqlite", Format::RpmSqlite),
    ("/usr/share/rpm/rpmdb.sqlite", Format::RpmSqlite),
    ("/usr/lib/sysimage/rpm/Packages.db", Format::RpmNdb),
    ("/var/lib/rpm/Packages.db", Format::RpmNdb),
    ("/usr/lib/sysimage/rpm/Packages", Format::RpmBdb),
    ("/var/lib/rpm/Packages", Format::RpmBdb),
    ("/usr/share/rpm/Packages", Format::RpmBdb),
];

/// The records of a package manager in an image.
#[derive(Clone, Debug)]
pub struct Database {
    /// Who made them, and how.
    pub format: Format,
    /// Where they are.
    pub path: &'static str,
    /// When they were changed last.
    pub changed: Timestamp,
    ino: Ino,
}

/// The records that an image has.
pub fn databases(subject: &Subject) -> Result<Vec<Database>, IndexError> {
    let mut found: Vec<Database> = Vec::new();
    for (path, format) in PLACES {
        let wanted = match format {
            Format::DpkgStatusDir => FileKind::Directory,
            _ => FileKind::Regular,
        };
        let inode = subject.find(path.as_bytes())?;
        let Some(inode) = inode.filter(|inode| inode.kind == wanted) else {
            continue;
        };
        if found.iter().all(|other| other.ino != inode.ino) {
            found.push(Database {
                format,
                path,
                changed: inode.mtime,
                ino: inode.ino,
            });
        }
    }
    Ok(found)
}

/// Why packages could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The image could not be read.
    #[error(transparent)]
    Image(#[from] InspectError),
    /// The records are in a form that is not read here.
    #[error(
        "packages in {path} cannot be listed: it is an rpm database in the format {format}, and only sqlite is read; list them in a container of the image with rpm -qa"
    )]
    Unsupported {
        /// The database.
        path: &'static str,
        /// Its format.
        format: &'static str,
    },
    /// The database could not be copied to where it can be queried.
    #[error(
        "cannot copy the rpm database out of the image: {0}; set TMPDIR to a directory with room for it"
    )]
    Copy(std::io::Error),
    /// The database is not what it should be.
    #[error("the rpm database is damaged ({0}): compare the image with the original")]
    Damaged(String),
}

impl From<IndexError> for PackagesError {
    fn from(error: IndexError) -> Self {
        Self::Image(error.into())
    }
}

/// Hands over the packages of `database`. `scratch` are directories in which a
/// database that has to be queried may be copied; nothing stays there.
pub fn list(
    subject: &Subject,
    database: &Database,
    scratch: &[PathBuf],
    sink: &mut PackageSink<'_>,
) -> Result<(), PackagesError> {
    let inode = subject.index().inode(database.ino)?;
    let path = database.path;
    match database.format {
        Format::DpkgStatus => {
            let _enough = dpkg::status(subject.read(&inode), path.as_bytes(), sink)?;
        }
        Format::DpkgStatusDir => dpkg::status_dir(subject, &inode, path.as_bytes(), sink)?,
        Format::Apk => apk::installed(subject.read(&inode), path.as_bytes(), sink)?,
        Format::RpmSqlite => rpm::sqlite(subject, &inode, path, scratch, sink)?,
        Format::RpmNdb | Format::RpmBdb => {
            return Err(PackagesError::Unsupported {
                path,
                format: database.format.name(),
            });
        }
    }
    Ok(())
}

/// A value of a record as text; bytes that are not UTF-8 are replaced.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.trim_ascii()).into_owned()
}
