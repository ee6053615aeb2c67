//! From numbers to places: scales, and the ticks that people expect on them.

use super::model::{Axis, Scale, Unit};
use super::value;

/// Beyond it differences of two numbers could be infinite.
const SIZE_MAX: f64 = 1e300;
/// Smaller ones have no logarithm worth drawing.
const SIZE_MIN: f64 = 1e-300;
/// Ticks are fewer than this whatever the numbers.
const TICKS_MAX: usize = 24;

/// A checked range of numbers, from its beginning (0) to its end (1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    scale: Scale,
    from: f64,
    to: f64,
}

/// A number that is written beside an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// Where, from 0 to 1.
    pub(super) at: f64,
    /// What is written; nothing at a lesser tick.
    pub(super) label: String,
}

impl Range {
    /// The range of an axis for these numbers, or `None` if nothing has a place.
    /// With `zero`, it holds 0, and ends at ticks unless the axis says where.
    pub(super) fn of(axis: &Axis, values: impl Iterator<Item = f64>, zero: bool) -> Option<Self> {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        let linear = axis.scale == Scale::Linear;
        for value in values.filter(|v| drawable(*v, axis.scale)) {
            from = from.min(value);
            to = to.max(value);
        }
        if from > to {
            return None;
        }
        if zero && linear {
            from = from.min(0.0);
            to = to.max(0.0);
        }
        let given = |v: Option<f64>| v.filter(|v| drawable(*v, axis.scale));
        let (given_from, given_to) = (given(axis.from), given(axis.to));
        from = given_from.unwrap_or(from);
        to = given_to.unwrap_or(to);
        if from > to {
            std::mem::swap(&mut from, &mut to);
        }
        if to - from <= from.abs().max(to.abs()) * 1e-9 {
            (from, to) = apart(from, linear);
        }
        let mut range = Self {
            scale: axis.scale,
            from,
            to,
        };
        if zero && linear {
            let step = range.step(axis.unit, 6.0);
            let up = |v: f64| (v / step - 1e-9).ceil() * step;
            if given_to.is_none() {
                range.to = up(range.to).clamp(-SIZE_MAX, SIZE_MAX);
            }
            if given_from.is_none() {
                range.from = -up(-range.from).clamp(-SIZE_MAX, SIZE_MAX);
            }
        }
        Some(range)
    }

    /// Where a number is: 0 at the beginning, 1 at the end, beyond them outside;
    /// `None` if it has no place.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        if !drawable(value, self.scale) {
            return None;
        }
        let at = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log2 | Scale::Log10 => {
                (value.ln() - self.from.ln()) / (self.to.ln() - self.from.ln())
            }
        };
        at.is_finite().then_some(at)
    }

    /// Where bars begin: at 0 if it has a place.
    pub(super) fn base(&self) -> f64 {
        self.at(0.0).map_or(0.0, |at| at.clamp(0.0, 1.0))
    }

    /// Ticks at most about `most` with labels, from the beginning.
    pub(super) fn ticks(&self, unit: Unit, most: usize) -> Vec<Tick> {
        let most = most.clamp(2, TICKS_MAX);
        let values = match self.scale {
            Scale::Linear => self.linear(unit, most),
            Scale::Log2 => self.powers(2.0, most),
            Scale::Log10 => self.powers(10.0, most),
        };
        let tick = |(value, named): (f64, bool)| {
            let at = self.at(value)?;
            let label = if named {
                value::text(value, unit)
            } else {
                String::new()
            };
            (-1e-6..=1.0 + 1e-6).contains(&at).then(|| Tick {
                at: at.clamp(0.0, 1.0),
                label,
            })
        };
        values.into_iter().filter_map(tick).collect()
    }

    fn linear(&self, unit: Unit, most: usize) -> Vec<(f64, bool)> {
        let step = self.step(unit, most as f64);
        let first = (self.from / step - 1e-6).ceil();
        let all = (0..TICKS_MAX * 2).map(|i| (first + i as f64) * step);
        let end = self.to + step * 1e-6;
        all.take_while(|v| *v <= end).map(|v| (v, true)).collect()
    }

    /// The least nice step with no more than `most` steps.
    fn step(&self, unit: Unit, most: f64) -> f64 {
        let least = ((self.to - self.from) / most).max(SIZE_MIN);
        if unit == Unit::Bytes && least >= 1.0 {
            return least.log2().ceil().exp2();
        }
        let power = 10_f64.powf(least.log10().floor());
        let nice = [1.0, 2.0, 2.5, 5.0].into_iter().map(|n| n * power);
        nice.into_iter()
            .find(|step| *step >= least * (1.0 - 1e-9))
            .unwrap_or(power * 10.0)
    }

    /// Powers of a base; between them 2 and 5 where there are few decades.
    fn powers(&self, base: f64, most: usize) -> Vec<(f64, bool)> {
        let power = |v: f64| v.ln() / base.ln();
        let (first, last) = (power(self.from), power(self.to));
        let count = last - first;
        if count < 0.7 {
            return self.linear(Unit::None, most);
        }
        let step = (count / most as f64).ceil().max(1.0);
        let start = (first - 1e-6).ceil();
        let start = start + (-start).rem_euclid(step);
        let few = base > 2.5 && count <= 3.0;
        let mut ticks = Vec::new();
        for i in -1..64 {
            let exponent = start + f64::from(i) * step;
            if exponent > last + 1e-6 {
                break;
            }
            let value = base.powf(exponent);
            ticks.push((value, true));
            if base > 2.5 && step < 1.5 {
                let between = (2..10).map(f64::from);
                ticks.extend(between.map(|n| (value * n, few && (n == 2.0 || n == 5.0))));
            }
        }
        ticks
    }
}

