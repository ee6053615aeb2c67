//! The command line: what the user typed becomes a validated job.
//!
//! Exit status: 0 done, 1 the job failed or what it judged is bad, 2 wrong usage. Errors go to standard
//! error as one line that begins with `distrofs:` and says what to do next.

mod args;
mod cat;
mod doctor;
mod index;
mod inspect;
mod ls;
mod mount;
mod opening;
mod progress;

mod run;
mod serve;
mod served;
mod service;
mod serving;

mod stats;
mod table;
mod text;
mod umount;
mod verify;
mod view;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// A failed job; what the user is told.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    crate::sys::alloc::tune();
    let args = Args::parse();
    start_logging(args.verbose);
    let done = match args.command {
        Command::Index(job) => index::run(&job),
        Command::Mount(job) => return mount::run(job),
        Command::Run(job) => return run::run(job),
        Command::Umount(job) => umount::run(&job),
        Command::Ls(job) => ls::run(&job),
        Command::Cat(job) => cat::run(&job),
        Command::Stats(job) => stats::run(&job),
        Command::View(job) => view::run(&job),
        Command::Serve(job) => serve::run(&job),
        Command::Attach(job) => service::attach(job),
        Command::Status(job) => service::status(&job),
        Command::Abort(job) => service::abort(job),
        Command::Worker { home } => serve::work(&home),
        Command::Inspect(job) => return conclude(inspect::run(&job)),
        Command::Verify(job) => return conclude(verify::run(&job)),
        Command::Doctor(job) => return conclude(doctor::run(&job)),
    };
    finish(done)
}

fn finish(done: Result<(), Failure>) -> ExitCode {
    conclude(done.map(|()| Verdict::Good))
}

/// What a job that judges something found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Said on standard output; the exit status tells scripts.
    Bad,
}

fn conclude(done: Result<Verdict, Failure>) -> ExitCode {
    match done {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("distrofs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether somebody like `head` has read enough.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Logs to standard error: warnings, or what `-v`, `-vv` or `DISTROFS_LOG` ask
/// for.
fn start_logging(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("DISTROFS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
