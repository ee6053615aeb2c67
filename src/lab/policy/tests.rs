//! Policies keep what they say, and the bound is what trying everything finds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::opt::Bound;
use super::*;

fn room(kept: u64) -> Room {
    Room {
        cache_bytes: kept * 10 + 9,
        unit_bytes: 10,
        units: 64,
    }
}

/// Looks units up and inserts what is missing; how many were there.
fn hits<P: Policy>(kept: u64, units: impl IntoIterator<Item = u32>) -> u64 {
    let (mut policy, mut gone, mut hits) = (P::new(room(kept)), Vec::new(), 0);
    for unit in units.into_iter().map(Unit) {
        match policy.get(unit) {
            true => hits += 1,
            false => policy.insert(unit, &mut gone),
        }
    }
    hits
}

/// What is kept is what was inserted and not said to be gone, and fits.
fn check<P: Policy>(kept: u64, steps: &[(u32, bool)]) {
    let (mut policy, mut gone) = (P::new(room(kept)), Vec::new());
    let mut known = BTreeSet::new();
    for (unit, is_lookup) in steps {
        let unit = Unit(*unit);
        if *is_lookup {
            assert_eq!(policy.get(unit), known.contains(&unit));
        } else {
            known.insert(unit);
            policy.insert(unit, &mut gone);
            for unit in gone.drain(..) {
                assert!(known.remove(&unit), "{unit:?} left twice");
            }
        }
        assert_eq!(policy.kept(), known.len());
        assert!(known.len() as u64 <= kept);
        let all = (0..64).map(Unit).filter(|unit| policy.contains(*unit));
        assert!(all.eq(known.iter().copied()));
    }
}

/// What OPT may find of these reads, each of one unit, without anything else offered.
fn bound(kept: u64, units: &[u32]) -> u64 {
    let mut bound = Bound::new(room(kept).kept_max(), 64);
    for unit in units.iter().copied().map(Unit) {
        bound.begin();
        bound.look_up(unit);
        bound.offer(unit..=unit);
    }
    bound.hits()
}

/// Belady, who may choose not to keep.
fn belady(kept: usize, units: &[u32]) -> u64 {
    let mut cache: Vec<u32> = Vec::new();
    let mut hits = 0;
    for (now, unit) in units.iter().enumerate() {
        match cache.contains(unit) {
            true => hits += 1,
            false => cache.push(*unit),
        }
        let next = |unit: &u32| units[now + 1..].iter().position(|later| later == unit);
        if cache.len() > kept {
            let worst = (0..cache.len()).max_by_key(|i| next(&cache[*i]).unwrap_or(usize::MAX));
            cache.remove(worst.unwrap());
        }
    }
    hits
}

/// Reads for [`Bound`]: what each looks up and what it offers.
type Offers = (Vec<u32>, Vec<u32>);

/// The best that can be done with what is offered, by trying all there is.
fn best(kept: usize, reads: &[Offers], cache: &BTreeSet<u32>) -> u64 {
    let Some(((asked, offered), rest)) = reads.split_first() else {
        return 0;
    };
    let hits = asked.iter().filter(|unit| cache.contains(unit)).count() as u64;
    let all: Vec<u32> = cache
        .iter()
        .chain(offered)
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let choices = (0..1_u32 << all.len()).filter(|bits| bits.count_ones() as usize <= kept);
    let most = choices.map(|bits| {
        let chosen = (0..all.len())
            .filter(|i| bits >> i & 1 == 1)
            .map(|i| all[i]);
        best(kept, rest, &chosen.collect())
    });
    hits + most.max().unwrap_or(0)
}

fn bound_of(kept: usize, reads: &[Offers]) -> u64 {
    let mut bound = Bound::new(kept, 64);
    for (asked, offered) in reads {
        bound.begin();
        asked.iter().for_each(|unit| {
            bound.look_up(Unit(*unit));
        });
        offered
            .iter()
            .for_each(|unit| bound.offer(Unit(*unit)..=Unit(*unit)));
    }
    bound.hits()
}

/// Up to three units asked for of five; those and some others are offered.
fn offers() -> impl Strategy<Value = Offers> {
    (1_u32..32, 0_u32..32).prop_map(|(asked, more)| {
        let of = |bits: u32| (0..5).filter(|i| bits >> i & 1 == 1).collect::<Vec<_>>();
        (of(asked), of(asked | more))
    })
}

