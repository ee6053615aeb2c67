//! The operating system: the only place with `unsafe`, one subject a file.
//!
//! Guarantees: everything exported here is safe to call; what the kernel can
//! do to a process behind its back (SIGBUS on a truncated map, a signal in the
//! wrong thread, a mount that is not ours) is turned into values.

pub mod alloc;
pub mod as_user;
pub mod breadcrumbs;
pub mod cgroup;
pub mod clock;
pub mod confine;
pub mod contain;
pub mod daemon;
mod fault;
pub mod file;
mod fusermount;
mod handler;
pub mod ioctl;
pub mod lease;
pub mod map;
pub mod mount;
mod mount_error;
pub mod mountinfo;
pub mod namespace;
pub mod nonblock;
pub mod packets;
pub mod pass;
pub mod probe;
pub mod process;
pub mod remove;
pub mod replace;
pub mod sched;
pub mod signal;
pub mod spawn;
pub mod spill;
pub mod sqlite;
pub mod stream;
pub mod tree;
pub mod watch;
