//! The allocator, as this program's own and over one that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use kernels::HugePages;
use proptest::prelude::*;

const BOUND: usize = 64 << 20;

const MIB: usize = 1 << 20;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages::new(BOUND);

#[test]
fn blocks_of_all_threads_keep_their_contents_and_are_zero_where_that_is_asked_for() {
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            scope.spawn(move || {
                let mut state = thread + 1;
                let mut random = |n: u64| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 33) % n
                };
                let mut kept: Vec<Vec<u64>> = Vec::new();
                for round in 0..if cfg!(miri) { 4 } else { 150 } {
                    // given a block, zeroed or grown value by value
                    let len = random(1 << 19) as usize + 1;
                    let mut block = vec![0u64; len];
                    assert!(block.iter().all(|&v| v == 0), "a used block was not zeroed");
                    let mark = thread << 32 | round;
                    block.fill(mark);
                    // when it is made larger or smaller
                    if random(2) == 0 {
                        block.resize(len + random(1 << 19) as usize, mark);
                    } else {
                        block.truncate(len / 2 + 1);
                        block.shrink_to_fit();
                    }
                    // then it holds what was written, as do the others
                    assert!(block.iter().all(|&v| v == mark), "contents were lost");
                    kept.push(block);
                    if kept.len() > 5 {
                        let block = kept.swap_remove(random(5) as usize);
                        assert!(block.iter().all(|&v| v == block[0]), "two blocks share memory");
                    }
                    assert!(ALLOCATOR.kept() <= BOUND);
                }
            });
        }
    });
}

/// The system's allocator, which counts what is out, refuses what would be more than `most`, and can be watched for requests.
struct Counting {
    out: AtomicUsize,
    requests: AtomicUsize,
    most: usize,
}

impl Counting {
    const fn up_to(most: usize) -> Self {
        Self { out: AtomicUsize::new(0), requests: AtomicUsize::new(0), most }
    }
}

// SAFETY: what it does not refuse is the system's.
unsafe impl GlobalAlloc for &Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.requests.fetch_add(1, Relaxed);
        if self.out.load(Relaxed) + layout.size() > self.most {
            return std::ptr::null_mut();
        }
        self.out.fetch_add(layout.size(), Relaxed);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.out.fetch_sub(layout.size(), Relaxed);
        // SAFETY: passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Keeps tests apart that look at what is kept: the limit is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout")
}

/// A block that is out, and what stands in its first and last bytes.
struct Owned {
    block: *mut u8,
    layout: Layout,
    mark: u8,
}

impl Owned {
    /// The places that are written and looked at: the ends, so that the pages between them are never touched.
    fn places(len: usize) -> [usize; 4] {
        [0, 1.min(len - 1), len / 2, len - 1]
    }

    fn write(&self) {
        for at in Self::places(self.layout.size()) {
            // SAFETY: inside the block.
            unsafe { self.block.add(at).write(self.mark) };
        }
    }

    fn holds(&self, at: usize) -> bool {
        // SAFETY: inside the block, and written before.
        unsafe { self.block.add(at).read() == self.mark }
    }
}

