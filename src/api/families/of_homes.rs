//! Metrics of each home.

use super::{Families, Type};
use crate::wire::served::Memory;

/// Processes.
pub(super) fn of_workers(of: &mut Families<'_>) {
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
            "distrofs_tombstones",
            Gauge,
            "Versions of images that are not read any more, as that ended workers.",
        ),
        |home| Some(home.status.tombstones.len()),
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

/// What containers got.
pub(super) fn of_views(of: &mut Families<'_>) {
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

/// What was uploaded.
pub(super) fn of_ingest(of: &mut Families<'_>) {
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

/// Memory, by kind and as the kernel counts it.
pub(super) fn of_memory(of: &mut Families<'_>) {
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
