//! [`Checks`]: what containers need of an image, and whether it is there.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use crate::budget::MemoryBudget;
use crate::inspect::{Row, Subject, requirements};
use crate::metrics::Metrics;
use crate::source::{Decoders, DirectReader};
use crate::store::ImageFiles;
use crate::types::{Digest, ImagePath, Ino};

/// What was found of the images. A version never changes, so it is looked at once.
#[derive(Debug, Default)]
pub struct Checks {
    found: HashMap<ImagePath, (Digest, String)>,
}

impl Checks {
    /// Looks at a version of an image, unless it was the last that was looked at
    /// there.
    pub fn look(
        &mut self,
        path: &ImagePath,
        version: Digest,
        files: &ImageFiles,
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) {
        if self.found.get(path).is_some_and(|(of, _)| *of == version) {
            return;
        }
        let rows = rows((path, version), files, budget, metrics);
        let text = match rows {
            Ok(rows) => table(&rows),
            Err(error) => format!("  It could not be looked at: {error}\n"),
        };
        self.found.insert(path.clone(), (version, text));
    }

    /// Forgets an image.
    pub fn forget(&mut self, path: &ImagePath) {
        self.found.remove(path);
    }

    /// What was found of an image.
    pub fn get(&self, path: &ImagePath) -> Option<&str> {
        self.found.get(path).map(|(_, text)| text.as_str())
    }
}

fn rows(
    (path, version): (&ImagePath, Digest),
    files: &ImageFiles,
    budget: &MemoryBudget,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let decoders = Decoders::new(budget.clone())?;
    let opened = files.open(Path::new(path.as_str()), version, &decoders, metrics)?;
    let root = opened.index.summary().root.unwrap_or(Ino::ROOT);
    let content = Arc::new(DirectReader::new(opened.source));
    let subject = Subject::new(opened.index, content, root, Arc::clone(metrics))?;
    Ok(requirements(&subject, None)?)
}

/// The rows of `distrofs inspect`.
pub(super) fn table(rows: &[Row]) -> String {
    let width = |text: &str| text.chars().count();
    let most = rows.iter().map(|row| width(row.what)).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let pad = " ".repeat(most - width(row.what));
        let state = row.state.name();
        // Nothing fails that is written to a string.
        let _written = writeln!(text, "  {}{pad}  {state:7}  {}", row.what, row.found);
        if let Some(advice) = &row.advice {
            let margin = " ".repeat(most + 13);
            let _written = writeln!(text, "{margin}why: {}", row.why);
            let _written = writeln!(text, "{margin}do:  {advice}");
        }
    }
    text
}
