//! The steps of taking in, one by one, so that tests can have each of them fail, or
//! be the last that was done.
//!
//! Guarantees: outside of unit tests a step is its work and nothing else.

use std::io;

use super::error::HomeError;

/// What changes something on disk that a crash could leave half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The index is written into `incoming`.
    Index,
    /// The archive's bytes reach the disk.
    SyncArchive,
    /// What is about to be done is written down.
    Journal,
    /// The archive leaves `distros`.
    Stage,
    /// It gets its place.
    PlaceArchive,
    /// Its index does.
    PlaceIndex,
    /// The record names it.
    Record,
    /// What is not needed any more is removed.
    Clean,
    /// All is done, and what was written down is removed.
    Forget,
    /// Why something can never be an image is written beside where it will be.
    Reason,
    /// It is moved there.
    Reject,
    /// A patch layer is copied.
    Copy,
    /// Bytes of an archive that is sent are written.
    Arrive,
}

/// Does a step; `failed` makes an error of what the system said.
pub(super) fn step<T, E>(
    step: Step,
    failed: impl FnOnce(io::Error) -> E,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    before(step).map_err(failed)?;
    let done = work()?;
    after(step);
    Ok(done)
}

/// Does a step that only the system can fail: `doing` says what it is.
pub(super) fn system_step<T>(
    which: Step,
    doing: &str,
    work: impl FnOnce() -> io::Result<T>,
) -> Result<T, HomeError> {
    let failed = HomeError::doing(doing);
    step(which, &failed, || work().map_err(&failed))
}

#[cfg(not(test))]
#[inline]
fn before(_step: Step) -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
#[inline]
fn after(_step: Step) {}

#[cfg(test)]
pub(super) use planned::{Crash, Fault, with};
#[cfg(test)]
use planned::{after, before};

#[cfg(test)]
mod planned {
    use std::cell::Cell;
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};

    use super::Step;

    /// What happens at a step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Fault {
        /// Nothing is done any more after it.
        Crash,
        /// It fails.
        Fails(io::ErrorKind),
    }

    /// It was as if the process had been killed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) struct Crash;

    thread_local! {
        static PLAN: Cell<Option<(Step, Fault)>> = const { Cell::new(None) };
    }

    /// Does `work` with this fault at this step, once.
    pub(in super::super) fn with<T>(
        step: Step,
        fault: Fault,
        work: impl FnOnce() -> T,
    ) -> Result<T, Crash> {
        PLAN.set(Some((step, fault)));
        let done = catch_unwind(AssertUnwindSafe(work));
        let left = PLAN.take();
        match done {
            Ok(done) => {
                assert_eq!(left, None, "the step was not come to");
                Ok(done)
            }
            Err(panic) if panic.is::<Crash>() => Err(Crash),
            Err(panic) => resume_unwind(panic),
        }
    }

    pub(super) fn before(step: Step) -> io::Result<()> {
        match PLAN.get() {
            Some((planned, Fault::Fails(kind))) if planned == step => {
                PLAN.set(None);
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn after(step: Step) {
        if PLAN.get() == Some((step, Fault::Crash)) {
            PLAN.set(None);
            panic_any(Crash);
        }
    }
}
