//! Metrics of each mount.

use std::collections::BTreeMap;

use super::{Families, Home, Type, mounts};
use crate::api::exposition::Labels;
use crate::metrics::{Counters, LATENCY_BUCKETS, Op, RequestStats};

/// What is mounted, and what is counted of each.
pub(super) fn of_images(of: &mut Families<'_>) {
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

/// What the kernel asks.
pub(super) fn of_requests(of: &mut Families<'_>) {
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
