//! What an image is made of, as bytes that are the same whenever it is.

use sha2::{Digest as _, Sha256};

use super::{Part, StoreError};
use crate::index::build::{Limits, ModeChange, check_changes, check_patches};
use crate::types::Digest;

const VERSION: u32 = 1;

/// Flag of an archive: blocks of zeros do not end it.
const IGNORED_ZEROS: u32 = 1;

#[derive(Debug)]
pub(super) struct Recipe {
    bytes: Vec<u8>,
}

impl Recipe {
    pub(super) fn new(
        base: Part<'_>,
        patches: &[Part<'_>],
        changes: &[ModeChange],
    ) -> Result<Self, StoreError> {
        let limits = Limits::default();
        let fits = check_patches(patches.len(), &limits);
        let fits = fits.and_then(|()| check_changes(changes, &limits));
        fits.map_err(|cause| StoreError::Build {
            path: base.archive.path().to_owned(),
            cause,
        })?;
        // The limits fit, one more does, and a path has at most 4095 bytes.
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend(count(patches.len().saturating_add(1)));
        bytes.extend(count(changes.len()));
        for part in std::iter::once(&base).chain(patches) {
            let zeros = part.index.ignored_zeros();
            let zeros = zeros.map_err(|cause| StoreError::Index {
                path: part.index.place.clone(),
                cause,
            })?;
            let flags = if zeros { IGNORED_ZEROS } else { 0 };
            bytes.extend(part.index.sidecar.identity().sha256);
            bytes.extend(flags.to_le_bytes());
        }
        for change in changes {
            let len = u16::try_from(change.path().len()).unwrap_or(u16::MAX);
            bytes.extend(change.mode().to_le_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend(change.path());
        }
        Ok(Self { bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn version(&self) -> Digest {
        Digest::new(Sha256::digest(&self.bytes).into())
    }
}
