//! What the kernel says about this process, in `/proc/self/status` (proc(5)).

use std::io;
use std::os::unix::fs::MetadataExt;

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`), with pages of mapped files.
    pub resident_bytes: u64,
    /// The most that was ever resident (`VmHWM`).
    pub peak_bytes: u64,
    /// Of what is resident, pages of mapped files (`RssFile`): the kernel can
    /// take them back at any time.
    pub file_bytes: u64,
}

/// The memory of this process.
pub fn memory() -> io::Result<Memory> {
    Ok(parse(&std::fs::read_to_string("/proc/self/status")?))
}

/// What program this process runs: equal in processes that run the same file, and
/// different after it was replaced, also by one of the same content.
pub fn build() -> io::Result<String> {
    // It leads to the file that was started, wherever that is now. It is not freed
    // while it runs, so that no other file has its number.
    let file = std::fs::metadata("/proc/self/exe")?;
    Ok(format!(
        "{} {:x}:{}:{}.{:09}",
        env!("CARGO_PKG_VERSION"),
        file.dev(),
        file.ino(),
        file.mtime(),
        file.mtime_nsec()
    ))
}

fn parse(status: &str) -> Memory {
    let bytes = |name: &str| {
        status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map_or(0, |kib| kib.saturating_mul(1024))
    };
    Memory {
        resident_bytes: bytes("VmRSS"),
        peak_bytes: bytes("VmHWM"),
        file_bytes: bytes("RssFile"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_names() {
        let status =
            "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t   20 kB\nVmRSS:\t   10 kB\nRssFile:\t3 kB\n";
        let memory = Memory {
            resident_bytes: 10 * 1024,
            peak_bytes: 20 * 1024,
            file_bytes: 3 * 1024,
        };
        assert_eq!(parse(status), memory);
        assert_eq!(parse("VmRSS: lots"), Memory::default());
    }

    #[test]
    fn this_process_has_memory() {
        let memory = memory().unwrap();
        assert!(memory.resident_bytes > 0 && memory.peak_bytes >= memory.resident_bytes);
    }
}
