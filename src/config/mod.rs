//! Settings: raw text in, checked values out.
//!
//! Guarantees: every value of these types is usable as it is. Units are in the
//! names; a size is bytes, with `K`, `M` or `G` for powers of 1024.

mod serve;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use serve::{LogFormat, ServeConfig};

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not of the form `key=value`.
    #[error("{0:?} is not of the form key=value")]
    Form(String),
    /// No such key.
    #[error("unknown setting {key:?}; there are: {}", FuseTuning::KEYS.join(", "))]
    Key {
        /// What was given.
        key: String,
    },
    /// The value does not fit the key.
    #[error("{key}={value}: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A file of settings.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A setting that cannot be.
    #[error("{setting}: {why}")]
    Setting {
        /// Its name.
        setting: String,
        /// What is wrong.
        why: String,
    },
    /// Not a size.
    #[error("{0:?} is not a size: write bytes, or a number with K, M or G, such as 64M")]
    Size(String),
}

/// A number of bytes, written as `65536`, `64K`, `64M` or `1G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl TryFrom<String> for ByteSize {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

impl FromStr for ByteSize {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Size(text.to_owned());
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            _ => return Err(wrong()),
        };
        // `parse` would take a sign.
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number
            .checked_mul(1 << shift)
            .map(ByteSize)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        self.0.fmt(f)
    }
}

/// When the kernel is to ask for attributes together with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaddirPlus {
    /// With every request for a directory.
    Always,
    /// With the first one, and later ones if the attributes turn out to be wanted.
    Auto,
    /// Never: names only.
    Never,
}

/// How a session talks to the kernel. The default is what was measured to be
/// fastest; every part can be switched to measure it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuseTuning {
    /// Open files without asking the daemon.
    pub no_open: bool,
    /// Open directories without asking the daemon, and keep their entries.
    pub no_opendir: bool,
    /// How long names and attributes are good; an image never changes.
    pub ttl: Duration,
    /// Whether names that are not there are remembered, as long as others.
    pub negative_entries: bool,
    /// When attributes come with names.
    pub readdirplus: ReaddirPlus,
    /// Keep link targets.
    pub cache_symlinks: bool,
    /// Let several processes read one directory at a time.
    pub parallel_dirops: bool,
    /// The largest read or directory request, in bytes.
    pub max_request_bytes: u32,
    /// How many read-ahead requests may wait.
    pub max_background: u16,
    /// How far the kernel reads ahead, in KiB; 0 leaves the kernel's default.
    pub read_ahead_kib: u32,
    /// Answer for extended attributes once and for all if there are none.
    pub xattr_enosys: bool,
    /// How long to poll in vain for the next of many requests before sleeping, a
    /// few times longer after a long burst; zero for never.
    pub spin: Duration,
    /// Turn file handles back into inodes, for overlayfs and NFS.
    pub export: bool,
    /// Decode ahead of readers whose next reads can be told.
    pub ahead: bool,
    /// Prefetch what a start profile names.
    pub profile: bool,
    /// Threads that take requests from the kernel.
    pub threads: u8,
    /// Threads for reads that take decoding or a disk.
    pub workers: u8,
    /// How long such a read may take.
    pub read_deadline: Duration,
}

/// The longest time that FUSE can express without overflow in any kernel: 136 years.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Default for FuseTuning {
    fn default() -> Self {
        Self {
            no_open: true,
            no_opendir: true,
            ttl: FOREVER,
            negative_entries: true,
            readdirplus: ReaddirPlus::Auto,
            cache_symlinks: true,
            parallel_dirops: true,
            max_request_bytes: 256 * 1024,
            max_background: 64,
            read_ahead_kib: 512,
            xattr_enosys: true,
            spin: Duration::from_micros(200),
            export: true,
            ahead: true,
            profile: true,
            threads: 1,
            workers: 4,
            read_deadline: Duration::from_secs(30),
        }
    }
}

impl FuseTuning {
    /// What [`set`](Self::set) knows.
    pub const KEYS: [&str; 18] = [
        "no_open",
        "no_opendir",
        "ttl_s",
        "negative_entries",
        "readdirplus",
        "cache_symlinks",
        "parallel_dirops",
        "max_request",
        "max_background",
        "read_ahead_kib",
        "xattr_enosys",
        "spin_us",
        "export",
        "ahead",
        "profile",
        "threads",
        "workers",
        "read_deadline_s",
    ];

