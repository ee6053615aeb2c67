//! Records: what is known of the image at one path.
//!
//! Layout: `images/NAME.json`, where NAME is the path, or `%` and the SHA-256 of it
//! if that would be too long. A line of JSON and a line with its CRC-32C in eight
//! hexadecimal digits.
//!
//! Guarantees: written whole or not at all. One that is damaged, foreign or of a
//! newer version is an error that names it; nothing is concluded from it.

use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::HomeError;
use super::folder::Folder;
use crate::types::{Digest, ImagePath};

/// Records have this number; others are of another version of this program.
const FORMAT: u32 = 1;
/// Thousands of changes and versions.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Longer paths are called by their digest.
const PLAIN_NAME_BYTES_MAX: usize = 200;
const ENDING: &str = ".json";
/// Others have no business with it.
const MODE: u32 = 0o600;

/// One version of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The archive.
    pub sha256: Digest,
    /// The name that it was uploaded under.
    pub name: String,
    /// Size of the archive.
    pub bytes: u64,
    /// Bytes of content in it.
    pub content_bytes: u64,
    /// Names in it.
    pub entries: u64,
    /// When it was taken in, in seconds since 1970.
    pub taken: u64,
}

/// A mode that the owner gave something in the image afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeChange {
    /// Where it is in the image.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A layer on top of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The archive in the store.
    pub sha256: Digest,
    /// Its name in the directory of patches, escaped.
    pub name: String,
    /// Size of the archive.
    pub bytes: u64,
    /// The file that it was copied from.
    pub(super) from: super::folder::Stamp,
}

/// What is known of the image at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecord {
    format: u32,
    /// The image.
    pub path: ImagePath,
    /// The version that new containers get: one of `versions`.
    pub current: Digest,
    /// All that are kept, in the order in which they came; each archive once.
    pub versions: Vec<Version>,
    /// How many to keep, if not as many as of other images.
    pub keep: Option<u32>,
    /// Modes that were changed afterwards, the last one last.
    pub changes: Vec<ModeChange>,
    /// Layers on top, the lowest first.
    pub patches: Vec<Patch>,
}

impl ImageRecord {
    /// The record of a new image.
    pub(super) fn new(path: ImagePath, first: Version) -> ImageRecord {
        ImageRecord {
            format: FORMAT,
            path,
            current: first.sha256,
            versions: vec![first],
            keep: None,
            changes: Vec::new(),
            patches: Vec::new(),
        }
    }

    /// The version that new containers get.
    pub fn current_version(&self) -> Option<&Version> {
        self.versions.iter().find(|v| v.sha256 == self.current)
    }

    /// Makes `version` the newest and current one. Doing that twice is doing it
    /// once, whatever was made current in between.
    pub(super) fn add(&mut self, version: Version) {
        if self.versions.last() == Some(&version) {
            return;
        }
        self.versions.retain(|v| v.sha256 != version.sha256);
        self.current = version.sha256;
        self.versions.push(version);
    }

    /// Drops the oldest versions until `keep` are left, or as many as are kept of
    /// this image; never the current one. Whether there were any.
    pub(super) fn prune(&mut self, keep: u32) -> bool {
        let keep = self.keep.unwrap_or(keep).max(1);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let before = self.versions.len();
        while self.versions.len() > keep {
            let oldest = self.versions.iter().position(|v| v.sha256 != self.current);
            let Some(oldest) = oldest else { break };
            self.versions.remove(oldest);
        }
        self.versions.len() < before
    }

    /// All archives that it names.
    pub fn archives(&self) -> impl Iterator<Item = Digest> {
        let versions = self.versions.iter().map(|version| version.sha256);
        versions.chain(self.patches.iter().map(|patch| patch.sha256))
    }

    fn check(&self, file: &[u8]) -> Result<(), &'static str> {
        let mut digests: Vec<_> = self.versions.iter().map(|v| v.sha256).collect();
        digests.sort_unstable();
        if digests.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a version is in it twice");
        }
        if self.current_version().is_none() {
            return Err("its current version is not one of its versions");
        }
        match file_name(&self.path).as_bytes() == file {
            true => Ok(()),
            false => Err("it is of another image"),
        }
    }
}

