//! The command line: what the user typed becomes a validated job.
//!
//! Exit status: 0 done, 1 the job failed or what it judged is bad, 2 wrong usage. Errors go to standard
//! error as one line that begins with `distrofs:` and says what to do next.

mod admin;
mod args;
mod cat;
mod doctor;
mod index;
mod inspect;
mod lab;
mod logging;
mod ls;
mod mount;
mod opening;
mod profile;
mod progress;

mod run;
mod serve;
mod served;
mod service;
mod serving;

mod stats;
mod text;
mod umount;
mod verify;
mod view;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use logging::{Logging, Origin};

use crate::supervisor;

/// A failed job; what the user is told.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    crate::sys::alloc::tune();
    let args = Args::parse();
    let logging = Logging::new(args.verbose, args.log_format);
    match &args.command {
        // Its settings say how.
        Command::Serve(_) => {}
        Command::Api { .. } => logging.start(Origin::of(supervisor::API)),
        Command::Worker { home } => logging.start(Origin::of_home(supervisor::WORKER, home)),
        Command::EmperorLog { home } => logging.start(Origin::of_home(supervisor::APPEND, home)),
        _ => logging.start(Origin::of("command")),
    }
    let done = match args.command {
        Command::Index(job) => index::run(&job),
        Command::Mount(job) => return mount::run(job),
        Command::Run(job) => return run::run(job),
        Command::Umount(job) => umount::run(&job),
        Command::Ls(job) => ls::run(&job),
        Command::Cat(job) => cat::run(&job),
        Command::Stats(job) => stats::run(&job),
        Command::View(job) => view::run(&job),
        Command::Serve(job) => serve::run(&job, logging),
        Command::Attach(job) => service::attach(job),
        Command::Detach(job) => service::detach(&job),
        Command::Status(job) => service::status(&job),
        Command::Image(job) => return conclude(service::image(job)),
        Command::Admin(job) => admin::run(job),
        Command::Abort(job) => service::abort(job),
        Command::Worker { home } => serve::work(&home),
        Command::Api { run } => serve::api(&run),
        Command::EmperorLog { .. } => return serve::append(),
        Command::Profile(job) => profile::run(&job),
        Command::Lab(job) => lab::run(job),
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
            logging::say(tracing::Level::ERROR, &error.to_string());
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
