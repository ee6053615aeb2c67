//! Names that come from customers, checked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const NAME_BYTES_MAX: usize = 255;

/// Where in `distros/` an image is: a plain name, never `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImagePath(String);

/// Why something is no path of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path of an image has 1 to 255 letters, digits, dots, hyphens and underscores, and is not . or .."
)]
pub struct NameError;

impl ImagePath {
    /// A name that somebody else checked by the same rules.
    pub fn from_checked(name: &str) -> ImagePath {
        ImagePath(name.to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ImagePath {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
        if fits && name.bytes().all(is_plain) && name != "." && name != ".." {
            Ok(ImagePath(name))
        } else {
            Err(NameError)
        }
    }
}

impl FromStr for ImagePath {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        name.to_owned().try_into()
    }
}

impl From<ImagePath> for String {
    fn from(path: ImagePath) -> String {
        path.0
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which version of an image: a digest of all that it is made of. In messages and
/// for people 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(pub [u8; 32]);

/// What stands for a version in lists.
const SHORT_DIGITS: usize = 12;

impl Version {
    /// The first digits, which tell versions of one image apart.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT_DIGITS);
        text
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl TryFrom<String> for Version {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let error = "a version is 64 hexadecimal digits";
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(error);
        }
        let mut version = [0; 32];
        for (byte, digits) in version.iter_mut().zip(bytes.chunks_exact(2)) {
            let digit = |digit: u8| match digit {
                b'0'..=b'9' => Ok(digit - b'0'),
                b'a'..=b'f' => Ok(digit - b'a' + 10),
                _ => Err(error),
            };
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Ok(Version(version))
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_paths() {
        for name in ["a", "debian-12.4_x", "...", &"x".repeat(255)] {
            assert_eq!(name.parse::<ImagePath>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a/b", "a b", "é", "a\0", &"x".repeat(256)] {
            assert_eq!(name.parse::<ImagePath>(), Err(NameError), "{name}");
        }
    }

    #[test]
    fn versions_are_written_and_read() {
        let mut version = Version([0; 32]);
        (0..32).for_each(|i: u8| version.0[usize::from(i)] = i * 7);
        assert_eq!(Version::try_from(version.to_string()), Ok(version));
        assert_eq!(version.short(), "00070e151c23");
        for wrong in [
            "",
            "00",
            &"G0".repeat(32),
            &"A0".repeat(32),
            &"0".repeat(65),
        ] {
            assert!(Version::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
