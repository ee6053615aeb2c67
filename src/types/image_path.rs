//! [`ImagePath`]: what an image is called by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of an image below `distros`, which needs no escaping anywhere: 1 to 255 of `A-Z a-z 0-9 . _ -`, and
/// neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImagePath(String);

/// Why a name is none of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no byte, or more than 255.
    #[error("the name of an image has 1 to 255 characters")]
    Length,
    /// It has others than are allowed.
    #[error("the name of an image has only letters, digits, `.`, `_` and `-`")]
    Characters,
    /// It is `.` or `..`.
    #[error("`.` and `..` are no names of images")]
    Dots,
    /// It ends like the names of something else.
    #[error("names that end with `{0}` are used for something else")]
    Reserved(&'static str),
}

const NAME_BYTES_MAX: usize = 255;

impl ImagePath {
    /// Checks a name.
    pub fn new(name: &[u8]) -> Result<ImagePath, NameError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(NameError::Length);
        }
        let is_allowed = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
        if !name.iter().all(is_allowed) {
            return Err(NameError::Characters);
        }
        if matches!(name, b"." | b"..") {
            return Err(NameError::Dots);
        }
        let name = String::from_utf8(name.to_vec()).map_err(|_| NameError::Characters)?;
        Ok(ImagePath(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImagePath {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        ImagePath::new(name.as_bytes())
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ImagePath {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        ImagePath::new(name.as_bytes())
    }
}

impl From<ImagePath> for String {
    fn from(path: ImagePath) -> String {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_the_documented_ones() {
        for name in ["a", "..a", "A-z_0.9", &"x".repeat(255)] {
            assert!(ImagePath::new(name.as_bytes()).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a\0", "é", &"x".repeat(256)] {
            assert!(ImagePath::new(name.as_bytes()).is_err(), "{name}");
        }
    }
}
