//! [`StatusFiles`]: status files among a customer's own files.
//!
//! Guarantees: only files that begin as a status does are replaced or removed;
//! whatever else has the name of one stays, and is complained about once. Nothing
//! is written through a link.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;

use rustix::fs::FileType;

use super::text::{MARK, Statuses};
use crate::index::Escaped;
use crate::store::home::{Folder, STATUS, Stamp, kind_of};

/// Everybody may read it, as consumers of an image are other users.
const MODE: u32 = 0o644;
/// One for an image with all that it misses takes 5 kB.
const STATUS_BYTES_MAX: u64 = 256 << 10;

/// The files as they were written last.
#[derive(Debug, Default)]
pub struct StatusFiles {
    /// What is known to be there, by name: the file, and a hash of its text.
    written: HashMap<Vec<u8>, (Stamp, u64)>,
    hasher: RandomState,
    /// Names that were complained about.
    complained: HashSet<Vec<u8>>,
}

impl StatusFiles {
    /// Has `distros` hold these status files and no others; looks at `names_max` of
    /// its names at most. What fails is logged, once for each name.
    pub fn update(&mut self, distros: &Folder, statuses: &Statuses, names_max: usize) {
        for (name, text) in statuses {
            match self.write(distros, name, text) {
                Ok(()) => drop(self.complained.remove(name)),
                Err(error) => self.complain(name, &error),
            }
        }
        match distros.entries(names_max) {
            Ok((entries, _)) => {
                for entry in entries {
                    if entry.name.ends_with(STATUS.as_bytes())
                        && !statuses.contains_key(&entry.name)
                        && matches!(entry.kind, FileType::RegularFile | FileType::Unknown)
                        && let Err(error) = self.remove(distros, &entry.name)
                    {
                        self.complain(&entry.name, &error);
                    }
                }
            }
            Err(error) => self.complain(b".", &error),
        }
        self.written.retain(|name, _| statuses.contains_key(name));
    }

    fn write(&mut self, distros: &Folder, name: &[u8], text: &str) -> io::Result<()> {
        let there = distros.stat(name)?;
        let stamp = there.as_ref().map(Stamp::of);
        if let Some((last, written)) = self.written.get(name)
            && Some(*last) == stamp
            && *written == self.hasher.hash_one(text)
        {
            return Ok(());
        }
        if let Some(there) = &there {
            if kind_of(there) != FileType::RegularFile {
                return Err(in_the_way());
            }
            let bytes = distros.read(name, STATUS_BYTES_MAX)?.unwrap_or_default();
            if !bytes.starts_with(MARK.as_bytes()) {
                return Err(in_the_way());
            }
            if bytes == text.as_bytes() {
                self.note(name, stamp, text);
                return Ok(());
            }
        }
        distros.put(name, text.as_bytes(), MODE)?;
        self.note(name, distros.stamp(name)?, text);
        Ok(())
    }

    fn note(&mut self, name: &[u8], stamp: Option<Stamp>, text: &str) {
        if let Some(stamp) = stamp {
            let written = (stamp, self.hasher.hash_one(text));
            self.written.insert(name.to_vec(), written);
        }
    }

    /// Removes a status that says nothing any more; other files stay.
    fn remove(&mut self, distros: &Folder, name: &[u8]) -> io::Result<()> {
        let start = distros.read(name, MARK.len() as u64)?;
        if start.is_some_and(|start| start == MARK.as_bytes()) {
            distros.remove(name)?;
        }
        self.written.remove(name);
        Ok(())
    }

    fn complain(&mut self, name: &[u8], error: &io::Error) {
        if self.complained.insert(name.to_vec()) {
            let shown = Escaped(name).to_string();
            tracing::warn!(name = shown, %error, "a status cannot be kept in distros");
        }
    }
}

fn in_the_way() -> io::Error {
    io::Error::other("something that is no status has its name: rename or remove it")
}
