//! Where the start profile of an archive is kept.
//!
//! Beside its index, as `ARCHIVE.dfsp` beside `ARCHIVE.dfsx`; where that directory
//! cannot be written, in the user's cache directory.
//!
//! Guarantees: a profile is used only for the version of the image, and the index, that
//! it was made with; anything else in its place is told of and ignored, and never
//! written over. Its name only ever holds a complete file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::ingest::make_directory;
use super::place::{PROFILE, in_cache, is_writable};
use super::{Archive, StoreError, default_place};
use crate::profile::{BYTES_MAX, Profile, ProfileError, is_profile};
use crate::types::Digest;

/// Where profiles of an archive may be, best first: beside its index, which is at
/// `index`, and in the user's cache directory.
pub fn profile_places(archive: &Archive, index: &Path) -> Vec<PathBuf> {
    let beside = index.with_extension(PROFILE);
    let beside = match index.extension().is_some_and(|kind| kind == "dfsx") {
        true => beside,
        false => {
            let mut name = index.as_os_str().to_owned();
            name.push(".");
            name.push(PROFILE);
            name.into()
        }
    };
    let cached = in_cache(archive.path(), PROFILE).filter(|cached| *cached != beside);
    std::iter::once(beside).chain(cached).collect()
}

/// The places of the profiles of an archive whose index is at `index`, or where it
/// belongs.
pub fn profile_places_of(
    archive: &Archive,
    index: Option<&Path>,
) -> Result<Vec<PathBuf>, StoreError> {
    let place = match archive.existing_index(index)? {
        Ok(found) => found.place,
        Err((place, _)) => place,
    };
    let mut places = profile_places(archive, &place);
    // An index that is elsewhere now may have been in its usual place.
    for usual in profile_places(archive, &default_place(archive.path())) {
        if !places.contains(&usual) {
            places.push(usual);
        }
    }
    Ok(places)
}

/// Reads the profile at `place`; nothing if nothing is there.
pub fn read_profile(place: &Path) -> Result<Option<Profile>, StoreError> {
    let failed = |cause| StoreError::ProfileFile {
        doing: "read",
        path: place.to_owned(),
        cause,
    };
    let bytes = match read(place) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let profile = Profile::from_bytes(&bytes);
    profile.map(Some).map_err(|cause| StoreError::Profile {
        path: place.to_owned(),
        cause,
    })
}

/// At most a byte more than a profile can have.
fn read(place: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(place)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first profile in these places that is of that version of an image, whose index
/// has so many spans. What is there and cannot be used is told in the log.
pub fn find_profile(
    places: &[PathBuf],
    image: Digest,
    span_count: u32,
) -> Option<(PathBuf, Profile)> {
    for place in places {
        match read_profile(place) {
            Ok(Some(profile)) if profile.fits(image, span_count) => {
                return Some((place.clone(), profile));
            }
            Ok(Some(_)) => tracing::warn!(
                profile = %place.display(),
                "a start profile is of another version or index of this image, and ignored: \
                 record it again"
            ),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a start profile is ignored"),
        }
    }
    None
}

/// Writes a profile to the first of these places that can be written, in place of an
/// older one, with permission bits `mode`; answers where.
pub fn keep_profile(
    places: &[PathBuf],
    profile: &Profile,
    mode: u32,
) -> Result<PathBuf, StoreError> {
    let best = places.iter().find(|place| is_writable(place));
    let place = best.or(places.last()).ok_or(StoreError::ProfileFile {
        doing: "write",
        path: PathBuf::new(),
        cause: ErrorKind::NotFound.into(),
    })?;
    refuse_other(place)?;
    make_directory(place)?;
    let written = write(place, &profile.to_bytes(), mode);
    written.map_err(|cause| StoreError::ProfileFile {
        doing: "write",
        path: place.clone(),
        cause,
    })?;
    Ok(place.clone())
}

/// Removes the profiles in these places; answers which there were.
pub fn remove_profiles(places: &[PathBuf]) -> Result<Vec<PathBuf>, StoreError> {
    let mut removed = Vec::new();
    for place in places {
        refuse_other(place)?;
        match std::fs::remove_file(place) {
            Ok(()) => removed.push(place.clone()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(cause) => {
                let (doing, path) = ("remove", place.clone());
                return Err(StoreError::ProfileFile { doing, path, cause });
            }
        }
    }
    Ok(removed)
}

/// A file of that name may be somebody's own.
fn refuse_other(place: &Path) -> Result<(), StoreError> {
    match read(place) {
        Ok(bytes) if bytes.is_empty() || is_profile(&bytes) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(StoreError::Profile {
            path: place.to_owned(),
            cause: ProfileError::Foreign,
        }),
        Err(cause) => Err(StoreError::ProfileFile {
            doing: "look at",
            path: place.to_owned(),
            cause,
        }),
    }
}

fn write(place: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = place.file_name().ok_or(ErrorKind::InvalidInput)?;
    let directory = place.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let temporary = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
    let temporary = directory.join(temporary);
    let put = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o666)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, place)?;
        File::open(directory)?.sync_all()
    };
    put().inspect_err(|error| {
        if error.kind() != ErrorKind::AlreadyExists {
            let _gone_already = std::fs::remove_file(&temporary);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::profile::{Place, Touched};
    use crate::trace;
    use crate::types::{BlockNo, SpanNo};

    fn profile(image: u8) -> Profile {
        let mut touched = Touched::default();
        let read = trace::Read {
            stream: Some(5),
            len: 10,
            ..trace::Read::default()
        };
        touched.note(&read, &|_| {
            Some(Place {
                span: SpanNo(0),
                block: BlockNo(0),
                end: 100,
            })
        });
        let digest = Digest::new([image; 32]);
        Profile::new(digest, 3, 1_700_000_000, Some("true"), &touched).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let places = [dir.path().join("none/x.dfsp"), dir.path().join("x.dfsp")];
        let found = |image| find_profile(&places, Digest::new([image; 32]), 3);
        assert_eq!(found(1), None);
        for image in [2, 1] {
            assert_eq!(
                keep_profile(&places, &profile(image), 0o640).unwrap(),
                places[1]
            );
        }
        assert_eq!(found(1), Some((places[1].clone(), profile(1))));
        assert_eq!(found(2), None, "of another image");
        assert_eq!(find_profile(&places, Digest::new([1; 32]), 4), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(remove_profiles(&places).unwrap(), [places[1].clone()]);
        assert!(remove_profiles(&places).unwrap().is_empty());
        assert_eq!(found(1), None);
    }

    #[test]
    fn what_is_no_profile_is_ignored_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("x.dfsp");
        let places = [place.clone()];
        let damaged = {
            let mut bytes = profile(1).to_bytes();
            bytes[100] ^= 1;
            bytes
        };
        fs::write(&place, damaged).unwrap();
        assert!(
            read_profile(&place)
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
        assert_eq!(find_profile(&places, Digest::new([1; 32]), 3), None);
        keep_profile(&places, &profile(1), 0o600).unwrap();
        fs::write(&place, "letters").unwrap();
        assert_eq!(find_profile(&places, Digest::new([1; 32]), 3), None);
        let refused = keep_profile(&places, &profile(1), 0o600).unwrap_err();
        assert!(
            refused.to_string().contains("no start profile"),
            "{refused}"
        );
        assert!(remove_profiles(&places).is_err());
        assert_eq!(fs::read(&place).unwrap(), b"letters");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert_eq!(find_profile(&places, Digest::new([1; 32]), 3), None);
        assert!(keep_profile(&places, &profile(1), 0o600).is_err());
    }
}
