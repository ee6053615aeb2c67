//! Where the builder keeps its tables: growable memory that the caller gives.
//!
//! Guarantees: the builder holds nothing that grows with the archive outside of
//! these arenas, but for one map of 5 to 10 bytes a name. With file-backed
//! arenas an image of any size is indexed in little memory. An arena may lose
//! its bytes (its file on a full disk): what is read back is checked and a bad
//! number is [`BuildError::Scratch`], never a panic.

use std::io;
use std::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::BuildError;

/// Memory that can grow and keeps what was written into it.
pub trait Arena: Send {
    /// All of it.
    fn bytes(&self) -> &[u8];

    /// All of it, to write.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Makes it at least `new_len` bytes long and keeps its content. What is
    /// new may hold anything.
    fn grow(&mut self, new_len: usize) -> io::Result<()>;
}

/// Gives arenas to a builder.
pub trait ArenaProvider {
    /// A new arena of any length; `what` says what for, in messages.
    fn arena(&mut self, what: &'static str) -> io::Result<Box<dyn Arena>>;
}

/// Arenas on the heap: for small archives and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapArenas;

impl ArenaProvider for HeapArenas {
    fn arena(&mut self, _what: &'static str) -> io::Result<Box<dyn Arena>> {
        Ok(Box::new(Vec::new()))
    }
}

impl Arena for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn grow(&mut self, new_len: usize) -> io::Result<()> {
        let more = new_len.saturating_sub(self.len());
        self.try_reserve_exact(more)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.resize(self.len() + more, 0);
        Ok(())
    }
}

/// An area of bytes that is appended to.
pub(super) struct Area {
    arena: Box<dyn Arena>,
    what: &'static str,
    len: usize,
    len_max: usize,
}

impl Area {
    /// Arenas grow by half, and by this at least.
    const GROW_MIN: usize = 64 * 1024;

