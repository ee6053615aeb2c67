//! Progress on a terminal: a bar while an archive is indexed.
//!
//! Draws on standard error and only if that is a terminal; leaves nothing
//! behind when it is done.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the bytes of an archive.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar for `total_bytes`, labelled with the archive's name.
    pub(super) fn new(label: &str, total_bytes: u64) -> Self {
        if !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(
            Some(total_bytes),
            ProgressDrawTarget::stderr_with_hz(10),
        );
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    /// A bar for so many records of a trace.
    pub(super) fn of_records(label: &str, total: u64) -> Self {
        let bar = Self::new(label, total);
        let template = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.0.set_style(style);
        }
        bar
    }

    /// Moves the bar to `bytes`.
    pub(super) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