#[derive(Clone, Debug)]
enum Call {
    Alloc(usize, usize),
    Zeroed(usize, usize),
    Realloc(usize, usize),
    Dealloc(usize),
    Limit(usize),
    Trim,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let size = || {
        prop_oneof![
            1 => 1..MIB,
            8 => (1usize..4).prop_map(|n| n * MIB),
            4 => MIB - 1..3 * MIB,
            1 => MIB..64 * MIB,
        ]
    };
    let align = || (0u32..24).prop_map(|bits| 1usize << bits);
    let call = prop_oneof![
        6 => (size(), align()).prop_map(|(size, align)| Call::Alloc(size, align)),
        2 => (size(), align()).prop_map(|(size, align)| Call::Zeroed(size, align)),
        3 => (any::<usize>(), size()).prop_map(|(which, size)| Call::Realloc(which, size)),
        6 => any::<usize>().prop_map(Call::Dealloc),
        1 => (0..128 * MIB).prop_map(Call::Limit),
        1 => Just(Call::Trim),
    ];
    prop::collection::vec(call, 1..if cfg!(miri) { 10 } else { 250 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 40 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_keep_the_bound_and_the_contents_and_give_everything_back(
        calls in calls(), bound in 0usize..160 * MIB, most in prop_oneof![Just(usize::MAX), MIB..256 * MIB],
    ) {
        let _alone = alone();
        HugePages::limit(usize::MAX);
        let system = Counting::up_to(most);
        let allocator = HugePages::over(&system, bound);
        let mut owned: Vec<Owned> = Vec::new();
        let mut limit = usize::MAX;
        for (i, call) in calls.into_iter().enumerate() {
            let mark = i as u8 + 1;
            match call {
                Call::Alloc(size, align) | Call::Zeroed(size, align) => {
                    let layout = layout(size, align);
                    let is_zeroed = matches!(call, Call::Zeroed(..));
                    // SAFETY: the size is not 0.
                    let block = unsafe { if is_zeroed { allocator.alloc_zeroed(layout) } else { allocator.alloc(layout) } };
                    if block.is_null() {
                        prop_assert_eq!(allocator.kept(), 0, "refused while blocks are kept");
                        continue;
                    }
                    prop_assert!(block.addr().is_multiple_of(align));
                    let new = Owned { block, layout, mark: 0 };
                    prop_assert!(!is_zeroed || Owned::places(size).iter().all(|&at| new.holds(at)), "not zero");
                    let new = Owned { mark, ..new };
                    new.write();
                    owned.push(new);
                }
                Call::Realloc(which, size) if !owned.is_empty() => {
                    let which = which % owned.len();
                    let old = &mut owned[which];
                    // SAFETY: a block of this allocator's with its layout.
                    let block = unsafe { allocator.realloc(old.block, old.layout, size) };
                    if !block.is_null() {
                        let before = std::mem::replace(old, Owned { block, layout: layout(size, old.layout.align()), mark: old.mark });
                        let mut places = Owned::places(before.layout.size()).into_iter().filter(|&at| at < size);
                        prop_assert!(places.all(|at| old.holds(at)), "contents were lost");
                        old.mark = mark;
                        old.write();
                    }
                }
                Call::Dealloc(which) if !owned.is_empty() => {
                    let old = owned.swap_remove(which % owned.len());
                    prop_assert!(Owned::places(old.layout.size()).iter().all(|&at| old.holds(at)), "two blocks share memory");
                    // SAFETY: a block of this allocator's with its layout.
                    unsafe { allocator.dealloc(old.block, old.layout) };
                }
                Call::Limit(bytes) => {
                    limit = bytes;
                    HugePages::limit(bytes);
                    allocator.trim();
                }
                Call::Trim | Call::Realloc(..) | Call::Dealloc(_) => allocator.trim(),
            }
            prop_assert!(allocator.kept() <= bound.min(limit));
            let out: usize = owned.iter().map(|owned| owned.layout.size()).sum();
            let system_out = system.out.load(Relaxed);
            prop_assert!(system_out >= out + allocator.kept(), "a block is free and owned");
            // A sixteenth at most is filled up.
            prop_assert!(system_out <= out + out / 16 + allocator.kept(), "a block is lost");
        }
        for old in owned {
            // SAFETY: a block of this allocator's with its layout.
            unsafe { allocator.dealloc(old.block, old.layout) };
        }
        prop_assert_eq!(system.out.load(Relaxed), allocator.kept());
        drop(allocator);
        prop_assert_eq!(system.out.load(Relaxed), 0);
        HugePages::limit(usize::MAX);
    }
}

#[test]
fn a_block_above_the_bound_goes_back_while_every_place_for_free_blocks_is_taken() {
    let _alone = alone();
    let system = Counting::up_to(usize::MAX);
    let allocator = HugePages::over(&system, 1 << 30);
    // given more free blocks than there are places for
    let (small, large) = (layout(MIB, 8), layout(2 << 30, 8));
    // SAFETY: sizes that are not 0, and each block goes back once.
    unsafe {
        let blocks: Vec<_> = (0..100).map(|_| allocator.alloc(small)).collect();
        blocks.into_iter().for_each(|block| allocator.dealloc(block, small));
        let kept = allocator.kept();
        assert!(if cfg!(miri) { kept == 0 } else { kept == 64 * MIB }, "{kept}");
        // when one comes that is larger than the bound
        let block = allocator.alloc(large);
        assert!(!block.is_null());
        allocator.dealloc(block, large);
        // then it goes back, and the others stay
        assert_eq!(allocator.kept(), kept);
    }
    assert_eq!(system.out.load(Relaxed), allocator.kept());
}

#[test]
#[cfg(not(miri))]
fn a_limit_of_the_process_bounds_every_allocator_and_can_be_raised_again() {
    let _alone = alone();
    let system = Counting::up_to(usize::MAX);
    let allocator = HugePages::over(&system, 100 * MIB);
    let eight = layout(8 * MIB, 8);
    // SAFETY: sizes that are not 0, and each block goes back once.
    let fill = || unsafe {
        let blocks: Vec<_> = (0..10).map(|_| allocator.alloc(eight)).collect();
        blocks.into_iter().for_each(|block| allocator.dealloc(block, eight));
        allocator.kept() / MIB
    };
    assert_eq!(fill(), 80);
    // Trimmed at once,
    HugePages::limit(20 * MIB);
    allocator.trim();
    assert_eq!((allocator.kept() / MIB, fill()), (16, 16));
    // or by the next request, also one that no free block fits.
    HugePages::limit(5 * MIB);
    // SAFETY: a size that is not 0; the block goes back with its layout.
    unsafe {
        let block = allocator.alloc(layout(3 * MIB, 8));
        assert_eq!(allocator.kept(), 0);
        allocator.dealloc(block, layout(3 * MIB, 8));
    }
    assert_eq!(allocator.kept() / MIB, 3);
    HugePages::limit(0);
    assert_eq!(fill(), 0);
    HugePages::limit(usize::MAX);
    assert_eq!(fill(), 80);
}

#[test]
#[cfg(not(miri))]
fn what_is_free_goes_back_once_when_all_of_it_is_called_back() {
    let _alone = alone();
    let system = Counting::up_to(usize::MAX);
    let allocator = HugePages::over(&system, 100 * MIB);
    let (eight, three) = (layout(8 * MIB, 8), layout(3 * MIB, 8));
    // SAFETY: sizes that are not 0, and each block goes back once with its layout.
    unsafe {
        let blocks: Vec<_> = (0..4).map(|_| allocator.alloc(eight)).collect();
        let other = allocator.alloc(three);
        blocks.into_iter().for_each(|block| allocator.dealloc(block, eight));
        HugePages::give_back_all();
        assert_eq!(allocator.kept() / MIB, 32);
        allocator.dealloc(other, three);
        // By a block that is freed, which itself is kept, and later ones are too;
        assert_eq!(allocator.kept() / MIB, 3);
        let block = allocator.alloc(eight);
        allocator.dealloc(block, eight);
        assert_eq!(allocator.kept() / MIB, 11);
        // by a request, whose own block is used again.
        HugePages::give_back_all();
        let block = allocator.alloc(eight);
        assert_eq!((allocator.kept(), system.out.load(Relaxed) / MIB), (0, 8));
        allocator.dealloc(block, eight);
    }
    assert_eq!(allocator.kept() / MIB, 8);
}

#[test]
#[cfg(not(miri))]
fn free_blocks_go_back_before_a_request_is_refused() {
    let _alone = alone();
    let system = Counting::up_to(100 * MIB);
    let allocator = HugePages::over(&system, usize::MAX);
    let (ten, sixty) = (layout(10 * MIB, 8), layout(60 * MIB, 8));
    for (is_zeroed, wanted) in [(false, sixty), (true, sixty), (false, layout(60 * MIB, 4 * MIB))] {
        // SAFETY: sizes that are not 0, and each block goes back once.
        unsafe {
            let blocks: Vec<_> = (0..6).map(|_| allocator.alloc(ten)).collect();
            blocks.into_iter().for_each(|block| allocator.dealloc(block, ten));
            assert!(allocator.kept() >= 60 * MIB);
            let block = if is_zeroed { allocator.alloc_zeroed(wanted) } else { allocator.alloc(wanted) };
            assert!(!block.is_null(), "40 of 100 MiB are kept for nobody");
            assert!(allocator.alloc(sixty).is_null(), "120 of 100 MiB");
            allocator.dealloc(block, wanted);
        }
    }
}

#[test]
#[cfg(not(miri))]
fn two_threads_find_their_blocks_again() {
    let _alone = alone();
    let system = Counting::up_to(usize::MAX);
    let allocator = HugePages::over(&system, BOUND);
    let rounds = 20_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..rounds {
                    // SAFETY: the size is not 0, and the block goes back with its layout.
                    unsafe {
                        let block = black_box(allocator.alloc(layout(2 * MIB, 8)));
                        allocator.dealloc(block, layout(2 * MIB, 8));
                    }
                }
            });
        }
    });
    let new = system.requests.load(Relaxed);
    assert!(new <= 2 * rounds / 50, "{new} of {} blocks were new", 2 * rounds);
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_child_allocates_whatever_its_parents_threads_did_when_it_was_forked() {
    let is_done = AtomicBool::new(false);
    let stuck = std::thread::scope(|scope| {
        for size in [2 * MIB, 5 * MIB] {
            let is_done = &is_done;
            scope.spawn(move || {
                while !is_done.load(Relaxed) {
                    drop(black_box(Vec::<u8>::with_capacity(size)));
                }
            });
        }
        let stuck = (0..300).find(|_| !child_allocates());
        is_done.store(true, Relaxed);
        stuck
    });
    assert_eq!(stuck, None, "a child never came to its end");
}

