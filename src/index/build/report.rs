//! What was left out or changed on the way, for the user.
//!
//! Guarantees: bounded, however many entries are odd: a count and the first few
//! names for each kind of oddity.

use crate::index::escape::EntryName;

/// A kind of oddity that does not stop the building.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// A name with a `..` component: left out, never resolved.
    DotDot,
    /// A name that no directory can hold: left out.
    BadName,
    /// A parent that is not a directory: left out.
    ParentNotDirectory,
    /// A parent behind a link that leads nowhere or in a circle: left out.
    ParentNotFound,
    /// Would replace a directory that has entries: left out.
    DirectoryNotEmpty,
    /// A hard link to something that is nowhere in the archive: left out.
    LinkTargetMissing,
    /// A hard link to a directory: left out.
    LinkToDirectory,
    /// A symbolic link without a target, or with a NUL in it: left out.
    BadLink,
    /// An entry of a type that is not known: a regular file, as POSIX wants.
    UnknownType,
    /// The rest of a file that another volume of the archive begins: left out.
    Continued,
    /// A device number larger than Linux has: left out.
    BadDevice,
    /// An owner or group that Linux cannot have: made 65534 (nobody).
    BadOwner,
    /// An extended attribute with a name that Linux cannot have: dropped.
    BadXattr,
    /// An attribute of overlayfs, which would act on overlays above: dropped.
    OverlayXattr,
    /// An access control list that names somebody by name only, or is not
    /// valid: dropped.
    BadAcl,
    /// One block of zeros where the end of an archive has two, and more data
    /// behind it: the end, as for every other reader.
    LoneZeroBlock,
    /// Data behind the end of the archive.
    BehindEnd,
    /// No end-of-archive marker: perhaps truncated between two entries.
    MissingEnd,
    /// A long name or extended header with no entry behind it.
    UnusedHeader,
    /// In a patch: says to remove what is not there.
    NothingToRemove,
    /// In a patch: a name of those that say what to remove, but says nothing.
    BadWhiteout,
}

impl WarningKind {
    const ALL: [WarningKind; 21] = [
        Self::DotDot,
        Self::BadName,
        Self::ParentNotDirectory,
        Self::ParentNotFound,
        Self::DirectoryNotEmpty,
        Self::LinkTargetMissing,
        Self::LinkToDirectory,
        Self::BadLink,
        Self::UnknownType,
        Self::Continued,
        Self::BadDevice,
        Self::BadOwner,
        Self::BadXattr,
        Self::OverlayXattr,
        Self::BadAcl,
        Self::LoneZeroBlock,
        Self::BehindEnd,
        Self::MissingEnd,
        Self::UnusedHeader,
        Self::NothingToRemove,
        Self::BadWhiteout,
    ];

    /// What happened, as the end of "N entries: ...".
    pub fn text(self) -> &'static str {
        match self {
            Self::DotDot => "left out, `..` in the name",
            Self::BadName => "left out, no directory can hold the name",
            Self::ParentNotDirectory => "left out, a parent is not a directory",
            Self::ParentNotFound => "left out, a parent is a link that leads nowhere",
            Self::DirectoryNotEmpty => "left out, a directory with entries has the name",
            Self::LinkTargetMissing => "left out, hard link to something that is not there",
            Self::LinkToDirectory => "left out, hard link to a directory",
            Self::BadLink => "left out, symbolic link with an invalid target",
            Self::UnknownType => "unknown type, taken for a regular file",
            Self::Continued => "left out, the rest of a file that another volume begins",
            Self::BadDevice => "left out, device number too large",
            Self::BadOwner => "owner or group too large, made 65534",
            Self::BadXattr => "extended attribute with an invalid name dropped",
            Self::OverlayXattr => "overlayfs attribute dropped",
            Self::BadAcl => "access control list without user numbers, or invalid, dropped",
            Self::LoneZeroBlock => {
                "a zero block behind it ends the archive, but there is more: if archives were \
                 joined, index with --ignore-zeros"
            }
            Self::BehindEnd => {
                "the last one before the end of the archive, but there is more: if archives were \
                 joined, index with --ignore-zeros"
            }
            Self::MissingEnd => "no end-of-archive marker behind it, perhaps truncated",
            Self::UnusedHeader => "extended header without an entry behind it",
            Self::NothingToRemove => "whiteout of something that is not there, nothing removed",
            Self::BadWhiteout => "left out, names with `.wh.` only say what to remove",
        }
    }

    /// Whether entries of this kind are not in the index.
    pub fn is_left_out(self) -> bool {
        self.text().starts_with("left out")
    }
}

/// How often something odd was met.
#[derive(Clone, Debug)]
pub struct Warning {
    /// What.
    pub kind: WarningKind,
    /// How often.
    pub count: u64,
    /// The first few entries.
    pub samples: Vec<EntryName>,
}

/// Everything odd about an archive.
#[derive(Clone, Debug)]
pub struct Report {
    /// One for each kind, in the order of `WarningKind::ALL`.
    warnings: Vec<Warning>,
}

impl Report {
    /// Names kept for each kind.
    const SAMPLES_MAX: usize = 5;

    pub(super) fn new() -> Self {
        let none = |kind| Warning {
            kind,
            count: 0,
            samples: Vec::new(),
        };
        Self {
            warnings: WarningKind::ALL.map(none).into(),
        }
    }

    pub(super) fn add(&mut self, kind: WarningKind, entry: &[u8]) {
        for warning in self.warnings.iter_mut().filter(|w| w.kind == kind) {
            warning.count = warning.count.saturating_add(1);
            if warning.samples.len() < Self::SAMPLES_MAX {
                warning.samples.push(EntryName::new(entry));
            }
        }
    }

    /// Adds what another report has.
    pub(super) fn join(&mut self, other: &Report) {
        for (warning, more) in self.warnings.iter_mut().zip(&other.warnings) {
            warning.count = warning.count.saturating_add(more.count);
            let room = Self::SAMPLES_MAX.saturating_sub(warning.samples.len());
            let samples = more.samples.iter().take(room);
            warning.samples.extend(samples.cloned());
        }
    }

    /// The kinds that were met, with their counts.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().filter(|warning| warning.count > 0)
    }

    /// Whether nothing was odd.
    pub fn is_empty(&self) -> bool {
        self.warnings().next().is_none()
    }

    /// How often `kind` was met.
    pub fn count(&self, kind: WarningKind) -> u64 {
        let met = self.warnings().filter(|w| w.kind == kind);
        met.map(|w| w.count).sum()
    }

    /// Entries of the archive that are not in the index.
    pub fn left_out(&self) -> u64 {
        let left_out = self.warnings().filter(|w| w.kind.is_left_out());
        left_out.fold(0, |sum, w| sum.saturating_add(w.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_when_samples_stop() {
        let mut report = Report::new();
        assert!(report.is_empty());
        for _ in 0..1000 {
            report.add(WarningKind::DotDot, b"../\x1bx");
        }
        report.add(WarningKind::BadOwner, b"y");
        assert_eq!(report.count(WarningKind::DotDot), 1000);
        assert_eq!(report.left_out(), 1000);
        let first = report.warnings().next().unwrap();
        assert_eq!(first.samples.len(), 5);
        assert_eq!(first.samples[0].to_string(), "../\\x1bx");
    }
}
