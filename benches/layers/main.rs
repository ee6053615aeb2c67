//! How fast each layer is by itself, with everything in memory: no disk, no
//! kernel. `scripts/bench` measures the whole.
//!
//! | group | what one iteration is |
//! |---|---|
//! | index build | from a tar stream to the sections of an index |
//! | lookup | a name in a directory, there and not there |
//! | span scan | from an archive to checkpoints and checksums |
//! | checkpointed inflate | a random 16 KiB block, from its checkpoint |
//! | cached read | 128 KiB that are all in the cache |
//! | contended read | the same by each of several threads, until all are done |
//!
//! `cargo bench` runs all of them, `cargo bench -- lookup` those so named, and
//! `cargo test --bench layers` each once, to see that they work.

mod cache;
mod index;
mod made;
mod source;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    index::benches(&mut criterion);
    source::benches(&mut criterion);
    cache::benches(&mut criterion);
    criterion.final_summary();
}