/// Whether a child of this process comes through a hundred allocations in time.
#[cfg(all(target_os = "linux", not(miri)))]
fn child_allocates() -> bool {
    // SAFETY: the child uses the allocator alone, and leaves without running anything of its parent's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    if child == 0 {
        for i in 0..100 {
            drop(black_box(Vec::<u8>::with_capacity((1 + i % 7) * MIB)));
        }
        // SAFETY: the same.
        unsafe { libc::_exit(0) };
    }
    let end = Instant::now() + Duration::from_secs(20);
    let mut status = -1;
    // SAFETY: a child of this process, which is waited for once.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if Instant::now() > end {
            // SAFETY: the same.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, &mut status, 0);
            }
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    status == 0
}

#[test]
fn a_program_has_the_last_word_where_the_system_refuses() {
    struct Refusing;
    // SAFETY: null is what an allocator says that has nothing.
    unsafe impl GlobalAlloc for Refusing {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            std::ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }
    fn end(bytes: usize) -> ! {
        std::panic::panic_any(bytes)
    }
    for bytes in [8, MIB / 2, 16 * MIB] {
        let layout = Layout::from_size_align(bytes, 8).unwrap();
        // SAFETY: the layout is not empty.
        assert!(unsafe { HugePages::over(Refusing, BOUND).alloc(layout) }.is_null());
        for ask in [<HugePages<Refusing> as GlobalAlloc>::alloc, <HugePages<Refusing> as GlobalAlloc>::alloc_zeroed] {
            let allocator = HugePages::over(Refusing, BOUND).or_end(end);
            // SAFETY: the same.
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { ask(&allocator, layout) }));
            let told = *told.expect_err("the program ended").downcast::<usize>().expect("how much was asked for");
            assert!(told >= bytes && told < bytes * 2, "{told} for {bytes}");
        }
    }
}
