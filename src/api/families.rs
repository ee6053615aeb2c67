//! The metrics that there are: documented in `docs/metrics.md`.
//!
//! Guarantees: a name, and the names and number of series, never depend on what a
//! worker says, which parses what customers upload: of what it tells only numbers are
//! taken, for what the supervisor knows to be mounted.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::exposition::{Exposition, Labels, Type};
use crate::metrics::{Counters, LATENCY_BUCKETS, Op, RequestStats};
use crate::wire::report::{HomeStatus, ImageStatus, Status};
use crate::wire::served::{ImageReport, Memory, WorkerReport};

/// A home, and what its worker tells if it does.
struct Home<'a> {
    status: &'a HomeStatus,
    report: Option<&'a WorkerReport>,
    /// By the numbers of mounts.
    images: BTreeMap<u32, &'a ImageReport>,
}

impl<'a> Home<'a> {
    fn new(status: &'a HomeStatus, report: &'a Option<WorkerReport>) -> Home<'a> {
        let report = report.as_ref();
        let images = report.iter().flat_map(|report| &report.images);
        Home {
            status,
            report,
            images: images.map(|image| (image.mount, image)).collect(),
        }
    }
}

/// The text of all metrics. There is a report for each home of `status`, or none.
pub(super) fn text(status: &Status, reports: &[Option<WorkerReport>]) -> String {
    let all = status.homes.iter().zip(reports);
    let homes: Vec<_> = all.map(|(home, report)| Home::new(home, report)).collect();
    let mut text = Exposition::default();
    of_service(&mut text, status);
    let mut of = Families {
        text: &mut text,
        homes: &homes,
    };
    of_workers(&mut of);
    of_views(&mut of);
    of_ingest(&mut of);
    of_memory(&mut of);
    of_images(&mut of);
    of_requests(&mut of);
    text.finish()
}

/// Writes families with samples of each home, or each mount.
struct Families<'a> {
    text: &'a mut Exposition,
    homes: &'a [Home<'a>],
}

impl Families<'_> {
    /// A sample of each home that has one.
    fn home<D: Display>(
        &mut self,
        (name, kind, help): (&str, Type, &str),
        value: impl Fn(&Home<'_>) -> Option<D>,
    ) {
        let mut family = self.text.family(name, kind, help);
        for home in self.homes {
            if let Some(value) = value(home) {
                family.sample(&[("home", &home.status.home)], value);
            }
        }
    }

    /// A sample of each mount that has one.
    fn mount<D: Display>(
        &mut self,
        (name, kind, help): (&str, Type, &str),
        value: impl Fn(&ImageReport) -> Option<D>,
    ) {
        let mut family = self.text.family(name, kind, help);
        for (labels, image) in mounts(self.homes) {
            if let Some(value) = image.and_then(&value) {
                family.sample(&labels.list(), value);
            }
        }
    }
}

/// What tells one mount from all others.
struct Mount<'a> {
    home: u32,
    status: &'a ImageStatus,
}

impl Mount<'_> {
    fn list(&self) -> [(&'static str, &dyn Display); 3] {
        [
            ("home", &self.home),
            ("image", &self.status.path),
            ("mount", &self.status.mount),
        ]
    }
}

/// All mounts, with what their worker tells.
fn mounts<'a>(homes: &'a [Home<'_>]) -> impl Iterator<Item = (Mount<'a>, Option<&'a ImageReport>)> {
    homes.iter().flat_map(|home| {
        home.status.images.iter().map(|status| {
            let mount = Mount {
                home: home.status.home,
                status,
            };
            (mount, home.images.get(&status.mount).copied())
        })
    })
}

