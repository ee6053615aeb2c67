//! Random flips and cuts of archives and of indexes, one numbered case each.
//!
//! Guarantees: a case is made of its number and the seed alone. What must hold:
//! an archive that was damaged before it is indexed is refused or is what its
//! bytes say (gzip has checksums, so there it is refused or is the original);
//! one that is damaged behind its index, and an index that is damaged, answer
//! every question as the original did, or not at all.

use std::path::Path;
use std::sync::Arc;

use distrofs::index::Index;
use distrofs::metrics::Metrics;
use distrofs::sidecar::Sidecar;
use distrofs::source::BlockSource;
use distrofs::store::{Archive, IngestOptions};

use super::archive::{Packing, image};
use super::image::{Changeable, Ingested, Opened, ingest};
use super::random::Random;
use super::walk::{Seen, Tally, compare, consistent, see};

/// Short spans, so that a small archive has several.
const SPAN_BYTES: u64 = 32 * 1024;

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The archive, before it is indexed.
    Before,
    /// The archive, after it was indexed and before it is opened.
    Behind,
    /// The archive, while it is open and half of it was read.
    Open,
    /// The index, before it is opened.
    Index,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Before, Kind::Behind, Kind::Open, Kind::Index];
}

/// One archive with its index, and everything that is in it.
#[derive(Debug)]
pub struct Original {
    /// How it is compressed.
    pub packing: Packing,
    /// Its bytes.
    pub archive: Vec<u8>,
    /// What indexing it gives.
    pub ingested: Ingested,
    /// The bytes of its index file.
    pub sidecar: Vec<u8>,
    /// All its names, attributes and contents.
    pub seen: Seen,
}

/// The archives that are damaged.
#[derive(Debug)]
pub struct Suite {
    /// One for each way of packing.
    pub originals: Vec<Original>,
    seed: u64,
}

/// What one case came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was damaged.
    pub kind: Kind,
    /// Whether it was refused as a whole.
    pub refused: bool,
    /// Questions that were answered and refused otherwise.
    pub tally: Tally,
}

impl Suite {
    /// Makes the archives, in `dir` where a file is needed.
    pub fn new(dir: &Path, seed: u64) -> Result<Self, String> {
        let stream = image(1);
        let make = |packing: Packing| {
            let archive = packing.pack(&stream);
            let ingested = ingest(&archive, SPAN_BYTES)?;
            if ingested.stream != stream {
                return Err(format!("{packing:?}: the stream is another one"));
            }
            let sidecar = sidecar_of(&archive, dir)?;
            let opened = open_sidecar(sidecar.clone(), &archive)?;
            consistent(&opened, &stream, stream.len() as u64)?;
            let seen = see(&opened.fs)?;
            Ok(Original {
                packing,
                archive,
                ingested,
                sidecar,
                seen,
            })
        };
        let originals = Packing::ALL.into_iter().map(make);
        Ok(Self {
            originals: originals.collect::<Result<_, _>>()?,
            seed,
        })
    }

    /// Runs case `number`; what is wrong is the error.
    pub fn case(&self, number: u64) -> Result<Outcome, String> {
        let mut random = Random::new(self.seed.rotate_left(32) ^ number);
        let kind = *random.pick(&Kind::ALL);
        let original = random.pick(&self.originals);
        let done = match kind {
            Kind::Before => before(original, &mut random),
            Kind::Behind => behind(original, &mut random),
            Kind::Open => open(original, &mut random),
            Kind::Index => index(original, &mut random),
        };
        let (refused, tally) = done.map_err(|wrong| {
            format!(
                "case {number} of seed {}: {kind:?} of {:?}: {wrong}",
                self.seed, original.packing
            )
        })?;
        Ok(Outcome {
            kind,
            refused,
            tally,
        })
    }
}

type Done = Result<(bool, Tally), String>;

const REFUSED: (bool, Tally) = (
    true,
    Tally {
        right: 0,
        refused: 0,
    },
);

fn before(original: &Original, random: &mut Random) -> Done {
    let mut archive = original.archive.clone();
    damage(&mut archive, random);
    let Ok(made) = ingest(&archive, SPAN_BYTES) else {
        return Ok(REFUSED);
    };
    let is_gzip = archive.starts_with(b"\x1f\x8b\x08");
    if is_gzip && !original.ingested.stream.starts_with(&made.stream) {
        return Err("damage that the checksums of gzip did not show".to_owned());
    }
    let opened = made.sections.open(Arc::new(Changeable::new(archive)))?;
    consistent(&opened, &made.stream, made.scan.stream_len)?;
    let right = opened.index.summary().inodes;
    Ok((false, Tally { right, refused: 0 }))
}

