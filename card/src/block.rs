//! A launch, block by block.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    instruction::LANES,
    memory::{Fault, Memory},
    module::Kernel,
    warp::{Stop, Warp},
};

/// What a launch asks for: how many blocks, how many threads of each, and bytes of a block's memory that are added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: usize,
}

/// Runs all blocks; the first fault ends it.
pub(crate) fn launch(kernel: &Kernel, shape: Shape, parameters: &[u8]) -> Result<(), Fault> {
    let count: u64 = shape.grid.iter().map(|&side| u64::from(side)).product();
    let (next, fault) = (AtomicU64::new(0), Mutex::new(None));
    let warps = shape.block.iter().product::<u32>() as usize;
    let run = || {
        let mut warps: Vec<_> = (0..warps.div_ceil(LANES)).map(|i| Warp::of(i, kernel)).collect();
        let mut shared = vec![UNWRITTEN; kernel.shared + shape.shared];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            if let Err(Fault(told)) = block(kernel, shape, number, &mut warps, &mut Memory::of(&mut shared, parameters))
            {
                next.store(count, Ordering::Relaxed);
                let told = Fault(format!("{}: block {number}: {told}", kernel.name));
                fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(told);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(count as usize);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(run))));
    fault.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A byte that nobody wrote to a block's memory: as floats, no numbers.
const UNWRITTEN: u8 = 0xff;

fn block(kernel: &Kernel, shape: Shape, number: u64, warps: &mut [Warp], memory: &mut Memory) -> Result<(), Fault> {
    let [x, y] = [0, 1].map(|side| u64::from(shape.grid[side]));
    let at = [number % x, number / x % y, number / x / y].map(|at| at as u32);
    memory.shared.fill(UNWRITTEN);
    warps.iter_mut().for_each(|warp| warp.begin(kernel, [shape.grid, at, shape.block]));
    let mut warps: Vec<_> = warps.iter_mut().map(|warp| (warp, State::Runs)).collect();
    loop {
        for (warp, state) in &mut warps {
            if matches!(state, State::Runs) {
                *state = match warp.run(&kernel.instructions, memory)? {
                    Stop::Ended => State::Ended,
                    Stop::Barrier { number, threads } => State::Waits { number, threads },
                };
            }
        }
        if warps.iter().all(|(_, state)| matches!(state, State::Ended)) {
            return Ok(());
        }
        let left = |(warp, _): &(&mut Warp, State)| warp.threads();
        let all: u64 = warps.iter().map(left).sum();
        let waiting = |(_, state): &(&mut Warp, State)| match *state {
            State::Waits { number, threads } => Some((number, threads)),
            State::Runs | State::Ended => None,
        };
        let is_full = |(number, threads): (u64, Option<u64>)| {
            let come: u64 = warps.iter().filter(|warp| waiting(warp).is_some_and(|(n, _)| n == number)).map(left).sum();
            come >= threads.unwrap_or(all)
        };
        let go: Vec<bool> = warps.iter().map(|warp| waiting(warp).is_some_and(is_full)).collect();
        if !go.contains(&true) {
            return Err(Fault("warps wait for each other".to_owned()));
        }
        warps.iter_mut().zip(go).filter(|(_, goes)| *goes).for_each(|((_, state), _)| *state = State::Runs);
    }
}

enum State {
    Runs,
    Waits { number: u64, threads: Option<u64> },
    Ended,
}
