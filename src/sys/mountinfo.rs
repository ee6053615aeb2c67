//! What is mounted where, as `/proc/self/mountinfo` tells it (proc(5)).
//!
//! Guarantees: nothing here touches a mounted filesystem, so that none of it
//! waits for a daemon that is dead or stuck.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

/// Read of the kernel's text at a time; it gives less than it is asked for.
const PIECE_BYTES: usize = 16 * 1024;

/// The filesystem type of our mounts.
pub const FS_TYPE: &str = "fuse.distrofs";

/// A device number, which names a superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// 0 for filesystems without a disk.
    pub major: u32,
    /// For FUSE also the number of the connection.
    pub minor: u32,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount; free ones are used again.
    pub id: u64,
    /// The superblock.
    pub device: Device,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Filesystem type, with its subtype.
    pub fs_type: OsString,
    /// What was mounted; for ours the archive.
    pub source: OsString,
}

/// The mount on top at exactly `target` (absolute, without links).
pub fn find(target: &Path) -> io::Result<Option<MountEntry>> {
    let is_it = |entry: &MountEntry| entry.target == target;
    match at(target) {
        At::Nothing => Ok(None),
        // Of hundreds of mounts that of an image is among the first.
        At::Mount(id) => Ok(lines()?
            .map_while(Result::ok)
            .filter_map(|line| parse_line(&line))
            .find(|entry| entry.id == id)
            .filter(is_it)),
        At::Unknown => Ok(all()?.into_iter().rev().find(is_it)),
    }
}

/// The mount that `path` is in, if this process sees where it is.
pub fn holding(path: &Path) -> io::Result<Option<MountEntry>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = statx(CWD, path, flags, StatxFlags::MNT_ID)?;
    let id = found.stx_mnt_id;
    Ok(all()?.into_iter().find(|entry| entry.id == id))
}

/// The mount whose root is open.
pub fn of_root(root: BorrowedFd<'_>) -> io::Result<Option<MountEntry>> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(root, "", flags, StatxFlags::MNT_ID)?;
    if !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    let id = found.stx_mnt_id;
    Ok(all()?.into_iter().find(|entry| entry.id == id))
}

/// Whether something is mounted at exactly `target`.
pub fn is_mount_point(target: &Path) -> io::Result<bool> {
    match at(target) {
        At::Nothing => Ok(false),
        At::Mount(_) => Ok(true),
        At::Unknown => Ok(find(target)?.is_some()),
    }
}

/// What is mounted at a path.
enum At {
    Nothing,
    /// A mount with this number.
    Mount(u64),
    /// The kernel does not tell: it is older than 5.8, or the daemon is dead.
    Unknown,
}

/// Spares the reading of all mounts.
fn at(target: &Path) -> At {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let Ok(found) = statx(CWD, target, flags, StatxFlags::MNT_ID) else {
        return At::Unknown;
    };
    let root = StatxAttributes::MOUNT_ROOT;
    if !found.stx_attributes_mask.contains(root) || found.stx_mask & StatxFlags::MNT_ID.bits() == 0
    {
        At::Unknown
    } else if found.stx_attributes.contains(root) {
        At::Mount(found.stx_mnt_id)
    } else {
        At::Nothing
    }
}

/// The lines of the kernel's text, read piece by piece.
fn lines() -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let text = File::open("/proc/self/mountinfo")?;
    Ok(BufReader::with_capacity(PIECE_BYTES, text).split(b'\n'))
}

/// All mounts that this process sees, in the order in which they hide each other.
pub fn all() -> io::Result<Vec<MountEntry>> {
    let entries = lines()?.map(|line| Ok(parse_line(&line?)));
    entries.filter_map(io::Result::transpose).collect()
}

/// The absolute form of a mount point without looking at what is mounted
/// there: only the directories above it are resolved.
pub fn resolve(target: &Path) -> io::Result<PathBuf> {
    match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            Ok(parent.canonicalize()?.join(name))
        }
        // `/`, or something that ends in `..`.
        _ => target.canonicalize(),
    }
}

/// `36 35 0:98 /root /target opts [optional...] - type source superopts`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let id = number(fields.next()?)?;
    let mut device = fields.nth(1)?.split(|b| *b == b':');
    let device = Device {
        major: u32::try_from(number(device.next()?)?).ok()?,
        minor: u32::try_from(number(device.next()?)?).ok()?,
    };
    let target = PathBuf::from(unescape(fields.nth(1)?));
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = unescape(rest.next()?);
    let source = unescape(rest.next()?);
    Some(MountEntry {
        id,
        device,
        target,
        fs_type,
        source,
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Space, tab, newline and backslash are written as `\ooo`.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(octal);
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// Whether a mount is one of ours.
pub fn is_distrofs(fs_type: &OsStr) -> bool {
    fs_type.as_bytes() == FS_TYPE.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_every_escape_and_optional_fields() {
        let line = b"36 35 0:98 /mnt1 /a\\040b\\011c\\012d\\134e ro,nosuid master:1 shared:2 - \
                     fuse.distrofs /x\\040y.tgz rw,user_id=0";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.id, 36);
        assert_eq!(
            entry.device,
            Device {
                major: 0,
                minor: 98
            }
        );
        assert_eq!(entry.target, Path::new("/a b\tc\nd\\e"));
        assert!(is_distrofs(&entry.fs_type));
        assert_eq!(entry.source, "/x y.tgz");
    }

    #[test]
    fn lines_that_are_cut_short_are_left_out() {
        let line = b"36 35 0:98 / /target ro - ext4 /dev/sda rw";
        assert!(parse_line(line).is_some());
        assert_eq!(parse_line(&line[..line.len() - 15]), None);
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"36 35 zero / /target ro - ext4 a rw"), None);
        assert_eq!(unescape(b"a\\04"), "a\\04");
        assert_eq!(unescape(b"\\999"), "\\999");
    }

    #[test]
    fn the_root_is_mounted() {
        let entry = find(Path::new("/")).unwrap().unwrap();
        assert_eq!(entry.target, Path::new("/"));
        assert!(!is_distrofs(&entry.fs_type));
    }

    #[test]
    fn only_what_is_above_a_mount_point_is_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        assert_eq!(resolve(&real.join("link/gone")).unwrap(), real.join("gone"));
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
        assert!(resolve(&real.join("no/such")).is_err());
    }
}
