//! Control groups, of both versions.
//!
//! A group is made below one of somebody else's, so that what is in it counts there,
//! too: what a worker takes of memory is its customer's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the processes of a group may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory, the kernel's on their behalf and page cache included.
    pub memory_bytes: u64,
    /// Share of the processor, 100 being that of a group without any (`cpu.weight`).
    pub cpu_weight: u32,
}

/// `cpu.shares` of a group without any.
const SHARES: u64 = 1024;

/// Makes the group `name` below `parent`, which is made if need be, and limits it by
/// whatever the hierarchy has.
pub fn make(parent: &Path, name: &str, limits: Limits) -> io::Result<PathBuf> {
    fs::create_dir_all(parent)?;
    let of_children = parent.join("cgroup.subtree_control");
    if of_children.exists() {
        // Version 2 gives to the groups below what is said here. What the group above
        // has not is left out, and what is missed then fails below.
        for controller in ["+memory", "+cpu"] {
            let _missing = fs::write(&of_children, controller).is_err();
        }
    }
    let group = parent.join(name);
    fs::create_dir_all(&group)?;
    let memory = limits.memory_bytes.to_string();
    let weight = u64::from(limits.cpu_weight);
    let mut is_limited = false;
    for (file, value) in [
        ("memory.limit_in_bytes", memory.clone()),
        ("memory.max", memory),
        ("cpu.shares", (weight * SHARES / 100).max(2).to_string()),
        ("cpu.weight", weight.to_string()),
    ] {
        let file = group.join(file);
        if file.exists() {
            fs::write(&file, value)?;
            is_limited = true;
        }
    }
    if !is_limited {
        let text = format!(
            "{} limits neither memory nor processors: enable the controllers in \
             cgroup.subtree_control of the groups above",
            group.display()
        );
        return Err(io::Error::other(text));
    }
    Ok(group)
}

/// The processes of a group.
pub fn processes(group: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// What the processes of a group take of memory, in bytes.
pub fn memory_bytes(group: &Path) -> Option<u64> {
    let files = ["memory.usage_in_bytes", "memory.current"];
    let mut texts = files
        .iter()
        .map(|file| fs::read_to_string(group.join(file)));
    texts.find_map(|text| text.ok()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's files are played here; the real ones need root, and are for the
    /// tests of the service.
    #[test]
    fn what_a_hierarchy_has_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("30000").join("worker");
        let limits = Limits {
            memory_bytes: 48 << 20,
            cpu_weight: 50,
        };
        let error = make(&dir.path().join("30000"), "worker", limits).unwrap_err();
        assert!(error.to_string().contains("subtree_control"), "{error}");
        for file in ["memory.max", "cpu.shares"] {
            fs::write(group.join(file), "").unwrap();
        }
        make(&dir.path().join("30000"), "worker", limits).unwrap();
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(
            (read("memory.max"), read("cpu.shares")),
            ("50331648".into(), "512".into())
        );
        fs::write(group.join("cgroup.procs"), "1\n22\n").unwrap();
        fs::write(group.join("memory.current"), "7\n").unwrap();
        assert_eq!(processes(&group).unwrap(), [1, 22]);
        assert_eq!(memory_bytes(&group), Some(7));
    }
}
