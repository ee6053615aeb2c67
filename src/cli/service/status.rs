//! `distrofs status`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use super::super::args;
use super::super::table::{Align, Table};
use super::super::{Failure, text};
use super::ask_text;
use crate::wire::control::Request;
use crate::wire::report::{HomeStatus, Status, Tombstone};
use crate::worker::questions::{ImageReport, Question, WorkerReport};

/// To the upper left corner, and nothing below: what was there is drawn over.
const REDRAW: &str = "\x1b[H\x1b[J";

/// A home, in `docs/json.md`.
#[derive(Serialize)]
struct Home {
    #[serde(flatten)]
    status: HomeStatus,
    /// What its worker says; none if it does not answer.
    served: Option<Vec<ImageReport>>,
}

pub(super) fn run(job: &args::Status) -> Result<(), Failure> {
    let mut out = io::stdout();
    let redraws = out.is_terminal() && !job.json;
    loop {
        let homes = ask(&job.service.run)?;
        if job.watch.is_some() && redraws {
            write!(out, "{REDRAW}")?;
        }
        match job.json {
            true => {
                serde_json::to_writer(&mut out, &homes)?;
                writeln!(out)?;
            }
            false => print(&homes, &mut out)?,
        }
        out.flush()?;
        match job.watch {
            Some(interval) => std::thread::sleep(interval),
            None => return Ok(()),
        }
    }
}

fn ask(run: &Path) -> Result<Vec<Home>, Failure> {
    let status: Status = serde_json::from_str(&ask_text(run, &Request::Status)?)?;
    let question = serde_json::to_string(&Question::Report)?;
    let with_report = |status: HomeStatus| {
        let request = Request::Ask {
            home: status.home,
            question: question.clone(),
        };
        let answer = ask_text(run, &request).ok();
        let report = answer.and_then(|text| serde_json::from_str::<WorkerReport>(&text).ok());
        Home {
            status,
            served: report.map(|report| report.images),
        }
    };
    Ok(status.homes.into_iter().map(with_report).collect())
}

fn print(homes: &[Home], out: &mut dyn Write) -> io::Result<()> {
    if homes.is_empty() {
        return writeln!(out, "No homes.");
    }
    for home in homes {
        print_home(home, out)?;
    }
    Ok(())
}

fn print_home(home: &Home, out: &mut dyn Write) -> io::Result<()> {
    let status = &home.status;
    write!(out, "home {}", status.home)?;
    match status.worker {
        Some(pid) => write!(out, ", worker {pid}")?,
        None => write!(out, ", no worker at the moment")?,
    }
    if status.restarts > 0 {
        write!(out, ", restarted {} times", status.restarts)?;
    }
    let limit = text::bytes(status.memory_limit_bytes);
    let memory = home.served.as_ref().and_then(|all| all.first());
    match (status.memory_bytes, memory) {
        (Some(bytes), _) => writeln!(out, ", {} of {limit}", text::bytes(bytes))?,
        (None, Some(image)) => {
            let resident = image.report.memory.resident_bytes;
            writeln!(out, ", {} of {limit} resident", text::bytes(resident))?;
        }
        (None, None) => writeln!(out)?,
    }
    if status.other_processes > 0 {
        writeln!(
            out,
            "  warning: {} processes of its own run in this storage container: they take the \
             memory that serving images needs",
            status.other_processes
        )?;
    }
    let mut table = Table::new([
        ("image", Align::Left),
        ("version", Align::Left),
        ("state", Align::Left),
        ("hits", Align::Right),
        ("read p99", Align::Right),
        ("errors", Align::Right),
    ]);
    for image in &status.images {
        let served = home.served.iter().flatten();
        let report = served.clone().find(|served| served.mount == image.mount);
        let report = report.map(|image| &image.report.snapshot);
        let hits = report.and_then(|snapshot| {
            let counter = |name: &str| snapshot.counters.get(name).copied().unwrap_or(0);
            let hits = counter("cache_hit_blocks") + counter("cache_joined_blocks");
            let all = hits + counter("cache_miss_blocks");
            (all > 0).then(|| format!("{} %", hits * 100 / all))
        });
        let read = report.and_then(|snapshot| snapshot.requests.get("read"));
        let errors = report.and_then(|snapshot| snapshot.counters.get("io_errors").copied());
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            image.path.to_string(),
            image.version.short(),
            match (image.is_tombstone, image.is_current) {
                (true, _) => "tombstone".to_owned(),
                (_, true) => "served".to_owned(),
                (_, false) => "of before".to_owned(),
            },
            or_none(hits),
            or_none(read.map(|read| format!("{} us", read.p99_us))),
            or_none(errors.map(|errors| errors.to_string())),
        ]);
    }
    match status.images.is_empty() {
        true => writeln!(out, "  no images")?,
        false => table.write(out, "  ")?,
    }
    for Tombstone { path, version, why } in &status.tombstones {
        writeln!(out, "  {path} {}: tombstone: {why}", version.short())?;
    }
    Ok(())
}
