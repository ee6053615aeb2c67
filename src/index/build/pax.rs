//! Extended headers (POSIX.1-2017 `pax`, "pax Header Block"): records of
//! `LENGTH KEY=VALUE\n`, where the value is any bytes and may hold newlines.
//!
//! Guarantees: the length prefix rules, never the newline; numbers are checked;
//! only keys that change what is served are kept. An empty value takes back
//! what a global header set. Not kept, on purpose: `hdrcharset` (names are
//! served as the bytes that they are), names of users and groups, times other
//! than of modification, and what star saves of the disk it read from
//! (`SCHILY.dev`, `.ino`, `.nlink`).

use super::{acl, base64};
use crate::types::Timestamp;

/// What one key says about an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Field<T> {
    /// Nothing.
    #[default]
    Unset,
    /// That the header block is right, whatever a global header says.
    Default,
    /// This.
    Set(T),
}

impl<T> Field<T> {
    fn parse(value: &[u8], parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<Self> {
        if value.is_empty() {
            return Some(Field::Default);
        }
        parse(value).map(Field::Set)
    }

    fn get(&self) -> Option<&T> {
        match self {
            Field::Set(value) => Some(value),
            Field::Unset | Field::Default => None,
        }
    }

    /// What holds for an entry with this local and that global field.
    pub(super) fn over<'a>(&'a self, global: &'a Field<T>) -> Option<&'a T> {
        match self {
            Field::Unset => global.get(),
            local => local.get(),
        }
    }
}

/// An extended attribute as an archive gives it.
pub(super) type OwnedXattr = (Vec<u8>, Vec<u8>);

/// What extended headers say, of those keys that matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Field<Vec<u8>>,
    pub(super) linkpath: Field<Vec<u8>>,
    pub(super) size: Field<u64>,
    pub(super) uid: Field<i64>,
    pub(super) gid: Field<i64>,
    pub(super) mtime: Field<Timestamp>,
    pub(super) dev_major: Field<i64>,
    pub(super) dev_minor: Field<i64>,
    /// Size of a sparse file of star, whose header holds eight digits of it.
    pub(super) real_size: Field<u64>,
    /// In the order of the archive, names may repeat: the last one counts.
    pub(super) xattrs: Vec<OwnedXattr>,
    /// Whether an access control list had to be dropped.
    pub(super) bad_acl: bool,
    /// Means nothing in a global header.
    pub(super) sparse: PaxSparse,
}

/// What GNU tar says about a sparse file, in one of three versions: 0.0, a
/// record for each number; 0.1, the map as one record; 1.0, the map is where
/// the content is (GNU tar manual, "Storing Sparse Files").
#[derive(Clone, Debug, Default)]
pub(super) struct PaxSparse {
    /// The name of the file; what is called its path is a substitute.
    pub(super) name: Option<Vec<u8>>,
    /// Its size with holes.
    pub(super) real_size: Option<u64>,
    major: u64,
    minor: u64,
    has_map: bool,
    /// Of a piece whose length is still to come.
    offset: Option<u64>,
    pieces: Vec<(u64, u64)>,
}

impl PaxSparse {
    /// The version, if the map is not in the header.
    pub(super) fn version(&self) -> Option<(u64, u64)> {
        (self.major > 0).then_some((self.major, self.minor))
    }

    /// Whether the header says which bytes are there.
    pub(super) fn has_map(&self) -> bool {
        self.has_map
    }

    /// Offset and length of each piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pieces.iter().copied()
    }

    /// Takes the record `GNU.sparse.KEY`; whether it is valid.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"major" => self.major = decimal(value)?,
            b"minor" => self.minor = decimal(value)?,
            b"numblocks" => self.has_map = true,
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let piece = (self.offset.take()?, decimal(value)?);
                self.pieces.push(piece);
                self.has_map = true;
            }
            b"map" => {
                let mut numbers = value.split(|b| *b == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    self.pieces.push((offset?, numbers.next()??));
                }
                self.has_map = true;
            }
            _ => {}
        }
        Some(())
    }
}

