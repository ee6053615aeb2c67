//! What serves the images of one storage home.

pub mod status;
