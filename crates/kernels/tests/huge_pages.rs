//! The allocator, as this program's own.

use kernels::HugePages;

const BOUND: usize = 64 << 20;

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
