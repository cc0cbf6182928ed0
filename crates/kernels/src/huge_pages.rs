//! An allocator for tensors: large blocks on huge pages, used again instead of given back.
//!
//! A new block costs a page fault for every 4 KiB, which takes longer than most operations do on it; in pages of 2 MiB there
//! are 512 times fewer, and a block that is used again has none.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::spin_loop,
    sync::{
        Mutex, MutexGuard, TryLockError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Blocks from this size on are ours; others are the system's.
const LARGE: usize = 1 << 20;

/// What large blocks are aligned to: a huge page.
const PAGE: usize = 2 << 20;

/// Free blocks at most.
const SLOTS: usize = 64;

/// How often a lock that is taken is tried again: some microseconds, in which its holder is long done unless it does not run. That
/// is still less than the page faults of a new block take.
const TRIES: usize = 256;

/// What [`HugePages::limit`] was told last.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// How often [`HugePages::give_back_all`] was called.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the large blocks that are in use, of every [`HugePages`] of the process.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// The most that [`IN_USE`] was since somebody asked.
static MOST_IN_USE: AtomicUsize = AtomicUsize::new(0);

/// An allocator that keeps up to so many bytes of free blocks for the next request of nearly the same size.
///
/// A program makes it its own with `#[global_allocator]`. Large blocks are filled up to whole sixteenths of their size, so that
/// tensors of nearly one size share blocks; one that is freed while there is no room for it replaces the oldest.
///
/// No call waits for another thread, so that the child of a `fork` can allocate whatever its parent's threads were doing: where the
/// list of free blocks stays taken, blocks come from the system and go back to it. A request that the system refuses is made again
/// after every free block went back; a program can have the last word where that is refused too, see [`HugePages::or_end`].
#[derive(Debug)]
pub struct HugePages<A: GlobalAlloc = System> {
    system: A,
    bound: usize,
    end: Option<fn(usize) -> !>,
    free: Mutex<Free>,
    /// What `free` holds, for those who only ask.
    kept: AtomicUsize,
    /// Of the [`CALLS`], how many were followed.
    followed: AtomicUsize,
}

/// Has blocks of our size go back to the system when they are freed. Left alone, glibc takes those that are smaller than the largest freed
/// so far (up to 32 MiB) from heaps of its own, of which it keeps up to twice as much (`M_MMAP_THRESHOLD` in mallopt(3)): more than a limit
/// would have it, and by which thread came first.
fn give_back_at_once() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: the call sets a number of the allocator's, under the allocator's own lock.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE as libc::c_int);
        });
    }
}

#[derive(Debug)]
struct Free {
    /// Address and size, oldest first; the first `count` are in use.
    blocks: [(usize, usize); SLOTS],
    count: usize,
    bytes: usize,
}

impl HugePages {
    /// Keeps at most `bound` bytes of free blocks.
    pub const fn new(bound: usize) -> Self {
        Self::over(System, bound)
    }

    /// Bounds what every allocator of this type in the process keeps, from now on: each obeys the lesser of its own bound and this.
    /// Blocks above it go back with the next large request, or at once with [`HugePages::trim`]. Returns the bound that it takes the place of.
    pub fn limit(bytes: usize) -> usize {
        let before = LIMIT.swap(bytes, Relaxed);
        give_back_at_once();
        before
    }

    /// Makes every allocator of this type in the process give back the free blocks that it keeps now, each with its next large request
    /// or large block that is freed: for between two works whose blocks have other sizes.
    pub fn give_back_all() {
        CALLS.fetch_add(1, Relaxed);
    }

    /// The bytes of large blocks, those from 1 MiB on, that are in use now, of every allocator of this type in the process.
    pub fn in_use() -> usize {
        IN_USE.load(Relaxed)
    }

    /// The most bytes of large blocks, those from 1 MiB on, that were in use at once since the last call, of every allocator of this type in
    /// the process; `None` where there never was one.
    pub fn most_in_use() -> Option<usize> {
        let now = IN_USE.load(Relaxed);
        let most = MOST_IN_USE.swap(now, Relaxed).max(now);
        (most > 0).then_some(most)
    }
}

