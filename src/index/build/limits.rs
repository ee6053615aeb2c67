//! What one archive may ask of the builder.
//!
//! Every limit names the attack it stops: compressed archives repeat a thousand
//! to one, so the size of an upload bounds nothing. Exceeding one is
//! [`BuildError::Limit`](super::BuildError::Limit), which names it.

/// Bounds for one archive. The defaults are far above any real image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inodes and names, implied directories with them. Stops an archive of
    /// nothing but headers from filling the disk with tables and memory with
    /// the map of names: 5 to 10 bytes of memory and 90 of disk for each.
    pub entries_max: u32,
    /// Levels of directories. Stops a chain that makes every later walk long.
    pub depth_max: u32,
    /// Bytes of a path as the archive spells it, and of a hard link's target.
    /// Stops long paths from multiplying the work for each entry.
    pub path_bytes_max: u32,
    /// Bytes of a symbolic link's target. Linux holds 4095; more could not be
    /// served.
    pub link_bytes_max: u16,
    /// Bytes of all extended headers of one entry, and of one global header.
    /// Stops those that fill memory, where they are held.
    pub pax_bytes_max: u32,
    /// Bytes of names and values of one inode's extended attributes. Stops
    /// sets that no client can read.
    pub xattr_bytes_max: u32,
    /// The same for a global header. Stops one small header from putting large
    /// attributes on every entry behind it.
    pub global_xattr_bytes_max: u32,
    /// Bytes of all names and link targets, and of all attribute sets (each).
    /// Stops long names from filling the disk. Above 4 GiB has no effect.
    pub text_bytes_max: u64,
    /// Pieces of one sparse file. Stops maps of single bytes from filling the
    /// disk and making reads slow: 24 bytes of disk for each.
    pub sparse_extents_max: u32,
    /// Pieces of all sparse files. Stops many such files from doing the same.
    pub sparse_extents_total_max: u32,
    /// Symbolic links followed for one path. Stops cycles; 40 as in Linux.
    /// (Chains of hard links cost the same whatever their length.)
    pub links_max: u32,
    /// Path components looked up and attributes carried over from elsewhere,
    /// for the whole archive. Stops links of thousands of components from being
    /// walked, and large sets from being copied, for each entry.
    pub steps_max: u64,
    /// Bytes of the uncompressed stream. Stops archives that expand without
    /// end: each byte costs time to inflate, and 0.03 % of disk.
    pub expanded_bytes_max: u64,
    /// Bytes of stream for each byte of archive. Stops uploads from costing
    /// hundreds of times what was paid for them in traffic. gzip reaches 1032;
    /// images reach 2 to 5, and 50 if they are mostly zeros.
    pub ratio_max: u32,
    /// Layers on top of one image. Stops each version of an image from costing
    /// hundreds of passes over patches: each may look at every name once.
    pub layers_max: u32,
    /// Changes of modes on top of one image. Stops a list that is applied again
    /// for every version from becoming an archive of its own.
    pub mode_changes_max: u32,
    /// Bytes of the paths in all of them together.
    pub mode_change_bytes_max: u32,
    /// Up to this many bytes of stream the ratio is not looked at: what they
    /// cost is bounded, and a small image may well be all zeros.
    pub ratio_exempt_bytes: u64,
}

impl Limits {
    /// The most bytes of stream that an archive of so many bytes may have, and
    /// the name of the limit that says so.
    pub(super) fn stream_bytes_max(&self, archive_bytes: u64) -> (u64, &'static str) {
        let by_ratio = archive_bytes.saturating_mul(self.ratio_max.into());
        let by_ratio = by_ratio.max(self.ratio_exempt_bytes);
        match by_ratio < self.expanded_bytes_max {
            true => (by_ratio, "ratio_max"),
            false => (self.expanded_bytes_max, "expanded_bytes_max"),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The map of names stays below 40 MB up to 7/8 of 2^22.
            entries_max: 3_600_000,
            depth_max: 1024,
            path_bytes_max: 8192,
            link_bytes_max: 4095,
            pax_bytes_max: 1 << 20,
            xattr_bytes_max: 256 << 10,
            global_xattr_bytes_max: 4096,
            text_bytes_max: 1 << 30,
            sparse_extents_max: 1 << 20,
            sparse_extents_total_max: 1 << 22,
            links_max: crate::index::walk::LINKS_MAX,
            // A deep tree in random order takes 20 for each entry; a hostile
            // one is given up after some ten seconds.
            steps_max: 1 << 26,
            expanded_bytes_max: 1 << 40,
            ratio_max: 200,
            layers_max: 64,
            mode_changes_max: 10_000,
            mode_change_bytes_max: 1 << 20,
            ratio_exempt_bytes: 32 << 30,
        }
    }
}
