//! `distrofs-fuzz`: see `usage`, or `scripts/fuzz` and `scripts/torture`,
//! which build and call this.

mod coverage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use distrofs_fuzz::driver::{Places, fuzz, once};
use distrofs_fuzz::limits::{Counting, begin};
use distrofs_fuzz::targets::{ALL, Target};
use distrofs_fuzz::torture::{Kind, Suite};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often a long run says where it is.
const SAY_EVERY: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["list"] => list(),
        ["run", seconds] => run(ALL.as_slice(), seconds, "0"),
        ["run", seconds, name] => find(name).and_then(|t| run(&[t], seconds, "0")),
        ["run", seconds, name, seed] => find(name).and_then(|t| run(&[t], seconds, seed)),
        ["case", name, ref files @ ..] if !files.is_empty() => {
            find(name).and_then(|target| cases(target, files))
        }
        ["torture", cases] => torture(cases, "1", "0"),
        ["torture", cases, seed] => torture(cases, seed, "0"),
        ["torture", cases, seed, first] => torture(cases, seed, first),
        _ => Err(usage()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("distrofs-fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    "list | run SECONDS [TARGET [SEED]] | case TARGET FILE... | torture CASES [SEED [FIRST]]"
        .to_owned()
}

fn find(name: &str) -> Result<Target, String> {
    let found = ALL.into_iter().find(|target| target.name == name);
    found.ok_or_else(|| format!("no target {name:?}: `list` names them"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn list() -> Result<(), String> {
    for target in ALL {
        println!("{:8} {}", target.name, target.about);
    }
    Ok(())
}

/// Where findings and corpora are, given by the scripts.
fn places(name: &str) -> Places {
    let dir = std::env::var_os("DISTROFS_FUZZ_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    Places {
        findings: dir.join("findings"),
        corpus: coverage::is_built_in().then(|| dir.join("corpus").join(name)),
    }
}

fn run(targets: &[Target], seconds: &str, seed: &str) -> Result<(), String> {
    let (time, seed) = (Duration::from_secs(number(seconds)?), number(seed)?);
    // Panics are findings, in one line each.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("panic at {place}");
        }
    }));
    let mut findings = 0;
    for target in targets {
        let began = Instant::now();
        coverage::forget();
        let report = fuzz(target, time, seed, &places(target.name), &mut || {
            coverage::found_something()
        });
        let report = report.map_err(|e| format!("cannot write: {e}"))?;
        println!(
            "{:8} {} inputs in {:.0} s, {} kept{}, {} findings",
            target.name,
            report.runs,
            began.elapsed().as_secs_f64(),
            report.kept,
            match coverage::reached() {
                Some(places) => format!(", {places} places of the code reached"),
                None => String::new(),
            },
            report.findings.len()
        );
        findings += report.findings.len();
    }
    match findings {
        0 => Ok(()),
        n => Err(format!("{n} findings")),
    }
}

fn cases(target: Target, files: &[&str]) -> Result<(), String> {
    for file in files {
        let input = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
        once(&target, &input).map_err(|e| format!("{file}: {e}"))?;
        println!("{file}: nothing wrong");
    }
    Ok(())
}

fn torture(cases: &str, seed: &str, first: &str) -> Result<(), String> {
    let (cases, seed, first) = (number(cases)?, number(seed)?, number(first)?);
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let suite = Suite::new(dir.path(), seed)?;
    let (began, mut said) = (Instant::now(), Instant::now());
    // For each kind: cases, refused as a whole, answers right and refused.
    let mut counts = [[0; 4]; Kind::ALL.len()];
    let mut wrong = 0;
    for case in first..first + cases {
        let running = begin(|| format!("case {case} of seed {seed}"));
        let outcome = std::panic::catch_unwind(|| suite.case(case));
        let outcome = outcome.unwrap_or_else(|_| Err(format!("case {case}: a panic")));
        match outcome.and_then(|outcome| running.end().map(|()| outcome)) {
            Ok(outcome) => {
                let count = &mut counts[outcome.kind as usize];
                let refused = u64::from(outcome.refused);
                let more = [1, refused, outcome.tally.right, outcome.tally.refused];
                count.iter_mut().zip(more).for_each(|(n, more)| *n += more);
            }
            Err(what) => {
                eprintln!("WRONG: {what}");
                wrong += 1;
            }
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            println!("{} cases, {wrong} wrong", case - first + 1);
        }
    }
    for (kind, [cases, refused, right, errors]) in Kind::ALL.iter().zip(counts) {
        println!(
            "{:8} {cases} cases: {refused} refused as a whole; \
             otherwise {right} answers right, {errors} refused",
            format!("{kind:?}")
        );
    }
    let took = began.elapsed().as_secs_f64();
    println!("{cases} cases of seed {seed} in {took:.0} s: {wrong} wrong");
    match wrong {
        0 => Ok(()),
        n => Err(format!("{n} cases went wrong")),
    }
}