    pub(super) fn new(
        arenas: &mut dyn ArenaProvider,
        what: &'static str,
        len_max: u64,
    ) -> Result<Self, BuildError> {
        let arena = arenas
            .arena(what)
            .map_err(|cause| BuildError::Arena { what, cause })?;
        Ok(Self {
            arena,
            what,
            len: 0,
            len_max: usize::try_from(len_max).unwrap_or(usize::MAX),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn used(&self) -> &[u8] {
        self.arena.bytes().get(..self.len).unwrap_or_default()
    }

    pub(super) fn used_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        self.arena.bytes_mut().get_mut(..len).unwrap_or_default()
    }

    /// Whether `more` bytes more would exceed the limit given.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.len
            .checked_add(more)
            .is_none_or(|len| len > self.len_max)
    }

    /// Appends and returns the offset of what was appended. The caller asked
    /// [`is_full`](Self::is_full) before.
    pub(super) fn append(&mut self, pieces: &[&[u8]]) -> Result<usize, BuildError> {
        let start = self.len;
        for piece in pieces {
            let at = self.len;
            self.extend(piece.len())?;
            self.used_mut()[at..].copy_from_slice(piece);
        }
        Ok(start)
    }

    /// Forgets everything, but keeps the room.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes it `more` bytes longer.
    pub(super) fn extend(&mut self, more: usize) -> Result<(), BuildError> {
        let what = self.what;
        let fail = |cause| BuildError::Arena { what, cause };
        let wanted = self
            .len
            .checked_add(more)
            .filter(|len| *len <= self.len_max);
        let wanted = wanted.ok_or_else(|| fail(io::ErrorKind::OutOfMemory.into()))?;
        let have = self.arena.bytes().len();
        if wanted > have {
            let ahead = have.saturating_add((have / 2).max(Self::GROW_MIN));
            self.arena.grow(wanted.max(ahead)).map_err(fail)?;
            if self.arena.bytes().len() < wanted {
                return Err(fail(io::ErrorKind::WriteZero.into()));
            }
        }
        self.len = wanted;
        Ok(())
    }
}

/// An array of records that is appended to.
pub(super) struct Table<T> {
    area: Area,
    len: u32,
    records: PhantomData<fn() -> T>,
}

impl<T> Table<T>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    /// `count_max` records at most.
    pub(super) fn new(
        arenas: &mut dyn ArenaProvider,
        what: &'static str,
        count_max: u32,
    ) -> Result<Self, BuildError> {
        let bytes_max = u64::from(count_max).saturating_mul(bytes_u64(size_of::<T>()));
        Ok(Self {
            area: Area::new(arenas, what, bytes_max)?,
            len: 0,
            records: PhantomData,
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.area.used()
    }

    /// Appends a record and returns its number.
    pub(super) fn push(&mut self, record: T) -> Result<u32, BuildError> {
        let number = self.len;
        self.area.append(&[record.as_bytes()])?;
        self.len += 1;
        Ok(number)
    }

    /// Appends records.
    pub(super) fn extend(&mut self, records: &[T]) -> Result<(), BuildError> {
        let what = self.area.what;
        let len = u32::try_from(records.len()).ok();
        let len = len.and_then(|more| self.len.checked_add(more));
        let len = len.ok_or_else(|| BuildError::Arena {
            what,
            cause: io::ErrorKind::OutOfMemory.into(),
        })?;
        self.area.append(&[records.as_bytes()])?;
        self.len = len;
        Ok(())
    }

    /// Forgets all records, but keeps the room.
    pub(super) fn clear(&mut self) {
        self.area.clear();
        self.len = 0;
    }

    /// Makes it `count` records long; those new hold anything.
    pub(super) fn lengthen(&mut self, count: u32) -> Result<(), BuildError> {
        let more = usize::try_from(count.saturating_sub(self.len)).unwrap_or(usize::MAX);
        self.area.extend(more.saturating_mul(size_of::<T>()))?;
        self.len = self.len.max(count);
        Ok(())
    }

    pub(super) fn all(&self) -> &[T] {
        <[T]>::ref_from_bytes(self.area.used()).unwrap_or_default()
    }

    pub(super) fn all_mut(&mut self) -> &mut [T] {
        <[T]>::mut_from_bytes(self.area.used_mut()).unwrap_or_default()
    }

    pub(super) fn get(&self, number: u32) -> Result<&T, BuildError> {
        let record = range::<T>(number).and_then(|range| self.area.used().get(range));
        record
            .and_then(|bytes| T::ref_from_bytes(bytes).ok())
            .ok_or_else(|| lost(self.area.what, number))
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Result<&mut T, BuildError> {
        let what = self.area.what;
        let record = range::<T>(number).and_then(|range| self.area.used_mut().get_mut(range));
        record
            .and_then(|bytes| T::mut_from_bytes(bytes).ok())
            .ok_or_else(|| lost(what, number))
    }
}

/// The bytes of a record.
fn range<T>(number: u32) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(number).ok()?.checked_mul(size_of::<T>())?;
    Some(start..start.checked_add(size_of::<T>())?)
}

#[cold]
fn lost(what: &'static str, number: u32) -> BuildError {
    BuildError::Scratch {
        what,
        number: number.into(),
    }
}

/// A length as the 64-bit number that the tables hold.
pub(super) fn bytes_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::little_endian::U32;

    #[test]
    fn records_survive_growing_and_numbers_are_checked() {
        let mut table = Table::<U32>::new(&mut HeapArenas, "numbers", 100_000).unwrap();
        for n in 0..100_000 {
            assert_eq!(table.push(n.into()).unwrap(), n);
        }
        assert_eq!(table.get(99_999).unwrap().get(), 99_999);
        assert!(matches!(
            table.get(100_000),
            Err(BuildError::Scratch {
                number: 100_000,
                ..
            })
        ));
        assert!(matches!(
            table.push(0.into()),
            Err(BuildError::Arena { .. })
        ));
        assert_eq!(table.len(), 100_000);
    }

    #[test]
    fn an_arena_that_does_not_grow_is_an_error() {
        struct Stuck;
        impl Arena for Stuck {
            fn bytes(&self) -> &[u8] {
                &[]
            }
            fn bytes_mut(&mut self) -> &mut [u8] {
                &mut []
            }
            fn grow(&mut self, _: usize) -> io::Result<()> {
                Ok(())
            }
        }
        struct Provider;
        impl ArenaProvider for Provider {
            fn arena(&mut self, _: &'static str) -> io::Result<Box<dyn Arena>> {
                Ok(Box::new(Stuck))
            }
        }
        let mut area = Area::new(&mut Provider, "stuck", 10).unwrap();
        assert!(matches!(
            area.append(&[b"x"]),
            Err(BuildError::Arena { what: "stuck", .. })
        ));
    }
}
