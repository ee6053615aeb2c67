//! The metrics that there are: documented in `docs/metrics.md`.
//!
//! Guarantees: a name, and the names and number of series, never depend on what a
//! worker says, which parses what customers upload: of what it tells only numbers are
//! taken, for what the supervisor knows to be mounted.

mod of_homes;
mod of_mounts;

use std::collections::BTreeMap;
use std::fmt::Display;

use super::exposition::{Exposition, Type};
use crate::wire::report::{HomeStatus, ImageStatus, Status};
use crate::wire::served::{ImageReport, WorkerReport};

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
    of_homes::of_workers(&mut of);
    of_homes::of_views(&mut of);
    of_homes::of_ingest(&mut of);
    of_homes::of_memory(&mut of);
    of_mounts::of_images(&mut of);
    of_mounts::of_requests(&mut of);
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
    for (name, help, value) in [
        (
            "distrofs_decided_containers",
            "Containers of which the service knows what the registry decided.",
            status.decisions.containers,
        ),
        (
            "distrofs_alarms_waiting",
            "Alarms that the registry has not stored yet.",
            status.decisions.alarms_waiting,
        ),
    ] {
        text.family(name, Type::Gauge, help).sample(&[], value);
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{Metrics, Op, RequestStats};
    use crate::wire::Version;
    use crate::wire::report::Views;
    use crate::wire::served::{Ingest, Report};

    fn status() -> Status {
        let image = |mount, is_current| ImageStatus {
            path: "debian".parse().unwrap(),
            version: Version::new([1; 32]),
            is_current,
            mount,
            is_tombstone: false,
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
            tombstones: Vec::new(),
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
        let documented = include_str!("../../../docs/metrics.md");
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
