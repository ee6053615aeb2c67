//! [`Decision`]: what a container is to have at its next start.

use serde::{Deserialize, Serialize};

use super::{ImageOf, ImagePath};

/// What the registry decides for a container of this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The user of the container.
    pub container: u32,
    /// Whose it is: containers have images of their own customer only.
    pub customer: u64,
    /// Whether it stores images, and has none itself.
    pub is_storage: bool,
    /// Its custom distro, if it may use it.
    #[serde(default)]
    pub image: Option<ImageOf>,
    /// Its platform distro: a directory below the setting `distros`.
    #[serde(default)]
    pub default: Option<ImagePath>,
    /// What it may write in its image: `paths`, `tree` or `none`; none is what the
    /// settings say.
    #[serde(default)]
    pub writable: Option<String>,
}

/// Something that a container's owner should know, raised while nobody may have
/// listened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raised {
    /// Grows from one to the next, also when the service was started again.
    pub number: u64,
    /// The user of the container.
    pub container: u32,
    /// When, in seconds since 1970.
    pub unix: u64,
    /// What.
    pub text: String,
}
