//! The only module with `unsafe` code: safe faces of what the system and
//! foreign interfaces offer. Each file has one subject.

pub mod inflate;
