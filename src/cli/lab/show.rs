//! `distrofs lab show`: what a trace holds.

use super::output;
use crate::cli::Failure;
use crate::cli::args::LabShow;
use crate::lab::seen::{self, HEATS_MAX, Heat, Latency, Seen};
use crate::report::{
    self, Align, Axis, Cell, Chart, Column, Item, Lines, Marks, Scale, Section, Series, Table, Unit,
};
use crate::trace::Trace;

pub(super) fn run(job: &LabShow) -> Result<(), Failure> {
    let trace = super::open(&job.traced)?;
    let seen = seen::look(&trace);
    let sections = vec![
        summary(&seen, &trace),
        latencies(&seen),
        places(&seen),
        files(&seen, &trace),
    ];
    let document = output::document("What was read", &job.traced.trace, &trace, sections);
    output::show(&job.shown, &seen, &document)
}

fn summary(seen: &Seen, trace: &Trace) -> Section {
    let asked = seen.hits + seen.joined + seen.misses;
    let rows = [
        ("reads", Cell::Integer(seen.reads)),
        ("bytes", Cell::Bytes(seen.bytes)),
        ("holes", Cell::Bytes(seen.hole_bytes)),
        ("files", Cell::Integer(seen.file_count)),
        ("time", Cell::Micros(seen.duration_us as f64)),
        ("blocks", Cell::Integer(asked)),
        ("cached", share(seen.hits, asked)),
        ("being decoded", share(seen.joined, asked)),
        ("decoded", share(seen.misses, asked)),
    ];
    let rows = rows.map(|(name, cell)| vec![Cell::Text(name.to_owned()), cell]);
    let mut text = Vec::new();
    if trace.totals().left_out > 0 {
        let left_out = trace.totals().left_out;
        text.push(format!("{left_out} records had no room and are not in it."));
    }
    Section {
        heading: "Summary".to_owned(),
        text,
        items: vec![Item::Table(Table {
            name: "summary".to_owned(),
            columns: vec![left(""), right("", Unit::None)],
            rows: rows.to_vec(),
        })],
    }
}

fn share(part: u64, of: u64) -> Cell {
    match of {
        0 => Cell::Missing,
        of => Cell::Percent(100.0 * part as f64 / of as f64),
    }
}

fn latencies(seen: &Seen) -> Section {
    let row = |latency: &Latency| {
        let time = |us: f64| match latency.reads {
            0 => Cell::Missing,
            _ => Cell::Micros(us),
        };
        let times = &latency.times;
        vec![
            Cell::Text(latency.kind.to_owned()),
            Cell::Integer(latency.reads),
            time(times.p50_us),
            time(times.p90_us),
            time(times.p99_us),
            time(times.max_us),
        ]
    };
    let times = ["p50", "p90", "p99", "longest"].map(|name| right(name, Unit::Micros));
    let mut columns = vec![left("blocks were"), right("reads", Unit::None)];
    columns.extend(times);
    let series = seen.latencies.iter().map(|latency| Series {
        name: latency.kind.to_owned(),
        points: distribution(latency),
        ..Series::default()
    });
    Section {
        heading: "How fast reads were answered".to_owned(),
        text: vec![
            "From the arrival of a read at the daemon until its answer had left.".to_owned(),
        ],
        items: vec![
            Item::Table(Table {
                name: "latency".to_owned(),
                columns,
                rows: seen.latencies.iter().map(row).collect(),
            }),
            Item::Chart(Chart {
                name: "latency".to_owned(),
                title: "Reads that were answered within a time".to_owned(),
                x: axis("time", Unit::Micros, Scale::Log10),
                y: Axis {
                    from: Some(0.0),
                    to: Some(100.0),
                    ..axis("reads", Unit::Percent, Scale::Linear)
                },
                marks: Marks::Lines(Lines {
                    series: series.collect(),
                }),
            }),
        ],
    }
}

/// Times, and which part of the reads took no longer.
fn distribution(latency: &Latency) -> Vec<(f64, f64)> {
    let mut sum = 0;
    let buckets = latency.times.buckets.iter();
    buckets
        .map(|(us, reads)| {
            sum += reads;
            (
                us.max(1.0),
                100.0 * sum as f64 / latency.reads.max(1) as f64,
            )
        })
        .collect()
}

fn places(seen: &Seen) -> Section {
    let chart = |(number, heat): (usize, &Heat)| {
        Item::Chart(Chart {
            name: match number {
                0 => "places".to_owned(),
                _ => format!("places-{number}"),
            },
            title: format!("Where in {} was read, and when", heat.image),
            x: axis("time", Unit::Seconds, Scale::Linear),
            y: axis("place in the archive", Unit::Bytes, Scale::Linear),
            marks: Marks::Heat(report::Heat {
                columns: heat.columns,
                rows: heat.rows,
                values: heat.bytes.iter().map(|bytes| colour(*bytes)).collect(),
                x: (0.0, seen.duration_us as f64 / 1e6),
                y: (0.0, heat.archive_bytes as f64),
                legend: axis("read", Unit::Bytes, Scale::Log2),
            }),
        })
    };
    let text = (seen.heat.len() == HEATS_MAX)
        .then(|| format!("The first {HEATS_MAX} images that were read are shown."));
    Section {
        heading: "Where in the archives was read".to_owned(),
        text: text.into_iter().collect(),
        items: seen.heat.iter().enumerate().map(chart).collect(),
    }
}

/// No colour where nothing was read.
fn colour(bytes: u64) -> f64 {
    match bytes {
        0 => f64::NAN,
        bytes => bytes as f64,
    }
}

fn files(seen: &Seen, trace: &Trace) -> Section {
    let name = |number: u32| {
        let image = usize::try_from(number)
            .ok()
            .and_then(|n| trace.images().get(n));
        image.map_or(String::new(), |image| image.name.clone())
    };
    let rows = seen.files.iter().map(|file| {
        vec![
            Cell::Text(name(file.image)),
            Cell::Integer(file.ino),
            Cell::Integer(file.reads),
            Cell::Bytes(file.bytes),
        ]
    });
    Section {
        heading: "Files of which most was read".to_owned(),
        text: vec!["`find MOUNTPOINT -inum N` tells the name of an inode.".to_owned()],
        items: vec![Item::Table(Table {
            name: "files".to_owned(),
            columns: vec![
                left("image"),
                right("inode", Unit::None),
                right("reads", Unit::None),
                right("read", Unit::Bytes),
            ],
            rows: rows.collect(),
        })],
    }
}

/// A column of texts.
pub(super) fn left(title: &str) -> Column {
    Column {
        title: title.to_owned(),
        ..Column::default()
    }
}

/// A column of numbers.
pub(super) fn right(title: &str, unit: Unit) -> Column {
    Column {
        title: title.to_owned(),
        unit,
        align: Align::Right,
    }
}

/// An axis that begins and ends where the numbers do.
pub(super) fn axis(title: &str, unit: Unit, scale: Scale) -> Axis {
    Axis {
        title: title.to_owned(),
        unit,
        scale,
        ..Axis::default()
    }
}