/// The file of the record of the image at `path`.
fn file_name(path: &ImagePath) -> String {
    let name = path.as_str();
    match name.len() {
        ..=PLAIN_NAME_BYTES_MAX => format!("{name}{ENDING}"),
        _ => {
            let digest = Digest::new(Sha256::digest(name.as_bytes()).into());
            format!("%{digest}{ENDING}")
        }
    }
}

/// Only what the number says can be read from records of any version.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

fn encode(record: &ImageRecord) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record)?;
    let check = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(format!("\n{check:08x}\n").as_bytes());
    Ok(bytes)
}

fn decode(file: &[u8], bytes: &[u8]) -> Result<ImageRecord, String> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(format!("it has more than {RECORD_BYTES_MAX} bytes"));
    }
    let cut = || "it is cut short".to_owned();
    let lines = bytes.strip_suffix(b"\n").ok_or_else(cut)?;
    let end = lines.iter().position(|b| *b == b'\n').ok_or_else(cut)?;
    let (json, check) = (&lines[..end], &lines[end + 1..]);
    if check != format!("{:08x}", crc32c::crc32c(json)).as_bytes() {
        return Err("its checksum is wrong".to_owned());
    }
    let AnyFormat { format } = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, this program knows {FORMAT}"
        ));
    }
    let record: ImageRecord = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    record.check(file)?;
    Ok(record)
}

/// The directory of records.
#[derive(Debug)]
pub(super) struct Records(pub(super) Folder);

impl Records {
    /// The record of an image, if there is one.
    pub(super) fn find(&self, path: &ImagePath) -> Result<Option<ImageRecord>, HomeError> {
        self.read(file_name(path).as_bytes())
    }

    /// The record of an image.
    pub(super) fn get(&self, path: &ImagePath) -> Result<ImageRecord, HomeError> {
        let found = self.find(path)?;
        found.ok_or_else(|| HomeError::NoImage { path: path.clone() })
    }

    fn read(&self, file: &[u8]) -> Result<Option<ImageRecord>, HomeError> {
        let shown = || format!("images/{}", crate::index::Escaped(file));
        let read = self.0.read(file, RECORD_BYTES_MAX as u64 + 1);
        let read = read.map_err(|cause| HomeError::of(format!("read {}", shown()), cause))?;
        let record = read.map(|bytes| decode(file, &bytes)).transpose();
        record.map_err(|what| HomeError::Record {
            file: shown(),
            what,
        })
    }

    /// Whether there is room for an image of this path among `max`.
    pub(super) fn has_room(&self, path: &ImagePath, max: usize) -> io::Result<bool> {
        if self.0.stat(file_name(path).as_bytes())?.is_some() {
            return Ok(true);
        }
        let (entries, more) = self.0.entries(max)?;
        Ok(!more && entries.len() < max)
    }

