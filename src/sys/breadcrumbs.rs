//! What a process was doing when it died, for the one that started it.
//!
//! Both share memory: the one that is to be watched marks there what it works on,
//! under a number, and unmarks it when it is done. Where it faults, a handler notes
//! what the thread that did was working on. The other looks at it afterwards.
//!
//! Counts alone would do where one thing is worked on at a time. With a busy
//! neighbour they did not: of 7 to 9 deaths by one image three could be told to be by
//! it; with the thread that faulted, 3 of 3.
//!
//! Guarantees: marking is an atomic addition, unmarking another one, and neither
//! waits; whoever watches only reads a file of fixed size that nobody can shorten,
//! and takes all that is in it for possible. Marks are lost with neither process.

#![expect(
    unsafe_code,
    reason = "memory shared with another process, and signal handlers"
)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::handler;

/// The label of work that is for nothing in particular.
pub const OWN: u32 = 0;

/// A cache line each, so that threads do not wait for each other; pages that no slot
/// of is used take no memory.
const SLOT_BYTES: usize = 64;
/// Twice as many as there can be mounts.
const SLOTS: usize = 8192;
const BYTES: usize = SLOTS * SLOT_BYTES;
/// In a slot: what for, in little endian, and how much is being done, which is only
/// looked at for being 0. In the first one: for what a fault was, and 1 if there was
/// one.
const LABEL: usize = 0;
const COUNT: usize = 4;

/// What ends a process that does something wrong.
const FATAL: [c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
];

/// Whether a process that ended by this signal did something wrong, if nobody sent it.
pub fn is_fault(signal: i32) -> bool {
    FATAL.contains(&signal)
}

/// The memory, as whoever watches has it.
#[derive(Debug)]
pub struct Trail(File);

/// What was being done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What the thread worked on that ended the process, if it did.
    pub fault: Option<u32>,
    /// All that was marked, in no order, each label once.
    pub open: Vec<u32>,
}

impl Found {
    /// What alone can have ended the process: what the thread worked on that
    /// faulted, or if none did, the only thing that anybody worked on.
    pub fn culprit(&self) -> Option<u32> {
        let label = match (self.fault, &self.open[..]) {
            (Some(label), _) => label,
            (None, [label]) => *label,
            _ => OWN,
        };
        (label != OWN).then_some(label)
    }
}

impl Trail {
    /// New, with no marks.
    pub fn new() -> io::Result<Trail> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Before Linux 6.3 nobody knows that flag, later ones may insist on it.
        let fd = memfd_create("breadcrumbs", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create("breadcrumbs", flags))?;
        ftruncate(&fd, BYTES as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Trail(fd.into()))
    }

    /// What is marked now.
    pub fn found(&self) -> io::Result<Found> {
        let mut bytes = vec![0; BYTES];
        self.0.read_exact_at(&mut bytes, 0)?;
        let word = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_le_bytes(bytes)
        };
        let slots = (SLOT_BYTES..BYTES).step_by(SLOT_BYTES);
        let marked = slots.filter(|slot| word(slot + COUNT) > 0);
        let mut open: Vec<_> = marked.map(|slot| word(slot + LABEL)).collect();
        open.sort_unstable();
        open.dedup();
        Ok(Found {
            fault: (word(COUNT) > 0).then(|| word(LABEL)),
            open,
        })
    }
}

impl AsFd for Trail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The memory, as whoever is watched has it.
#[derive(Debug)]
struct Marks {
    map: MmapRaw,
    free: Mutex<Free>,
}

/// Slots that are not in use.
#[derive(Debug)]
struct Free {
    /// All from here on, and these.
    from: usize,
    others: Vec<usize>,
}

