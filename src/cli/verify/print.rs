//! How `verify` says what it found.

use std::io::{self, Write};

use super::{Printed, State};
use crate::cli::{Failure, text};
use crate::text::table::{Align, Table};

pub(super) fn print(printed: &Printed, json: bool) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if json {
        serde_json::to_writer(&mut out, printed).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for_people(printed, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn for_people(printed: &Printed, out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        ("check", Align::Left),
        ("state", Align::Left),
        ("found", Align::Left),
    ];
    let mut table = Table::new(columns);
    for check in &printed.checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Damaged => "damaged",
            State::Skipped => "skipped",
        };
        table.row([check.what, state, &check.found].map(str::to_owned));
        if let Some(advice) = check.advice {
            table.below(&format!("do: {advice}"));
        }
    }
    table.write(out, "")?;
    damage(printed, out)?;
    let name = text::printable(printed.archive.as_bytes());
    let is_damaged = |state| printed.checks.iter().any(|check| check.state == state);
    let verdict = match is_damaged(State::Damaged) {
        true => "damaged",
        false => "all is well",
    };
    writeln!(out, "\n{name}: {verdict} ({:.2} s)", printed.seconds)
}

fn damage(printed: &Printed, out: &mut dyn Write) -> io::Result<()> {
    let damage = &printed.damage;
    if damage.places_total == 0 {
        return Ok(());
    }
    writeln!(out, "\nDamaged places in the uncompressed stream:")?;
    for place in &damage.places {
        writeln!(out, "  {}..{}: {}", place.start, place.end, place.problem)?;
    }
    let more = damage.places_total - damage.places.len() as u64;
    if more > 0 {
        writeln!(out, "  … and {} more", text::count(more))?;
    }
    if damage.files_total > 0 {
        writeln!(out, "\nFiles that cannot be read completely:")?;
    }
    for file in &damage.files {
        writeln!(out, "  {}", text::printable(file.as_bytes()))?;
    }
    let more = damage.files_total - damage.files.len() as u64;
    if more > 0 {
        writeln!(out, "  … and {} more", text::count(more))?;
    }
    Ok(())
}