fn of_service(text: &mut Exposition, status: &Status) {
    text.family(
        "distrofs_build_info",
        Type::Gauge,
        "1, with the version of the program.",
    )
    .sample(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
    text.family("distrofs_homes", Type::Gauge, "Homes that are served.")
        .sample(&[], status.homes.len());
    let mut lines = text.family(
        "distrofs_log_lines_total",
        Type::Counter,
        "Lines for the logs of containers, by what became of them.",
    );
    let counted = status.lines;
    for (result, count) in [
        ("written", counted.written),
        ("failed", counted.failed),
        ("dropped", counted.dropped),
    ] {
        lines.sample(&[("result", &result)], count);
    }
}

fn of_workers(of: &mut Families<'_>) {
    use Type::{Counter, Gauge};
    of.home(
        (
            "distrofs_worker_up",
            Gauge,
            "Whether the home has a worker at this moment.",
        ),
        |home| Some(u8::from(home.status.worker.is_some())),
    );
    of.home(
        (
            "distrofs_worker_answers",
            Gauge,
            "Whether its worker told how it is doing: without that other metrics are missing.",
        ),
        |home| Some(u8::from(home.report.is_some())),
    );
    of.home(
        (
            "distrofs_worker_restarts_total",
            Counter,
            "Workers that were started in place of one that died.",
        ),
        |home| Some(home.status.restarts),
    );
    of.home(
        (
            "distrofs_worker_uptime_seconds",
            Gauge,
            "Since its worker was started.",
        ),
        |home| Some(home.report?.uptime_seconds),
    );
    of.home(
        (
            "distrofs_other_processes",
            Gauge,
            "Processes of the storage container that are not of distrofs.",
        ),
        |home| Some(home.status.other_processes),
    );
}

fn of_views(of: &mut Families<'_>) {
    use Type::{Counter, Gauge};
    of.home(
        (
            "distrofs_views_attached_total",
            Counter,
            "Views that were handed out to containers.",
        ),
        |home| Some(home.status.views.attached),
    );
    of.home(
        (
            "distrofs_views_refused_total",
            Counter,
            "Views that containers asked for in vain.",
        ),
        |home| Some(home.status.views.refused),
    );
    of.home(
        (
            "distrofs_view_containers",
            Gauge,
            "Containers that got a view since the service was started.",
        ),
        |home| Some(home.status.views.containers),
    );
}

fn of_ingest(of: &mut Families<'_>) {
    use Type::Counter;
    let mut family = of.text.family(
        "distrofs_ingest_uploads_total",
        Counter,
        "Uploads, by what became of them.",
    );
    for home in of.homes {
        let Some(report) = home.report else { continue };
        for (result, count) in [
            ("taken", report.ingest.taken),
            ("rejected", report.ingest.rejected),
            ("refused", report.ingest.refused),
            ("failed", report.ingest.failed),
        ] {
            family.sample(&[("home", &home.status.home), ("result", &result)], count);
        }
    }
    of.home(
        (
            "distrofs_ingest_bytes_total",
            Counter,
            "Size of the uploads that were taken in.",
        ),
        |home| Some(home.report?.ingest.taken_bytes),
    );
    of.home(
        (
            "distrofs_ingest_seconds_total",
            Counter,
            "How long taking them in took.",
        ),
        |home| Some(home.report?.ingest.taken_seconds),
    );
}

fn of_memory(of: &mut Families<'_>) {
    use Type::Gauge;
    of.home(
        (
            "distrofs_memory_budget_bytes",
            Gauge,
            "What a worker stays within, for everything.",
        ),
        |home| Some(home.report?.memory.budget_bytes),
    );
    by_kind(
        of,
        "distrofs_memory_used_bytes",
        "Memory that is reserved, by kind.",
        |memory| {
            [
                memory.blocks.used,
                memory.decoders.used,
                memory.buffers.used,
            ]
        },
    );
    by_kind(
        of,
        "distrofs_memory_limit_bytes",
        "The most that may be reserved, by kind.",
        |memory| {
            [
                memory.blocks.limit,
                memory.decoders.limit,
                memory.buffers.limit,
            ]
        },
    );
    of.home(
        (
            "distrofs_memory_resident_bytes",
            Gauge,
            "Memory of the worker's process.",
        ),
        |home| Some(home.report?.memory.resident_bytes),
    );
    of.home(
        (
            "distrofs_memory_index_resident_bytes",
            Gauge,
            "Of that, pages of mapped files, indexes above all: the kernel can take them back.",
        ),
        |home| Some(home.report?.memory.resident_file_bytes),
    );
    of.home(
        (
            "distrofs_memory_peak_bytes",
            Gauge,
            "The most that the worker's process ever had.",
        ),
        |home| Some(home.report?.memory.peak_bytes),
    );
    of.home(
        (
            "distrofs_cgroup_memory_bytes",
            Gauge,
            "Memory of the worker's control group, page cache included.",
        ),
        |home| home.status.memory_bytes,
    );
    of.home(
        (
            "distrofs_cgroup_memory_limit_bytes",
            Gauge,
            "What that group may take.",
        ),
        |home| {
            home.status
                .memory_bytes
                .map(|_| home.status.memory_limit_bytes)
        },
    );
}

fn by_kind(of: &mut Families<'_>, name: &str, help: &str, bytes: impl Fn(&Memory) -> [u64; 3]) {
    let mut family = of.text.family(name, Type::Gauge, help);
    for home in of.homes {
        let Some(report) = home.report else { continue };
        let kinds = ["blocks", "decoders", "buffers"].into_iter();
        for (kind, bytes) in kinds.zip(bytes(&report.memory)) {
            family.sample(&[("home", &home.status.home), ("kind", &kind)], bytes);
        }
    }
}

fn of_images(of: &mut Families<'_>) {
    use Type::{Counter, Gauge};
    of.home(
        (
            "distrofs_images",
            Gauge,
            "Images that new starts of containers get.",
        ),
        |home| {
            let images = home.status.images.iter();
            Some(images.filter(|image| image.is_current).count())
        },
    );
    of.home(
        (
            "distrofs_mounts",
            Gauge,
            "Versions of images that are mounted, also those that only containers of before have.",
        ),
        |home| Some(home.status.images.len()),
    );
    let mut family = of.text.family(
        "distrofs_image_info",
        Gauge,
        "1, with the version of a mount, and whether new starts get it.",
    );
    for (mount, _) in mounts(of.homes) {
        let [home, image, number] = mount.list();
        let status = mount.status;
        let (version, current) = (status.version.short(), status.is_current);
        family.sample(
            &[
                home,
                image,
                number,
                ("version", &version),
                ("current", &current),
            ],
            1,
        );
    }
    of.mount(
        (
            "distrofs_image_entries",
            Gauge,
            "Files and directories of an image.",
        ),
        |image| Some(image.report.image.entries),
    );
    of.mount(
        (
            "distrofs_image_index_bytes",
            Gauge,
            "Size of an image's index, which is mapped.",
        ),
        |image| Some(image.report.memory.index_mapped_bytes),
    );
    for (name, help) in Counters::ALL {
        of.mount(
            (&format!("distrofs_{name}_total"), Counter, help),
            |image| image.report.snapshot.counters.get(*name).copied(),
        );
    }
}

fn of_requests(of: &mut Families<'_>) {
    use Type::{Counter, Gauge, Histogram};
    let mut family = of.text.family(
        "distrofs_requests_total",
        Counter,
        "Requests of the kernel that arrived.",
    );
    each_op(of.homes, |labels, stats| {
        family.sample(labels, stats.count);
    });
    let mut family = of.text.family(
        "distrofs_request_duration_seconds",
        Histogram,
        "How long requests took to answer.",
    );
    each_op(of.homes, |labels, stats| {
        if stats.buckets.iter().any(|count| *count > 0) {
            let sum = stats.total_us as f64 / 1e6;
            family.histogram(labels, bounds(), &stats.buckets, sum);
        }
    });
    of.mount(
        (
            "distrofs_requests_in_progress",
            Gauge,
            "Requests that are not answered yet.",
        ),
        |image| Some(in_progress(&image.report.snapshot.requests)),
    );
    of.mount(
        (
            "distrofs_oldest_request_seconds",
            Gauge,
            "How long the oldest of them is in progress; 0 without any.",
        ),
        |image| Some(image.oldest_request_seconds),
    );
}

/// The requests of each kind that a mount had.
fn each_op(homes: &[Home<'_>], mut sample: impl FnMut(&Labels<'_>, &RequestStats)) {
    for (mount, report) in mounts(homes) {
        let Some(report) = report else { continue };
        let [home, image, number] = mount.list();
        for op in Op::ALL {
            let name = op.name();
            if let Some(stats) = report.report.snapshot.requests.get(name) {
                sample(&[home, image, number, ("op", &name)], stats);
            }
        }
    }
}

/// What latencies of a bucket are below, in seconds.
fn bounds() -> impl Iterator<Item = f64> {
    (0..LATENCY_BUCKETS - 1).map(|i| (1_u64 << i) as f64 / 1e6)
}

fn in_progress(requests: &BTreeMap<String, RequestStats>) -> u64 {
    let left = |(name, stats): (&String, &RequestStats)| {
        // Nobody waits for an answer to it.
        if name == Op::Forget.name() {
            return 0;
        }
        let answered = stats
            .buckets
            .iter()
            .fold(0, |sum: u64, count| sum.saturating_add(*count));
        stats.count.saturating_sub(answered)
    };
    requests.iter().map(left).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;
    use crate::wire::Version;
    use crate::wire::report::Views;
    use crate::wire::served::{Ingest, Report};

    fn status() -> Status {
        let image = |mount, is_current| ImageStatus {
            path: "debian".parse().unwrap(),
            version: Version([1; 32]),
            is_current,
            mount,
        };
        let home = |home, images| HomeStatus {
            home,
            worker: Some(7),
            restarts: 2,
            memory_bytes: Some(5),
            memory_limit_bytes: 48 << 20,
            other_processes: 0,
            views: Views::default(),
            images,
        };
        Status {
            homes: vec![
                home(30_000, vec![image(1, false), image(2, true)]),
                home(30_001, Vec::new()),
            ],
            ..Status::default()
        }
    }

    fn report(mounts: &[u32]) -> WorkerReport {
        let metrics = Metrics::default();
        for us in [0, 3, 100_000_000] {
            metrics.arrived(Op::Read);
            metrics.answered(Op::Read, Duration::from_micros(us));
        }
        metrics.arrived(Op::Read);
        metrics.arrived(Op::Forget);
        let mut snapshot = metrics.detailed();
        // What a worker makes up.
        snapshot.counters.insert("x 1\ny".to_owned(), 1);
        snapshot
            .requests
            .insert("z\"".to_owned(), RequestStats::default());
        let image = |mount: &u32| ImageReport {
            mount: *mount,
            path: "another".parse().unwrap(),
            oldest_request_seconds: 1.5,
            report: Report {
                snapshot: snapshot.clone(),
                ..Report::default()
            },
        };
        WorkerReport {
            images: mounts.iter().map(image).collect(),
            ingest: Ingest {
                taken: 1,
                ..Ingest::default()
            },
            ..WorkerReport::default()
        }
    }

    #[test]
    fn what_a_worker_tells_is_told_of_what_is_mounted() {
        let text = text(&status(), &[Some(report(&[2, 2, 9])), None]);
        for line in [
            "distrofs_worker_answers{home=\"30000\"} 1",
            "distrofs_worker_answers{home=\"30001\"} 0",
            "distrofs_images{home=\"30000\"} 1",
            "distrofs_mounts{home=\"30000\"} 2",
            "distrofs_ingest_uploads_total{home=\"30000\",result=\"taken\"} 1",
            "distrofs_cgroup_memory_bytes{home=\"30001\"} 5",
            "distrofs_image_info{home=\"30000\",image=\"debian\",mount=\"2\",\
             version=\"010101010101\",current=\"true\"} 1",
            "distrofs_requests_total{home=\"30000\",image=\"debian\",mount=\"2\",op=\"read\"} 4",
            "distrofs_requests_in_progress{home=\"30000\",image=\"debian\",mount=\"2\"} 1",
            "distrofs_oldest_request_seconds{home=\"30000\",image=\"debian\",mount=\"2\"} 1.5",
            "distrofs_request_duration_seconds_bucket{home=\"30000\",image=\"debian\",mount=\"2\",\
             op=\"read\",le=\"0.000004\"} 2",
            "distrofs_request_duration_seconds_count{home=\"30000\",image=\"debian\",mount=\"2\",\
             op=\"read\"} 3",
            "distrofs_request_duration_seconds_sum{home=\"30000\",image=\"debian\",mount=\"2\",\
             op=\"read\"} 100.000003",
        ] {
            assert_eq!(
                text.lines().filter(|l| *l == line).count(),
                1,
                "{line}: {text}"
            );
        }
        for made_up in ["another", "z\\\"", "mount=\"9\"", "y 1", "op=\"forget\",le"] {
            assert!(!text.contains(made_up), "{made_up}: {text}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let documented = include_str!("../../docs/metrics.md");
        let text = text(&status(), &[Some(report(&[2])), None]);
        let mut names = 0;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                let row = documented
                    .lines()
                    .find(|row| row.starts_with(&format!("| `{name}` |")));
                let row = row.unwrap_or_else(|| panic!("{name} is not in docs/metrics.md"));
                assert_eq!(row.split('|').nth(2).map(str::trim), Some(kind), "{name}");
                names += 1;
            }
        }
        let rows = documented
            .lines()
            .filter(|row| row.starts_with("| `distrofs_"));
        assert_eq!(rows.count(), names, "docs/metrics.md has others, too");
    }
}