impl Pax {
    /// Adds the records of an extended header; on an error says what is wrong.
    pub(super) fn read(&mut self, records: &[u8]) -> Result<(), &'static str> {
        let mut rest = records;
        while !rest.is_empty() {
            let (key, value, next) = record(rest).ok_or("record length")?;
            rest = next;
            self.set(key, value)?;
        }
        Ok(())
    }

    /// Forgets everything, but keeps what memory it has.
    pub(super) fn clear(&mut self) {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        xattrs.clear();
        *self = Self {
            xattrs,
            ..Self::default()
        };
    }

    /// After a global header: forgets all but the last attribute of each name,
    /// and what only means something for one entry.
    pub(super) fn settle(&mut self) {
        self.sparse = PaxSparse::default();
        self.xattrs.reverse();
        self.xattrs.sort_by(|a, b| a.0.cmp(&b.0));
        self.xattrs.dedup_by(|later, first| later.0 == first.0);
    }

    /// Bytes of names and values of the attributes, and one for each.
    pub(super) fn xattr_bytes(&self) -> usize {
        let bytes = self
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len() + 1);
        bytes.fold(0, usize::saturating_add)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let owned = |value: &[u8]| Some(value.to_vec());
        match key {
            b"path" => self.path = Field::parse(value, owned).ok_or("path")?,
            b"linkpath" => self.linkpath = Field::parse(value, owned).ok_or("linkpath")?,
            b"size" => self.size = Field::parse(value, decimal).ok_or("size")?,
            b"uid" => self.uid = Field::parse(value, signed).ok_or("uid")?,
            b"gid" => self.gid = Field::parse(value, signed).ok_or("gid")?,
            b"mtime" => self.mtime = Field::parse(value, timestamp).ok_or("mtime")?,
            b"SCHILY.devmajor" | b"SUN.devmajor" => {
                self.dev_major = Field::parse(value, signed).ok_or("device number")?;
            }
            b"SCHILY.devminor" | b"SUN.devminor" => {
                self.dev_minor = Field::parse(value, signed).ok_or("device number")?;
            }
            b"SCHILY.realsize" => {
                self.real_size = Field::parse(value, decimal).ok_or("SCHILY.realsize")?;
            }
            b"SCHILY.acl.access" => self.acl(acl::ACCESS, value),
            b"SCHILY.acl.default" => self.acl(acl::DEFAULT, value),
            b"RHT.security.selinux" => {
                // As setfilecon(3) stores it: with the NUL at its end.
                let label = [value, b"\0"].concat();
                self.xattrs.push((b"security.selinux".to_vec(), label));
            }
            key => self.set_prefixed(key, value)?,
        }
        Ok(())
    }

    fn set_prefixed(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((unescape(name), value.to_vec()));
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let name = base64::percent_decode(name).ok_or("LIBARCHIVE.xattr name")?;
            let value = base64::decode(value).ok_or("LIBARCHIVE.xattr value")?;
            self.xattrs.push((name, value));
        } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            self.sparse.set(key, value).ok_or("GNU.sparse")?;
        }
        Ok(())
    }

    fn acl(&mut self, kind: acl::Kind, text: &[u8]) {
        match acl::encode(kind, text) {
            Ok(None) => {}
            Ok(Some(value)) => self.xattrs.push((kind.name.to_vec(), value)),
            Err(acl::Invalid) => self.bad_acl = true,
        }
    }
}

/// Key, value and what follows the first record.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let digits = records.iter().position(|b| *b == b' ')?;
    let len = usize::try_from(decimal(&records[..digits])?).ok()?;
    let (record, next) = records.split_at_checked(len)?;
    let body = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], next))
}

/// The name of an attribute as GNU tar reads it back: a name may hold `=`, which
/// ends a key.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'%', b'3', b'D', tail @ ..] => (b'=', tail),
            [b'%', b'2', b'5', tail @ ..] => (b'%', tail),
            _ => (*first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out
}

/// Decimal digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, b| match b {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(decimal(digits)?),
        None => i64::try_from(decimal(text)?).ok(),
    }
}

