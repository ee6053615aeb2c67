//! `distrofs lab advise`: what would have served a trace best.

use super::output;
use super::show::right;
use crate::cli::Failure;
use crate::cli::args::LabAdvise;
use crate::config::ByteSize;
use crate::lab::advise::{self, Advice, Applies, Candidate, Options};
use crate::report::{Cell, Item, Section, Table, Unit};

/// Candidates that are shown; all are in JSON.
const SHOWN: usize = 12;

pub(super) fn run(job: &LabAdvise) -> Result<(), Failure> {
    let trace = super::open(&job.traced)?;
    let options = Options {
        memory_bytes: job.memory.0,
        ..Options::default()
    };
    let advice = advise::advise(&trace, &options, &super::bar("simulating"))?;
    let sections = vec![candidates(&advice), choice(&advice)];
    let document = output::document("Advice", &job.traced.trace, &trace, sections);
    output::show(&job.shown, &advice, &document)
}

fn candidates(advice: &Advice) -> Section {
    let row = |(number, one): (usize, &Candidate)| {
        let setting = &one.figures.setting;
        let span = setting.span_bytes.map_or_else(
            || "as recorded".to_owned(),
            |span| match one.figures.approximate {
                true => format!("~{}", ByteSize(span)),
                false => ByteSize(span).to_string(),
            },
        );
        vec![
            Cell::Text(if number == advice.choice { "→" } else { "" }.to_owned()),
            Cell::Bytes(setting.cache_bytes),
            Cell::Bytes(setting.block_bytes),
            Cell::Text(span),
            Cell::Percent(100.0 * one.figures.hit_ratio),
            Cell::Real(one.cost),
            Cell::Bytes(one.index_bytes),
            Cell::Bytes(one.memory_bytes),
        ]
    };
    let numbered = advice.ranked.iter().enumerate();
    let shown = numbered.filter(|(number, _)| *number < SHOWN || *number == advice.choice);
    Section {
        heading: "Candidates, the best first".to_owned(),
        text: vec![
            "What costs time is what is decoded for each byte that is served. The choice is the \
             smallest that costs at most 1 % more than the best. A span with ~ divides recorded \
             ones: where an index would divide them is not known."
                .to_owned(),
        ],
        items: vec![Item::Table(Table {
            name: "candidates".to_owned(),
            columns: vec![
                super::show::left(""),
                right("cache", Unit::Bytes),
                right("block", Unit::Bytes),
                right("span", Unit::None),
                right("hits", Unit::Percent),
                right("decoded for each", Unit::None),
                right("index", Unit::Bytes),
                right("memory", Unit::Bytes),
            ],
            rows: shown.map(row).collect(),
        })],
    }
}

fn choice(advice: &Advice) -> Section {
    let lines = advice.apply.iter().map(|apply| match apply.applies {
        Applies::Memory => {
            let megabytes = apply.bytes.div_ceil(1 << 20);
            format!("distrofs mount --memory {megabytes}M ARCHIVE DIRECTORY")
        }
        Applies::Span => {
            let span = ByteSize(apply.bytes);
            format!("distrofs index --force --span {span} ARCHIVE")
        }
        Applies::Fixed => {
            let block = ByteSize(apply.bytes);
            format!("(blocks of {block} are what serves: nothing to change)")
        }
    });
    Section {
        heading: "To apply it".to_owned(),
        text: lines.collect(),
        items: Vec::new(),
    }
}
