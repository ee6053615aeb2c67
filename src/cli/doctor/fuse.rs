//! FUSE: whether images can be mounted here, and how well they are served.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{Access, access};

use super::{Check, Machine};
use crate::sys::probe::FuseOffer;

const DEVICE: &str = "/dev/fuse";
const CONFIG: &str = "/etc/fuse.conf";

/// Pages in one request; more are not asked for.
const REQUEST_PAGES: u64 = 256;

pub(super) fn checks(machine: &Machine) -> Vec<Check> {
    // Opening the device loads the module.
    let device = device(machine);
    let mut checks = vec![module(), device];
    checks.extend(mounting(machine));
    checks.extend(protocol(machine));
    checks.push(request_size(machine));
    checks.push(helper(machine));
    checks.push(config());
    checks.push(read_ahead(machine));
    checks
}

fn module() -> Check {
    const WHAT: &str = "FUSE in the kernel";
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.split_whitespace().any(|name| name == "fuse") {
        return Check::works(WHAT, "in /proc/filesystems");
    }
    Check::missing(
        WHAT,
        "not in /proc/filesystems",
        "no image can be mounted",
        "modprobe fuse, and add fuse to /etc/modules; or take a kernel with CONFIG_FUSE_FS",
    )
}

fn device(machine: &Machine) -> Check {
    const WHAT: &str = "/dev/fuse";
    const MEANS: &str = "no image can be mounted";
    let Ok(node) = fs::metadata(DEVICE) else {
        return Check::missing(
            WHAT,
            "not there",
            MEANS,
            "modprobe fuse; in a container, give it the device (10:229): docker run --device /dev/fuse",
        );
    };
    if !node.file_type().is_char_device() {
        return Check::missing(WHAT, "not a device", MEANS, "remove it and: modprobe fuse");
    }
    let mode = node.mode() & 0o777;
    match fs::File::options().read(true).write(true).open(DEVICE) {
        Ok(_) if mode & 0o006 == 0o006 => Check::works(WHAT, format!("opens, mode {mode:04o}")),
        Ok(_) => Check::degrades(
            WHAT,
            format!("opens, mode {mode:04o}"),
            "users other than its owner cannot mount",
            "chmod 666 /dev/fuse, as udev does, if they should",
        ),
        Err(error) if machine.is_root => Check::missing(
            WHAT,
            error.to_string(),
            MEANS,
            "allow the device (10:229) in the container's device cgroup",
        ),
        Err(error) => Check::missing(
            WHAT,
            error.to_string(),
            MEANS,
            "as root: chmod 666 /dev/fuse",
        ),
    }
}

/// Whether root may mount; ordinary users depend on the helper.
fn mounting(machine: &Machine) -> Option<Check> {
    const WHAT: &str = "mount(2) of FUSE";
    const MEANS: &str = "root of this container cannot mount images";
    const ADVICE: &str =
        "give the container CAP_SYS_ADMIN, and check its seccomp and AppArmor profiles";
    let tried = machine.tried.as_ref()?;
    Some(match tried.as_ref().map(|tried| &tried.fuse) {
        Ok(Ok(_)) => Check::works(WHAT, "tried in a mount namespace of its own"),
        Ok(Err(error)) => Check::missing(WHAT, error.to_string(), MEANS, ADVICE),
        Err(error) => {
            let found = format!("no mount namespace: {error}");
            Check::missing(WHAT, found, MEANS, ADVICE)
        }
    })
}

/// Something that the kernel can offer.
struct Feature {
    what: &'static str,
    /// Its bit in FUSE_INIT; 0 if the protocol's version tells.
    bit: u64,
    minor: u32,
    /// The first kernel that has it.
    kernel: (u32, u32),
    without: &'static str,
}

/// From include/uapi/linux/fuse.h.
const FEATURES: [Feature; 6] = [
    Feature {
        what: "FUSE no_open",
        bit: 1 << 17,
        minor: 23,
        kernel: (3, 16),
        without: "each open of a file asks the daemon: 17 us instead of 5",
    },
    Feature {
        what: "FUSE no_opendir",
        bit: 1 << 24,
        minor: 29,
        kernel: (5, 1),
        without: "each open of a directory asks the daemon",
    },
    Feature {
        what: "FUSE readdirplus",
        bit: 1 << 13,
        minor: 21,
        kernel: (3, 9),
        without: "first walks ask for every entry by itself: six times slower",
    },
    Feature {
        what: "FUSE link cache",
        bit: 1 << 23,
        minor: 28,
        kernel: (4, 20),
        without: "each use of a symbolic link asks the daemon",
    },
    Feature {
        what: "FUSE large directories",
        bit: 0,
        minor: 44,
        kernel: (6, 16),
        without: "large directories take more requests the first time",
    },
    Feature {
        what: "FUSE resend",
        bit: 1 << 39,
        minor: 40,
        kernel: (6, 9),
        without: "requests that a daemon took with it when it died are not sent again to the next one",
    },
];

fn protocol(machine: &Machine) -> impl Iterator<Item = Check> {
    let tried = machine.tried.as_ref().and_then(|tried| tried.as_ref().ok());
    let offer = tried.and_then(|tried| tried.fuse.as_ref().ok()).copied();
    let kernel = machine.kernel;
    FEATURES.iter().map(move |feature| match offer {
        Some(offer) => offered(feature, offer),
        None => expected(feature, kernel),
    })
}

