//! How numbers of a unit are written: as people read them, and on an axis.

use super::model::{Cell, Unit};

/// What stands where nothing is known.
pub(super) const MISSING: &str = "–";

/// A number of this unit for people, with its unit.
pub(super) fn text(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return MISSING.to_owned();
    }
    match unit {
        Unit::None => plain(value),
        Unit::Bytes => binary(value),
        Unit::Percent => format!("{} %", plain(value)),
        Unit::Micros => duration(value),
        Unit::Seconds => duration(value * 1e6),
        Unit::Ratio => format!("{}×", short(value)),
    }
}

/// What stands in a cell, for people.
pub(super) fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Integer(n) => crate::text::count(*n),
        Cell::Real(v) => text(*v, Unit::None),
        Cell::Bytes(n) => binary(*n as f64),
        Cell::Percent(v) if v.is_finite() => format!("{v:.2} %"),
        Cell::Micros(v) => text(*v, Unit::Micros),
        Cell::Percent(_) | Cell::Missing => MISSING.to_owned(),
    }
}

/// What is said of a unit in a heading or on an axis whose ticks do not say it.
pub(super) fn unit_name(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::None => None,
        Unit::Bytes => Some("bytes"),
        Unit::Percent => Some("%"),
        Unit::Micros => Some("µs"),
        Unit::Seconds => Some("s"),
        Unit::Ratio => Some("×"),
    }
}

/// Four digits, no zeros at the end; thousands apart; beyond that with an exponent.
fn plain(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e15).contains(&size) {
        let text = format!("{value:.2e}");
        return sign(&match text.split_once('e') {
            Some((digits, power)) => format!("{}e{power}", trimmed(digits)),
            None => text,
        });
    }
    let places = match size {
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 1.0 => 3,
        s if s >= 0.01 => 4,
        _ => 6,
    };
    let text = format!("{size:.places$}");
    let text = trimmed(&text);
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, format!(".{rest}")),
        None => (text, String::new()),
    };
    let whole = whole.parse().map_or(whole.to_owned(), crate::text::count);
    let minus = if value < 0.0 { "−" } else { "" };
    format!("{minus}{whole}{rest}")
}

fn sign(text: &str) -> String {
    text.replace('-', "−")
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

fn binary(bytes: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value.abs() >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", short(value), UNITS[unit])
}

fn duration(micros: f64) -> String {
    let (value, unit) = match micros.abs() {
        0.0 => return "0".to_owned(),
        m if m < 0.9995 => (micros * 1e3, "ns"),
        m if m < 999.5 => (micros, "µs"),
        m if m < 999_500.0 => (micros / 1e3, "ms"),
        m if m < 120e6 => (micros / 1e6, "s"),
        m if m < 7_200e6 => (micros / 60e6, "min"),
        _ => (micros / 3_600e6, "h"),
    };
    format!("{} {unit}", short(value))
}

/// Three digits where the unit follows from the size.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => plain(value),
        v if v >= 100.0 => sign(trimmed(&format!("{value:.0}"))),
        v if v >= 10.0 => sign(trimmed(&format!("{value:.1}"))),
        v if v >= 0.01 => sign(trimmed(&format!("{value:.2}"))),
        _ => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_unit_of_their_size() {
        for (value, unit, shown) in [
            (0.0, Unit::None, "0"),
            (-0.25, Unit::None, "−0.25"),
            (1_234_567.0, Unit::None, "1,234,567"),
            (1e18, Unit::None, "1e18"),
            (4.0 * 1048576.0, Unit::Bytes, "4 MiB"),
            (1536.0, Unit::Bytes, "1.5 KiB"),
            (12.5, Unit::Percent, "12.5 %"),
            (0.25, Unit::Micros, "250 ns"),
            (50.0, Unit::Micros, "50 µs"),
            (2500.0, Unit::Micros, "2.5 ms"),
            (90.0, Unit::Seconds, "90 s"),
            (1.5, Unit::Ratio, "1.5×"),
            (f64::NAN, Unit::Bytes, "–"),
        ] {
            assert_eq!(text(value, unit), shown);
        }
    }
}
