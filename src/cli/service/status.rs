//! `distrofs status`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use super::super::args;
use super::super::{Failure, text};
use super::ask_text;
use crate::text::table::{Align, Table};
use crate::wire::control::Request;
use crate::wire::report::{HomeStatus, ImageStatus, Status, Tombstone};
use crate::wire::served::{ImageReport, Ingest, Memory, Share, WorkerReport};

/// To the upper left corner, and nothing below: what was there is drawn over.
const REDRAW: &str = "\x1b[H\x1b[J";

/// A home, in `docs/json.md`.
#[derive(Serialize)]
struct Home {
    #[serde(flatten)]
    status: HomeStatus,
    /// What its worker says; none if it does not answer.
    served: Option<Vec<ImageReport>>,
    memory: Option<Memory>,
    ingest: Option<Ingest>,
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
    let with_report = |status: HomeStatus| {
        let request = Request::Report { home: status.home };
        let answer = ask_text(run, &request).ok();
        let report = answer.and_then(|text| serde_json::from_str::<WorkerReport>(&text).ok());
        let report = report.map(|report| (report.images, report.memory, report.ingest));
        let (served, memory, ingest) = match report {
            Some((images, memory, ingest)) => (Some(images), Some(memory), Some(ingest)),
            None => (None, None, None),
        };
        Home {
            status,
            served,
            memory,
            ingest,
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
    writeln!(out)?;
    print_memory(home, out)?;
    let views = status.views;
    if views.attached + views.refused > 0 {
        let (attached, containers) = (text::count(views.attached), views.containers);
        write!(
            out,
            "  {attached} views attached by {containers} containers"
        )?;
        match views.refused {
            0 => writeln!(out)?,
            refused => writeln!(out, ", {} refused", text::count(refused))?,
        }
    }
    if status.other_processes > 0 {
        writeln!(
            out,
            "  warning: {} processes of its own run in this storage container: they take the \
             memory that serving images needs",
            status.other_processes
        )?;
    }
    match status.images.is_empty() {
        true => writeln!(out, "  no images"),
        false => print_images(home, out),
    }
}

/// Memory by kind against the budget, in a line.
fn print_memory(home: &Home, out: &mut dyn Write) -> io::Result<()> {
    let status = &home.status;
    let limit = text::bytes(status.memory_limit_bytes);
    match (status.memory_bytes, &home.memory) {
        (Some(bytes), _) => write!(out, "  memory {} of {limit}", text::bytes(bytes))?,
        (None, Some(memory)) => {
            let resident = text::bytes(memory.resident_bytes);
            write!(out, "  memory {resident} of {limit} resident")?;
        }
        (None, None) => return Ok(()),
    }
    if let Some(memory) = &home.memory {
        for (name, Share { used, limit }) in [
            ("blocks", memory.blocks),
            ("decoders", memory.decoders),
            ("buffers", memory.buffers),
        ] {
            write!(
                out,
                ", {name} {} of {}",
                text::bytes(used),
                text::bytes(limit)
            )?;
        }
        let pages = text::bytes(memory.resident_file_bytes);
        write!(out, ", pages of files {pages}")?;
    }
    writeln!(out)
}

fn print_images(home: &Home, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new([
        ("image", Align::Left),
        ("version", Align::Left),
        ("state", Align::Left),
        ("hits", Align::Right),
        ("read p99", Align::Right),
        ("oldest request", Align::Right),
        ("errors", Align::Right),
    ]);
    for image in &home.status.images {
        let served = home.served.iter().flatten();
        let served = served.clone().find(|served| served.mount == image.mount);
        table.row(row(image, served));
    }
    if !home.status.images.is_empty() {
        table.write(out, "  ")?;
    }
    for Tombstone { path, version, why } in &home.status.tombstones {
        writeln!(out, "  {path} {}: tombstone: {why}", version.short())?;
    }
    Ok(())
}

fn row(image: &ImageStatus, served: Option<&ImageReport>) -> [String; 7] {
    let snapshot = served.map(|served| &served.report.snapshot);
    let hits = served.and_then(|served| served.report.hit_ratio());
    let read = snapshot.and_then(|snapshot| snapshot.requests.get("read"));
    let oldest = served.map(|served| served.oldest_request_seconds);
    let errors = snapshot.and_then(|snapshot| snapshot.counters.get("io_errors").copied());
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        image.path.to_string(),
        image.version.short(),
        match (image.is_tombstone, image.is_current) {
            (true, _) => "tombstone".to_owned(),
            (_, true) => "served".to_owned(),
            (_, false) => "of before".to_owned(),
        },
        or_none(hits.map(|ratio| format!("{:.0} %", ratio * 100.0))),
        or_none(read.map(|read| format!("{} us", read.p99_us))),
        or_none(
            oldest
                .filter(|age| *age > 0.0)
                .map(|age| format!("{age:.1} s")),
        ),
        or_none(errors.map(|errors| errors.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Version;
    use crate::wire::report::Views;
    use crate::wire::served::Report;

    #[test]
    fn what_matters_is_on_few_lines() {
        let path: crate::wire::ImagePath = "debian".parse().unwrap();
        let image = ImageStatus {
            path: path.clone(),
            version: Version::new([0xab; 32]),
            is_current: true,
            mount: 3,
            is_tombstone: false,
        };
        let served = ImageReport {
            mount: 3,
            path,
            oldest_request_seconds: 12.34,
            report: Report::default(),
        };
        let mut home = Home {
            status: HomeStatus {
                home: 30_000,
                worker: Some(7),
                restarts: 2,
                memory_bytes: Some(9 << 20),
                memory_limit_bytes: 48 << 20,
                other_processes: 0,
                views: Views {
                    attached: 5,
                    refused: 1,
                    containers: 4,
                },
                images: vec![image],
                tombstones: Vec::new(),
            },
            served: Some(vec![served]),
            memory: Some(Memory {
                blocks: Share {
                    used: 3 << 20,
                    limit: 18 << 20,
                },
                ..Memory::default()
            }),
            ingest: None,
        };
        let text = |home: &Home| {
            let mut out = Vec::new();
            print_home(home, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let shown = text(&home);
        for part in [
            "home 30000, worker 7, restarted 2 times\n",
            "memory 9.4 MB of 50.3 MB, blocks 3.1 MB of 18.9 MB, decoders ",
            "5 views attached by 4 containers, 1 refused\n",
            "12.3 s",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        (home.served, home.memory, home.status.memory_bytes) = (None, None, None);
        let shown = text(&home);
        assert!(
            !shown.contains("memory") && shown.contains("debian"),
            "{shown}"
        );
    }
}
