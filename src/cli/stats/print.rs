//! How `stats` shows a report, and what happened since the one before.

use std::io::{self, Write};

use crate::cli::text;
use crate::text::table::{Align, Table};
use crate::wire::served::{Memory, Report, Share};

/// An earlier report, and how long ago that was.
pub(super) struct Since<'a> {
    pub(super) report: &'a Report,
    pub(super) seconds: f64,
}

impl Since<'_> {
    /// What a number that only grows grew by in a second.
    fn rate(&self, now: u64, before: u64) -> f64 {
        now.saturating_sub(before) as f64 / self.seconds.max(0.001)
    }
}

pub(super) fn print(
    report: &Report,
    since: Option<&Since<'_>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let image = &report.image;
    writeln!(
        out,
        "{}: {} entries, {} of content, mounted for {}",
        text::printable(image.archive.as_bytes()),
        text::count(image.entries),
        text::bytes(image.content_bytes),
        text::duration(report.uptime_seconds),
    )?;
    writeln!(out)?;
    ratios(report, out)?;
    writeln!(out)?;
    memory(&report.memory, out)?;
    writeln!(out)?;
    counters(report, since, out)?;
    writeln!(out)?;
    requests(report, since, out)
}

fn ratios(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let counter = |name: &str| report.snapshot.counters.get(name).copied().unwrap_or(0);
    let hits = counter("cache_hit_blocks");
    let asked = hits + counter("cache_miss_blocks") + counter("cache_joined_blocks");
    let (decoded, served) = (counter("decoded_bytes"), counter("served_bytes"));
    writeln!(
        out,
        "cache     {} of {} blocks were there ({}), {} evicted",
        text::count(hits),
        text::count(asked),
        ratio(hits as f64 * 100.0, asked, " %"),
        text::count(counter("cache_evicted_blocks")),
    )?;
    writeln!(
        out,
        "content   {} decoded for {} served ({})",
        text::bytes(decoded),
        text::bytes(served),
        ratio(decoded as f64, served, " decoded for each byte served"),
    )
}

fn ratio(part: f64, of: u64, unit: &str) -> String {
    match of {
        0 => "nothing yet".to_owned(),
        of => format!("{:.2}{unit}", part / of as f64),
    }
}

fn memory(memory: &Memory, out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        ("memory", Align::Left),
        ("used", Align::Right),
        ("limit", Align::Right),
    ];
    let mut table = Table::new(columns);
    for (name, Share { used, limit }) in [
        ("blocks", memory.blocks),
        ("decoders", memory.decoders),
        ("buffers", memory.buffers),
    ] {
        table.row([name.to_owned(), text::bytes(used), text::bytes(limit)]);
    }
    let mut whole = |name: &str, bytes, limit: Option<u64>| {
        let limit = limit.map_or(String::new(), text::bytes);
        table.row([name.to_owned(), text::bytes(bytes), limit]);
    };
    whole("resident", memory.resident_bytes, Some(memory.budget_bytes));
    whole("of that, reclaimable", memory.resident_file_bytes, None);
    whole(
        "resident at most",
        memory.peak_bytes,
        Some(memory.budget_bytes),
    );
    whole("mapped index", memory.index_mapped_bytes, None);
    table.write(out, "")
}

fn counters(report: &Report, since: Option<&Since<'_>>, out: &mut dyn Write) -> io::Result<()> {
    let rate_title = if since.is_some() { "per second" } else { "" };
    let columns = [
        ("counter", Align::Left),
        ("total", Align::Right),
        (rate_title, Align::Right),
    ];
    let mut table = Table::new(columns);
    for (name, value) in &report.snapshot.counters {
        let rate = since.map_or(String::new(), |since| {
            let before = since.report.snapshot.counters.get(name).copied();
            format!("{:.1}", since.rate(*value, before.unwrap_or(0)))
        });
        table.row([name.clone(), text::count(*value), rate]);
    }
    table.write(out, "")
}

fn requests(report: &Report, since: Option<&Since<'_>>, out: &mut dyn Write) -> io::Result<()> {
    let rate_title = if since.is_some() { "per second" } else { "" };
    let columns = [
        ("request", Align::Left),
        ("count", Align::Right),
        ("mean us", Align::Right),
        ("p50 us", Align::Right),
        ("p90 us", Align::Right),
        ("p99 us", Align::Right),
        ("max us", Align::Right),
        (rate_title, Align::Right),
    ];
    let mut table = Table::new(columns);
    for (name, stats) in &report.snapshot.requests {
        let rate = since.map_or(String::new(), |since| {
            let before = since.report.snapshot.requests.get(name);
            format!(
                "{:.1}",
                since.rate(stats.count, before.map_or(0, |b| b.count))
            )
        });
        let below = |us: u64| format!("<{}", text::count(us));
        table.row([
            name.clone(),
            text::count(stats.count),
            text::count(stats.mean_us),
            below(stats.p50_us),
            below(stats.p90_us),
            below(stats.p99_us),
            below(stats.max_us),
            rate,
        ]);
    }
    table.write(out, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::RequestStats;

    fn report(served: u64, reads: u64) -> Report {
        let mut report = Report::default();
        let counters = &mut report.snapshot.counters;
        counters.insert("served_bytes".into(), served);
        counters.insert("decoded_bytes".into(), 3 * served);
        counters.insert("cache_hit_blocks".into(), 3);
        counters.insert("cache_miss_blocks".into(), 1);
        let stats = RequestStats {
            count: reads,
            ..RequestStats::default()
        };
        report.snapshot.requests.insert("read".into(), stats);
        report
    }

    #[test]
    fn ratios_and_rates_are_what_they_say() {
        let (before, now) = (report(1000, 10), report(5000, 30));
        let since = Since {
            report: &before,
            seconds: 2.0,
        };
        let mut text = Vec::new();
        print(&now, Some(&since), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let has = |start: &str, end: &str| {
            text.lines()
                .any(|l| l.starts_with(start) && l.ends_with(end))
        };
        assert!(
            text.contains("3 of 4 blocks were there (75.00 %)"),
            "{text}"
        );
        assert!(
            text.contains("(3.00 decoded for each byte served)"),
            "{text}"
        );
        assert!(
            has("served_bytes", " 2000.0") && has("read ", " 10.0"),
            "{text}"
        );
        let mut alone = Vec::new();
        print(&now, None, &mut alone).unwrap();
        assert!(!String::from_utf8(alone).unwrap().contains("per second"));
    }
}