/// Seconds with any number of decimals; those beyond nanoseconds round down.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let negative = text.starts_with(b"-");
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let point = text.iter().position(|b| *b == b'.');
    let (whole, decimals) = text.split_at(point.unwrap_or(text.len()));
    let decimals = decimals.strip_prefix(b".").unwrap_or_default();
    let secs = decimal(whole)?;
    let mut nanos = 0_u32;
    let mut inexact = false;
    for place in 0..decimals.len().max(9) {
        let digit = match decimals.get(place) {
            Some(b @ b'0'..=b'9') => u32::from(b - b'0'),
            Some(_) => return None,
            None => 0,
        };
        match place {
            0..9 => nanos = nanos * 10 + digit,
            _ => inexact |= digit != 0,
        }
    }
    if !negative {
        let secs = i64::try_from(secs).ok()?;
        return Some(Timestamp { secs, nanos });
    }
    let below = nanos + u32::from(inexact);
    let secs = 0_i64.checked_sub_unsigned(secs)?;
    if below == 0 {
        return Some(Timestamp { secs, nanos: 0 });
    }
    Some(Timestamp {
        secs: secs.checked_sub(1)?,
        nanos: 1_000_000_000 - below,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(records: &[u8]) -> Result<Pax, &'static str> {
        let mut pax = Pax::default();
        pax.read(records).map(|()| pax)
    }

    #[test]
    fn the_length_rules_not_the_newline() {
        let read =
            pax(b"30 SCHILY.xattr.user.a=1\n2=\n3\n6 a=b\n19 path=a\nb=c\xff\0\x20de\n").unwrap();
        assert_eq!(read.xattrs, [(b"user.a".to_vec(), b"1\n2=\n3".to_vec())]);
        assert_eq!(read.path, Field::Set(b"a\nb=c\xff\0 de".to_vec()));
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            &b"99 a=b\n"[..],
            b"6 a=bx",
            b"5 ab\n",
            b" a=b\n",
            b"-6 a=b\n",
            b"0 a=b\n",
            b"18446744073709551616 a=b\n",
            b"6 a=b\n\0",
            b"9 size=x\n",
            b"11 size=-1\n",
            b"13 mtime=1e5\n",
        ] {
            assert!(pax(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_empty_value_takes_a_global_one_back() {
        let global = pax(b"9 uid=10\n9 gid=11\n").unwrap();
        let local = pax(b"7 uid=\n").unwrap();
        assert_eq!(local.uid.over(&global.uid), None);
        assert_eq!(local.gid.over(&global.gid), Some(&11));
    }

    #[test]
    fn times_round_down_on_both_sides_of_1970() {
        let at = |text: &str| timestamp(text.as_bytes()).map(|t| (t.secs, t.nanos));
        assert_eq!(
            at("1350244992.023960108"),
            Some((1_350_244_992, 23_960_108))
        );
        assert_eq!(at("7"), Some((7, 0)));
        assert_eq!(at("7."), Some((7, 0)));
        assert_eq!(at("0.5"), Some((0, 500_000_000)));
        assert_eq!(at("-0.5"), Some((-1, 500_000_000)));
        assert_eq!(at("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(at("-3"), Some((-3, 0)));
        assert_eq!(at("1.9999999999"), Some((1, 999_999_999)));
        assert_eq!(at("-1.0000000001"), Some((-2, 999_999_999)));
        assert_eq!(at("-1.9999999999"), Some((-2, 0)));
        assert_eq!(at("-9223372036854775808"), Some((i64::MIN, 0)));
        for bad in ["", "-", ".5", "1.x", "--1", "9223372036854775808", "1 "] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_attributes_are_unescaped_as_gnu_tar_does() {
        let read = pax(b"37 SCHILY.xattr.user.m%3D%25%41%.z=1\n").unwrap();
        assert_eq!(read.xattrs, [(b"user.m=%%41%.z".to_vec(), b"1".to_vec())]);
    }

    #[test]
    fn libarchive_attributes_are_decoded() {
        let read = pax(b"39 LIBARCHIVE.xattr.user.a%3Db%25=AP8K\n").unwrap();
        assert_eq!(read.xattrs, [(b"user.a=b%".to_vec(), b"\0\xff\n".to_vec())]);
    }
}
