//! Memory that starts at a cache line, so that no vector straddles two.

use std::{
    cell::RefCell,
    marker::PhantomData,
    mem::{MaybeUninit, take},
    ops::{Deref, DerefMut},
};

use half::{bf16, f16};

use crate::size::product;

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
unsafe impl Number for i16 {}
// SAFETY: the same.
unsafe impl Number for f16 {}
// SAFETY: the same.
unsafe impl Number for bf16 {}

/// A number of four bytes.
///
/// # Safety
/// It has the size and the alignment of an f32.
pub(crate) unsafe trait Word: Number {
    /// The bits of words as numbers.
    fn as_floats(words: &mut [Self]) -> &mut [f32] {
        // SAFETY: words of the same size and alignment, of which any bits are a number in both types.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
    }

    /// The bits of words as numbers that are read.
    fn as_numbers(words: &[Self]) -> &[f32] {
        // SAFETY: as in `as_floats`.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }

    /// Places of words as places of numbers.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles are made of words"))]
    fn as_places(words: &mut [MaybeUninit<Self>]) -> &mut [MaybeUninit<f32>] {
        // SAFETY: places of the same size and alignment, of which nothing is known in both types.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
    }

    /// The bits of words.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles are made of words"))]
    fn as_bits(words: &[Self]) -> &[u32] {
        // SAFETY: the same.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }
}
// SAFETY: it is one.
unsafe impl Word for f32 {}
// SAFETY: four bytes, aligned to as many.
unsafe impl Word for u32 {}

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
        let count = Self::lines(len);
        // Panics where the lines take more than an `isize` of bytes: what follows can't wrap.
        let mut lines = Vec::<Line>::with_capacity(count);
        let whole = lines.spare_capacity_mut().as_mut_ptr();
        let rest = count * size_of::<Line>() / size_of::<T>() - len;
        // SAFETY: the capacity holds `len` numbers and the rest of the last line; the former are initialised by the caller's
        // promise, the latter here.
        unsafe {
            write(std::slice::from_raw_parts_mut(whole.cast(), len));
            whole.cast::<T>().add(len).write_bytes(0, rest);
            lines.set_len(count);
        }
        Self { lines, len, numbers: PhantomData }
    }

    /// Lines that `len` numbers take.
    ///
    /// # Panics
    /// If their bytes can't be counted.
    fn lines(len: usize) -> usize {
        product("bytes", [len, size_of::<T>()]).div_ceil(size_of::<Line>())
    }
}

/// Zeros in the places.
pub(crate) fn zeroed<T: Number>(places: &mut [MaybeUninit<T>]) -> &mut [T] {
    let start = places.as_mut_ptr().cast::<T>();
    // SAFETY: the places are ours alone, and zero bytes are a number by `Number`'s promise.
    unsafe {
        start.write_bytes(0, places.len());
        std::slice::from_raw_parts_mut(start, places.len())
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` numbers, all bits of which are initialised and valid.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Numbers of a task for as long as it runs. Their memory goes from task to task of a thread, with whatever the last one left there.
pub(crate) struct Scratch<T>(Aligned<T>);

thread_local! {
    /// Memory of tasks that are done; as many pieces as one task holds at a time.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

impl<T: Number> Scratch<T> {
    /// `len` numbers, of any value.
    pub(crate) fn of(len: usize) -> Self {
        let mut lines = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
        lines.resize(Aligned::<T>::lines(len), Line([0; 64]));
        Self(Aligned { lines, len, numbers: PhantomData })
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = take(&mut self.0.lines);
        // A thread that is about to end frees its memory and takes none back.
        let _ = FREE.try_with(|free| free.borrow_mut().push(lines));
    }
}

impl<T: Number> Deref for Scratch<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Number> DerefMut for Scratch<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "[{} values]", self.len)
    }
}
