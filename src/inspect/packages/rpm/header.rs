//! The header of an rpm package: a table of tags, and their values behind it
//! (`lib/header.c` of rpm). Numbers are big-endian.
//!
//! ```text
//! u32 entries | u32 bytes of values | entries × (u32 tag, type, offset, count) | values
//! ```

use std::io::{self, Read, Seek, SeekFrom};

use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::{Package, text};

/// Tags ascend, and those that are wanted are among the first ones.
const ENTRIES_READ_MAX: u32 = 128;

/// Longer names and versions are cut.
const STRING_BYTES_MAX: usize = 1024;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;

const INT32: u32 = 4;
const STRING: u32 = 6;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Start {
    entries: U32,
    value_bytes: U32,
}
const _: () = assert!(size_of::<Start>() == 8);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    tag: U32,
    kind: U32,
    offset: U32,
    count: U32,
}
const _: () = assert!(size_of::<Entry>() == 16);

/// The package that a header describes. Reads a few hundred bytes of it.
pub(super) fn package(header: &mut (impl Read + Seek)) -> io::Result<Package> {
    let mut start = Start::new_zeroed();
    header.read_exact(start.as_mut_bytes())?;
    let count = start.entries.get();
    let mut entries = vec![Entry::new_zeroed(); count.min(ENTRIES_READ_MAX) as usize];
    header.read_exact(entries.as_mut_bytes())?;
    let values = 8 + 16 * u64::from(count);
    let mut values = Values {
        header,
        start: values,
        entries,
    };
    let name = values.string(NAME)?.unwrap_or_default();
    let version = values.string(VERSION)?.unwrap_or_default();
    if name.is_empty() || version.is_empty() {
        let what = "a header without a name or a version";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let release = values.string(RELEASE)?.map(|release| format!("-{release}"));
    let epoch = values.number(EPOCH)?.map(|epoch| format!("{epoch}:"));
    Ok(Package {
        name,
        version: epoch.unwrap_or_default() + &version + &release.unwrap_or_default(),
        architecture: values.string(ARCH)?.unwrap_or_default(),
    })
}

struct Values<'a, R> {
    header: &'a mut R,
    start: u64,
    entries: Vec<Entry>,
}

impl<R: Read + Seek> Values<'_, R> {
    fn string(&mut self, tag: u32) -> io::Result<Option<String>> {
        if !self.seek(tag, STRING)? {
            return Ok(None);
        }
        let mut value = Vec::with_capacity(64);
        let mut byte = [0];
        while value.len() < STRING_BYTES_MAX {
            self.header.read_exact(&mut byte)?;
            match byte[0] {
                0 => break,
                byte => value.push(byte),
            }
        }
        Ok(Some(text(&value)))
    }

    fn number(&mut self, tag: u32) -> io::Result<Option<u32>> {
        if !self.seek(tag, INT32)? {
            return Ok(None);
        }
        let mut value = U32::new(0);
        self.header.read_exact(value.as_mut_bytes())?;
        Ok(Some(value.get()))
    }

    /// Goes to the value of a tag, if there is one of that type.
    fn seek(&mut self, tag: u32, kind: u32) -> io::Result<bool> {
        let of_tag = |entry: &&Entry| entry.tag.get() == tag && entry.kind.get() == kind;
        let Some(entry) = self.entries.iter().find(of_tag) else {
            return Ok(false);
        };
        let at = self.start + u64::from(entry.offset.get());
        self.header.seek(SeekFrom::Start(at))?;
        Ok(true)
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Headers as rpm writes them, with the tags that are read here.

    use super::*;

    pub(in super::super) fn header(
        name: &str,
        epoch: Option<u32>,
        version: &str,
        release: &str,
        arch: Option<&str>,
        more_bytes: usize,
    ) -> Vec<u8> {
        let mut values = Vec::new();
        // rpm puts the region that it signs first.
        let mut entries = vec![(63, 7, 0, 16)];
        let mut string = |tag, value: &str| {
            entries.push((tag, STRING, values.len(), 1));
            values.extend_from_slice(value.as_bytes());
            values.push(0);
        };
        string(NAME, name);
        string(VERSION, version);
        string(RELEASE, release);
        if let Some(arch) = arch {
            string(ARCH, arch);
        }
        if let Some(epoch) = epoch {
            values.resize(values.len().next_multiple_of(4), 0);
            entries.push((EPOCH, INT32, values.len(), 1));
            values.extend_from_slice(U32::new(epoch).as_bytes());
        }
        values.resize(values.len() + more_bytes, b'x');
        let number = |n: usize| U32::new(u32::try_from(n).unwrap());
        let mut header = [number(entries.len()), number(values.len())]
            .as_bytes()
            .to_vec();
        for (tag, kind, offset, count) in entries {
            let entry = Entry {
                tag: tag.into(),
                kind: kind.into(),
                offset: number(offset),
                count: count.into(),
            };
            header.extend_from_slice(entry.as_bytes());
        }
        header.extend(values);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_cut_or_lies_is_an_error() {
        let whole = testing::header("a", Some(1), "2", "3", Some("x86_64"), 0);
        assert!(package(&mut io::Cursor::new(&whole)).is_ok());
        for len in 0..whole.len() - 1 {
            let cut = package(&mut io::Cursor::new(&whole[..len]));
            assert!(cut.is_err(), "{len}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] = 0xff;
            // Whatever it says: an answer, and no panic.
            drop(package(&mut io::Cursor::new(&changed)));
        }
        assert!(package(&mut io::Cursor::new([0xff; 64])).is_err());
    }
}
