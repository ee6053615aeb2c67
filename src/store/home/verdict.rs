//! What a failure to index says about an upload: whether it may yet become an
//! image, never can, or was not at fault.

use std::io;

use super::error::is_full;
use crate::index::build::BuildError;
use crate::source::SourceError;
use crate::source::scan::{ArchiveError, ScanError};
use crate::store::StoreError;

/// What to do with an upload that could not be indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It ends too early: it stays, to be resumed.
    Incomplete,
    /// It can never be an image.
    Never,
    /// It was changed meanwhile: it is being uploaded.
    Changed,
    /// The system is at fault: again later.
    Later,
    /// The same, and the disk is full.
    NoRoom,
}

/// A tar archive has at least one block. Less of one is its beginning.
const TAR_BYTES_MIN: u64 = 512;

/// What `error` says about an upload of so many bytes.
pub(super) fn verdict(error: &StoreError, archive_bytes: u64) -> Verdict {
    match error {
        StoreError::Changed { .. } => Verdict::Changed,
        StoreError::NotAFile { .. } => Verdict::Never,
        StoreError::Scan { cause, .. } => of_scan(cause, archive_bytes),
        StoreError::Build { cause, .. } => of_build(cause, archive_bytes),
        StoreError::Archive { cause, .. } | StoreError::System { cause, .. } => of_system(cause),
        StoreError::Sidecar(crate::sidecar::SidecarError::Io { cause, .. }) => of_system(cause),
        StoreError::Source { cause, .. } => of_source(cause),
        // Files of ours, not the upload.
        StoreError::NotOurs { .. }
        | StoreError::OtherFiles { .. }
        | StoreError::Profile { .. }
        | StoreError::ProfileFile { .. }
        | StoreError::Sidecar(_)
        | StoreError::Index { .. } => Verdict::Later,
    }
}

fn of_scan(error: &ScanError<BuildError>, archive_bytes: u64) -> Verdict {
    match error {
        ScanError::Consumer(error) => of_build(error, archive_bytes),
        ScanError::Write(cause) | ScanError::Start(cause) => of_system(cause),
        ScanError::Archive(error) => match error {
            ArchiveError::Truncated { .. } => Verdict::Incomplete,
            ArchiveError::Read(error) => of_source(error),
            ArchiveError::Unsupported { .. }
            | ArchiveError::Header { .. }
            | ArchiveError::Deflate { .. }
            | ArchiveError::Checksum { .. }
            | ArchiveError::TooLarge { .. } => Verdict::Never,
        },
    }
}

fn of_build(error: &BuildError, archive_bytes: u64) -> Verdict {
    match error {
        BuildError::Truncated { .. } => Verdict::Incomplete,
        BuildError::NotTar { .. } if archive_bytes < TAR_BYTES_MIN => Verdict::Incomplete,
        BuildError::NotTar { .. }
        | BuildError::Limit { .. }
        | BuildError::Checksum { .. }
        | BuildError::Header { .. }
        | BuildError::Pax { .. }
        | BuildError::Unsupported { .. } => Verdict::Never,
        BuildError::Arena { cause, .. } | BuildError::Write(cause) => of_system(cause),
        // Of ours, or of what an image is made of besides the upload.
        BuildError::Gap { .. }
        | BuildError::Scratch { .. }
        | BuildError::Base(_)
        | BuildError::TooMany { .. } => Verdict::Later,
    }
}

fn of_source(error: &SourceError) -> Verdict {
    match error {
        // It became shorter.
        SourceError::Truncated { .. } => Verdict::Changed,
        SourceError::Io { cause, .. } => of_system(cause),
        SourceError::Inflate { .. }
        | SourceError::Checksum { .. }
        | SourceError::Tables { .. }
        | SourceError::Part { .. }
        | SourceError::OutOfRange { .. } => Verdict::Later,
    }
}

