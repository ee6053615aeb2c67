//! Going into the background, in real processes.
//!
//! Has no test harness: `background` wants a process with one thread, so each
//! case runs in a process of its own, which is this very program.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use distrofs::sys::daemon::{Ready, background};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("case-ready") => case(work_that_gets_ready),
        Some("case-fails") => case(|_| 7),
        Some("case-dies") => case(|_| std::process::abort()),
        Some("case-threads") => {
            let (_hold, held) = std::sync::mpsc::channel::<()>();
            let _waiting = std::thread::spawn(move || held.recv());
            let error = background(|_| 0).unwrap_err();
            print!("{error}");
        }
        // What the test harness would be asked; there is one test.
        Some("--list") => println!("background: test"),
        _ => {
            the_waiting_process_ends_when_the_worker_is_ready();
            the_waiting_process_passes_on_how_the_worker_ended();
            threads_are_refused();
            println!("background: 3 cases passed");
        }
    }
}

fn case(work: impl FnOnce(Ready) -> u8) {
    let status = background(work).unwrap();
    std::process::exit(status.into());
}

/// Says where it is, before and after it got ready.
fn work_that_gets_ready(ready: Ready) -> u8 {
    let path = std::env::args().nth(2).unwrap();
    let session = || common::program::session("self");
    let before = session();
    println!("before");
    ready.tell().unwrap();
    println!("after: nobody sees this");
    let (pid, cwd) = (
        i32::try_from(std::process::id()).unwrap(),
        std::env::current_dir().unwrap(),
    );
    let apart = before != session() && session() == pid;
    let mut file = File::create(path).unwrap();
    write!(file, "{apart} {}", cwd.display()).unwrap();
    0
}

fn run(arguments: &[&str]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn the_waiting_process_ends_when_the_worker_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result");
    // A fifo: opening it for reading waits for the worker.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let output = run(&["case-ready", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"before\n");
    let mut result = String::new();
    File::open(&path)
        .unwrap()
        .read_to_string(&mut result)
        .unwrap();
    assert_eq!(result, "true /");
}

fn the_waiting_process_passes_on_how_the_worker_ended() {
    assert_eq!(run(&["case-fails"]).status.code(), Some(7));
    assert_eq!(run(&["case-dies"]).status.code(), Some(128 + 6));
}

fn threads_are_refused() {
    let output = run(&["case-threads"]);
    assert_eq!(
        output.stdout, b"cannot start a process with 2 threads",
        "{output:?}"
    );
}
