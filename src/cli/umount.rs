//! `distrofs umount`: detaches an image; its serving process ends by itself.

use super::{Failure, args};
use crate::sys::mount;

pub(super) fn run(job: &args::Umount) -> Result<(), Failure> {
    let path = std::path::absolute(&job.mountpoint)?;
    mount::unmount(&path, job.lazy)?;
    Ok(())
}
