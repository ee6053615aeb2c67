//! The one ioctl of a mount: its own report, so that counters can be read from
//! the mount itself, whoever serves it and wherever.
//!
//! Layout of the answer: the length of the report as four bytes, little-endian,
//! then the report (JSON), then zeros.

#![expect(unsafe_code, reason = "ioctl(2) has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::mountinfo;

/// Bytes of an answer: the most that the size field of an ioctl number can say
/// (14 bits), in whole words.
pub const REPORT_BYTES: u16 = 16_380;

/// `_IOR('D', 1, char[16380])` of Linux (ioctl-number documentation).
pub const REPORT_COMMAND: u32 =
    (2 << 30) | ((REPORT_BYTES as u32) << 16) | ((b'D' as u32) << 8) | 1;

/// Puts a report into the form of an answer; nothing if it is too long.
pub fn pack_report(report: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(report.len()).ok()?;
    let mut answer = Vec::with_capacity(4 + report.len());
    answer.extend_from_slice(&len.to_le_bytes());
    answer.extend_from_slice(report);
    (answer.len() <= REPORT_BYTES.into()).then_some(answer)
}

fn unpack_report(answer: &[u8]) -> Option<&[u8]> {
    let (len, rest) = answer.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)
}

/// Asks the daemon of the mount at `target` for its report. Refused with
/// `PermissionDenied` unless asked by root or by the user whose daemon it is.
pub fn mount_report(target: &Path) -> io::Result<Vec<u8>> {
    let target = mountinfo::resolve(target)?;
    let mount = mountinfo::find(&target)?;
    // Any other filesystem may take the number for something else.
    if !mount.is_some_and(|mount| mountinfo::is_distrofs(&mount.fs_type)) {
        let what = format!("{} is not a distrofs mount", target.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let directory = File::open(&target)?;
    let mut answer = vec![0; REPORT_BYTES.into()];
    // The type of the number is not the same in every C library.
    #[allow(
        clippy::cast_lossless,
        clippy::cast_possible_wrap,
        reason = "bits of a number"
    )]
    let command = REPORT_COMMAND as libc::Ioctl;
    // SAFETY: the number says that REPORT_BYTES are written to the pointer,
    // and that many are there.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), command, answer.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let report = unpack_report(&answer);
    report
        .map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::other("the report has an invalid length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_out_as_it_went_in() {
        let mut answer = pack_report(b"{}").unwrap();
        answer.resize(REPORT_BYTES.into(), 0);
        assert_eq!(unpack_report(&answer), Some(&b"{}"[..]));
        assert!(pack_report(&vec![b' '; usize::from(REPORT_BYTES) - 4]).is_some());
        assert_eq!(
            pack_report(&vec![b' '; usize::from(REPORT_BYTES) - 3]),
            None
        );
    }

    #[test]
    fn an_answer_that_lies_about_its_length_is_refused() {
        assert_eq!(unpack_report(&[255, 255, 255, 255, 0]), None);
        assert_eq!(unpack_report(&[1, 0]), None);
    }

    #[test]
    fn other_filesystems_are_not_asked() {
        let error = mount_report(Path::new("/proc")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