    /// Changes one setting, given as `key=value`.
    pub fn set(&mut self, setting: &str) -> Result<(), ConfigError> {
        let form = || ConfigError::Form(setting.to_owned());
        let (key, value) = setting.split_once('=').ok_or_else(form)?;
        let text = Text { key, value };
        match key {
            "no_open" => self.no_open = text.switch()?,
            "no_opendir" => self.no_opendir = text.switch()?,
            "ttl_s" if value == "forever" => self.ttl = FOREVER,
            "ttl_s" => {
                self.ttl =
                    Duration::from_secs(text.within(0, u32::MAX, "seconds or `forever`")?.into())
            }
            "negative_entries" => self.negative_entries = text.switch()?,
            "readdirplus" => {
                self.readdirplus = match value {
                    "always" => ReaddirPlus::Always,
                    "auto" => ReaddirPlus::Auto,
                    "never" => ReaddirPlus::Never,
                    _ => return Err(text.wrong("always, auto or never")),
                }
            }
            "cache_symlinks" => self.cache_symlinks = text.switch()?,
            "parallel_dirops" => self.parallel_dirops = text.switch()?,
            "max_request" => self.max_request_bytes = text.request_size()?,
            "max_background" => self.max_background = text.within(1, 4096, "1 to 4096 requests")?,
            "read_ahead_kib" => self.read_ahead_kib = text.within(0, 65_536, "0 to 65536 KiB")?,
            "xattr_enosys" => self.xattr_enosys = text.switch()?,
            "spin_us" => {
                self.spin = Duration::from_micros(
                    text.within(0_u32, 10_000, "0 to 10000 microseconds")?
                        .into(),
                )
            }
            "export" => self.export = text.switch()?,
            "ahead" => self.ahead = text.switch()?,
            "profile" => self.profile = text.switch()?,
            "threads" => self.threads = text.within(1, 16, "1 to 16 threads")?,
            "workers" => self.workers = text.within(1, 64, "1 to 64 threads")?,
            "read_deadline_s" => {
                self.read_deadline =
                    Duration::from_secs(text.within(1_u32, 86_400, "1 to 86400 seconds")?.into())
            }
            _ => {
                return Err(ConfigError::Key {
                    key: key.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// A key with a value that is still text.
#[derive(Clone, Copy)]
struct Text<'a> {
    key: &'a str,
    value: &'a str,
}

impl Text<'_> {
    fn wrong(self, expected: &'static str) -> ConfigError {
        let (key, value) = (self.key.to_owned(), self.value.to_owned());
        ConfigError::Value {
            key,
            value,
            expected,
        }
    }

    fn switch(self) -> Result<bool, ConfigError> {
        match self.value {
            "on" | "yes" | "true" | "1" => Ok(true),
            "off" | "no" | "false" | "0" => Ok(false),
            _ => Err(self.wrong("on or off")),
        }
    }

    fn within<T: FromStr + PartialOrd>(
        self,
        least: T,
        most: T,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        let number = self.value.parse().ok();
        number
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| self.wrong(expected))
    }

    /// FUSE counts requests in pages, 256 at most unless root raised the limit.
    fn request_size(self) -> Result<u32, ConfigError> {
        let size = self.value.parse::<ByteSize>()?.0;
        let pages = size.is_multiple_of(4096) && (4096..=1024 * 1024).contains(&size);
        let bytes = u32::try_from(size).ok().filter(|_| pages);
        bytes.ok_or_else(|| self.wrong("4K to 1M, in whole pages of 4K"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units_and_nothing_else() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(size("64M").unwrap(), 64 << 20);
        assert_eq!(size("256k").unwrap(), 256 << 10);
        assert_eq!(size("2GiB").unwrap(), 2 << 30);
        assert_eq!(size("4097").unwrap(), 4097);
        for wrong in [
            "",
            "M",
            "-1",
            "+1",
            "1.5M",
            "64 M",
            "64T",
            "1M1",
            "99999999999G",
            "٣M",
        ] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(ByteSize(64 << 20).to_string(), "64M");
        assert_eq!(
            (ByteSize(0).to_string(), ByteSize(4097).to_string()),
            ("0".into(), "4097".into())
        );
    }

    #[test]
    fn every_key_can_be_set() {
        for key in FuseTuning::KEYS {
            let value = match key {
                "readdirplus" => "never",
                "max_request" => "128K",
                "ttl_s" | "spin_us" => "0",
                "threads" | "workers" | "max_background" | "read_ahead_kib" => "7",
                "read_deadline_s" => "7",
                _ => "off",
            };
            let mut tuning = FuseTuning::default();
            tuning.set(&format!("{key}={value}")).unwrap();
            assert_ne!(tuning, FuseTuning::default(), "{key}");
        }
    }

    #[test]
    fn a_wrong_setting_says_what_would_be_right() {
        let mut tuning = FuseTuning::default();
        let mut error = |setting| tuning.set(setting).unwrap_err().to_string();
        assert!(error("spin").contains("key=value"));
        assert!(error("spinn=1").contains("spin_us, export"));
        assert!(error("spin_us=-1").contains("0 to 10000 microseconds"));
        assert!(error("no_open=maybe").contains("on or off"));
        assert!(error("max_request=2M").contains("4K to 1M"));
        assert!(error("max_request=5000").contains("whole pages"));
        assert!(error("workers=0").contains("1 to 64"));
        assert_eq!(tuning, FuseTuning::default());
    }
}