fn behind(original: &Original, random: &mut Random) -> Done {
    let mut archive = original.archive.clone();
    damage(&mut archive, random);
    let archive = Arc::new(Changeable::new(archive));
    match original.ingested.sections.open(archive) {
        Ok(opened) => Ok((false, compare(&opened.fs, &original.seen, random)?)),
        Err(_) => Ok(REFUSED),
    }
}

fn open(original: &Original, random: &mut Random) -> Done {
    let archive = Arc::new(Changeable::new(original.archive.clone()));
    let opened = original.ingested.sections.open(Arc::clone(&archive) as _)?;
    let paths = original.seen.iter();
    let half: Seen = paths
        .filter(|_| random.one_in(2))
        .map(|(path, node)| (path.clone(), node.clone()))
        .collect();
    if compare(&opened.fs, &half, &mut Random::new(1))?.refused > 0 {
        return Err("a read of what is not damaged was refused".to_owned());
    }
    let mut changed = original.archive.clone();
    damage(&mut changed, random);
    archive.change(changed);
    Ok((false, compare(&opened.fs, &original.seen, random)?))
}

fn index(original: &Original, random: &mut Random) -> Done {
    let mut sidecar = original.sidecar.clone();
    damage(&mut sidecar, random);
    let damaged = sidecar.clone();
    let Ok(opened) = open_sidecar(sidecar, &original.archive) else {
        return Ok(REFUSED);
    };
    if damaged == original.sidecar {
        return Ok(REFUSED);
    }
    let tally = compare(&opened.fs, &original.seen, random)?;
    let checked = Sidecar::from_region(Arc::new(damaged)).map_err(|e| e.to_string())?;
    let verified = checked.verify().is_ok();
    let consistent = opened.index.verify(opened.source.len()).is_ok();
    if verified && (tally.refused > 0 || !consistent) {
        return Err("all checksums are right, and yet something was refused".to_owned());
    }
    Ok((false, tally))
}

/// Opens an index file that is in memory.
pub fn open_sidecar(sidecar: Vec<u8>, archive: &[u8]) -> Result<Opened, String> {
    let sidecar = Sidecar::from_region(Arc::new(sidecar)).map_err(|e| e.to_string())?;
    let archive = Arc::new(Changeable::new(archive.to_vec()));
    Opened::new(sidecar.region(), &|id| sidecar.section(id), archive)
}

/// The bytes of the index file of `archive`, made in `dir`.
pub fn sidecar_of(archive: &[u8], dir: &Path) -> Result<Vec<u8>, String> {
    let path = dir.join("archive");
    let place = dir.join("index");
    std::fs::write(&path, archive).map_err(|e| e.to_string())?;
    let options = IngestOptions {
        span_bytes: SPAN_BYTES,
        ignore_zeros: false,
    };
    let opened = Archive::open(&path).map_err(|e| e.to_string())?;
    let metrics = Arc::new(Metrics::default());
    let made = opened.index(Some(&place), options, true, &metrics, &|_| {});
    let made = made.map_err(|e| e.to_string())?;
    let find = |id| made.sidecar.section(id);
    let index = Index::open(made.sidecar.region(), &find).map_err(|e| e.to_string())?;
    drop(index);
    std::fs::read(&place).map_err(|e| e.to_string())
}

/// Flips, overwrites, cuts or lengthens `bytes`, which are never the same
/// behind it.
pub fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let len = bytes.len();
    let at = random.below(len);
    match random.below(10) {
        0..=3 => bytes[at] ^= 1 << random.below(8),
        4 => (0..1 + random.below(8)).for_each(|_| {
            let at = random.below(len);
            bytes[at] ^= 1 + random.byte() % 255;
        }),
        5 => bytes.truncate(at),
        6 => {
            // A cut that was filled up, as a file that lost its end in a crash.
            bytes.truncate(at);
            bytes.resize(len, 0);
        }
        7 => {
            // A lost sector, or a run of noise.
            let start = at / 512 * 512;
            let end = (start + *random.pick(&[16, 512, 4096])).min(len);
            let noise = random.bytes(end - start);
            let zeros = random.one_in(2);
            bytes[start..end].fill(0);
            if !zeros {
                bytes[start..end].copy_from_slice(&noise);
            }
        }
        8 => {
            let count = 1 + random.below(3000);
            let more = random.bytes(count);
            if random.one_in(2) {
                bytes.extend_from_slice(&more);
            } else {
                drop(bytes.splice(at..at, more));
            }
        }
        _ => {
            let end = (at + 1 + random.below(2000)).min(len);
            drop(bytes.drain(at..end));
        }
    }
}
