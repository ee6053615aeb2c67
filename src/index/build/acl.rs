//! Access control lists: from the text in an archive to the bytes of the
//! extended attribute that Linux has for them.
//!
//! Guarantees: a list is converted whole or not at all. It needs the numbers of
//! the users and groups that it names: star and libarchive write them as a
//! fourth field, GNU tar writes the name alone, which nobody but the system that
//! the archive was made on can turn into a number. Sources: acl(5), "ACL TEXT
//! FORMS"; star(5), `SCHILY.acl.access`; `linux/posix_acl_xattr.h`.

/// Which list of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The extended attribute that holds it.
    pub(super) name: &'static [u8],
    /// Whether the mode says the same as a list of nothing but the owner, the
    /// group and others.
    is_mode: bool,
}

/// Who may access the file.
pub(super) const ACCESS: Kind = Kind {
    name: b"system.posix_acl_access",
    is_mode: true,
};

/// What new files in the directory get.
pub(super) const DEFAULT: Kind = Kind {
    name: b"system.posix_acl_default",
    is_mode: false,
};

/// A list that is not valid, or names somebody without a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// The number in entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// Tag, number, permissions: in this order as the kernel wants them sorted.
type Entry = (u16, u32, u16);

/// The bytes of a list, or nothing if there is none beyond the mode.
pub(super) fn encode(kind: Kind, text: &[u8]) -> Result<Option<Vec<u8>>, Invalid> {
    let lines = text.split(|b| matches!(b, b',' | b'\n'));
    let entries = lines
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let mut entries = entries.map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_unstable();
    let is_unique = entries
        .windows(2)
        .all(|two| (two[0].0, two[0].1) != (two[1].0, two[1].1));
    let has = |tag| entries.iter().any(|entry| entry.0 == tag);
    let names_somebody = has(USER) || has(GROUP);
    if entries.is_empty() {
        return Ok(None);
    }
    if !is_unique || !has(USER_OBJ) || !has(GROUP_OBJ) || !has(OTHER) {
        return Err(Invalid);
    }
    if names_somebody && !has(MASK) {
        return Err(Invalid);
    }
    if kind.is_mode && !has(MASK) {
        return Ok(None);
    }
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, number, perm) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&perm.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    Ok(Some(bytes))
}

/// `TAG:WHO:PERMISSIONS`, and perhaps `:NUMBER`.
fn entry(line: &[u8]) -> Result<Entry, Invalid> {
    let mut fields = line.split(|b| *b == b':');
    let mut field = || fields.next().ok_or(Invalid);
    let (tag, who, perm) = (field()?, field()?, field()?);
    let number = fields.next();
    if fields.next().is_some() {
        return Err(Invalid);
    }
    let tag = match (tag, who.is_empty()) {
        (b"user" | b"u", true) => USER_OBJ,
        (b"user" | b"u", false) => USER,
        (b"group" | b"g", true) => GROUP_OBJ,
        (b"group" | b"g", false) => GROUP,
        (b"mask" | b"m", true) => MASK,
        (b"other" | b"o", true) => OTHER,
        _ => return Err(Invalid),
    };
    let number = match tag {
        USER | GROUP => decimal(number.unwrap_or(who))?,
        _ => NOBODY,
    };
    Ok((tag, number, permissions(perm)?))
}

fn permissions(text: &[u8]) -> Result<u16, Invalid> {
    // GNU tar may write what is effective behind a tab.
    let text = text.trim_ascii_end();
    let &[read, write, execute] = text else {
        return Err(Invalid);
    };
    let bit = |letter, is: u8, value| match is {
        is if is == letter => Ok(value),
        b'-' => Ok(0),
        _ => Err(Invalid),
    };
    Ok(bit(b'r', read, 4)? | bit(b'w', write, 2)? | bit(b'x', execute, 1)?)
}

fn decimal(text: &[u8]) -> Result<u32, Invalid> {
    let text = std::str::from_utf8(text).map_err(|_| Invalid)?;
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|n| is_digits && *n != NOBODY);
    number.ok_or(Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tag, permissions, number of each entry.
    fn entries(text: &str) -> Vec<(u16, u16, u32)> {
        let bytes = encode(DEFAULT, text.as_bytes()).unwrap().unwrap();
        assert_eq!(bytes[..4], VERSION.to_le_bytes());
        let two = |b: &[u8], at| u16::from_le_bytes([b[at], b[at + 1]]);
        let each = bytes[4..].chunks(8);
        each.map(|b| {
            (
                two(b, 0),
                two(b, 2),
                u32::from(two(b, 4)) | u32::from(two(b, 6)) << 16,
            )
        })
        .collect()
    }

    #[test]
    fn all_writers_are_understood() {
        let wanted = [
            (USER_OBJ, 6, NOBODY),
            (USER, 5, 1000),
            (USER, 4, 70_000),
            (GROUP_OBJ, 4, NOBODY),
            (GROUP, 7, 5),
            (MASK, 5, NOBODY),
            (OTHER, 0, NOBODY),
        ];
        for text in [
            // GNU tar, where the system has no names for the numbers.
            "user::rw-\nuser:1000:r-x\nuser:70000:r--\ngroup::r--\ngroup:5:rwx\nmask::r-x\nother::---\n",
            // libarchive and star.
            "user::rw-,user:lisa:r-x:1000,user:70000:r--:70000,group::r--,group:tty:rwx:5,mask::r-x,other::---",
            // In any order, in short.
            "o::---, g::r--, m::r-x, g:5:rwx, u:70000:r--, u::rw-, u:1000:r-x",
        ] {
            assert_eq!(entries(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_the_mode_says_already_is_no_attribute() {
        let mode = b"user::rw-,group::r--,other::r--";
        assert_eq!(encode(ACCESS, mode), Ok(None));
        assert!(encode(DEFAULT, mode).unwrap().is_some());
        assert_eq!(encode(DEFAULT, b""), Ok(None));
        assert_eq!(encode(ACCESS, b"\n"), Ok(None));
        let mask = b"user::rw-,group::r--,mask::r--,other::r--";
        assert!(encode(ACCESS, mask).unwrap().is_some());
    }

    #[test]
    fn what_is_not_certain_is_not_converted() {
        let base = "user::rw-,group::r--,mask::rwx,other::r--";
        for text in [
            "user::rw-,group::r--".to_owned(),
            format!("{base},user:lisa:r--"),
            format!("{base},user:1:r--,user:1:rw-"),
            format!("{base},user:1:rw"),
            format!("{base},user:1:r-s"),
            format!("{base},user:4294967295:r--"),
            format!("{base},user:+5:r--"),
            format!("{base},user:1:r--:2:3"),
            format!("{base},mask:1:r--"),
            format!("{base},everyone::r--"),
            format!("{base},user"),
            "user::rw-,user:1:r--,group::r--,other::r--".to_owned(),
        ] {
            assert_eq!(encode(ACCESS, text.as_bytes()), Err(Invalid), "{text}");
        }
    }
}
