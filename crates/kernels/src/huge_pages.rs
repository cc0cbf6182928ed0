//! An allocator for tensors: large blocks on huge pages, used again instead of given back.
//!
//! A new block costs a page fault for every 4 KiB, which takes longer than most operations do on it; in pages of 2 MiB there
//! are 512 times fewer, and a block that is used again has none.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{Mutex, PoisonError},
};

/// Blocks from this size on are ours; others are the system's.
const LARGE: usize = 1 << 20;

/// What large blocks are aligned to: a huge page.
const PAGE: usize = 2 << 20;

/// Free blocks at most.
const SLOTS: usize = 64;

/// An allocator that keeps up to so many bytes of free blocks for the next request of nearly the same size.
///
/// A program makes it its own with `#[global_allocator]`. Large blocks are filled up to whole sixteenths of their size, so that
/// tensors of nearly one size share blocks; one that is freed while there is no room for it replaces the oldest.
pub struct HugePages {
    bound: usize,
    free: Mutex<Free>,
}

struct Free {
    /// Address and size, oldest first; the first `count` are in use.
    blocks: [(usize, usize); SLOTS],
    count: usize,
    bytes: usize,
}

impl HugePages {
    /// Keeps at most `bound` bytes of free blocks.
    pub const fn new(bound: usize) -> Self {
        Self { bound, free: Mutex::new(Free { blocks: [(0, 0); SLOTS], count: 0, bytes: 0 }) }
    }

    /// Bytes of free blocks that are kept.
    pub fn kept(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    fn take(&self, size: usize) -> Option<*mut u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = free.blocks[..free.count].iter().rposition(|&(_, have)| have == size)?;
        Some(std::ptr::with_exposed_provenance_mut(free.remove(at).0))
    }

    /// Keeps a block, and gives back those for which there is no room then.
    fn keep(&self, block: *mut u8, size: usize) {
        let mut leaving = [(0, 0); SLOTS];
        let mut count = 0;
        {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            while free.count > 0 && (free.count == SLOTS || free.bytes + size > self.bound) {
                leaving[count] = free.remove(0);
                count += 1;
            }
            if free.bytes + size <= self.bound {
                let at = free.count;
                free.blocks[at] = (block.expose_provenance(), size);
                free.count += 1;
                free.bytes += size;
            } else {
                leaving[count % SLOTS] = (block.expose_provenance(), size);
                count += 1;
            }
        }
        for &(address, size) in &leaving[..count] {
            // SAFETY: a block of `new_block`'s with this size, which nobody has any more.
            unsafe { System.dealloc(std::ptr::with_exposed_provenance_mut(address), block_layout(size)) };
        }
    }
}

impl Free {
    fn remove(&mut self, at: usize) -> (usize, usize) {
        let block = self.blocks[at];
        self.blocks.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.bytes -= block.1;
        block
    }
}

/// What a block of a request takes, in sixteenths of the power of two below; `None` for what is the system's.
fn size_of_block(layout: Layout) -> Option<usize> {
    if layout.size() < LARGE || layout.align() > PAGE || cfg!(not(target_os = "linux")) || cfg!(miri) {
        return None;
    }
    let step = 1 << (layout.size().ilog2() - 4);
    layout.size().checked_next_multiple_of(step).filter(|&size| size <= isize::MAX as usize - PAGE)
}

fn block_layout(size: usize) -> Layout {
    Layout::from_size_align(size, PAGE).expect("size_of_block leaves room for the alignment")
}

fn new_block(size: usize) -> *mut u8 {
    // SAFETY: the size is not 0.
    let block = unsafe { System.alloc(block_layout(size)) };
    #[cfg(target_os = "linux")]
    if !block.is_null() {
        // SAFETY: the range is the block just allocated; advice does not change its contents. Where it is refused, the pages are
        // small ones.
        unsafe { libc::madvise(block.cast(), size, libc::MADV_HUGEPAGE) };
    }
    block
}

// SAFETY: every block comes from `System` with the layout that `size_of_block` makes of the request's, and goes back with the same;
// in between it is either its owner's or in `free`, never both. Nothing here allocates or panics: the lock is held for a few moves
// of numbers.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match size_of_block(layout) {
            Some(size) => self.take(size).unwrap_or_else(|| new_block(size)),
            // SAFETY: passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match size_of_block(layout) {
            Some(size) => {
                let block = self.take(size).unwrap_or_else(|| new_block(size));
                if !block.is_null() {
                    // SAFETY: the block is at least as large as the request.
                    unsafe { block.write_bytes(0, layout.size()) };
                }
                block
            }
            // SAFETY: passed on.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match size_of_block(layout) {
            Some(size) => self.keep(block, size),
            // SAFETY: passed on.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is one.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (size_of_block(layout), size_of_block(new_layout)) {
            // SAFETY: passed on; the system's before and after.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            (Some(old), Some(new)) if old == new => block,
            _ => {
                // SAFETY: the new block has room for the smaller of both sizes, and the old one is its owner's until it is freed.
                unsafe {
                    let new_block = self.alloc(new_layout);
                    if !new_block.is_null() {
                        new_block.copy_from_nonoverlapping(block, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    new_block
                }
            }
        }
    }
}
