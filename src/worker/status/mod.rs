//! `distros/PATH.status`: how it is with an image, for somebody who only has scp.
//!
//! | part | what |
//! |---|---|
//! | [`Facts`] | what is known, put into words ([`Facts::statuses`]) |
//! | [`Checks`] | what containers need of each version, looked up once |
//! | [`StatusFiles`] | the files, which lie among the customer's own |
//!
//! Guarantees: a status says what is, why, and what to do next. It holds nothing
//! that drives a terminal.

mod checks;
mod files;
mod text;

pub use checks::Checks;
pub use files::StatusFiles;
pub use text::{Facts, Indexing, Statuses};

#[cfg(test)]
mod tests;
