//! What owners and administrators ask a worker, through the supervisor, which does
//! not read it. The fields of answers are an interface: `docs/json.md`.

use serde::{Deserialize, Serialize};

use crate::types::{Digest, ImagePath};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Question {
    /// How what is served is doing: a
    /// [`WorkerReport`](crate::wire::served::WorkerReport).
    Report,
    /// What images there are: [`Images`].
    Images,
    /// One of them: an [`ImageDetails`].
    Image {
        /// Which.
        path: ImagePath,
    },
    /// Make another version the current one: an [`ImageInfo`].
    Rollback {
        /// Of which image.
        path: ImagePath,
        /// The first digits of its digest, or `previous`.
        to: String,
    },
    /// Forget an image: an [`ImageInfo`] of before.
    Remove {
        /// Which.
        path: ImagePath,
    },
    /// Forget a version that is not the current one: an [`ImageInfo`].
    RemoveVersion {
        /// Of which image.
        path: ImagePath,
        /// The first digits of its digest, or `previous`.
        version: String,
    },
    /// Keep another number of versions: an [`ImageInfo`].
    Keep {
        /// Of which image.
        path: ImagePath,
        /// How many; none for as many as of other images.
        versions: Option<u32>,
    },
    /// Give something in an image another mode: an [`ImageInfo`].
    Chmod {
        /// In which image.
        path: ImagePath,
        /// The mode; none for that of the archive.
        mode: Option<u32>,
        /// Where in the image.
        at: Vec<String>,
    },
    /// Remove what nobody needs: a [`Collected`].
    Collect,
    /// Compare everything with its checksums: a [`Verified`].
    Verify {
        /// Of which image.
        path: ImagePath,
    },
    /// What containers need of an image, and what its owner should know of it: an
    /// object as in `docs/json.md`.
    Check {
        /// Which image.
        path: ImagePath,
    },
    /// Record which parts of an image are read from now on, for starts of the version
    /// that was mounted last: a [`ProfileInfo`], when the time is over.
    RecordProfile {
        /// Which image.
        path: ImagePath,
        /// For how many milliseconds, ten minutes at most.
        millis: u64,
    },
    /// What is known of starts of an image: a [`ProfileInfo`].
    Profile {
        /// Which image.
        path: ImagePath,
    },
    /// Forget that: a [`ProfileInfo`] of before.
    RemoveProfile {
        /// Which image.
        path: ImagePath,
    },
    /// Remove the exploded tree that an image hides: a [`Reclaimed`].
    Reclaim {
        /// Which image.
        path: ImagePath,
    },
}

/// What is answered instead if it cannot be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// Why not, and what to do.
    pub error: String,
}

/// What there is in a home.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Images {
    /// The images.
    pub images: Vec<ImageInfo>,
    /// What is in `distros/` or being sent to become one.
    pub uploads: Vec<Upload>,
    /// Exploded trees in `distros/` that no image hides.
    pub exploded: Vec<String>,
    /// What is wrong with what is known of images.
    pub damaged: Vec<String>,
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Where in `distros/`.
    pub path: ImagePath,
    /// What new starts get: a digest of all that it is made of. None if it cannot be
    /// served.
    pub serves: Option<Digest>,
    /// The current version, and those that are kept: the newest last.
    pub versions: Vec<VersionInfo>,
    /// How many are kept, if not as many as of other images.
    pub keep: Option<u32>,
    /// Modes that were changed.
    pub changes: Vec<ModeInfo>,
    /// Patch layers, the lowest first.
    pub patches: Vec<PatchInfo>,
    /// Whether there is an exploded tree below.
    pub hides_tree: bool,
    /// What its owner should know, a line each.
    pub notes: Vec<String>,
}

/// A version of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionInfo {
    /// The SHA-256 of its archive.
    pub sha256: Digest,
    /// Whether it is the current one.
    pub is_current: bool,
    /// The name that the archive was uploaded under.
    pub name: String,
    /// Size of the archive.
    pub bytes: u64,
    /// Bytes of content in it.
    pub content_bytes: u64,
    /// Names in it.
    pub entries: u64,
    /// When it was taken in, in seconds since 1970.
    pub taken: u64,
}

/// A mode that was changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModeInfo {
    /// Where in the image.
    pub at: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A patch layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatchInfo {
    /// Its name.
    pub name: String,
    /// The SHA-256 of it.
    pub sha256: Digest,
    /// Size of the archive.
    pub bytes: u64,
}

/// Something in `distros/`, or being sent, that is to become an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// Its name, escaped; the image's, if it is being sent.
    pub name: String,
    /// How far it is, as its status file says it.
    pub state: String,
    /// Its size by now.
    pub bytes: u64,
}

/// An image, and all that is said in its status file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageDetails {
    /// The image; none before the first version is taken in.
    pub image: Option<ImageInfo>,
    /// What is said in its status file.
    pub status: String,
    /// Archives that are being sent to become a version of it.
    #[serde(default)]
    pub receiving: Vec<Receiving>,
}

/// How far an archive is that is being sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receiving {
    /// Bytes that came.
    pub bytes: u64,
    /// Of how many, if that is known.
    pub total: Option<u64>,
    /// Bytes that are indexed.
    pub indexed_bytes: u64,
    /// Since when.
    pub seconds: f64,
}

/// What was removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collected {
    /// Versions that are not kept any more.
    pub versions: u64,
    /// Archives.
    pub archives: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Archives that are not kept any more and still used.
    pub in_use: u64,
}

/// What came of comparing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Whether everything is as it was.
    pub is_right: bool,
    /// Each archive that the image is made of.
    pub archives: Vec<VerifiedArchive>,
}

/// What came of comparing an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifiedArchive {
    /// The name that it was uploaded under.
    pub name: String,
    /// Its SHA-256 when it was taken in.
    pub sha256: Digest,
    /// Bytes that can be served.
    pub right_bytes: u64,
    /// Bytes that cannot.
    pub damaged_bytes: u64,
    /// What was found, a line each.
    pub problems: Vec<String>,
}

/// The start profile of a version of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileInfo {
    /// Of which version.
    pub version: Digest,
    /// Whether it can be used with the index that is there.
    pub fits: bool,
    /// When it was recorded, in seconds since 1970.
    pub recorded_at: u64,
    /// How many spans were read.
    pub spans: u64,
    /// How many blocks of them.
    pub blocks: u64,
    /// How much that is at most.
    pub bytes: u64,
    /// How many spans the image has.
    pub span_count: u32,
    /// How long its uncompressed stream is.
    pub stream_bytes: u64,
}

/// What was removed of an exploded tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reclaimed {
    /// What could not be removed, and why; nothing if all was.
    pub left: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::served::REPORT;

    #[test]
    fn what_the_supervisor_asks_by_itself_is_a_question() {
        let question = serde_json::from_str(REPORT).unwrap();
        assert!(matches!(question, Question::Report));
    }
}
