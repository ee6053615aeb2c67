//! What a process can reach of the filesystem from now on (Landlock).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use rustix::fs::{Mode, OFlags};

/// What is asked of the kernel at most; less where it can less.
const KNOWN: ABI = ABI::V5;

/// Lets this process, all its threads that are started from now on, reach nothing but
/// what is below some directories, and read about itself in `/proc`. To be called
/// while there is one thread. Whether the kernel can do that.
pub fn confine(directories: &[&OwnedFd]) -> io::Result<bool> {
    let itself = rustix::fs::open(
        "/proc/self",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let all: BitFlags<AccessFs> = AccessFs::from_all(KNOWN);
    let of_data = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let restricted = (|| {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .create()?
            .add_rule(PathBeneath::new(itself.as_fd(), reading))?;
        for directory in directories {
            rules = rules.add_rule(PathBeneath::new(directory.as_fd(), of_data))?;
        }
        rules.restrict_self()
    })();
    let status = restricted.map_err(|error: landlock::RulesetError| io::Error::other(error))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