fn offered(feature: &Feature, offer: FuseOffer) -> Check {
    let is_there = match feature.bit {
        0 => offer.minor >= feature.minor,
        bit => offer.capabilities & bit != 0,
    };
    let minor = offer.minor;
    if is_there {
        Check::works(feature.what, format!("offered by protocol 7.{minor}"))
    } else {
        without(feature, format!("not offered by protocol 7.{minor}"))
    }
}

fn expected(feature: &Feature, kernel: (u32, u32)) -> Check {
    let (major, minor) = feature.kernel;
    if kernel >= feature.kernel {
        Check::works(
            feature.what,
            format!("expected since Linux {major}.{minor}"),
        )
    } else {
        without(feature, format!("came with Linux {major}.{minor}"))
    }
}

fn without(feature: &Feature, found: String) -> Check {
    Check::degrades(feature.what, found, feature.without, "take a newer kernel")
}

fn request_size(machine: &Machine) -> Check {
    const WHAT: &str = "FUSE request size";
    const LIMIT: &str = "/proc/sys/fs/fuse/max_pages_limit";
    match fs::read_to_string(LIMIT)
        .ok()
        .and_then(|n| n.trim().parse::<u64>().ok())
    {
        Some(pages) if pages < REQUEST_PAGES => Check::degrades(
            WHAT,
            format!("fs.fuse.max_pages_limit = {pages}"),
            "large reads take more requests",
            "sysctl fs.fuse.max_pages_limit=256",
        ),
        Some(pages) => Check::works(WHAT, format!("fs.fuse.max_pages_limit = {pages}")),
        None if machine.is_at_least((4, 20)) => {
            Check::works(WHAT, "256 pages (no limit to set before Linux 6.13)")
        }
        None => Check::degrades(
            WHAT,
            "32 pages",
            "large reads take more requests",
            "take Linux 4.20 or newer",
        ),
    }
}

/// The program that mounts for ordinary users.
fn helper(machine: &Machine) -> Check {
    const WHAT: &str = "fusermount3";
    const ADVICE: &str = "install the package fuse3";
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .flat_map(|directory| ["fusermount3", "fusermount"].map(|name| directory.join(name)))
        .find_map(|path| Some((fs::metadata(&path).ok()?, path)));
    let state: fn(_, String, _, _) -> Check = match machine.is_root {
        true => Check::degrades,
        false => Check::missing,
    };
    let Some((file, path)) = found else {
        let means = "users who are not root cannot mount";
        return state(WHAT, "not in PATH".to_owned(), means, ADVICE);
    };
    let shown = |path: PathBuf| path.display().to_string();
    if file.permissions().mode() & 0o4000 != 0 && file.uid() == 0 {
        return Check::works(WHAT, format!("{}, setuid root", shown(path)));
    }
    let means = "it cannot mount for users who are not root";
    let found = format!("{}, not setuid root", shown(path));
    state(
        WHAT,
        found,
        means,
        "chown root and chmod u+s it, or install fuse3 again",
    )
}

fn config() -> Check {
    const WHAT: &str = "user_allow_other";
    let text = match fs::read_to_string(CONFIG) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Check::degrades(
                WHAT,
                format!("{CONFIG}: {error}"),
                "it is not known whether users may let others into their mounts",
                "chmod a+r /etc/fuse.conf",
            );
        }
    };
    if text.lines().any(|line| line.trim() == "user_allow_other") {
        return Check::works(WHAT, format!("set in {CONFIG}"));
    }
    Check::degrades(
        WHAT,
        format!("not set in {CONFIG}"),
        "mounts of ordinary users are for them alone; root's are not concerned",
        "add the line user_allow_other to /etc/fuse.conf if they should share them",
    )
}

/// Whether the kernel lets itself be told how far to read ahead.
fn read_ahead(machine: &Machine) -> Check {
    const WHAT: &str = "read-ahead";
    const MEANS: &str = "first reads of large files are 2 to 3 times slower";
    let knobs = fs::read_dir("/sys/class/bdi");
    let knobs = knobs.into_iter().flatten().flatten();
    let mut knobs = knobs.map(|entry| entry.path().join("read_ahead_kb"));
    let writable = knobs.any(|knob| access(&knob, Access::WRITE_OK).is_ok());
    match (writable, machine.is_root) {
        (true, _) => Check::works(WHAT, "/sys/class/bdi/*/read_ahead_kb can be written"),
        (false, true) => Check::degrades(
            WHAT,
            "/sys/class/bdi/*/read_ahead_kb cannot be written",
            MEANS,
            "mount sysfs writable in this container",
        ),
        (false, false) => Check::degrades(
            WHAT,
            "only root may set it",
            MEANS,
            "mount as root, or after mounting, as root: echo 1024 > /sys/class/bdi/DEVICE/read_ahead_kb",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn features_are_told_by_offer_or_by_version() {
        let offer = |minor, capabilities| FuseOffer {
            minor,
            capabilities,
        };
        for feature in &FEATURES {
            let all = offered(feature, offer(45, u64::MAX));
            assert_eq!(all.state, State::Works);
            let none = offered(feature, offer(20, 0));
            assert!(none.state == State::Degrades && none.advice.is_some());
            assert_eq!(expected(feature, feature.kernel).state, State::Works);
            assert_eq!(expected(feature, (3, 2)).state, State::Degrades);
        }
    }
}
