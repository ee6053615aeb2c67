//! `distrofs view list`.

use std::io::{self, Write};

use serde::Serialize;

use super::super::args::ViewList;
use super::super::{Failure, text};
use crate::text::table::{Align, Table};
use crate::types::Timestamp;
use crate::view::{Listed, State};

/// A view, in `docs/json.md`.
#[derive(Serialize)]
struct View {
    dir: String,
    image: String,
    container: u32,
    writable: String,
    attached: bool,
    made: u64,
}

impl View {
    fn of(listed: &Listed) -> Self {
        let record = &listed.record;
        Self {
            dir: record.at.to_string_lossy().into_owned(),
            image: record.image.to_string_lossy().into_owned(),
            container: record.container,
            writable: record.writable.clone(),
            attached: listed.is_attached,
            made: record.made,
        }
    }
}

pub(super) fn run(job: &ViewList) -> Result<(), Failure> {
    let listed = State::open(&job.state.state)?.list()?;
    let mut out = io::stdout().lock();
    if job.json {
        let views: Vec<_> = listed.iter().map(View::of).collect();
        serde_json::to_writer(&mut out, &views)?;
        writeln!(out)?;
        return Ok(());
    }
    if listed.is_empty() {
        writeln!(out, "No views.")?;
        return Ok(());
    }
    let mut table = Table::new([
        ("container", Align::Right),
        ("writable", Align::Left),
        ("state", Align::Left),
        ("made (UTC)", Align::Left),
        ("at", Align::Left),
        ("image", Align::Left),
    ]);
    for listed in &listed {
        let view = View::of(listed);
        let printable = |text: &str| text::printable(text.as_bytes()).into_owned();
        table.row([
            view.container.to_string(),
            view.writable,
            // Another namespace may have it.
            match listed.is_attached {
                true => "attached".to_owned(),
                false => "not here".to_owned(),
            },
            text::time(Timestamp {
                secs: i64::try_from(view.made).unwrap_or(0),
                nanos: 0,
            }),
            printable(&view.dir),
            printable(&view.image),
        ]);
    }
    Ok(table.write(&mut out, "")?)
}
