//! What is simulated of small traces, and that no policy beats the bound.

use std::sync::atomic::AtomicU64;

use super::super::random::Random;
use super::super::testing::{image, plain, random_reads, read, trace, uneven};
use super::*;

const K: u64 = 1 << 10;

fn one(trace: &Trace, setting: Setting) -> Figures {
    replay_settings(trace, &[setting], &|_| ())
        .unwrap()
        .remove(0)
}

fn lru(cache_bytes: u64) -> Setting {
    Setting {
        cache_bytes,
        block_bytes: 16 * K,
        span_bytes: None,
        policy: Rule::Lru,
        decode_ahead: false,
    }
}

/// (hits, misses, decoded blocks, restores, resumes).
fn short(figures: &Figures) -> (u64, u64, u64, u64, u64) {
    let decoding = figures.decoding.unwrap();
    (
        figures.hits,
        figures.misses,
        decoding.decoded_bytes.div_ceil(16 * K),
        decoding.restores,
        decoding.resumes,
    )
}

#[test]
fn a_miss_decodes_from_the_start_of_its_span() {
    let image = image(1024 * K, &[0, 256, 512, 768]);
    let at = |kib: u64| read(0, kib * K, 4096);
    // Block 5: 0 to 5. Block 2: there already. Block 7: on from 6. Block 6: there.
    let trace = trace(&[image], &[at(80), at(32), at(112), at(96)]);
    let figures = one(&trace, lru(1 << 20));
    assert_eq!(short(&figures), (2, 2, 8, 1, 1));
    assert_eq!((figures.reads, figures.served_bytes), (4, 4 * 4096));
    assert_eq!(figures.decoding.unwrap().reads_all_hits, 2);
}

#[test]
fn a_run_ends_at_the_last_missing_block_of_the_span() {
    let image = image(1024 * K, &[0, 256, 512, 768]);
    // Blocks 1 and 2 are found, 0 is missing in neither: 3 to 4 are decoded.
    let reads = [read(0, 32 * K, 100), read(0, 16 * K, 64 << 10)];
    let trace = trace(&[image], &reads);
    assert_eq!(short(&one(&trace, lru(1 << 20))), (2, 3, 5, 1, 1));
}

#[test]
fn a_decoder_at_the_end_of_a_span_goes_on_in_the_next() {
    let image = image(1024 * K, &[0, 256, 512, 768]);
    let reads: Vec<_> = (0..8).map(|i| read(0, i * 128 * K, 128 << 10)).collect();
    let scan = trace(&[image], &reads);
    let figures = one(&scan, lru(1 << 20));
    assert_eq!(short(&figures), (0, 64, 64, 1, 7));
    assert!((figures.decoding.unwrap().decoded_per_served - 1.0).abs() < 1e-9);
}

#[test]
fn the_ninth_decoder_drives_out_the_first() {
    let spans: Vec<u64> = (0..16).map(|n| n * 256).collect();
    let at = |span: u64, block: u64| read(0, (span * 256 + block * 16) * K, 1);
    let reads = |spans: u64| -> Vec<_> {
        (0..2)
            .flat_map(|b| (0..spans).map(move |s| at(s, b)))
            .collect()
    };
    let image = image(16 * 256 * K, &spans);
    let figures = |n| {
        short(&one(
            &trace(std::slice::from_ref(&image), &reads(n)),
            lru(32 << 20),
        ))
    };
    assert_eq!(figures(8), (0, 16, 16, 8, 8));
    assert_eq!(figures(9), (0, 18, 27, 18, 0));
}

#[test]
fn a_plain_archive_is_read_anywhere() {
    let plain = plain(image(1024 * K, &[0, 512]));
    let reads = [read(0, 500 * K, 8 << 10)];
    let whole = trace(std::slice::from_ref(&plain), &reads);
    assert_eq!(short(&one(&whole, lru(1 << 20))), (0, 1, 1, 0, 0));
    // What does not compress is longer than its stream, and compressed all the same.
    let mut stored = plain;
    stored.archive_bytes += 1000;
    stored.spans[1].archive += 500;
    let whole = trace(&[stored], &reads);
    assert_eq!(short(&one(&whole, lru(1 << 20))), (0, 1, 32, 1, 0));
}

#[test]
fn larger_blocks_weigh_more_and_decode_more() {
    let image = image(1024 * K, &[0, 256, 512, 768]);
    let trace = trace(
        &[image],
        &[read(0, 0, 1), read(0, 100 * K, 1), read(0, 0, 1)],
    );
    let large = |cache_bytes| Setting {
        block_bytes: 64 * K,
        ..lru(cache_bytes)
    };
    assert_eq!(
        short(&one(&trace, large(2 * (64 * K + 128)))),
        (1, 2, 8, 1, 1)
    );
    assert_eq!(one(&trace, large(2 * (64 * K + 128) - 1)).hits, 0);
}

