//! The kernel, and what of it containers need beside FUSE.

use std::fs;
use std::io;
use std::path::Path;

use super::{Check, Machine};
use crate::sys::probe;

/// Older kernels may work; nobody tries them.
const KERNEL_MIN: (u32, u32) = (5, 10);

pub(super) fn kernel(machine: &Machine) -> Option<Check> {
    const WHAT: &str = "kernel";
    let found = format!("Linux {}", machine.release);
    Some(if machine.is_at_least(KERNEL_MIN) {
        Check::works(WHAT, found)
    } else {
        Check::degrades(
            WHAT,
            found,
            "older than any that distrofs is tried on",
            "take Linux 5.10 or newer, best 6.9 or newer",
        )
    })
}

pub(super) fn checks(machine: &Machine) -> Vec<Check> {
    vec![
        overlay(machine),
        detached_mounts(machine),
        memory_cgroup(),
        landlock(),
        user_namespaces(machine),
    ]
}

fn overlay(machine: &Machine) -> Check {
    const WHAT: &str = "overlayfs";
    const MEANS: &str = "images can be mounted, but containers cannot write above them";
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = known.split_whitespace().any(|name| name == "overlay");
    match &machine.tried {
        Some(Ok(tried)) => match &tried.overlay {
            Ok(()) => Check::works(WHAT, "mounted and written through"),
            Err(error) => Check::degrades(
                WHAT,
                format!("a mount was refused: {error}"),
                MEANS,
                "modprobe overlay; take Linux 5.10 or newer with CONFIG_OVERLAY_FS",
            ),
        },
        _ if is_known => Check::works(WHAT, "in /proc/filesystems; not tried, which takes root"),
        _ => Check::degrades(
            WHAT,
            "not in /proc/filesystems",
            MEANS,
            "as root: modprobe overlay",
        ),
    }
}

fn detached_mounts(machine: &Machine) -> Check {
    const WHAT: &str = "open_tree, move_mount";
    const MEANS: &str = "mounts cannot be handed into the namespace of a starting container";
    const ADVICE: &str = "take Linux 5.2 or newer; in a container, check its seccomp profile";
    match &machine.tried {
        Some(Ok(tried)) => match &tried.detached_mounts {
            Ok(()) => Check::works(WHAT, "a mount was cloned and attached"),
            Err(error) => Check::degrades(WHAT, error.to_string(), MEANS, ADVICE),
        },
        _ if machine.is_at_least((5, 2)) => Check::works(
            WHAT,
            "expected since Linux 5.2; not tried, which takes root",
        ),
        _ => Check::degrades(WHAT, "came with Linux 5.2", MEANS, ADVICE),
    }
}

fn memory_cgroup() -> Check {
    const WHAT: &str = "memory cgroup";
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if v2.split_whitespace().any(|name| name == "memory") {
        return Check::works(WHAT, "cgroups v2");
    }
    if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
        || Path::new("/sys/fs/cgroup/memory/tasks").exists()
    {
        return Check::works(WHAT, "cgroups v1");
    }
    Check::degrades(
        WHAT,
        "no memory controller below /sys/fs/cgroup",
        "nothing but distrofs itself keeps its memory within --memory",
        "mount cgroup2 on /sys/fs/cgroup, or boot with cgroup_enable=memory",
    )
}

fn landlock() -> Check {
    const WHAT: &str = "Landlock";
    const MEANS: &str = "a process that parses customers' archives is confined by its user alone";
    match probe::landlock_abi() {
        Ok(abi) => Check::works(WHAT, format!("ABI version {abi}")),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Check::degrades(
            WHAT,
            error.to_string(),
            MEANS,
            "take Linux 5.13 or newer, and boot with lsm=landlock,… if it is built in but off",
        ),
        Err(error) => Check::degrades(
            WHAT,
            error.to_string(),
            MEANS,
            "allow landlock_create_ruleset in the container's seccomp profile",
        ),
    }
}

/// Settings that forbid ordinary users a namespace, with the forbidding value.
const FORBID: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sysctl user.max_user_namespaces=10000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with userns",
    ),
];

fn user_namespaces(machine: &Machine) -> Check {
    const WHAT: &str = "user namespaces";
    const MEANS: &str = "users who are not root cannot mount in a namespace of their own; with fusermount3 they can";
    for (setting, forbidding, advice) in FORBID {
        let value = fs::read_to_string(setting).unwrap_or_default();
        if value.trim() == forbidding {
            let found = format!("{setting} is {forbidding}");
            return Check::degrades(WHAT, found, MEANS, advice);
        }
    }
    let who = if machine.is_root { " as root" } else { "" };
    match probe::user_namespace() {
        Ok(()) => Check::works(WHAT, format!("made one and mounted in it{who}")),
        Err(error) => Check::degrades(
            WHAT,
            format!("refused{who}: {error}"),
            MEANS,
            "take a kernel with CONFIG_USER_NS; in a container, check its seccomp profile",
        ),
    }
}
