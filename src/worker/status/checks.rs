//! [`Checks`]: what containers need of an image, and whether it is there.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use crate::budget::MemoryBudget;
use crate::inspect::{Row, Subject, requirements};
use crate::metrics::Metrics;
use crate::source::{BlockSource, DirectReader};
use crate::store::Image;
use crate::store::home::{Digest, Home};
use crate::types::Ino;

/// What was found of the versions that are current. An archive never changes, so it
/// is looked at once.
#[derive(Debug, Default)]
pub struct Checks {
    found: HashMap<Digest, String>,
}

impl Checks {
    /// Looks at those of these versions that were not looked at yet, and forgets all
    /// others.
    pub fn update(
        &mut self,
        home: &Home,
        current: &[Digest],
        budget: &MemoryBudget,
        metrics: &Arc<Metrics>,
    ) {
        self.found.retain(|digest, _| current.contains(digest));
        for digest in current {
            self.found.entry(*digest).or_insert_with(|| {
                let rows = rows(home, digest, budget, metrics);
                rows.map_or_else(
                    |error| format!("  It could not be looked at: {error}\n"),
                    |rows| table(&rows),
                )
            });
        }
    }

    /// What was found of a version.
    pub fn get(&self, digest: &Digest) -> Option<&str> {
        self.found.get(digest).map(String::as_str)
    }
}

fn rows(
    home: &Home,
    digest: &Digest,
    budget: &MemoryBudget,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let (archive, index) = home.open_image(digest)?;
    let Image { index, source } = Image::open(&archive, &index, budget, metrics)?;
    let root = index.summary().root.unwrap_or(Ino::ROOT);
    let blocks: Arc<dyn BlockSource> = source;
    let content = Arc::new(DirectReader::new(blocks));
    let subject = Subject::new(index, content, root, Arc::clone(metrics))?;
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
