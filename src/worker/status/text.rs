//! [`Facts`]: what is known of the images of a home, in words.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::checks::Checks;
use crate::index::Escaped;
use crate::store::home::{ImageRecord, Images, Rejection, STATUS, Scan, Sighting, State, Version};
use crate::text::{self, bytes, count};
use crate::types::{ImagePath, Timestamp};

/// How every status begins: so that it is known as one.
pub(super) const MARK: &str = "distrofs status of ";

/// What is said about all of `distros`. No image has such a name.
const ALL: &str = "+distros";

/// The names of status files, and what is to be in them.
pub type Statuses = BTreeMap<Vec<u8>, String>;

/// An image that is being indexed.
#[derive(Clone, Copy, Debug)]
pub struct Indexing<'a> {
    /// The image.
    pub path: &'a ImagePath,
    /// Bytes of its archive that are read.
    pub bytes: u64,
    /// Of how many.
    pub of: u64,
}

impl Indexing<'_> {
    /// Rounded down; 99 until all is done.
    pub fn percent(&self) -> u64 {
        let part = u128::from(self.bytes) * 100 / u128::from(self.of.max(1));
        u64::try_from(part).unwrap_or(u64::MAX).min(99)
    }
}

/// What is known.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Names that are looked at in `distros`, at most.
    pub names_max: usize,
    /// What there is in `distros`.
    pub scan: &'a Scan,
    /// The images.
    pub images: &'a Images,
    /// What was rejected and is still there.
    pub rejections: &'a [Rejection],
    /// What is being indexed.
    pub indexing: Option<Indexing<'a>>,
    /// What containers need of what is served.
    pub checks: &'a Checks,
    /// What else is to be said of images, a line each: patch layers that are left
    /// out, views that could not be made.
    pub notes: &'a BTreeMap<ImagePath, Vec<String>>,
}

impl Facts<'_> {
    /// What is to be said.
    pub fn statuses(&self) -> Statuses {
        let mut news = BTreeMap::<Vec<u8>, Vec<String>>::new();
        let mut say = |name: &[u8], line: String| news.entry(name.to_vec()).or_default().push(line);
        for rejection in self.rejections.iter().filter(|r| self.is_news(r)) {
            say(rejection.path.as_str().as_bytes(), rejected(rejection));
        }
        for sighting in &self.scan.sightings {
            match &sighting.path {
                Some(path) => say(path.as_str().as_bytes(), self.seen(path, sighting)),
                None => say(&sighting.name, self.unnamed(sighting)),
            }
        }
        for unfinished in &self.scan.unfinished {
            let name = unfinished.path.as_ref().map_or(ALL, ImagePath::as_str);
            let reason = &unfinished.reason;
            say(name.as_bytes(), format!("waiting: {reason}"));
        }
        for (path, notes) in self.notes {
            for note in notes {
                say(path.as_str().as_bytes(), note.clone());
            }
        }
        if self.scan.more {
            say(
                ALL.as_bytes(),
                format!(
                    "waiting: there are more than {} names in distros: only as many are looked at; remove what is not needed",
                    self.names_max
                ),
            );
        }
        for error in &self.images.unusable {
            say(ALL.as_bytes(), format!("damaged: {error}"));
        }
        self.put_together(news)
    }

    fn put_together(&self, mut news: BTreeMap<Vec<u8>, Vec<String>>) -> Statuses {
        for record in &self.images.records {
            news.entry(record.path.as_str().as_bytes().to_vec())
                .or_default();
        }
        let record_of = |name: &[u8]| {
            let mut records = self.images.records.iter();
            records.find(|record| record.path.as_str().as_bytes() == name)
        };
        let whole = news.into_iter().map(|(name, news)| {
            let mut text = format!("{MARK}{}\n", Escaped(&name));
            for line in news {
                // Nothing fails that is written to a string.
                let _written = writeln!(text, "\n{line}");
            }
            if let Some(record) = record_of(&name) {
                self.ready(record, &mut text);
            }
            ([&name, STATUS.as_bytes()].concat(), text)
        });
        whole.collect()
    }

    /// Whether nothing was taken in since.
    fn is_news(&self, rejection: &Rejection) -> bool {
        let mut records = self.images.records.iter();
        let record = records.find(|record| record.path == rejection.path);
        let last = record.and_then(|record| record.versions.last());
        last.is_none_or(|last| last.taken <= rejection.when)
    }

    fn seen(&self, path: &ImagePath, sighting: &Sighting) -> String {
        let name = Escaped(&sighting.name);
        let bytes = bytes(sighting.bytes);
        match &sighting.state {
            State::Growing => format!("uploading: {name}, {bytes} so far"),
            State::Finished => match self.indexing.filter(|now| now.path == path) {
                Some(now) => {
                    let percent = now.percent();
                    format!("indexing: {name}, {percent} % of {bytes}")
                }
                None => format!("waiting: {name}, {bytes}, is complete and will be indexed"),
            },
            State::Incomplete(why) => format!(
                "incomplete: {name}, {bytes}: {why}\nIt stays for resuming (rsync --append, sftp reput), and is tried again when it has changed."
            ),
            State::Waiting(why) => format!("waiting: {name}, {bytes}: {why}"),
            State::Refused(why) => format!("refused: {name}: {why}"),
        }
    }

    fn unnamed(&self, sighting: &Sighting) -> String {
        let name = Escaped(&sighting.name);
        match &sighting.state {
            State::Refused(why) => format!("refused: {name}: {why}"),
            _ => format!("waiting: {name}"),
        }
    }

    fn ready(&self, record: &ImageRecord, text: &mut String) {
        let Some(version) = record.current_version() else {
            return;
        };
        let _written = write!(text, "\nready: {}", described(version));
        if record.versions.len() > 1 {
            let others = record.versions.iter().rev();
            let others = others.filter(|other| other.sha256 != version.sha256);
            let others: Vec<_> = others.map(short_description).collect();
            let _written = writeln!(text, "  other versions: {}", others.join(", "));
        }
        if !record.changes.is_empty() || !record.patches.is_empty() {
            let (changes, patches) = (record.changes.len(), record.patches.len());
            let _written = writeln!(text, "  on top: {patches} patch layers, {changes} modes");
        }
        if let Some(checks) = self.checks.get(&record.path) {
            let _written = write!(text, "\nWhat containers need of it:\n{checks}");
        }
    }
}

fn rejected(rejection: &Rejection) -> String {
    let (name, reason) = (Escaped(rejection.name.as_bytes()), &rejection.reason);
    format!(
        "refused: {name}: {reason}\nIt was moved to .rejected/{name}. Remove it there when it is not needed."
    )
}

fn described(version: &Version) -> String {
    let Version { sha256, name, .. } = version;
    format!(
        "version {}\n  archive: {}, {}, taken in {}\n  content: {} entries, {}\n  sha256: {sha256}\n",
        sha256.short(),
        Escaped(name.as_bytes()),
        bytes(version.bytes),
        time(version.taken),
        count(version.entries),
        bytes(version.content_bytes),
    )
}

fn short_description(version: &Version) -> String {
    format!("{} ({})", version.sha256.short(), time(version.taken))
}

/// Seconds since 1970 as `2026-01-31 12:00:00 UTC`.
fn time(secs: u64) -> String {
    let time = text::time(Timestamp {
        secs: i64::try_from(secs).unwrap_or(i64::MAX),
        nanos: 0,
    });
    format!("{time} UTC")
}
