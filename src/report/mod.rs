//! Documents of tables and charts: made as plain data, shown on a terminal, as
//! CSV, JSON, SVG, PNG, or as one HTML file that needs nothing else.
//!
//! Guarantees:
//!
//! * A chart is laid out once, as a [`scene`]; SVG and PNG draw the same scene.
//! * Text may come from a customer: no output lets it leave its place (control
//!   characters on a terminal, markup, formulas in a spreadsheet).
//! * Numbers that are not finite, or that a logarithmic axis has no place for, are
//!   left out. No data makes it panic.
//! * Servers have no fonts: PNG and all measuring use the font of the program.
//! * Outputs are bounded by their size in pixels, not by the number of points.
//!
//! It knows nothing of caches and does no I/O. Lengths in a scene are CSS pixels,
//! from the top left.

mod check;
mod colour;
pub mod csv;
mod data;
mod error;
mod font;
pub mod html;
mod input;
mod layout;
mod markup;
mod model;
pub mod png;
mod scale;
pub mod scene;
pub mod svg;
pub mod table;
mod thin;
mod value;

#[cfg(test)]
mod tests;

pub use colour::Theme;
pub use data::chart_table;
pub use error::ReportError;
pub use input::{from_json, json};
pub use model::{
    Align, Axis, Bars, Cell, Chart, Column, Document, Heat, Item, Lines, Marks, Scale, Section,
    Series, Table, Unit,
};
