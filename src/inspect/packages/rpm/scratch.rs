//! A directory for a database while it is queried.
//!
//! Guarantees: nobody else can enter it; it and what is in it are removed when
//! it is dropped.

use std::fs::{DirBuilder, OpenOptions, remove_dir_all};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const NAME: &str = "rpmdb.sqlite";

/// The directory, with room for a database and what belongs to it.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: PathBuf,
    database: PathBuf,
}

impl Scratch {
    /// Makes it in the first of `places` where that is possible.
    pub(super) fn new(places: &[PathBuf]) -> io::Result<Self> {
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for place in places {
            match make_in(place) {
                Ok(directory) => {
                    let database = directory.join(NAME);
                    return Ok(Self {
                        directory,
                        database,
                    });
                }
                Err(cause) => failed = cause,
            }
        }
        Err(failed)
    }

    /// The database.
    pub(super) fn path(&self) -> &Path {
        &self.database
    }

    /// Writes the file whose name is the database's and `suffix`.
    pub(super) fn add(&mut self, suffix: &str, content: &mut dyn Read) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.directory.join(format!("{NAME}{suffix}")))?;
        io::copy(content, &mut file)?;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(cause) = remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %cause, "cannot remove");
        }
    }
}

/// Making a directory never goes through a link that was put in its place.
fn make_in(place: &Path) -> io::Result<PathBuf> {
    for attempt in 0_u32..100 {
        let path = place.join(format!(".distrofs.{}-{attempt}.tmp", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(cause),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_where_it_can_be_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let places = [dir.path().join("gone"), dir.path().to_owned()];
        let (mut one, two) = (
            Scratch::new(&places).unwrap(),
            Scratch::new(&places).unwrap(),
        );
        one.add("", &mut &b"content"[..]).unwrap();
        assert_eq!(std::fs::read(one.path()).unwrap(), b"content");
        assert!(!two.path().exists());
        drop((one, two));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Scratch::new(&places[..1]).is_err());
    }
}
