//! What containers need of an image, and what else its owner should know of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Library;
use crate::inspect::packages::databases;
use crate::inspect::report::{Found, Limits, Report, Truncated, root_of};
use crate::inspect::{Subject, Survey, requirements};
use crate::source::{Decoders, DirectReader};
use crate::types::{Digest, ImagePath, Ino};

/// An answer is on its way in pieces, of which 2 MiB are waited for at most: all of this
/// and what is not in these lists is less than that.
const LIMITS: Limits = Limits {
    paths: 10_000,
    path_bytes: 192 << 10,
    packages: Some(20_000),
    package_bytes: 1 << 20,
};

#[derive(Serialize)]
struct Checked<'a> {
    path: &'a ImagePath,
    version: Digest,
    archive_bytes: u64,
    root: String,
    #[serde(flatten)]
    found: Found<'a>,
    /// Behind the lists, as only then it is known.
    truncated: Truncated<'a>,
}

impl Library {
    /// Looks at all of an image; what was found, as JSON.
    pub(in crate::worker) fn check(
        &self,
        path: &ImagePath,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let _turn = self
            .checking
            .try_lock()
            .ok_or("another image is being checked: try again when that is done")?;
        // It says so if there is none.
        self.home.image(path)?;
        let (version, files) = self.desk.lock().offered(path).ok_or_else(|| {
            format!("the image {path} cannot be served: its status says why, and what to do")
        })?;
        let (label, metrics) = (Path::new(path.as_str()), &self.metrics);
        let decoders = Decoders::new(self.budget.clone())?;
        let opened = files.open(label, version, &decoders, metrics)?;
        let root = opened.index.summary().root.unwrap_or(Ino::ROOT);
        let content = Arc::new(DirectReader::new(opened.source));
        let subject = Subject::new(opened.index, content, root, Arc::clone(metrics))?;
        let (rows, survey) = (requirements(&subject, None)?, Survey::of(&subject)?);
        let databases = databases(&subject)?;
        let scratch = [self.home.scratch_path()];
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let now = i64::try_from(now)?;
        let found = (&*rows, &survey, &*databases);
        let report = Report::new(&subject, found, &scratch, now, LIMITS);
        let checked = Checked {
            path,
            version,
            archive_bytes: opened.archive_bytes,
            root: root_of(&subject),
            found: report.found(),
            truncated: report.truncated(),
        };
        let answer = serde_json::to_string(&checked)?;
        match subject.index().intact() {
            true => Ok(answer),
            false => Err("the index changed while it was read: check again".into()),
        }
    }
}
