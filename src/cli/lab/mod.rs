//! `distrofs lab`: what is read of images, recorded, and what other caches would have
//! made of it.

mod advise;
pub(super) mod collect;
mod mrc;
mod output;
mod plot;
pub(super) mod record;
mod replay;
mod show;
mod synth;

use super::Failure;
use super::args::{Lab, Traced};
use super::progress::Bar;
use crate::lab::replay::Progress;
use crate::trace::Trace;

pub(super) fn run(job: Lab) -> Result<(), Failure> {
    match job {
        Lab::Record(job) => record::run(&job),
        Lab::Synth(job) => synth::run(&job),
        Lab::Show(job) => show::run(&job),
        Lab::Replay(job) => replay::run(&job),
        Lab::Mrc(job) => mrc::run(&job),
        Lab::Advise(job) => advise::run(&job),
        Lab::Plot(job) => plot::run(&job),
    }
}

fn open(traced: &Traced) -> Result<Trace, Failure> {
    let trace = Trace::open(&traced.trace, traced.partial);
    trace.map_err(|error| format!("{}: {error}", traced.trace.display()).into())
}

/// Shows how far a simulation is.
fn bar(label: &str) -> impl Fn(Progress) + Sync + use<> {
    let bar = std::sync::OnceLock::new();
    let label = label.to_owned();
    move |progress: Progress| {
        let bar = bar.get_or_init(|| Bar::of_records(&label, progress.total));
        bar.at(progress.done);
    }
}