impl Marks {
    fn word(&self, slot: usize, field: usize) -> &AtomicU32 {
        let at = (slot % SLOTS) * SLOT_BYTES + field;
        // SAFETY: the offset is within the map, which is of `BYTES` bytes, cannot
        // shrink and lives as long as this; it is aligned, and all who use it take
        // it for an atomic.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where this process marks what it works on.
#[derive(Clone, Debug)]
pub struct Breadcrumbs(Arc<Marks>);

/// Where faults are noted.
static FAULTS: OnceLock<Faults> = OnceLock::new();

struct Faults {
    marks: Arc<Marks>,
    /// Who is told of each of `FATAL` then, or why it is not noted.
    previous: [Result<libc::sigaction, i32>; FATAL.len()],
}

thread_local! {
    /// The slot of what this thread works on.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

impl Breadcrumbs {
    /// In the memory that whoever watches gave.
    pub fn of(trail: &OwnedFd) -> io::Result<Breadcrumbs> {
        let map = MmapRaw::map_raw(trail)?;
        if map.len() != BYTES {
            return Err(io::Error::other("memory of another size is shared"));
        }
        let free = Mutex::new(Free {
            from: 1,
            others: Vec::new(),
        });
        Ok(Breadcrumbs(Arc::new(Marks { map, free })))
    }

    /// Notes faults of this process from now on. To be called once, and before
    /// others handle the same signals.
    pub fn note_faults(&self) {
        FAULTS.get_or_init(|| Faults {
            marks: Arc::clone(&self.0),
            previous: FATAL.map(|signal| handler::install(signal, on_fault)),
        });
    }

    /// For work on what is called `label`.
    pub fn crumb(&self, label: u32) -> Crumb {
        let mut free = self.0.free();
        let fresh = free.from;
        let number = match free.others.pop() {
            None if fresh >= SLOTS => return Crumb::default(),
            None => {
                free.from += 1;
                fresh
            }
            Some(number) => number,
        };
        let marks = Arc::clone(&self.0);
        marks
            .word(number, LABEL)
            .store(label.to_le(), Ordering::Relaxed);
        Crumb(Some(Arc::new(Slot { marks, number })))
    }
}

#[derive(Debug)]
struct Slot {
    marks: Arc<Marks>,
    number: usize,
}

impl Slot {
    fn count(&self) -> &AtomicU32 {
        self.marks.word(self.number, COUNT)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.marks.free().others.push(self.number);
    }
}

/// Marks work on something. The default is one that nobody sees.
#[derive(Clone, Debug, Default)]
pub struct Crumb(Option<Arc<Slot>>);

impl Crumb {
    /// Marks that this thread works on it, until what is returned is dropped, by this
    /// thread.
    pub fn open(&self) -> Open<'_> {
        let slot = self.0.as_deref();
        let before = slot.map_or(0, |slot| {
            slot.count().fetch_add(1, Ordering::Relaxed);
            HERE.replace(slot.number)
        });
        // What is done from here on is not done before.
        compiler_fence(Ordering::SeqCst);
        Open { slot, before }
    }
}

/// Work that is being done.
#[derive(Debug)]
#[must_use = "it is over when this is dropped"]
pub struct Open<'a> {
    slot: Option<&'a Slot>,
    /// What this thread worked on before.
    before: usize,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        if let Some(slot) = self.slot {
            HERE.set(self.before);
            slot.count().fetch_sub(1, Ordering::Relaxed);
        }
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(Faults { marks, previous }) = FAULTS.get() else {
        // It came while the handlers were being installed: once more.
        return;
    };
    // SAFETY: the kernel passes a valid siginfo_t, in which who sent a signal is
    // said for those that are sent; getpid cannot fail.
    let is_own = unsafe {
        (*info).si_code > 0
            || ((*info).si_code == libc::SI_TKILL && (*info).si_pid() == libc::getpid())
    };
    if is_own {
        let slot = HERE.get();
        let label = match slot {
            0 => OWN.to_le(),
            slot => marks.word(slot, LABEL).load(Ordering::Relaxed),
        };
        let noted = marks.word(0, COUNT);
        // Others may fault while the process ends.
        let first = noted.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            marks.word(0, LABEL).store(label, Ordering::Relaxed);
        }
    }
    let known = FATAL.iter().position(|fatal| *fatal == signal);
    if let Some(Ok(previous)) = known.map(|known| &previous[known]) {
        handler::pass_on(previous, signal, info, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> (Trail, Breadcrumbs) {
        let trail = Trail::new().unwrap();
        let crumbs = Breadcrumbs::of(&trail.as_fd().try_clone_to_owned().unwrap()).unwrap();
        (trail, crumbs)
    }

    #[test]
    fn what_is_being_done_is_found_and_nothing_else() {
        let (trail, crumbs) = shared();
        assert_eq!(trail.found().unwrap(), Found::default());
        let (a, b) = (crumbs.crumb(7), crumbs.crumb(9));
        let first = a.open();
        assert_eq!(trail.found().unwrap().culprit(), Some(7));
        let (again, second) = (a.open(), b.open());
        assert_eq!(trail.found().unwrap().open, [7, 9]);
        assert_eq!(trail.found().unwrap().culprit(), None);
        drop((first, second));
        assert_eq!(trail.found().unwrap().open, [7]);
        drop(again);
        assert_eq!(trail.found().unwrap(), Found::default());
        // A slot is used again under another name.
        drop(a);
        let c = crumbs.crumb(11);
        let _open = c.open();
        assert_eq!(trail.found().unwrap().open, [11]);
        let unseen = Crumb::default();
        let _unseen = unseen.open();
        assert_eq!(trail.found().unwrap().open, [11]);
    }

    #[test]
    fn own_work_is_nobodys_fault() {
        let (trail, crumbs) = shared();
        let (own, a) = (crumbs.crumb(OWN), crumbs.crumb(7));
        let _own = own.open();
        assert_eq!(trail.found().unwrap().culprit(), None);
        let _a = a.open();
        assert_eq!(trail.found().unwrap().culprit(), None);
        let found = |fault, open: &[u32]| Found {
            fault,
            open: open.to_vec(),
        };
        assert_eq!(found(Some(7), &[OWN, 7, 9]).culprit(), Some(7));
        assert_eq!(found(Some(OWN), &[7]).culprit(), None);
    }

    #[test]
    fn there_are_slots_for_all_and_then_nobody_is_marked() {
        let (trail, crumbs) = shared();
        let all: Vec<_> = (1..SLOTS).map(|_| crumbs.crumb(5)).collect();
        let more = crumbs.crumb(6);
        let _more = more.open();
        let _last = all.last().unwrap().open();
        assert_eq!(trail.found().unwrap().open, [5]);
    }

    #[test]
    fn nobody_can_shorten_what_is_shared() {
        let (trail, _crumbs) = shared();
        assert!(trail.0.set_len(0).is_err());
        assert!(trail.0.set_len(2 * BYTES as u64).is_err());
        let other = tempfile::tempfile().unwrap();
        other.set_len(5).unwrap();
        assert!(Breadcrumbs::of(&other.into()).is_err());
    }
}
