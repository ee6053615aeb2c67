//! Tests of building, by subject.

mod formats;
mod hostile;
mod model;
mod rules;
mod sparse;
