//! [`ImageOf`]: an image of some home.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ImagePath, NameError};

/// An image of some home. Written `30000/debian`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageOf {
    /// The user of the storage container.
    pub home: u32,
    /// Where in its `distros/`.
    pub path: ImagePath,
}

/// Why something names no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnImage {
    /// It has not two parts.
    #[error("give UID/PATH, as 30000/debian")]
    Form,
    /// The second one is no path.
    #[error(transparent)]
    Path(#[from] NameError),
}

impl FromStr for ImageOf {
    type Err = NotAnImage;

    fn from_str(text: &str) -> Result<Self, NotAnImage> {
        let (home, path) = text.split_once('/').ok_or(NotAnImage::Form)?;
        let home = home.parse().map_err(|_| NotAnImage::Form)?;
        let path = path.parse()?;
        Ok(ImageOf { home, path })
    }
}

impl fmt::Display for ImageOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.home, self.path)
    }
}

impl TryFrom<String> for ImageOf {
    type Error = NotAnImage;

    fn try_from(text: String) -> Result<Self, NotAnImage> {
        text.parse()
    }
}

impl From<ImageOf> for String {
    fn from(image: ImageOf) -> String {
        image.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_home_and_a_path() {
        let image: ImageOf = "30000/debian".parse().unwrap();
        assert_eq!((image.home, image.path.as_str()), (30_000, "debian"));
        assert_eq!(image.to_string(), "30000/debian");
        for wrong in [
            "",
            "debian",
            "/debian",
            "30000/",
            "30000/a/b",
            "30000/..",
            "-1/a",
        ] {
            assert!(wrong.parse::<ImageOf>().is_err(), "{wrong}");
        }
    }
}