impl<A: GlobalAlloc> HugePages<A> {
    /// The same over another allocator than the system's.
    pub const fn over(system: A, bound: usize) -> Self {
        let free = Free { blocks: [(0, 0); SLOTS], count: 0, bytes: 0 };
        Self {
            system,
            bound,
            end: None,
            free: Mutex::new(free),
            kept: AtomicUsize::new(0),
            followed: AtomicUsize::new(0),
        }
    }

    /// The same, which calls `end` with the bytes of a request that the system refuses for good, and so never returns null: Rust ends
    /// a process there with a signal and without a word of its own. It is called in the middle of an allocation, on any thread, and
    /// must do without memory.
    pub const fn or_end(mut self, end: fn(usize) -> !) -> Self {
        self.end = Some(end);
        self
    }

    /// Bytes of free blocks that are kept.
    pub fn kept(&self) -> usize {
        self.kept.load(Relaxed)
    }

    /// Gives back the oldest free blocks until the bounds hold.
    pub fn trim(&self) {
        self.give_back_above(self.bound());
    }

    fn bound(&self) -> usize {
        self.bound.min(LIMIT.load(Relaxed))
    }

    /// What may be kept of the blocks that are free now.
    fn bound_now(&self) -> usize {
        let calls = CALLS.load(Relaxed);
        if self.followed.swap(calls, Relaxed) == calls { self.bound() } else { 0 }
    }

    /// The free blocks, unless another thread keeps them to itself.
    fn lock(&self) -> Option<MutexGuard<'_, Free>> {
        for _ in 0..TRIES {
            match self.free.try_lock() {
                Ok(free) => return Some(free),
                Err(TryLockError::Poisoned(free)) => return Some(free.into_inner()),
                Err(TryLockError::WouldBlock) => spin_loop(),
            }
        }
        None
    }

    /// A kept block, or a new one; null where the system has none.
    fn block(&self, size: usize) -> *mut u8 {
        let block = self.take(size).unwrap_or_else(|| self.insist(size, || self.new_block(size)));
        if !block.is_null() {
            let in_use = IN_USE.fetch_add(size, Relaxed) + size;
            MOST_IN_USE.fetch_max(in_use, Relaxed);
        }
        block
    }

    fn take(&self, size: usize) -> Option<*mut u8> {
        let (found, leaving) = {
            let mut free = self.lock()?;
            let at = free.blocks[..free.count].iter().rposition(|&(_, have)| have == size);
            let found = at.map(|at| free.remove(at));
            let leaving = free.above(self.bound_now(), SLOTS);
            self.kept.store(free.bytes, Relaxed);
            (found, leaving)
        };
        self.give_back(leaving);
        found.map(|(address, _)| std::ptr::with_exposed_provenance_mut(address))
    }

    /// Keeps a block, in the place of the oldest ones where there is no room for it, or gives it back.
    fn keep(&self, block: *mut u8, size: usize) {
        IN_USE.fetch_sub(size, Relaxed);
        let block = (block.expose_provenance(), size);
        let bound = self.bound();
        let Some(mut free) = self.lock() else { return self.give_back(Leaving::one(block)) };
        let now = self.bound_now();
        let mut leaving = match bound.checked_sub(size) {
            Some(room) => free.above(room.min(now), SLOTS - 1),
            None => free.above(now, SLOTS),
        };
        if size <= bound {
            free.push(block);
        } else {
            leaving.push(block);
        }
        self.kept.store(free.bytes, Relaxed);
        drop(free);
        self.give_back(leaving);
    }

    /// Gives back the oldest blocks until at most so many bytes are kept, and says whether there were any.
    fn give_back_above(&self, bytes: usize) -> bool {
        let Some(mut free) = self.lock() else { return false };
        let leaving = free.above(bytes, SLOTS);
        self.kept.store(free.bytes, Relaxed);
        drop(free);
        let is_any = leaving.count > 0;
        self.give_back(leaving);
        is_any
    }

    fn give_back(&self, leaving: Leaving) {
        for &(address, size) in &leaving.blocks[..leaving.count] {
            // SAFETY: a block of `new_block`'s with this size, which nobody has any more.
            unsafe { self.system.dealloc(std::ptr::with_exposed_provenance_mut(address), block_layout(size)) };
        }
    }

    /// What `ask` gets from the system; where that is nothing, once more after all free blocks went back.
    fn insist(&self, size: usize, ask: impl Fn() -> *mut u8) -> *mut u8 {
        let first = ask();
        let last = if first.is_null() && self.give_back_above(0) { ask() } else { first };
        match self.end {
            Some(end) if last.is_null() => end(size),
            Some(_) | None => last,
        }
    }

    fn new_block(&self, size: usize) -> *mut u8 {
        // SAFETY: the size is not 0.
        let block = unsafe { self.system.alloc(block_layout(size)) };
        #[cfg(target_os = "linux")]
        if !block.is_null() {
            // SAFETY: the range is the block just allocated; advice does not change its contents. Where it is refused, the pages
            // are small ones.
            unsafe { libc::madvise(block.cast(), size, libc::MADV_HUGEPAGE) };
        }
        block
    }
}

