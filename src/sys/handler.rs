//! Handlers of signals that hand on what is not theirs.

#![expect(unsafe_code, reason = "signal handlers are made of it")]

use std::ffi::{c_int, c_void};
use std::io;

/// What handles a signal. It may do only what is async-signal-safe
/// (signal-safety(7)).
pub(super) type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Has `handler` called for `signal`, on the alternate stack of the thread if it has
/// one. What was done with it before, or an errno.
pub(super) fn install(signal: c_int, handler: Handler) -> Result<libc::sigaction, i32> {
    // SAFETY: an all-zero sigaction is a valid value of this C struct, and both
    // pointers are to live ones; the handler has the signature that SA_SIGINFO asks
    // for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut previous: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        if libc::sigaction(signal, &action, &mut previous) == 0 {
            Ok(previous)
        } else {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or(0))
        }
    }
}

/// Hands a signal to whoever handled it before. To be called by a handler.
pub(super) fn pass_on(
    previous: &libc::sigaction,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: both calls are async-signal-safe. The signal is blocked
            // in its own handler, so it ends the process on return.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO this address is a function of this type.
            let handler: Handler = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO this address is a function of this type.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
