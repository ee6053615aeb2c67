//! Restarting a container, in the way that the settings say.
//!
//! Guarantees: no shell is asked; a command that does not end is ended. So many at a
//! time. Without a command the file that an Emperor watches is touched, if it is
//! there: it is never made, and no link is followed at its end.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, UTIME_NOW, statat, utimensat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::ServeConfig;

/// How long a command may take.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many commands may run at a time.
const COMMANDS_MAX: usize = 8;

/// What a command finds programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Restarts a container.
pub(super) fn restart(config: &ServeConfig, container: u32) -> io::Result<()> {
    let filled = |text: &String| text.replace("{uid}", &container.to_string());
    match config.restart.split_first() {
        Some((program, args)) => {
            let running = RUNNING.fetch_add(1, Ordering::Relaxed);
            let done = match running < COMMANDS_MAX {
                true => run(&filled(program), args.iter().map(filled)),
                false => Err(io::Error::other("too many containers are being restarted")),
            };
            RUNNING.fetch_sub(1, Ordering::Relaxed);
            done
        }
        None => touch(&filled(&config.vassal)),
    }
}

fn run(program: &str, args: impl Iterator<Item = String>) -> io::Result<()> {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    crate::sys::signal::unblock_in(&mut command);
    let failed = |error: io::Error| io::Error::other(format!("{program}: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let began = Instant::now();
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(failed(io::Error::other(format!("{status}")))),
            None if began.elapsed() < WITHIN => std::thread::sleep(LOOK_EVERY),
            None => break,
        }
    }
    // With all that it started.
    let _ended = kill_process_group(Pid::from_child(&child), Signal::KILL).is_err();
    child.wait().map_err(failed)?;
    Err(failed(io::Error::other(format!(
        "it did not end within {WITHIN:?}"
    ))))
}

fn touch(file: &str) -> io::Result<()> {
    let failed = |error: Errno| io::Error::other(format!("{file}: {error}"));
    match statat(CWD, file, AtFlags::SYMLINK_NOFOLLOW) {
        // It does not run.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => {}
        Ok(_) => return Err(io::Error::other(format!("{file}: it is no regular file"))),
    }
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    utimensat(CWD, file, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(restart: &[&str], vassal: &str) -> ServeConfig {
        ServeConfig {
            restart: restart.iter().map(ToString::to_string).collect(),
            vassal: vassal.to_owned(),
            ..ServeConfig::default()
        }
    }

    #[test]
    fn the_vassal_is_touched_if_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let vassal = format!("{}/{{uid}}.ini", dir.path().display());
        let config = config(&[], &vassal);
        restart(&config, 7).unwrap();
        let file = dir.path().join("7.ini");
        assert!(!file.exists());
        fs::write(&file, "").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        let touched = || fs::symlink_metadata(&file).unwrap().modified().unwrap();
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(old)
            .unwrap();
        restart(&config, 7).unwrap();
        assert!(touched() > old);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        restart(&config, 7).unwrap_err();
    }

    #[test]
    fn a_command_is_told_which_and_has_to_succeed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let script = format!("echo {{uid}} $HOME >{}", file.display());
        restart(&config(&["sh", "-c", &script], "/x"), 7).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "7\n");
        for failing in [&["false"][..], &["/no/such/program"]] {
            let error = restart(&config(failing, "/x"), 7).unwrap_err();
            assert!(error.to_string().starts_with(failing[0]), "{error}");
        }
    }
}
