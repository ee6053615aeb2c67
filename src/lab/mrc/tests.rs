//! The exact curve is what is simulated, and samples are near it.

use super::super::policy::Rule;
use super::super::random::Random;
use super::super::replay::{self, Setting};
use super::super::testing::{plain, random_reads, read, trace, uneven};
use super::*;
use crate::trace::TracedImage;

const K: u64 = 1 << 10;

/// A plain image, of which only what is asked for is decoded, and one block a read:
/// then the curve is what the simulation finds, point by point.
#[test]
fn the_exact_curve_is_what_is_simulated() {
    let mut random = Random::new(4);
    let images = [plain(uneven(&mut random, 3 << 20, 256))];
    let mut reads = random_reads(&mut random, &images, 4000, 100);
    reads.iter_mut().for_each(|read| read.len = 1);
    let trace = trace(&images, &reads);
    let options = Options::default();
    let curve = exact(&trace, &options).unwrap();
    assert_eq!((curve.references, curve.looked_at), (4000, 4000));
    assert!(curve.points.len() > 30);
    assert!(
        curve
            .points
            .is_sorted_by(|a, b| a.miss_ratio >= b.miss_ratio)
    );
    let settings: Vec<_> = curve
        .points
        .iter()
        .map(|point| Setting {
            cache_bytes: point.cache_bytes,
            block_bytes: 16 * K,
            span_bytes: None,
            policy: Rule::Lru,
            decode_ahead: false,
        })
        .collect();
    let figures = replay::replay_settings(&trace, &settings, &|_| ()).unwrap();
    for (point, figures) in curve.points.iter().zip(figures) {
        let found = 1.0 - figures.hit_ratio;
        assert!((point.miss_ratio - found).abs() < 1e-9, "{point:?} {found}");
    }
}

fn skewed() -> Trace {
    let mut random = Random::new(7);
    let stream_bytes = 256 << 20;
    let image: TracedImage = uneven(&mut random, stream_bytes, 256);
    let reads: Vec<_> = (0..120_000)
        .map(|_| {
            let range = 1 + random.below(stream_bytes / (16 * K));
            read(0, random.below(range) * 16 * K % (stream_bytes - 1), 1)
        })
        .collect();
    trace(&[image], &reads)
}

#[test]
fn a_sample_of_all_is_exact_and_a_small_one_is_near() {
    let (trace, options) = (skewed(), Options::default());
    let exact = exact(&trace, &options).unwrap();
    let error = |sampling| {
        let curve = sampled(&trace, &options, sampling).unwrap();
        assert!(curve.looked_at <= curve.references);
        mean_absolute_error(&exact, &curve)
    };
    assert!(error(Sampling::Rate(1.0)) < 1e-9);
    assert!(error(Sampling::Size(1 << 20)) < 1e-9);
    let tenth = error(Sampling::Rate(0.1));
    assert!(tenth < 0.02, "{tenth}");
    let fixed = error(Sampling::Size(1000));
    assert!(fixed < 0.02, "{fixed}");
}

#[test]
fn a_sample_stays_within_its_size() {
    let curve = sampled(&skewed(), &Options::default(), Sampling::Size(500)).unwrap();
    assert!(curve.rate < 0.1, "{}", curve.rate);
    for none in [
        Sampling::Size(0),
        Sampling::Rate(0.0),
        Sampling::Rate(f64::NAN),
    ] {
        let result = sampled(&skewed(), &Options::default(), none);
        assert!(matches!(result, Err(LabError::Setting { .. })));
    }
}

#[test]
fn points_are_where_they_are_asked_for() {
    let options = Options {
        cache_bytes: vec![4 << 20, 1 << 20, 4 << 20, 0],
        ..Options::default()
    };
    let curve = exact(&skewed(), &options).unwrap();
    let sizes: Vec<u64> = curve.points.iter().map(|point| point.cache_bytes).collect();
    assert_eq!(sizes, [0, 1 << 20, 4 << 20]);
    assert!((curve.points[0].miss_ratio - 1.0).abs() < 1e-9);
    assert_eq!(grid(20).last(), Some(&20));
    assert_eq!(grid(1), [1]);
}
