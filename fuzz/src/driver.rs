//! The loop of a fuzzer: takes an input, changes it, runs it, and keeps what
//! finds something new.
//!
//! Guarantees: the inputs are made of the seed and of the feedback alone;
//! every input that panics or needs too much is written to a file before the
//! next one runs, and the input that is running is in the file `current`, for
//! what ends the process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::limits;
use super::mutate::mutate;
use super::random::Random;
use super::targets::Target;

/// Inputs are not made longer than this.
const INPUT_MAX: usize = 1 << 20;
/// Inputs that are kept; the seeds always are.
const KEPT_MAX: usize = 20_000;
/// Without feedback, one in so many inputs is kept to be changed further.
const KEPT_BLINDLY: usize = 64;
/// And so many of those at a time.
const KEPT_BLINDLY_MAX: usize = 256;

/// Whether the last run reached something that none did before. `None` where
/// the program was not built to know.
pub type Feedback<'a> = dyn FnMut() -> Option<bool> + 'a;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Inputs that were run.
    pub runs: u64,
    /// Inputs that are kept.
    pub kept: usize,
    /// Files with inputs that failed.
    pub findings: Vec<PathBuf>,
}

/// Where things are kept.
#[derive(Clone, Debug)]
pub struct Places {
    /// Inputs that failed.
    pub findings: PathBuf,
    /// Inputs that found something new, taken up by the next run; nowhere if
    /// there is no feedback.
    pub corpus: Option<PathBuf>,
}

/// Fuzzes `target` for as long as `time`.
pub fn fuzz(
    target: &Target,
    time: Duration,
    seed: u64,
    places: &Places,
    feedback: &mut Feedback<'_>,
) -> std::io::Result<Report> {
    fs::create_dir_all(&places.findings)?;
    let current = places.findings.join(format!("{}-current", target.name));
    let current = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(current)?;
    let mut random = Random::new(seed);
    let mut inputs = (target.seeds)();
    let seeds = inputs.len();
    if let Some(corpus) = &places.corpus {
        inputs.extend(load(corpus)?);
    }
    let mut report = Report::default();
    for input in inputs.clone() {
        run(target, &input, (places, &current), &mut report)?;
        feedback();
    }
    let until = Instant::now() + time;
    while Instant::now() < until {
        // The newest inputs are the ones that lead on.
        let recent = inputs.len().saturating_sub(32);
        let from = match random.one_in(3) {
            true => recent + random.below(inputs.len() - recent),
            false => random.below(inputs.len()),
        };
        let mut input = inputs[from].clone();
        let other = &inputs[random.below(inputs.len())];
        mutate(&mut input, other, target.format, &mut random);
        input.truncate(INPUT_MAX);
        run(target, &input, (places, &current), &mut report)?;
        match feedback() {
            Some(true) if inputs.len() < KEPT_MAX => {
                if let Some(corpus) = &places.corpus {
                    fs::write(corpus.join(name_of(&input)), &input)?;
                }
                inputs.push(input);
            }
            None if random.one_in(KEPT_BLINDLY) => match inputs.len() - seeds {
                KEPT_BLINDLY_MAX => {
                    let old = seeds + random.below(KEPT_BLINDLY_MAX);
                    inputs[old] = input;
                }
                _ => inputs.push(input),
            },
            _ => {}
        }
    }
    report.kept = inputs.len();
    Ok(report)
}

/// Runs one input, and writes it down if it fails.
fn run(
    target: &Target,
    input: &[u8],
    (places, current): (&Places, &File),
    report: &mut Report,
) -> std::io::Result<()> {
    // Not made anew: what was truncated to nothing is written out at once.
    current.write_all_at(input, 0)?;
    current.set_len(input.len().max(1) as u64)?;
    report.runs += 1;
    if let Err(what) = once(target, input) {
        let path = places
            .findings
            .join(format!("{}-{}", target.name, name_of(input)));
        eprintln!("FINDING: {}: {what}: {}", target.name, path.display());
        fs::write(&path, input)?;
        report.findings.push(path);
    }
    Ok(())
}

/// Runs one input; what is wrong is the error.
pub fn once(target: &Target, input: &[u8]) -> Result<(), String> {
    let running = limits::begin(|| format!("{} of {} bytes", target.name, input.len()));
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let bounded = running.end();
    match ran {
        Ok(()) => bounded,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("a panic").to_owned())
        }
    }
}

fn load(corpus: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    fs::create_dir_all(corpus)?;
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}

fn name_of(input: &[u8]) -> String {
    format!("{:08x}{:06x}", crc32fast::hash(input), input.len())
}
