//! Which kind of file an archive is, told by its first bytes and never by its
//! name.

/// How the stream is stored in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The archive is the stream.
    Plain,
    /// gzip (RFC 1952), any number of members.
    Gzip,
}

impl Kind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Plain => "tar",
            Kind::Gzip => "gzip",
        }
    }

    /// The number in the tables.
    pub(crate) fn number(self) -> u32 {
        match self {
            Kind::Plain => 1,
            Kind::Gzip => 2,
        }
    }

    /// The kind with this number in the tables.
    pub(crate) fn from_number(number: u32) -> Option<Kind> {
        [Kind::Plain, Kind::Gzip]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A kind of file that cannot be read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// What it is.
    pub(crate) name: &'static str,
    /// A command that makes a readable archive of it.
    pub(crate) advice: &'static str,
}

/// How many bytes of an archive tell its kind.
pub(crate) const HEAD_BYTES: usize = 16;

/// First bytes of what cannot be read in place. Each has bytes that no file
/// name at the start of a tar can be expected to begin with.
const FOREIGN: [(&[u8], Foreign); 8] = [
    (
        b"\x28\xb5\x2f\xfd",
        Foreign {
            name: "zstd",
            advice: "zstd -dc image.tar.zst | gzip > image.tar.gz",
        },
    ),
    (
        b"\xfd7zXZ\0",
        Foreign {
            name: "xz",
            advice: "xz -dc image.tar.xz | gzip > image.tar.gz",
        },
    ),
    (
        b"BZh",
        Foreign {
            name: "bzip2",
            advice: "bzip2 -dc image.tar.bz2 | gzip > image.tar.gz",
        },
    ),
    (
        b"\x04\x22\x4d\x18",
        Foreign {
            name: "lz4",
            advice: "lz4 -dc image.tar.lz4 | gzip > image.tar.gz",
        },
    ),
    (
        b"LZIP\x01",
        Foreign {
            name: "lzip",
            advice: "lzip -dc image.tar.lz | gzip > image.tar.gz",
        },
    ),
    (
        b"PK\x03\x04",
        Foreign {
            name: "zip",
            advice: "unzip it into DIR, then tar -C DIR -czf image.tar.gz .",
        },
    ),
    (
        b"7z\xbc\xaf\x27\x1c",
        Foreign {
            name: "7-Zip",
            advice: "unpack it into DIR, then tar -C DIR -czf image.tar.gz .",
        },
    ),
    (
        b"\x1f\x9d",
        Foreign {
            name: "compress",
            advice: "gzip -dc image.tar.Z | gzip > image.tar.gz",
        },
    ),
];

/// What follows `BZh` and a digit: the start of a block, or of an empty end.
const BZIP2_MAGICS: [&[u8]; 2] = [b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"];

/// The kind of an archive that begins with `head` (up to [`HEAD_BYTES`] of it).
/// What is not known to be compressed is taken for the stream itself.
pub(crate) fn of_head(head: &[u8]) -> Result<Kind, Foreign> {
    if head.starts_with(b"\x1f\x8b\x08") {
        return Ok(Kind::Gzip);
    }
    let is_bzip2 = || {
        head.get(4..10)
            .is_some_and(|magic| BZIP2_MAGICS.contains(&magic))
    };
    match FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        // Letters alone could be the name of the first file of a tar.
        Some((b"BZh", _)) if !is_bzip2() => Ok(Kind::Plain),
        Some((_, foreign)) => Err(*foreign),
        None => Ok(Kind::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_content() {
        assert_eq!(of_head(b""), Ok(Kind::Plain));
        assert_eq!(of_head(b"\x1f\x8b\x08\0"), Ok(Kind::Gzip));
        assert_eq!(of_head(b"BZhang/file\0\0\0\0\0"), Ok(Kind::Plain));
        for (head, name) in [
            (&b"BZh91AY&SY"[..], "bzip2"),
            (b"BZh9\x17\x72\x45\x38\x50\x90", "bzip2"),
            (b"\x28\xb5\x2f\xfd\0\0", "zstd"),
            (b"\xfd7zXZ\0\0", "xz"),
            (b"PK\x03\x04\x14", "zip"),
        ] {
            assert_eq!(of_head(head).unwrap_err().name, name);
        }
    }

    #[test]
    fn numbers_are_stable() {
        assert_eq!((Kind::Plain.number(), Kind::Gzip.number()), (1, 2));
        assert_eq!(Kind::from_number(2), Some(Kind::Gzip));
        assert_eq!(Kind::from_number(0), None);
    }
}