#[test]
fn what_is_read_on_is_decoded_ahead() {
    let spans: Vec<u64> = (0..16).map(|n| n * 256).collect();
    let reads: Vec<_> = (0..512).map(|i| read(0, i * 8 * K, 8 << 10)).collect();
    let trace = trace(&[image(16 * 256 * K, &spans)], &reads);
    let setting = lru(32 << 20);
    let off = one(&trace, setting);
    let on = one(
        &trace,
        Setting {
            decode_ahead: true,
            ..setting
        },
    );
    assert_eq!((off.hits, off.misses), (256, 256));
    assert!(on.misses < 20, "{on:?}");
    assert_eq!(short(&on).2, 256, "nothing is decoded twice");
}

#[test]
fn pieces_of_a_read_are_one_read() {
    let image = image(1024 * K, &[0]);
    let piece = crate::trace::Read {
        continues: true,
        ..read(0, 500 * K, 10)
    };
    let hole = crate::trace::Read {
        stream: None,
        ..piece
    };
    let trace = trace(
        &[image],
        &[read(0, 600 * K, 10), piece, hole, read(0, 500 * K, 10)],
    );
    let figures = one(&trace, lru(1 << 20));
    assert_eq!((figures.reads, figures.blocks, figures.hits), (2, 3, 2));
    assert_eq!(figures.decoding.unwrap().reads_all_hits, 1);
    let bound = one(
        &trace,
        Setting {
            policy: Rule::Opt,
            ..lru(1 << 20)
        },
    );
    assert_eq!((bound.reads, bound.blocks, bound.decoding), (2, 3, None));
}

/// Random images and reads: no policy finds more than the bound, whatever is simulated,
/// and all of them agree on what was asked for.
#[test]
fn the_bound_is_never_beaten() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let stream_bytes = (1 + random.below(4)) << 20;
        let mut images = vec![uneven(&mut random, stream_bytes, 200)];
        images.push(plain(uneven(&mut random, 1 << 20, 100)));
        let reads = random_reads(&mut random, &images, 1500, 120_000);
        let trace = trace(&images, &reads);
        for decode_ahead in [false, true] {
            let options = Options {
                cache_bytes: [1, 3, 20, 60, 200].map(|n| n * (16 * K + 128)).to_vec(),
                block_bytes: vec![16 * K, 48 * K],
                span_bytes: vec![None, Some(64 * K), Some(512 * K)],
                policies: Rule::ALL.to_vec(),
                decode_ahead,
            };
            let all = replay(&trace, &options, &|_| ()).unwrap();
            for found in &all {
                let opt = all.iter().find(|opt| {
                    opt.setting
                        == Setting {
                            policy: Rule::Opt,
                            ..found.setting
                        }
                });
                let opt = opt.unwrap();
                assert!(
                    found.hits <= opt.hits,
                    "seed {seed}: {found:?} beats {opt:?}"
                );
                assert_eq!((found.blocks, found.reads), (opt.blocks, opt.reads));
                assert_eq!(found.served_bytes, opt.served_bytes);
            }
        }
    }
}

#[test]
fn figures_are_the_same_on_any_number_of_threads_and_progress_ends() {
    let mut random = Random::new(9);
    let images = [uneven(&mut random, 4 << 20, 200)];
    let reads = random_reads(&mut random, &images, 3000, 60_000);
    let trace = trace(&images, &reads);
    let options = Options {
        cache_bytes: vec![1 << 20, 2 << 20],
        policies: vec![Rule::Lru, Rule::Arc],
        ..Options::default()
    };
    let most = AtomicU64::new(0);
    let all = replay(&trace, &options, &|progress| {
        most.fetch_max(progress.done, Ordering::Relaxed);
        assert_eq!(progress.total, 4 * 3000);
    });
    let all = all.unwrap();
    assert_eq!(most.into_inner(), 4 * 3000);
    for (setting, figures) in options.settings().into_iter().zip(&all) {
        assert_eq!(*figures, one(&trace, setting));
    }
    let json = serde_json::to_value(&all[2]).unwrap();
    assert_eq!(
        (&json["policy"], &json["cache_bytes"]),
        (&"arc".into(), &(1 << 20).into())
    );
}

#[test]
fn an_error_is_told() {
    let options = Options {
        block_bytes: vec![16 * K, 1000],
        ..Options::default()
    };
    let trace = trace(&[image(1024 * K, &[0])], &[read(0, 0, 1)]);
    let result = replay(&trace, &options, &|_| ());
    assert!(
        matches!(result, Err(LabError::Setting { .. })),
        "{result:?}"
    );
}
