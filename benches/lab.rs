//! How long the laboratory takes for ten million reads, by policy and load, and for a
//! miss-ratio curve of them.
//!
//! Not by criterion: one of these takes seconds, and once tells enough. Prints a line
//! for each; `cargo bench --bench lab [READS]`.

use std::time::Instant;

use distrofs::lab::LabError;
use distrofs::lab::mrc;
use distrofs::lab::policy::Rule;
use distrofs::lab::replay::{Options, replay};
use distrofs::lab::synth::{self, Load};
use distrofs::trace::{Origin, Trace, TraceWriter};

fn made(load: Load, reads: u64) -> Result<Trace, LabError> {
    let options = synth::Options {
        load,
        reads,
        ..synth::Options::default()
    };
    let mut writer = TraceWriter::new(Vec::new(), &Origin::default(), u64::MAX)?;
    let duration_us = synth::synthesize(&mut writer, &options)?;
    let (bytes, _) = writer.finish(duration_us)?;
    Ok(Trace::from_reader(&bytes[..], false)?)
}

fn main() -> Result<(), LabError> {
    let asked = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let reads = asked.unwrap_or(10_000_000);
    let loads = [
        ("zipf 1.0", Load::Zipf { exponent: 1.0 }),
        ("scan+zipf", Load::ScanAndZipf { exponent: 0.8 }),
        ("scan", Load::Scan),
    ];
    for (name, load) in loads {
        let trace = made(load, reads)?;
        for policy in Rule::ALL {
            let options = Options {
                policies: vec![policy],
                ..Options::default()
            };
            let begun = Instant::now();
            for figures in replay(&trace, &options, &|_| ())? {
                let (seconds, blocks) = (begun.elapsed().as_secs_f64(), figures.blocks);
                let hit_ratio = figures.hit_ratio;
                println!(
                    "{name:10} {policy:6} {seconds:7.2} s, {blocks} blocks, hit ratio {hit_ratio:.4}"
                );
            }
        }
        let options = mrc::Options::default();
        let begun = Instant::now();
        let exact = mrc::exact(&trace, &options)?;
        let seconds = begun.elapsed().as_secs_f64();
        println!("{name:10} exact curve {seconds:.2} s");
        for sampling in [mrc::Sampling::Rate(0.01), mrc::Sampling::Size(8192)] {
            let begun = Instant::now();
            let sampled = mrc::sampled(&trace, &options, sampling)?;
            let seconds = begun.elapsed().as_secs_f64();
            let error = mrc::mean_absolute_error(&exact, &sampled);
            println!("{name:10} {sampling:?} {seconds:.2} s, mean error {error:.4}");
        }
    }
    Ok(())
}
