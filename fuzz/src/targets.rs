//! What is fuzzed: functions of bytes that panic where something does not hold
//! which has to hold for all bytes.

mod gzip;
mod index;
mod layers;
mod source;
mod tar;

use super::mutate::Format;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What has to hold.
    pub about: &'static str,
    /// Which checksums its inputs have.
    pub format: Format,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes an input; panics if something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const ALL: [Target; 8] = [
    Target {
        name: "index",
        about: "any tables open or do not; what verifies answers everything",
        format: Format::Raw,
        seeds: index::seeds,
        run: index::run,
    },
    Target {
        name: "sidecar",
        about: "any index file opens or does not; what it answers is right",
        format: Format::Sidecar,
        seeds: source::sidecar_seeds,
        run: source::run_sidecar,
    },
    Target {
        name: "source",
        about: "by any tables, a stream yields its own bytes or errors",
        format: Format::Raw,
        seeds: source::seeds,
        run: source::run,
    },
    Target {
        name: "gzip",
        about: "scans and reads from checkpoints as flate2 decodes",
        format: Format::Gzip,
        seeds: gzip::seeds,
        run: gzip::run,
    },
    Target {
        name: "tar",
        about: "any tar builds to an index that verifies, however it is cut, or to an error",
        format: Format::Tar,
        seeds: tar::seeds,
        run: tar::run,
    },
    Target {
        name: "pax",
        about: "the same for extended headers and odd fields that are well signed",
        format: Format::Raw,
        seeds: tar::pax_seeds,
        run: tar::run_pax,
    },
    Target {
        name: "layers",
        about: "any tar on top of an image builds to an index that verifies, or to an error",
        format: Format::Tar,
        seeds: layers::seeds,
        run: layers::run,
    },
    Target {
        name: "base",
        about: "any tables under a patch are refused or merged",
        format: Format::Raw,
        seeds: layers::base_seeds,
        run: layers::run_base,
    },
];

/// Sections in one input: a number of them, then for each its id and length,
/// then their bytes. Damage to the lengths moves their bounds.
mod container {
    use super::super::image::Sections;

    pub(super) fn pack(sections: &Sections) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(sections.places.len()).unwrap_or(0)];
        for (id, place) in &sections.places {
            bytes.extend(u16::try_from(*id).unwrap_or(0).to_le_bytes());
            bytes.extend(u32::try_from(place.len()).unwrap_or(0).to_le_bytes());
        }
        for place in sections.places.values() {
            bytes.extend(&sections.bytes[place.clone()]);
        }
        bytes
    }

    pub(super) fn unpack(bytes: &[u8]) -> Sections {
        let mut sections = Sections::default();
        let count = usize::from(bytes.first().copied().unwrap_or(0));
        let mut rest = bytes.get(1 + 6 * count..).unwrap_or(&[]);
        for line in bytes.get(1..).unwrap_or(&[]).chunks_exact(6).take(count) {
            let id = u32::from(u16::from_le_bytes([line[0], line[1]]));
            let len = u32::from_le_bytes([line[2], line[3], line[4], line[5]]);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let (section, behind) = rest.split_at(len);
            sections.add(id, section);
            rest = behind;
        }
        sections
    }
}
