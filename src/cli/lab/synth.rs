//! `distrofs lab synth`: a trace that nobody recorded.

use std::io::BufWriter;

use super::record::{self, Recorded};
use crate::cli::Failure;
use crate::cli::args::LabSynth;
use crate::lab::synth::{Options, synthesize};
use crate::trace::{Origin, TraceWriter};

pub(super) fn run(job: &LabSynth) -> Result<(), Failure> {
    let options = Options {
        load: job.load()?,
        reads: job.requests,
        stream_bytes: job.image.0,
        span_bytes: job.span.0,
        seed: job.seed,
    };
    let origin = Origin {
        program: concat!("distrofs ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: Some(std::env::args().collect::<Vec<_>>().join(" ")),
        ..Origin::default()
    };
    let file = BufWriter::new(record::create(&job.out)?);
    let mut writer = TraceWriter::new(file, &origin, u64::MAX)?;
    let took = synthesize(&mut writer, &options)?;
    let (file, totals) = writer.finish(took)?;
    record::tell(&job.out, &Recorded::new(totals, file.get_ref())?, false)
}
