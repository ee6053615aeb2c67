//! What a mount is asked by ioctl(2), whoever serves it and wherever: how it is
//! doing, and what of its image a view has to know.
//!
//! Layout of an answer: its length as four bytes, little-endian, then so many
//! bytes, then zeros. The second question begins with a number of four bytes, the
//! third with two of them.

#![expect(unsafe_code, reason = "ioctl(2) has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use super::mountinfo;

/// Bytes of an answer: the most that the size field of an ioctl number can say
/// (14 bits), in whole words.
pub const ANSWER_BYTES: u16 = 16_380;

/// What a mount is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How it is doing (JSON).
    Report,
    /// What views of its image have to know, from this place of the list on.
    Plan(u32),
    /// Which of its files are read.
    Trace(Trace),
}

/// What is wanted of a recording of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// That it begins (JSON: its number, and of what it is).
    Begin,
    /// The description of the image, from this byte on.
    Image(u32),
    /// What was noted: how many records were lost as four bytes, whether more waits as
    /// one, and records.
    Fetch(u32),
    /// That it ends.
    End(u32),
}

impl Trace {
    fn parse([what, number]: [u32; 2]) -> Option<Trace> {
        match what {
            0 => Some(Trace::Begin),
            1 => Some(Trace::Image(number)),
            2 => Some(Trace::Fetch(number)),
            3 => Some(Trace::End(number)),
            _ => None,
        }
    }

    fn words(self) -> [u32; 2] {
        match self {
            Trace::Begin => [0, 0],
            Trace::Image(from) => [1, from],
            Trace::Fetch(number) => [2, number],
            Trace::End(number) => [3, number],
        }
    }
}

/// `_IOR('D', 1, char[16380])` of Linux (ioctl-number documentation).
const REPORT_COMMAND: u32 = (2 << 30) | ((ANSWER_BYTES as u32) << 16) | ((b'D' as u32) << 8) | 1;
/// `_IOWR('D', 2, char[16380])`.
const PLAN_COMMAND: u32 = (3 << 30) | ((ANSWER_BYTES as u32) << 16) | ((b'D' as u32) << 8) | 2;
/// `_IOWR('D', 3, char[16380])`.
const TRACE_COMMAND: u32 = (3 << 30) | ((ANSWER_BYTES as u32) << 16) | ((b'D' as u32) << 8) | 3;

impl Question {
    /// Understands a request, if it is one of these.
    pub fn parse(command: u32, input: &[u8], room: u32) -> Option<Question> {
        if room < ANSWER_BYTES.into() {
            return None;
        }
        let word = |n: usize| {
            let bytes = input.get(4 * n..4 * n + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        match command {
            REPORT_COMMAND => Some(Question::Report),
            PLAN_COMMAND => Some(Question::Plan(word(0)?)),
            TRACE_COMMAND => Some(Question::Trace(Trace::parse([word(0)?, word(1)?])?)),
            _ => None,
        }
    }

    fn command(self) -> (u32, [u32; 2]) {
        match self {
            Question::Report => (REPORT_COMMAND, [0; 2]),
            Question::Plan(from) => (PLAN_COMMAND, [from, 0]),
            Question::Trace(trace) => (TRACE_COMMAND, trace.words()),
        }
    }
}

/// Puts an answer into its form; nothing if it is too long.
pub fn pack(answer: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(answer.len()).ok()?;
    let mut packed = Vec::with_capacity(4 + answer.len());
    packed.extend_from_slice(&len.to_le_bytes());
    packed.extend_from_slice(answer);
    (packed.len() <= ANSWER_BYTES.into()).then_some(packed)
}

fn unpack(packed: &[u8]) -> Option<&[u8]> {
    let (len, rest) = packed.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)
}

/// Asks the daemon of the mount at `target` how it is doing. Refused with
/// `PermissionDenied` unless asked by root or by the user whose daemon it is.
pub fn mount_report(target: &Path) -> io::Result<Vec<u8>> {
    ask(open_mount(target)?.as_fd(), Question::Report)
}

/// Opens the place where something of ours is mounted, or a file there.
pub fn open_mount(target: &Path) -> io::Result<File> {
    let target = mountinfo::resolve(target)?;
    let mount = match mountinfo::find(&target)? {
        Some(mount) => Some(mount),
        None => mountinfo::holding(&target)?,
    };
    // Any other filesystem may take the number for something else.
    if !mount.is_some_and(|mount| mountinfo::is_distrofs(&mount.fs_type)) {
        let what = format!("{} is not a distrofs mount", target.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    File::open(&target)
}

/// Asks the daemon of a mount, of which something is open for reading. Only to be
/// called where that is known to be a mount of ours.
pub fn ask(opened: BorrowedFd<'_>, question: Question) -> io::Result<Vec<u8>> {
    let (command, words) = question.command();
    let mut answer = vec![0; ANSWER_BYTES.into()];
    for (place, word) in answer.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    // The type of the number is not the same in every C library.
    #[allow(
        clippy::cast_lossless,
        clippy::cast_possible_wrap,
        reason = "bits of a number"
    )]
    let command = command as libc::Ioctl;
    // SAFETY: the number says that ANSWER_BYTES are read from the pointer or
    // written to it, and that many are there.
    let result = unsafe { libc::ioctl(opened.as_raw_fd(), command, answer.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    unpack(&answer)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::other("the answer has an invalid length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_out_as_it_went_in() {
        let mut answer = pack(b"{}").unwrap();
        answer.resize(ANSWER_BYTES.into(), 0);
        assert_eq!(unpack(&answer), Some(&b"{}"[..]));
        assert!(pack(&vec![b' '; usize::from(ANSWER_BYTES) - 4]).is_some());
        assert_eq!(pack(&vec![b' '; usize::from(ANSWER_BYTES) - 3]), None);
    }

    #[test]
    fn an_answer_that_lies_about_its_length_is_refused() {
        assert_eq!(unpack(&[255, 255, 255, 255, 0]), None);
        assert_eq!(unpack(&[1, 0]), None);
    }

    #[test]
    fn other_filesystems_are_not_asked() {
        let error = mount_report(Path::new("/proc")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
