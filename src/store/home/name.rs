//! Names of the files that become images.
//!
//! What a file is, is told by its content; its name only says that it is meant to be
//! an image.

use crate::types::{ImagePath, NameError};

const NAME_BYTES_MAX: usize = 255;

/// What the name of a file in `distros` says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing of ours, or not finished.
    Nothing,
    /// The archive of an image.
    Image(ImagePath),
    /// Meant to be one, with a name that none can have.
    Unusable(NameError),
}

/// Behind the name of an image: the directory of its patch layers.
const PATCHES: &str = ".d";
/// Behind the name of an image: what it is doing, for people.
pub const STATUS: &str = ".status";

/// What can be read.
const READABLE: [&str; 3] = [".tar.gz", ".tgz", ".tar"];

/// What people pack images in that cannot be read in place, so that they are told.
const UNREADABLE: [&str; 14] = [
    ".tar.xz",
    ".txz",
    ".tar.zst",
    ".tzst",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tar.lz4",
    ".tar.lz",
    ".tar.z",
    ".taz",
    ".zip",
    ".7z",
    ".tar.lzma",
];

/// Whoever uploads gives it such a name until it is complete.
const UNFINISHED: [&str; 2] = [".part", ".tmp"];

/// The part of `name` before an extension of these, in any case.
fn before<'a>(name: &'a [u8], extensions: &[&str]) -> Option<&'a [u8]> {
    extensions.iter().find_map(|extension| {
        let (stem, end) = name.split_at_checked(name.len().checked_sub(extension.len())?)?;
        end.eq_ignore_ascii_case(extension.as_bytes())
            .then_some(stem)
    })
}

fn is_ignored(name: &[u8]) -> bool {
    name.starts_with(b".") || before(name, &UNFINISHED).is_some()
}

/// What a file of this name is meant to be.
pub(super) fn meaning(name: &[u8]) -> Meaning {
    if is_ignored(name) {
        return Meaning::Nothing;
    }
    let stem = before(name, &READABLE).or_else(|| before(name, &UNREADABLE));
    let Some(stem) = stem else {
        return Meaning::Nothing;
    };
    let reserved = [PATCHES, STATUS];
    match ImagePath::new(stem) {
        Err(error) => Meaning::Unusable(error),
        Ok(path) => match reserved.iter().find(|end| path.as_str().ends_with(*end)) {
            Some(end) => Meaning::Unusable(NameError::Reserved(end)),
            None => Meaning::Image(path),
        },
    }
}

/// Where the patch layers of an image are, beside it.
pub(super) fn patches_of(path: &ImagePath) -> String {
    format!("{path}{PATCHES}")
}

/// Whether a file of this name is a patch layer.
pub(super) fn is_patch(name: &[u8]) -> bool {
    !is_ignored(name) && before(name, &READABLE).is_some()
}

/// `name` with `end` behind it, cut so that a directory can hold it.
pub(super) fn with_end(name: &[u8], end: &str) -> Vec<u8> {
    let room = NAME_BYTES_MAX.saturating_sub(end.len());
    let mut made = name.get(..room).unwrap_or(name).to_vec();
    made.extend_from_slice(end.as_bytes());
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Meaning {
        Meaning::Image(ImagePath::new(name.as_bytes()).unwrap())
    }

    #[test]
    fn names_say_what_is_meant() {
        let long = "x".repeat(250);
        for (name, meant) in [
            ("web.tgz", image("web")),
            ("web.1.tar.gz", image("web.1")),
            ("WEB.TAR", image("WEB")),
            ("web.tar.zst", image("web")),
            ("web.tar.Z", image("web")),
            ("web.tgz.tar", image("web.tgz")),
            (&*format!("{long}.tgz"), image(&long)),
            ("web.tgz.part", Meaning::Nothing),
            ("web.tgz.tmp", Meaning::Nothing),
            (".web.tgz", Meaning::Nothing),
            (".tgz", Meaning::Nothing),
            ("web", Meaning::Nothing),
            ("web.status", Meaning::Nothing),
            ("a b.tgz", Meaning::Unusable(NameError::Characters)),
            ("web.d.tgz", Meaning::Unusable(NameError::Reserved(".d"))),
            (
                "web.status.tar",
                Meaning::Unusable(NameError::Reserved(".status")),
            ),
        ] {
            assert_eq!(meaning(name.as_bytes()), meant, "{name}");
        }
        let not_text = meaning(b"a\xff.tgz");
        assert_eq!(not_text, Meaning::Unusable(NameError::Characters));
    }

    #[test]
    fn patches_are_what_can_be_read() {
        assert!(is_patch(b"10-fix.tar") && is_patch(b"a b.tgz"));
        assert!(!is_patch(b".x.tar") && !is_patch(b"x.tar.part") && !is_patch(b"x.zip"));
    }

    #[test]
    fn a_name_stays_one_that_a_directory_can_hold() {
        assert_eq!(with_end(b"web.tgz", ".reason"), b"web.tgz.reason");
        let long = with_end(&[b'x'; 255], ".reason");
        assert!(long.len() == 255 && long.ends_with(b"xx.reason"));
    }
}
