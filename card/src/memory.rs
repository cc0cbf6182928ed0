//! Memory by its address.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    ptr,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// What a kernel is stopped for.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose memory an address is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Space {
    /// The card's, by the host's address.
    Global,
    /// A block's, from 0.
    Shared,
    /// A kernel's parameters, from 0.
    Parameters,
    /// Whosoever it is.
    Generic,
}

/// Where generic addresses of a block's memory begin, and those of parameters. The host has none as high.
pub(crate) const SHARED: u64 = 1 << 60;
pub(crate) const PARAMETERS: u64 = 1 << 61;

/// The card's memory: where each part begins, and how many bytes it has.
static PARTS: RwLock<BTreeMap<u64, u64>> = RwLock::new(BTreeMap::new());

/// A part of the card's memory is there from now on, or is not there any more.
pub(crate) fn tell(address: u64, bytes: Option<u64>) {
    let mut parts = PARTS.write().unwrap_or_else(PoisonError::into_inner);
    match bytes {
        Some(bytes) => parts.insert(address, bytes),
        None => parts.remove(&address),
    };
}

/// What a thread of a block reads and writes.
pub(crate) struct Memory<'a> {
    pub(crate) shared: &'a mut [u8],
    pub(crate) parameters: &'a [u8],
    /// The part of the card's memory that was used last.
    part: (u64, u64),
}

impl<'a> Memory<'a> {
    pub(crate) fn of(shared: &'a mut [u8], parameters: &'a [u8]) -> Self {
        Self { shared, parameters, part: (0, 0) }
    }

    /// Memory of so many bytes, which divide its address.
    pub(crate) fn reading(&mut self, space: Space, address: u64, bytes: usize) -> Result<Bytes<'_>, Fault> {
        let at = self.found(space, address, bytes, false)?;
        Ok(Bytes { at, bytes, of: PhantomData })
    }

    /// The same to be written.
    pub(crate) fn writing(&mut self, space: Space, address: u64, bytes: usize) -> Result<BytesMut<'_>, Fault> {
        let at = self.found(space, address, bytes, true)?;
        Ok(BytesMut { at, bytes, of: PhantomData })
    }

    /// Bytes from an address that they divide.
    pub(crate) fn read_all(&mut self, space: Space, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        let from = self.found(space, address, to.len(), false)?;
        // SAFETY: see `found`.
        unsafe { ptr::copy_nonoverlapping(from.cast_const(), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// The same the other way.
    pub(crate) fn write_all(&mut self, space: Space, address: u64, from: &[u8]) -> Result<(), Fault> {
        let to = self.found(space, address, from.len(), true)?;
        // SAFETY: see `found`.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Puts something else in the place of a word of 32 bits, which it returns, with nobody between.
    pub(crate) fn replace(&mut self, space: Space, address: u64, with: impl Fn(u32) -> u32) -> Result<u32, Fault> {
        let word = self.found(space, address, 4, true)?.cast();
        // SAFETY: see `found`, which looked at its alignment too.
        let word = unsafe { AtomicU32::from_ptr(word) };
        let put = |now| Some(with(now));
        Ok(word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put).unwrap_or_else(|now| now))
    }

    /// Where as many bytes are, a power of two. They are a block's or the kernel's own, or in a part of the card's memory that is there: a driver frees none
    /// while a kernel runs, and no two threads of a kernel that is right write to the same place at a time.
    fn found(&mut self, space: Space, address: u64, bytes: usize, is_written: bool) -> Result<*mut u8, Fault> {
        if address & (bytes as u64 - 1) != 0 {
            return Err(Fault(format!("{bytes} bytes are taken at {address:#x}, which they do not divide")));
        }
        let (space, at) = match space {
            Space::Generic if address >= PARAMETERS => (Space::Parameters, address - PARAMETERS),
            Space::Generic if address >= SHARED => (Space::Shared, address - SHARED),
            Space::Generic => (Space::Global, address),
            Space::Global | Space::Shared | Space::Parameters => (space, address),
        };
        let inside = |size: usize| {
            let is_inside = at.checked_add(bytes as u64).is_some_and(|end| end <= size as u64);
            let told = || Fault(format!("{bytes} bytes at {at} are not in the {size} bytes of {space:?} memory"));
            is_inside.then_some(at as usize).ok_or_else(told)
        };
        match space {
            Space::Shared => inside(self.shared.len()).map(|at| self.shared[at..].as_mut_ptr()),
            Space::Parameters if is_written => Err(Fault("parameters are written".to_owned())),
            Space::Parameters => inside(self.parameters.len()).map(|at| self.parameters[at..].as_ptr().cast_mut()),
            Space::Global | Space::Generic => self.in_part(at, bytes as u64),
        }
    }

    fn in_part(&mut self, address: u64, bytes: u64) -> Result<*mut u8, Fault> {
        let is_in = |(start, size): (u64, u64)| {
            address.checked_sub(start).is_some_and(|at| at.checked_add(bytes).is_some_and(|end| end <= size))
        };
        if !is_in(self.part) {
            let parts = PARTS.read().unwrap_or_else(PoisonError::into_inner);
            let part = parts.range(..=address).next_back().map(|(&start, &size)| (start, size));
            let part = part.filter(|&part| is_in(part));
            self.part = part.ok_or_else(|| Fault(format!("{bytes} bytes at {address:#x} are not the card's")))?;
        }
        Ok(ptr::with_exposed_provenance_mut(address as usize))
    }
}

/// Elements of 1, 2, 4 or 8 bytes, one behind the other.
pub(crate) struct Bytes<'m> {
    at: *const u8,
    bytes: usize,
    of: PhantomData<&'m u8>,
}

impl Bytes<'_> {
    /// One of those that were asked for.
    pub(crate) fn element(&self, i: usize, bytes: usize) -> u64 {
        assert!((i + 1) * bytes <= self.bytes, "element {i} of {bytes} bytes, of {} in all", self.bytes);
        // SAFETY: see `Memory::found`, which looked whether all are there.
        unsafe {
            match bytes {
                1 => self.at.add(i).read().into(),
                2 => self.at.cast::<u16>().add(i).read_unaligned().into(),
                4 => self.at.cast::<u32>().add(i).read_unaligned().into(),
                _ => self.at.cast::<u64>().add(i).read_unaligned(),
            }
        }
    }
}

/// The same to be written.
pub(crate) struct BytesMut<'m> {
    at: *mut u8,
    bytes: usize,
    of: PhantomData<&'m mut u8>,
}

impl BytesMut<'_> {
    /// The lower bits of a value as one of those that were asked for.
    pub(crate) fn put(&mut self, i: usize, bytes: usize, value: u64) {
        assert!((i + 1) * bytes <= self.bytes, "element {i} of {bytes} bytes, of {} in all", self.bytes);
        // SAFETY: as above.
        unsafe {
            match bytes {
                1 => self.at.add(i).write(value as u8),
                2 => self.at.cast::<u16>().add(i).write_unaligned(value as u16),
                4 => self.at.cast::<u32>().add(i).write_unaligned(value as u32),
                _ => self.at.cast::<u64>().add(i).write_unaligned(value),
            }
        }
    }
}
