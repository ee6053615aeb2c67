//! `distrofs lab mrc`: the miss ratio of every size of cache.

use serde::Serialize;

use super::output;
use super::show::{axis, right};
use crate::cli::Failure;
use crate::cli::args::LabMrc;
use crate::lab::mrc::{self, Curve, Options, Sampling};
use crate::report::{Axis, Cell, Chart, Item, Lines, Marks, Scale, Section, Series, Table, Unit};
use crate::trace::Trace;

/// Curves of one trace.
#[derive(Debug, Serialize)]
struct Curves {
    exact: Option<Curve>,
    /// SHARDS with a fixed rate.
    rate: Sampled,
    /// SHARDS with a fixed number of blocks.
    size: Sampled,
}

#[derive(Debug, Serialize)]
struct Sampled {
    #[serde(flatten)]
    curve: Curve,
    /// By how much it is wrong, on average over all sizes.
    mean_absolute_error: Option<f64>,
}

pub(super) fn run(job: &LabMrc) -> Result<(), Failure> {
    let trace = super::open(&job.traced)?;
    let curves = Curves::of(job, &trace)?;
    let sections = vec![curves.summary(), curves.points()];
    let document = output::document("Miss ratios", &job.traced.trace, &trace, sections);
    output::show(&job.shown, &curves, &document)
}

impl Curves {
    fn of(job: &LabMrc, trace: &Trace) -> Result<Curves, Failure> {
        let options = Options::default();
        let exact = match job.sampled {
            true => None,
            false => Some(mrc::exact(trace, &options)?),
        };
        let sampled = |sampling| -> Result<Sampled, Failure> {
            let curve = mrc::sampled(trace, &options, sampling)?;
            let error = exact
                .as_ref()
                .map(|exact| mrc::mean_absolute_error(exact, &curve));
            Ok(Sampled {
                curve,
                mean_absolute_error: error,
            })
        };
        let rate = sampled(Sampling::Rate(job.rate))?;
        let size = sampled(Sampling::Size(job.samples))?;
        Ok(Curves { exact, rate, size })
    }

    /// Each with its name and its error.
    fn all(&self) -> impl Iterator<Item = (&'static str, &Curve, Option<f64>)> {
        let exact = self.exact.iter().map(|curve| ("exact", curve, None));
        let sampled = [("SHARDS, rate", &self.rate), ("SHARDS, size", &self.size)];
        exact.chain(sampled.map(|(name, one)| (name, &one.curve, one.mean_absolute_error)))
    }

    fn summary(&self) -> Section {
        let row = |(name, curve, error): (&str, &Curve, Option<f64>)| {
            vec![
                Cell::Text(name.to_owned()),
                Cell::Integer(curve.references),
                Cell::Integer(curve.looked_at),
                Cell::Percent(100.0 * curve.rate),
                error.map_or(Cell::Missing, |error| Cell::Percent(100.0 * error)),
            ]
        };
        Section {
            heading: "Curves".to_owned(),
            text: vec![
                "LRU over the blocks that reads asked for. The error is the mean distance from \
                 the exact curve over all sizes."
                    .to_owned(),
            ],
            items: vec![Item::Table(Table {
                name: "curves".to_owned(),
                columns: vec![
                    super::show::left("curve"),
                    right("blocks asked for", Unit::None),
                    right("looked at", Unit::None),
                    right("of all", Unit::Percent),
                    right("error", Unit::Percent),
                ],
                rows: self.all().map(row).collect(),
            })],
        }
    }

    fn points(&self) -> Section {
        let best = self.exact.as_ref().unwrap_or(&self.rate.curve);
        // Whole steps of the curve on a terminal; every point is in the chart and JSON.
        let step = best.points.len().div_ceil(24).max(1);
        let rows = (0..best.points.len()).step_by(step).map(|at| {
            let size = best.points.get(at).map_or(0, |point| point.cache_bytes);
            let mut cells = vec![Cell::Bytes(size)];
            cells.extend(self.all().map(|(_, curve, _)| {
                let point = curve.points.get(at);
                point.map_or(Cell::Missing, |point| {
                    Cell::Percent(100.0 * point.miss_ratio)
                })
            }));
            cells
        });
        let mut columns = vec![right("cache", Unit::Bytes)];
        columns.extend(self.all().map(|(name, ..)| right(name, Unit::Percent)));
        let series = self.all().map(|(name, curve, _)| Series {
            name: name.to_owned(),
            points: curve
                .points
                .iter()
                .map(|point| (point.cache_bytes as f64, 100.0 * point.miss_ratio))
                .collect(),
            dashed: name != "exact",
            has_points: false,
        });
        Section {
            heading: "Miss ratio by size of the cache".to_owned(),
            text: Vec::new(),
            items: vec![
                Item::Table(Table {
                    name: "mrc".to_owned(),
                    columns,
                    rows: rows.collect(),
                }),
                Item::Chart(Chart {
                    name: "mrc".to_owned(),
                    title: "Blocks that an LRU cache would not have had".to_owned(),
                    x: axis("cache", Unit::Bytes, Scale::Log2),
                    y: Axis {
                        from: Some(0.0),
                        ..axis("misses", Unit::Percent, Scale::Linear)
                    },
                    marks: Marks::Lines(Lines {
                        series: series.collect(),
                    }),
                }),
            ],
        }
    }
}