fn of_system(cause: &io::Error) -> Verdict {
    match is_full(cause) {
        true => Verdict::NoRoom,
        false => Verdict::Later,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::index::{EntryName, IndexError};
    use crate::sidecar::SidecarError;

    fn io() -> io::Error {
        io::ErrorKind::PermissionDenied.into()
    }

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    fn path() -> PathBuf {
        "web.tgz".into()
    }

    fn check(error: StoreError, expected: Verdict) {
        assert_eq!(verdict(&error, 10_000), expected, "{error}");
    }

    #[test]
    fn of_the_store() {
        let (path, doing) = (path(), "try");
        check(StoreError::Changed { path: path.clone() }, Verdict::Changed);
        check(
            StoreError::NotAFile {
                path: path.clone(),
                kind: "pipe",
            },
            Verdict::Never,
        );
        check(StoreError::NotOurs { path: path.clone() }, Verdict::Later);
        check(StoreError::System { doing, cause: io() }, Verdict::Later);
        check(
            StoreError::System {
                doing,
                cause: full(),
            },
            Verdict::NoRoom,
        );
        let quota = io::ErrorKind::QuotaExceeded.into();
        let archive = |cause| StoreError::Archive {
            path: path.clone(),
            cause,
        };
        check(archive(io()), Verdict::Later);
        check(archive(quota), Verdict::NoRoom);
        for (error, expected) in [
            (SidecarError::Foreign, Verdict::Later),
            (SidecarError::Damaged { what: "x" }, Verdict::Later),
            (SidecarError::Version { found: 1, known: 2 }, Verdict::Later),
            (
                SidecarError::Io {
                    doing,
                    path: path.clone(),
                    cause: full(),
                },
                Verdict::NoRoom,
            ),
        ] {
            check(error.into(), expected);
        }
        let cause = IndexError::Corrupt {
            what: "x",
            number: 1,
        };
        let error = StoreError::Index {
            path: path.clone(),
            cause,
        };
        check(error, Verdict::Later);
        let cause = SourceError::Tables { what: "x" };
        check(StoreError::Source { path, cause }, Verdict::Later);
    }

    #[test]
    fn of_the_compressed_stream() {
        let scan = |cause| StoreError::Scan {
            path: path(),
            cause,
        };
        check(scan(ScanError::Write(full())), Verdict::NoRoom);
        check(scan(ScanError::Start(io())), Verdict::Later);
        let source = |cause| scan(ScanError::Archive(ArchiveError::Read(cause)));
        let (at, len, stream_len, cause) = (0, 1, 1, io());
        for (error, expected) in [
            (SourceError::Io { at, len: 1, cause }, Verdict::Later),
            (
                SourceError::Truncated { end: 0, wanted: 1 },
                Verdict::Changed,
            ),
            (SourceError::Inflate { at, what: "x" }, Verdict::Later),
            (SourceError::Checksum { start: 0, end: 1 }, Verdict::Later),
            (
                SourceError::OutOfRange {
                    at,
                    len,
                    stream_len,
                },
                Verdict::Later,
            ),
        ] {
            check(source(error), expected);
        }
        let (name, advice, what) = ("xz", "convert it", "x");
        let (member_at, trailer_at, stored, found) = (0, 1, 2, 3);
        for (error, expected) in [
            (
                ArchiveError::Truncated { at, member_at },
                Verdict::Incomplete,
            ),
            (ArchiveError::Unsupported { name, advice }, Verdict::Never),
            (ArchiveError::Header { at, what }, Verdict::Never),
            (ArchiveError::Deflate { at, what }, Verdict::Never),
            (
                ArchiveError::TooLarge { stream_at: 0, what },
                Verdict::Never,
            ),
            (
                ArchiveError::Checksum {
                    member_at,
                    trailer_at,
                    what,
                    stored,
                    found,
                },
                Verdict::Never,
            ),
        ] {
            check(scan(ScanError::Archive(error)), expected);
        }
    }

    #[test]
    fn of_the_tar_stream() {
        let entry = || EntryName::new(b"etc/passwd");
        let (offset, what, limit, field) = (512, "x", "entries_max", "size");
        let errors = || {
            [
                (
                    BuildError::Truncated {
                        offset,
                        entry: entry(),
                    },
                    Verdict::Incomplete,
                ),
                (BuildError::NotTar { offset }, Verdict::Never),
                (
                    BuildError::Limit {
                        limit,
                        value: 2,
                        max: 1,
                        entry: entry(),
                        offset,
                    },
                    Verdict::Never,
                ),
                (
                    BuildError::Checksum {
                        offset,
                        after: entry(),
                    },
                    Verdict::Never,
                ),
                (
                    BuildError::Header {
                        field,
                        entry: entry(),
                        offset,
                    },
                    Verdict::Never,
                ),
                (BuildError::Pax { what, offset }, Verdict::Never),
                (
                    BuildError::Unsupported {
                        what,
                        entry: entry(),
                        offset,
                    },
                    Verdict::Never,
                ),
                (
                    BuildError::Gap {
                        expected: 1,
                        got: 2,
                    },
                    Verdict::Later,
                ),
                (
                    BuildError::Arena {
                        what,
                        cause: full(),
                    },
                    Verdict::NoRoom,
                ),
                (
                    BuildError::Arena {
                        what,
                        cause: io::ErrorKind::OutOfMemory.into(),
                    },
                    Verdict::Later,
                ),
                (BuildError::Scratch { what, number: 1 }, Verdict::Later),
                (BuildError::Write(full()), Verdict::NoRoom),
            ]
        };
        for (cause, expected) in errors() {
            let path = path();
            check(StoreError::Build { path, cause }, expected);
        }
        for (error, expected) in errors() {
            let (path, cause) = (path(), ScanError::Consumer(error));
            check(StoreError::Scan { path, cause }, expected);
        }
    }

    /// The first bytes of a plain archive hold no header yet.
    #[test]
    fn a_beginning_is_not_the_wrong_kind() {
        let (path, cause) = (path(), BuildError::NotTar { offset: 0 });
        let error = StoreError::Build { path, cause };
        assert_eq!(verdict(&error, 0), Verdict::Incomplete);
        assert_eq!(verdict(&error, 511), Verdict::Incomplete);
        assert_eq!(verdict(&error, 512), Verdict::Never);
    }
}