impl<A: GlobalAlloc> Drop for HugePages<A> {
    fn drop(&mut self) {
        self.give_back_above(0);
    }
}

impl Free {
    fn push(&mut self, block: (usize, usize)) {
        self.blocks[self.count] = block;
        self.count += 1;
        self.bytes += block.1;
    }

    fn remove(&mut self, at: usize) -> (usize, usize) {
        let block = self.blocks[at];
        self.blocks.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.bytes -= block.1;
        block
    }

    /// Takes out the oldest blocks until there are at most so many bytes and blocks.
    fn above(&mut self, bytes: usize, slots: usize) -> Leaving {
        let mut leaving = Leaving::none();
        while self.bytes > bytes || self.count - leaving.count > slots {
            let block = self.blocks[leaving.count];
            self.bytes -= block.1;
            leaving.push(block);
        }
        self.blocks.copy_within(leaving.count..self.count, 0);
        self.count -= leaving.count;
        leaving
    }
}

/// Blocks on their way back to the system: all that there are slots for, and one that arrives.
struct Leaving {
    blocks: [(usize, usize); SLOTS + 1],
    count: usize,
}

impl Leaving {
    fn none() -> Self {
        Self { blocks: [(0, 0); SLOTS + 1], count: 0 }
    }

    fn one(block: (usize, usize)) -> Self {
        let mut leaving = Self::none();
        leaving.push(block);
        leaving
    }

    fn push(&mut self, block: (usize, usize)) {
        self.blocks[self.count] = block;
        self.count += 1;
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

// SAFETY: every block comes from `system` with the layout that `size_of_block` makes of the request's, and goes back with the same;
// in between it is either its owner's or in `free`, never both. Nothing here allocates, panics or waits: the lock is held for a few
// moves of numbers.
unsafe impl<A: GlobalAlloc> GlobalAlloc for HugePages<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match size_of_block(layout) {
            Some(size) => self.block(size),
            // SAFETY: passed on.
            None => self.insist(layout.size(), || unsafe { self.system.alloc(layout) }),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match size_of_block(layout) {
            Some(size) => {
                let block = self.block(size);
                if !block.is_null() {
                    // SAFETY: the block is at least as large as the request.
                    unsafe { block.write_bytes(0, layout.size()) };
                }
                block
            }
            // SAFETY: passed on.
            None => self.insist(layout.size(), || unsafe { self.system.alloc_zeroed(layout) }),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match size_of_block(layout) {
            Some(size) => self.keep(block, size),
            // SAFETY: passed on.
            None => unsafe { self.system.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is one.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (size_of_block(layout), size_of_block(new_layout)) {
            // SAFETY: passed on; the system's before and after, and where it refuses the block is as it was.
            (None, None) => self.insist(new_size, || unsafe { self.system.realloc(block, layout, new_size) }),
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
