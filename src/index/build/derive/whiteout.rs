//! Names in a layer that say what the layer removes, as OCI images and Docker
//! have them (OCI image-spec, layer.md, "Whiteouts").
//!
//! | name | meaning |
//! |---|---|
//! | `.wh.NAME` | NAME of the layers below is removed, with all below it |
//! | `.wh..wh..opq` | all that the layers below have in its directory is hidden |
//! | other `.wh..wh.*` | the bookkeeping of AUFS, nothing |
//! | `.wh.`, `.wh..`, `.wh...` | nothing: no directory can have that NAME |
//! | anything below such a name | nothing |
//!
//! Guarantees: no entry that is told apart here as anything but
//! [`Meaning::Entry`] is ever placed.

use crate::index::build::place::{normalise, split};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

/// What an entry of a layer says. Parents end with a slash or are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// It is to be placed.
    Entry,
    Remove {
        parent: &'a [u8],
        name: &'a [u8],
    },
    Opaque {
        parent: &'a [u8],
    },
    Nothing,
}

/// What the entry called `raw` says; `path` is for its plain form.
pub(super) fn meaning<'a>(raw: &[u8], path: &'a mut Vec<u8>) -> Meaning<'a> {
    // Names that cannot be placed are reported where that is tried.
    let is_plain = !raw.windows(PREFIX.len()).any(|part| part == PREFIX);
    if is_plain || normalise(raw, path).is_err() {
        return Meaning::Entry;
    }
    let (parent, name) = split(path);
    let is_below = parent
        .split(|b| *b == b'/')
        .any(|name| name.starts_with(PREFIX));
    match name.strip_prefix(PREFIX) {
        _ if is_below => Meaning::Nothing,
        None => Meaning::Entry,
        Some(_) if name == OPAQUE => Meaning::Opaque { parent },
        Some(_) if name.starts_with(AUFS) => Meaning::Nothing,
        Some(b"" | b"." | b"..") => Meaning::Nothing,
        Some(name) => Meaning::Remove { parent, name },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_meaning(raw: &str, expected: Meaning<'_>) {
        assert_eq!(meaning(raw.as_bytes(), &mut Vec::new()), expected, "{raw}");
    }

    #[test]
    fn names_mean_what_the_specification_says() {
        let remove = |parent: &'static str, name: &'static str| Meaning::Remove {
            parent: parent.as_bytes(),
            name: name.as_bytes(),
        };
        assert_meaning(".wh.a", remove("", "a"));
        assert_meaning("./x//y/./.wh.a/", remove("x/y/", "a"));
        assert_meaning(".wh.wh.a", remove("", "wh.a"));
        assert_meaning(".wh....", remove("", "..."));
        assert_meaning("a/.wh..wh..opq", Meaning::Opaque { parent: b"a/" });
        assert_meaning("/.wh..wh..opq", Meaning::Opaque { parent: b"" });
        for entry in [
            "a", "a.wh.", "x.wh.a/b", ".wh", ".WH.a", "", ".", "../.wh.a",
        ] {
            assert_meaning(entry, Meaning::Entry);
        }
    }

    #[test]
    fn names_that_no_directory_can_have_remove_nothing() {
        for nothing in [
            ".wh.",
            ".wh..",
            ".wh...",
            "a/.wh...",
            ".wh..wh.plnk",
            ".wh..wh.x",
            ".wh.a/b",
            "x/.wh.a/.wh.b",
            ".wh..wh..opq/.wh..wh..opq",
        ] {
            assert_meaning(nothing, Meaning::Nothing);
        }
    }
}
