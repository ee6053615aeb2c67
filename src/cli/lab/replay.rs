//! `distrofs lab replay`: what other caches would have done.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::output;
use super::show::{axis, left, right};
use crate::budget::MemoryBudget;
use crate::cli::args::{Indexing, LabReplay};
use crate::cli::{Failure, opening, text};
use crate::config::ByteSize;
use crate::lab::policy::Rule;
use crate::lab::real::{self, Archives, Measured};
use crate::lab::replay::{self, Figures, Options};
use crate::metrics::Metrics;
use crate::report::{Axis, Cell, Chart, Item, Lines, Marks, Scale, Section, Series, Table, Unit};
use crate::serving::recording::Recording;
use crate::source::{BlockSource, Decoders};
use crate::store::Image;
use crate::trace::{Trace, TracedImage};

/// What real decoders work with.
const DECODERS_BUDGET_BYTES: u64 = 64 << 20;

/// What one combination did.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Simulated(Figures),
    Measured(Measured),
}

impl Outcome {
    fn figures(&self) -> &Figures {
        match self {
            Outcome::Simulated(figures) => figures,
            Outcome::Measured(measured) => &measured.figures,
        }
    }

    fn figures_mut(&mut self) -> &mut Figures {
        match self {
            Outcome::Simulated(figures) => figures,
            Outcome::Measured(measured) => &mut measured.figures,
        }
    }
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    real: bool,
    /// What serving counted while the trace was recorded.
    recorded_hit_ratio: Option<f64>,
    results: &'a [Outcome],
}

pub(super) fn run(job: &LabReplay) -> Result<(), Failure> {
    let trace = super::open(&job.traced)?;
    let outcomes = match job.archive.is_empty() {
        true => simulate(job, &trace, spans(job))?,
        false => with_archives(job, &trace)?,
    };
    let recorded = recorded_hit_ratio(&trace);
    let results = Results {
        real: job.real,
        recorded_hit_ratio: recorded,
        results: &outcomes,
    };
    let mut text = Vec::new();
    if let Some(ratio) = recorded {
        text.push(format!(
            "While it was recorded, {:.2} % of the blocks were cached.",
            100.0 * ratio
        ));
    }
    if outcomes.iter().any(|outcome| outcome.figures().approximate) {
        text.push("Spans marked with ~ are divided where none may really begin.".to_owned());
    }
    let section = Section {
        heading: match job.real {
            true => "Replayed, really decoding".to_owned(),
            false => "Simulated".to_owned(),
        },
        text,
        items: vec![Item::Table(table(&outcomes, job.real))],
    };
    let charts = Section {
        heading: "Hit ratio and decoding by size of the cache".to_owned(),
        text: Vec::new(),
        items: charts(&outcomes).into_iter().map(Item::Chart).collect(),
    };
    let sections = vec![section, charts];
    let document = output::document("Other caches", &job.traced.trace, &trace, sections);
    output::show(&job.shown, &results, &document)
}

fn spans(job: &LabReplay) -> Vec<Option<u64>> {
    match job.span.is_empty() {
        true => vec![None],
        false => job.span.iter().map(|span| Some(span.0)).collect(),
    }
}

fn options(job: &LabReplay, span_bytes: Vec<Option<u64>>) -> Options {
    let bytes = |sizes: &[ByteSize]| sizes.iter().map(|size| size.0).collect();
    Options {
        cache_bytes: bytes(&job.cache),
        block_bytes: bytes(&job.block),
        span_bytes,
        policies: job.policy.clone(),
        decode_ahead: job.ahead,
    }
}

fn simulate(
    job: &LabReplay,
    trace: &Trace,
    spans: Vec<Option<u64>>,
) -> Result<Vec<Outcome>, Failure> {
    let figures = replay::replay(trace, &options(job, spans), &super::bar("simulating"))?;
    Ok(figures.into_iter().map(Outcome::Simulated).collect())
}

/// With the spans that indexes of the archives really have.
fn with_archives(job: &LabReplay, trace: &Trace) -> Result<Vec<Outcome>, Failure> {
    if job.archive.len() != trace.images().len() {
        let images = trace.images().len();
        return Err(format!("the trace is of {images} images: give --archive for each").into());
    }
    let mut outcomes = Vec::new();
    for span in spans(job) {
        // An index for this alone, which nobody finds later.
        let dir = Scratch::new()?;
        let metrics = Arc::new(Metrics::default());
        let decoders = Decoders::new(MemoryBudget::new(DECODERS_BUDGET_BYTES))?;
        let (mut sources, mut images) = (Vec::new(), Vec::new());
        for (number, (archive, traced)) in job.archive.iter().zip(trace.images()).enumerate() {
            let indexing = Indexing {
                index: span.map(|_| dir.path().join(number.to_string())),
                ..match span {
                    Some(span) => Indexing::of_span(ByteSize(span)),
                    None => Indexing::default(),
                }
            };
            let (source, image) = open_source(archive, &indexing, &decoders, &metrics)?;
            if image.digest != traced.digest {
                let path = archive.display();
                return Err(format!("{path}: is not the archive that was read").into());
            }
            sources.push(source);
            images.push(TracedImage {
                name: traced.name.clone(),
                ..image
            });
        }
        let trace = trace.with_images(images)?;
        let mut found = match job.real {
            false => simulate(job, &trace, vec![None])?,
            true => {
                let archives = Archives::new(&trace, sources, decoders, metrics)?;
                let bar = super::bar("decoding");
                let settings = options(job, vec![None]).settings();
                let measured = settings.into_iter().map(|setting| {
                    real::replay(&trace, &archives, setting, &bar).map(Outcome::Measured)
                });
                measured.collect::<Result<_, _>>()?
            }
        };
        for outcome in &mut found {
            outcome.figures_mut().setting.span_bytes = span;
        }
        outcomes.append(&mut found);
    }
    Ok(outcomes)
}

