//! Memory that starts at a cache line, so that no vector straddles two.

use std::{marker::PhantomData, mem::MaybeUninit};

use half::{bf16, f16};

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// A vector of numbers that starts at a cache line.
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    numbers: PhantomData<T>,
}

/// A number of which every bit pattern is one, and whose size divides a cache line.
///
/// # Safety
/// Both hold.
pub(crate) unsafe trait Number: Copy + Send + Sync {}
// SAFETY: four bytes, any bits.
unsafe impl Number for f32 {}
// SAFETY: the same.
unsafe impl Number for u32 {}
// SAFETY: two bytes, any bits.
unsafe impl Number for f16 {}
// SAFETY: the same.
unsafe impl Number for bf16 {}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0; 64]); Self::lines(len)], len, numbers: PhantomData }
    }

    /// `len` numbers that `write` puts there.
    ///
    /// # Safety
    /// `write` initialises every number that it is given.
    pub(crate) unsafe fn written(len: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Self {
        let mut lines = Vec::<Line>::with_capacity(Self::lines(len));
        let whole = lines.spare_capacity_mut().as_mut_ptr();
        let rest = Self::lines(len) * size_of::<Line>() / size_of::<T>() - len;
        // SAFETY: the capacity holds `len` numbers and the rest of the last line; the former are initialised by the caller's
        // promise, the latter here.
        unsafe {
            write(std::slice::from_raw_parts_mut(whole.cast(), len));
            whole.cast::<T>().add(len).write_bytes(0, rest);
            lines.set_len(Self::lines(len));
        }
        Self { lines, len, numbers: PhantomData }
    }

    fn lines(len: usize) -> usize {
        (len * size_of::<T>()).div_ceil(size_of::<Line>())
    }
}

impl<T: Number> std::ops::Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` numbers, all bits of which are initialised and valid.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "[{} values]", self.len)
    }
}