    /// Writes one in place of what is known.
    pub(super) fn write(&self, record: &ImageRecord) -> Result<(), HomeError> {
        let file = file_name(&record.path);
        let failed = |cause| HomeError::of(format!("write images/{file}"), cause);
        let bytes = encode(record).map_err(failed)?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(HomeError::RecordTooLong {
                path: record.path.clone(),
                max: RECORD_BYTES_MAX,
            });
        }
        self.0
            .replace(file.as_bytes(), &bytes, MODE)
            .map_err(failed)
    }

    /// Removes one.
    pub(super) fn remove(&self, path: &ImagePath) -> Result<(), HomeError> {
        let file = file_name(path);
        let removed = self.0.remove(file.as_bytes()).and_then(|_| self.0.sync());
        removed.map_err(|cause| HomeError::of(format!("remove images/{file}"), cause))
    }

    /// All records, by path, and what is wrong with those that cannot be used.
    pub(super) fn all(&self) -> Result<(Vec<ImageRecord>, Vec<HomeError>), HomeError> {
        let entries = self.0.entries(usize::MAX);
        let (entries, _) = entries.map_err(HomeError::doing("read the directory images"))?;
        let (mut records, mut unusable) = (Vec::new(), Vec::new());
        for entry in entries {
            if entry.name.starts_with(b".") {
                continue;
            }
            match self.read(&entry.name) {
                Ok(record) => records.extend(record),
                Err(error) => unusable.push(error),
            }
        }
        records.sort_by(|a: &ImageRecord, b| a.path.cmp(&b.path));
        Ok((records, unusable))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn path(name: &str) -> ImagePath {
        ImagePath::new(name.as_bytes()).unwrap()
    }

    fn version(number: u8) -> Version {
        Version {
            sha256: Digest::new([number; 32]),
            name: "web.tgz".into(),
            bytes: 5,
            content_bytes: 7,
            entries: 3,
            taken: number.into(),
        }
    }

    fn records(dir: &tempfile::TempDir) -> Records {
        Records(Folder::open(dir.path()).unwrap())
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(&dir);
        let mut web = ImageRecord::new(path("web"), version(1));
        web.changes.push(ModeChange {
            path: "/tmp/ü".into(),
            mode: 0o777,
        });
        let long = ImageRecord::new(path(&"x".repeat(255)), version(2));
        records.write(&web).unwrap();
        records.write(&long).unwrap();
        assert_eq!(records.get(&web.path).unwrap(), web);
        assert_eq!(records.get(&long.path).unwrap(), long);
        let (all, unusable) = records.all().unwrap();
        assert!(all == [web.clone(), long] && unusable.is_empty());
        records.remove(&web.path).unwrap();
        assert!(records.find(&web.path).unwrap().is_none());
    }

    #[test]
    fn every_flip_and_every_cut_is_noticed_and_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(&dir);
        records
            .write(&ImageRecord::new(path("web"), version(1)))
            .unwrap();
        let other = ImageRecord::new(path("other"), version(2));
        records.write(&other).unwrap();
        let file = dir.path().join("web.json");
        let whole = fs::read(&file).unwrap();
        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        });
        let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
        for bytes in flipped.chain(cut) {
            fs::write(&file, &bytes).unwrap();
            let error = records.find(&path("web")).unwrap_err().to_string();
            assert!(error.contains("images/web.json"), "{error}");
            let (all, unusable) = records.all().unwrap();
            assert!(all == [other.clone()] && unusable.len() == 1);
        }
    }

    #[test]
    fn foreign_records_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let records = records(&dir);
        let web = ImageRecord::new(path("web"), version(1));
        let mut newer = web.clone();
        newer.format = 2;
        let mut nowhere = web.clone();
        nowhere.current = Digest::new([9; 32]);
        let mut twice = web.clone();
        twice.versions.push(version(1));
        let moved = ImageRecord::new(path("moved"), version(1));
        for (wrong, why) in [
            (newer, "format 2"),
            (nowhere, "current version"),
            (twice, "twice"),
            (moved, "another image"),
        ] {
            fs::write(dir.path().join("web.json"), encode(&wrong).unwrap()).unwrap();
            let error = records.find(&web.path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_newest_version_is_current_and_the_oldest_goes_first() {
        let mut record = ImageRecord::new(path("web"), version(1));
        for number in 2..=4 {
            record.add(version(number));
        }
        assert_eq!(record.current, version(4).sha256);
        // Done again, after the owner went back.
        record.current = version(1).sha256;
        record.add(version(4));
        assert_eq!(record.current, version(1).sha256);
        assert!(record.prune(2));
        assert_eq!(record.versions, [version(1), version(4)]);
        assert!(!record.prune(2));
        // An old archive that is uploaded again.
        let mut again = version(1);
        again.taken = 9;
        record.add(again.clone());
        assert_eq!(record.versions, [version(4), again]);
        record.keep = Some(1);
        assert!(record.prune(5));
        assert_eq!(record.versions.len(), 1);
    }
}
