//! Tables of a stream, and whole index files, damaged in any way over an
//! archive that is as it was.

use std::sync::{Arc, OnceLock};

use distrofs::sidecar::Sidecar;
use distrofs::source::{BlockSource, DirectReader, ReadAt};

use super::super::archive::{Packing, image};
use super::super::image::{Changeable, Opened, Sections, open_source, scan_only};
use super::super::random::Random;
use super::super::torture::sidecar_of;
use super::super::walk::see;
use super::container;

const SPAN_BYTES: u64 = 32 * 1024;
/// The archive of the inputs of `sidecar`.
const PACKING: Packing = Packing::Members;

/// One stream in all packings: whichever tables go with whichever archive,
/// the bytes are these.
fn stream() -> &'static [u8] {
    static STREAM: OnceLock<Vec<u8>> = OnceLock::new();
    STREAM.get_or_init(|| image(4))
}

fn archives() -> &'static [Vec<u8>] {
    static ARCHIVES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ARCHIVES.get_or_init(|| Packing::ALL.iter().map(|p| p.pack(stream())).collect())
}

/// The number of an archive, then its tables.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let tables = |(number, archive): (u8, &Vec<u8>)| {
        let made = scan_only(archive, SPAN_BYTES).unwrap_or_else(|e| panic!("a seed: {e}"));
        let mut seed = vec![number];
        seed.extend(container::pack(&made.sections));
        seed
    };
    (0..).zip(archives()).map(tables).collect()
}

pub(super) fn run(input: &[u8]) {
    let Some((number, tables)) = input.split_first() else {
        return;
    };
    let archives = archives();
    let archive = archives[usize::from(*number) % archives.len()].clone();
    let sections: Sections = container::unpack(tables);
    let find = |id| sections.places.get(&id).cloned();
    let region = Arc::new(sections.bytes.clone());
    let Ok(source) = open_source(region, &find, Arc::new(Changeable::new(archive))) else {
        return;
    };
    let len = source.len();
    let (spans, reader) = (source.span_count(), DirectReader::new(source));
    let mut random = Random::new(input.len() as u64 ^ u64::from(spans));
    for round in 0..10 {
        let near = if round < 8 {
            stream().len() as u64
        } else {
            len
        };
        let at = random.number() % near.min(len).max(1);
        let mut found = vec![0xa5; random.below(40_000)];
        if reader.read_exact_at(at, &mut found).is_ok() && !found.is_empty() {
            let from = usize::try_from(at).unwrap_or(usize::MAX);
            let original = stream().get(from..from.saturating_add(found.len()));
            assert!(original == Some(&found[..]), "wrong bytes at {at}");
        }
    }
}

pub(super) fn sidecar_seeds() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("a directory: {e}"));
    let made = sidecar_of(&PACKING.pack(stream()), dir.path());
    vec![made.unwrap_or_else(|e| panic!("a seed: {e}"))]
}

pub(super) fn run_sidecar(input: &[u8]) {
    let Ok(sidecar) = Sidecar::from_region(Arc::new(input.to_vec())) else {
        return;
    };
    for id in 0..0x400 {
        if let Some(place) = sidecar.section(id) {
            assert!(place.end <= input.len(), "section {id:#x} is outside");
        }
    }
    drop(sidecar.verify());
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    let archive = ARCHIVE.get_or_init(|| PACKING.pack(stream())).clone();
    let archive = Arc::new(Changeable::new(archive));
    let find = |id| sidecar.section(id);
    if let Ok(opened) = Opened::new(sidecar.region(), &find, archive) {
        drop(opened.index.verify(opened.source.len()));
        drop(see(&opened.fs));
    }
}