/// Whether a number has a place on a scale.
fn drawable(value: f64, scale: Scale) -> bool {
    match scale {
        Scale::Linear => value.abs() <= SIZE_MAX,
        Scale::Log2 | Scale::Log10 => (SIZE_MIN..=SIZE_MAX).contains(&value),
    }
}

/// A range around one number.
fn apart(value: f64, linear: bool) -> (f64, f64) {
    if !linear {
        return (
            (value / 2.0).max(SIZE_MIN / 2.0),
            (value * 2.0).min(SIZE_MAX * 2.0),
        );
    }
    if value.abs() < SIZE_MIN {
        return (0.0, 1.0);
    }
    let margin = value.abs() / 2.0;
    (value - margin, value + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, unit: Unit, from: f64, to: f64) -> Vec<String> {
        let axis = Axis {
            scale,
            unit,
            ..Axis::default()
        };
        let range = Range::of(&axis, [from, to].into_iter(), false).unwrap();
        let ticks = range.ticks(unit, 7).into_iter().map(|tick| tick.label);
        ticks.filter(|label| !label.is_empty()).collect()
    }

    #[test]
    fn ticks_are_numbers_people_count_in() {
        let mib = 1048576.0;
        assert_eq!(
            labels(Scale::Linear, Unit::Percent, 0.0, 61.0),
            ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %", "60 %"]
        );
        assert_eq!(
            labels(Scale::Log2, Unit::Bytes, 4.0 * mib, 64.0 * mib),
            ["4 MiB", "8 MiB", "16 MiB", "32 MiB", "64 MiB"]
        );
        assert_eq!(
            labels(Scale::Linear, Unit::Bytes, 0.0, 100.0 * mib),
            [
                "0 B", "16 MiB", "32 MiB", "48 MiB", "64 MiB", "80 MiB", "96 MiB"
            ]
        );
        assert_eq!(
            labels(Scale::Log10, Unit::Micros, 1.0, 1e6),
            ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]
        );
    }

    #[test]
    fn strange_ranges_have_few_ticks_in_order() {
        let strange = [
            0.0,
            1e-320,
            1e-300,
            1e-9,
            1.0,
            1.0 + 1e-12,
            1e16,
            1e300,
            f64::MAX,
            -5.0,
        ];
        for scale in [Scale::Linear, Scale::Log2, Scale::Log10] {
            for from in strange {
                for to in strange.into_iter().chain([f64::NAN, f64::INFINITY]) {
                    let axis = Axis {
                        scale,
                        ..Axis::default()
                    };
                    for zero in [false, true] {
                        let Some(range) = Range::of(&axis, [from, to].into_iter(), zero) else {
                            continue;
                        };
                        let ticks = range.ticks(Unit::Bytes, 6);
                        assert!(ticks.len() <= 64 * 9, "{from} {to}: {}", ticks.len());
                        assert!(ticks.iter().all(|t| (0.0..=1.0).contains(&t.at)));
                        assert!(ticks.windows(2).all(|w| w[0].at <= w[1].at), "{from} {to}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_no_place_has_no_range() {
        let log = Axis {
            scale: Scale::Log10,
            ..Axis::default()
        };
        assert!(Range::of(&log, [0.0, -1.0, f64::NAN].into_iter(), false).is_none());
        assert!(Range::of(&Axis::default(), std::iter::empty(), true).is_none());
    }
}
