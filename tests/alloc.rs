//! The allocator as the program tunes it. Alone in its process: large pieces
//! that other tests freed could be handed out again from where they were.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

/// A chunk with a mapping of its own starts 16 bytes into a page; one from an
/// arena would not. The FUSE library allocates 16 MiB for each session, of
/// which it touches little; from an arena they were all made resident, 882 MB
/// for a hundred sessions.
#[test]
fn freeing_a_large_buffer_does_not_move_the_next_into_an_arena() {
    distrofs::sys::alloc::tune();
    for _ in 0..3 {
        let large = vec![0_u8; 16 * 1024 * 1024];
        assert_eq!(large.as_ptr().addr() % 4096, 16);
    }
}
