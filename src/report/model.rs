//! What a report says: plain data, the same in memory and in JSON.
//!
//! A number that is not finite is `null` in JSON and means: nothing to show here.

use serde::{Deserialize, Serialize};

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What it is about, in a few words.
    pub title: String,
    /// Facts about how it came to be: trace, date, machine, command.
    #[serde(default)]
    pub about: Vec<(String, String)>,
    /// What it says, in the order of reading.
    #[serde(default)]
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// Its paragraphs.
    #[serde(default)]
    pub text: Vec<String>,
    /// What stands below them.
    #[serde(default)]
    pub items: Vec<Item>,
}

/// A table or a chart.
#[expect(clippy::large_enum_variant, reason = "a report has a few of them")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// Rows of cells.
    Table(Table),
    /// A picture of numbers.
    Chart(Chart),
}

/// Rows of as many cells as there are columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What it shows; also what a file of it is called.
    pub name: String,
    /// What stands in its columns.
    pub columns: Vec<Column>,
    /// What stands in its rows. A row that is too short ends in missing cells.
    pub rows: Vec<Vec<Cell>>,
}

/// What stands in a column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its title, without a unit.
    pub title: String,
    /// What its numbers count.
    #[serde(default)]
    pub unit: Unit,
    /// On which side its cells stand.
    #[serde(default)]
    pub align: Align,
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// Texts.
    #[default]
    Left,
    /// Numbers.
    Right,
}

/// What numbers count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nothing, or how many.
    #[default]
    None,
    /// Bytes.
    Bytes,
    /// Hundredths: 12.5 is 12.5 %.
    Percent,
    /// Microseconds.
    Micros,
    /// Seconds.
    Seconds,
    /// How many times as much: 2 is 2×.
    Ratio,
}

/// What stands in a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// A text. It may come from a customer.
    Text(String),
    /// How many.
    Integer(u64),
    /// A number.
    Real(#[serde(with = "real")] f64),
    /// How many bytes.
    Bytes(u64),
    /// 12.5 is 12.5 %.
    Percent(#[serde(with = "real")] f64),
    /// How many microseconds.
    Micros(#[serde(with = "real")] f64),
    /// Nothing is known.
    #[default]
    Missing,
}

/// A picture of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// What a file of it is called.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Its horizontal axis; with bars, the groups.
    pub x: Axis,
    /// Its vertical axis; with bars, the values, also where they lie.
    pub y: Axis,
    /// What is drawn.
    pub marks: Marks,
}

/// What is measured along a direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Axis {
    /// What it is, without a unit.
    pub title: String,
    /// What its numbers count.
    pub unit: Unit,
    /// How numbers become places.
    pub scale: Scale,
    /// Where it begins, if not at the least number.
    pub from: Option<f64>,
    /// Where it ends, if not at the greatest number.
    pub to: Option<f64>,
}

/// How numbers become places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The same distance for the same difference.
    #[default]
    Linear,
    /// The same distance for the same ratio, ticks at powers of two.
    Log2,
    /// The same distance for the same ratio, ticks at powers of ten.
    Log10,
}

/// What a chart draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Marks {
    /// Lines through points.
    Lines(Lines),
    /// Bars, side by side in groups.
    Bars(Bars),
    /// A grid of colours.
    Heat(Heat),
}

/// Lines through points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// The lines, first the one to be seen first.
    pub series: Vec<Series>,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// What it is called in the legend.
    pub name: String,
    /// Its points in their order. One that is not finite interrupts the line.
    #[serde(with = "points")]
    pub points: Vec<(f64, f64)>,
    /// Whether it is a reference rather than a result.
    #[serde(default)]
    pub dashed: bool,
    /// Whether its points are marked.
    #[serde(default)]
    pub has_points: bool,
}

/// Bars, side by side in groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bars {
    /// What the groups are called.
    pub groups: Vec<String>,
    /// Names, each with one value for each group.
    pub series: Vec<(String, Vec<Option<f64>>)>,
    /// Whether the bars lie.
    #[serde(default)]
    pub horizontal: bool,
}

/// A grid of colours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heat {
    /// How many values lie side by side.
    pub columns: usize,
    /// How many values lie above each other.
    pub rows: usize,
    /// Row by row, beginning with the lowest, each from the left.
    #[serde(with = "reals")]
    pub values: Vec<f64>,
    /// Where the first column begins and the last ends on the horizontal axis.
    pub x: (f64, f64),
    /// Where the first row begins and the last ends on the vertical axis.
    pub y: (f64, f64),
    /// What the colours mean.
    #[serde(default)]
    pub legend: Axis,
}

/// A number, `null` if it is not finite.
mod real {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

/// Numbers, each `null` if it is not finite.
mod reals {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|v| v.is_finite().then_some(v)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(from)?;
        Ok(values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
    }
}

/// Pairs of numbers, each `null` if it is not finite.
mod points {
    use serde::{Deserialize, Deserializer, Serializer};

    type Pair = (Option<f64>, Option<f64>);

    pub(super) fn serialize<S: Serializer>(
        points: &[(f64, f64)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let number = |v: f64| v.is_finite().then_some(v);
        to.collect_seq(points.iter().map(|&(x, y)| (number(x), number(y))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(f64, f64)>, D::Error> {
        let pairs = Vec::<Pair>::deserialize(from)?;
        let number = |v: Option<f64>| v.unwrap_or(f64::NAN);
        Ok(pairs
            .into_iter()
            .map(|(x, y)| (number(x), number(y)))
            .collect())
    }
}
