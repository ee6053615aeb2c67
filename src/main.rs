//! The `distrofs` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    distrofs::cli::run()
}