proptest! {
    #[test]
    fn policies_keep_what_they_say(
        kept in 0_u64..12,
        steps in prop::collection::vec((0_u32..24, any::<bool>()), 0..400),
    ) {
        check::<Lru>(kept, &steps);
        check::<Fifo>(kept, &steps);
        check::<Sieve>(kept, &steps);
        check::<S3Fifo>(kept, &steps);
        check::<Arc>(kept, &steps);
    }

    #[test]
    fn the_bound_is_belady_for_single_units(
        kept in 0_u8..6,
        units in prop::collection::vec(0_u32..10, 0..200),
    ) {
        prop_assert_eq!(bound(kept.into(), &units), belady(kept.into(), &units));
    }

    #[test]
    fn the_bound_is_what_trying_all_finds(
        kept in 0_usize..4,
        reads in prop::collection::vec(offers(), 0..6),
    ) {
        prop_assert_eq!(bound_of(kept, &reads), best(kept, &reads, &BTreeSet::new()));
    }

    #[test]
    fn no_policy_beats_the_bound(
        kept in 0_u64..8,
        units in prop::collection::vec(0_u32..20, 0..400),
    ) {
        let most = bound(kept, &units);
        let all = [
            hits::<Lru>(kept, units.clone()),
            hits::<Fifo>(kept, units.clone()),
            hits::<Sieve>(kept, units.clone()),
            hits::<S3Fifo>(kept, units.clone()),
            hits::<Arc>(kept, units),
        ];
        prop_assert!(all.iter().all(|hits| *hits <= most), "{all:?} of {most}");
    }
}

/// Two that are used again and again, and others that come once in a while.
fn with_a_scan() -> Vec<u32> {
    let scanned = |round: u32| (0..11).map(move |i| 4 + (round * 11 + i) % 60);
    (0..200)
        .flat_map(|round| [0, 1, 0, 1].into_iter().chain(scanned(round)))
        .collect()
}

#[test]
fn a_scan_does_not_drive_out_what_is_used_for_those_that_resist() {
    let (lru, fifo) = (
        hits::<Lru>(12, with_a_scan()),
        hits::<Fifo>(12, with_a_scan()),
    );
    assert_eq!((lru, fifo), (400, 400));
    for better in [
        hits::<Sieve>(12, with_a_scan()),
        hits::<S3Fifo>(12, with_a_scan()),
        hits::<Arc>(12, with_a_scan()),
    ] {
        assert!(better > 600, "{better}");
    }
}

/// Figure 1 of the paper on SIEVE shows the hand stay where it evicted.
#[test]
fn the_hand_of_sieve_stays_where_it_evicted() {
    let mut sieve = Sieve::new(room(4));
    let mut gone = Vec::new();
    (0..4).for_each(|n| sieve.insert(Unit(n), &mut gone));
    assert!(sieve.get(Unit(0)) && sieve.get(Unit(2)));
    for new in 4..7 {
        sieve.insert(Unit(new), &mut gone);
    }
    // 0 and 2 are passed by and lose their mark, and are not looked at again at once.
    assert_eq!(gone, [1, 3, 4].map(Unit));
    assert!(sieve.contains(Unit(0)) && sieve.contains(Unit(2)));
}

#[test]
fn arc_moves_its_border_to_what_comes_back() {
    let mut arc = Arc::new(room(4));
    let mut gone = Vec::new();
    let mut ask = |n: u32| {
        let is_hit = arc.get(Unit(n));
        if !is_hit {
            arc.insert(Unit(n), &mut gone);
        }
        is_hit
    };
    // 1 and 2 are used again; 5 pushes 3 out, whose name is known.
    assert_eq!(
        [1, 2, 1, 2, 3, 4, 5].map(&mut ask).map(u8::from),
        [0, 0, 1, 1, 0, 0, 0]
    );
    assert!(!ask(3), "it left");
    assert!(ask(3) && ask(2), "it came back as one that is used again");
    assert_eq!(gone[0], Unit(3));
}

#[test]
fn rules_have_names() {
    for rule in Rule::ALL {
        assert_eq!(rule.name().parse(), Ok(rule));
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(json, format!("\"{rule}\""));
    }
    let error = "mru".parse::<Rule>().unwrap_err().to_string();
    assert!(error.contains("lru, fifo"), "{error}");
}