fn open_source(
    archive: &Path,
    indexing: &Indexing,
    decoders: &Decoders,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<dyn BlockSource>, TracedImage), Failure> {
    let opened = opening::open(archive, indexing, false, metrics)?;
    let image = Image::sharing(&opened.archive, &opened.index, decoders, metrics)?;
    let digest = opened.index.sidecar.identity().sha256;
    let source: Arc<dyn BlockSource> = image.source;
    let described = Recording::new(Arc::clone(&source), archive, digest, decoders.budget());
    Ok((source, described.image()?))
}

/// A directory that is gone in the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let name = format!("distrofs-lab-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove a directory");
        }
    }
}

/// The part of blocks that were cached when the trace was recorded.
fn recorded_hit_ratio(trace: &Trace) -> Option<f64> {
    let (mut hits, mut asked) = (0, 0);
    for read in trace.records() {
        let outcome = read.outcome;
        hits += u64::from(outcome.hits);
        asked += u64::from(outcome.hits) + u64::from(outcome.joined) + u64::from(outcome.misses);
    }
    (asked > 0).then(|| hits as f64 / asked as f64)
}

fn table(outcomes: &[Outcome], is_real: bool) -> Table {
    let mut columns = vec![
        left("policy"),
        right("cache", Unit::Bytes),
        right("block", Unit::Bytes),
        right("span", Unit::None),
        right("hits", Unit::Percent),
        right("of bytes", Unit::Percent),
        right("decoded for each", Unit::None),
        right("restores", Unit::None),
        right("resumes", Unit::None),
    ];
    if is_real {
        let times = ["mean", "p50", "p99"].map(|name| right(name, Unit::Micros));
        columns.extend(times);
        columns.push(right("all of it", Unit::Micros));
    }
    Table {
        name: "replay".to_owned(),
        columns,
        rows: outcomes.iter().map(row).collect(),
    }
}

fn row(outcome: &Outcome) -> Vec<Cell> {
    let figures = outcome.figures();
    let setting = &figures.setting;
    let mark = if figures.approximate { "~" } else { "" };
    let span = setting.span_bytes.map_or_else(
        || "as recorded".to_owned(),
        |span| format!("{mark}{}", ByteSize(span)),
    );
    let decoding = figures.decoding.as_ref();
    let integer = |number: Option<u64>| number.map_or(Cell::Missing, Cell::Integer);
    let mut cells = vec![
        Cell::Text(setting.policy.name().to_owned()),
        Cell::Bytes(setting.cache_bytes),
        Cell::Bytes(setting.block_bytes),
        Cell::Text(span),
        Cell::Percent(100.0 * figures.hit_ratio),
        decoding
            .and_then(|decoding| decoding.byte_hit_ratio)
            .map_or(Cell::Missing, |ratio| Cell::Percent(100.0 * ratio)),
        decoding.map_or(Cell::Missing, |one| Cell::Real(one.decoded_per_served)),
        integer(decoding.map(|decoding| decoding.restores)),
        integer(decoding.map(|decoding| decoding.resumes)),
    ];
    if let Outcome::Measured(Measured { times, .. }) = outcome {
        cells.extend([times.mean_us, times.p50_us, times.p99_us].map(Cell::Micros));
        cells.push(Cell::Micros(times.wall_us as f64));
    }
    cells
}

/// One line for each policy, block and span.
fn charts(outcomes: &[Outcome]) -> Vec<Chart> {
    let of = |value: &dyn Fn(&Figures) -> Option<f64>| {
        let mut series: Vec<Series> = Vec::new();
        for figures in outcomes.iter().map(Outcome::figures) {
            let (Some(value), name) = (value(figures), line(figures, outcomes)) else {
                continue;
            };
            let point = (figures.setting.cache_bytes as f64, value);
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series {
                    name,
                    points: vec![point],
                    dashed: figures.setting.policy == Rule::Opt,
                    has_points: true,
                }),
            }
        }
        Marks::Lines(Lines { series })
    };
    let x = axis("cache", Unit::Bytes, Scale::Log2);
    vec![
        Chart {
            name: "hits".to_owned(),
            title: "Blocks that were cached".to_owned(),
            x: x.clone(),
            y: axis("hits", Unit::Percent, Scale::Linear),
            marks: of(&|figures| Some(100.0 * figures.hit_ratio)),
        },
        Chart {
            name: "decoded".to_owned(),
            title: "Bytes decoded for each byte served".to_owned(),
            x,
            y: Axis {
                from: Some(0.0),
                ..axis("decoded for each", Unit::Ratio, Scale::Linear)
            },
            marks: of(&|figures| Some(figures.decoding.as_ref()?.decoded_per_served)),
        },
    ]
}

/// What a line is called: its policy, and what else is not the same for all.
fn line(figures: &Figures, all: &[Outcome]) -> String {
    let setting = &figures.setting;
    let mut name = setting.policy.name().to_owned();
    let differs = |same: &dyn Fn(&Figures) -> bool| all.iter().any(|one| !same(one.figures()));
    if differs(&|one| one.setting.block_bytes == setting.block_bytes) {
        name += &format!(", blocks of {}", text::bytes(setting.block_bytes));
    }
    if differs(&|one| one.setting.span_bytes == setting.span_bytes) {
        name += &match setting.span_bytes {
            Some(span) => format!(", spans of {}", text::bytes(span)),
            None => ", spans as recorded".to_owned(),
        };
    }
    name
}
