//! What is agreed with the kernel when a session begins.

use fuser::{InitFlags, KernelConfig};

use crate::config::{FuseTuning, ReaddirPlus};

/// From this protocol version on (Linux 6.16) a directory comes in answers as
/// large as the reader's buffer; before, in pages of 4 KiB.
const LARGE_DIRECTORY_ANSWERS: u32 = 44;

/// Asks for what `tuning` wants, and takes out of it what this kernel cannot do.
pub(super) fn negotiate(tuning: &mut FuseTuning, kernel: &mut KernelConfig) {
    // Where a directory takes many small requests, all but the first would come
    // without attributes, and every name be looked up.
    if tuning.readdirplus == ReaddirPlus::Auto && kernel.kernel_abi().1 < LARGE_DIRECTORY_ANSWERS {
        tuning.readdirplus = ReaddirPlus::Always;
    }
    let plus = tuning.readdirplus != ReaddirPlus::Never;
    let auto = tuning.readdirplus == ReaddirPlus::Auto;
    for (wanted, flag) in [
        (plus, InitFlags::FUSE_DO_READDIRPLUS),
        (auto, InitFlags::FUSE_READDIRPLUS_AUTO),
        (tuning.cache_symlinks, InitFlags::FUSE_CACHE_SYMLINKS),
        (tuning.parallel_dirops, InitFlags::FUSE_PARALLEL_DIROPS),
        (tuning.export, InitFlags::FUSE_EXPORT_SUPPORT),
        (tuning.no_open, InitFlags::FUSE_NO_OPEN_SUPPORT),
        (tuning.no_opendir, InitFlags::FUSE_NO_OPENDIR_SUPPORT),
    ] {
        if wanted && kernel.add_capabilities(flag).is_err() {
            tracing::debug!(?flag, "this kernel cannot do it");
            tuning.no_open &= flag != InitFlags::FUSE_NO_OPEN_SUPPORT;
            tuning.no_opendir &= flag != InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        }
    }
    // Both are in range by their types and by `FuseTuning`; a refusal names the
    // nearest value, and the kernel's default is then in effect.
    if let Err(nearest) = kernel.set_max_write(tuning.max_request_bytes) {
        tracing::warn!(nearest, "request size refused");
    }
    if let Err(nearest) = kernel.set_max_background(tuning.max_background) {
        tracing::warn!(nearest, "number of background requests refused");
    }
}
