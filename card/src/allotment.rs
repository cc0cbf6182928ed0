//! Which registers have the same place: a kernel has thousands, of which few are in use at a time, and those are what the CPU's caches keep.

use std::iter;

use crate::instruction::{Instruction, Operation, Register};

/// From where to where a register is in use, by the numbers of instructions.
#[derive(Clone, Copy)]
struct Used {
    first: usize,
    last: usize,
}

/// Gives registers of `count` their places, and says how many there are and which each has. `lasting` ones keep theirs, others' are given on
/// when they are no more in use.
pub(crate) fn allotted(instructions: &mut [Instruction], count: usize, lasting: &[Register]) -> (usize, Vec<Register>) {
    let mut used = used(instructions, count);
    for register in lasting {
        used[*register] = Some(Used { first: 0, last: instructions.len() });
    }
    let mut order: Vec<_> = (0..count).filter_map(|register| Some((used[register]?, register))).collect();
    order.sort_by_key(|(used, _)| used.first);
    let (mut places, mut free, mut taken, mut busy) = (vec![0; count], Vec::new(), 0, Vec::<(usize, Register)>::new());
    for (Used { first, last }, register) in order {
        busy.retain(|&(last, place)| {
            let is_busy = last >= first;
            if !is_busy {
                free.push(place);
            }
            is_busy
        });
        places[register] = free.pop().unwrap_or_else(|| {
            taken += 1;
            taken - 1
        });
        busy.push((last, places[register]));
    }
    for instruction in instructions {
        let guard = instruction.guard.as_mut().map(|(register, _)| register);
        let named = instruction.operation.registers().into_iter().flatten();
        named.chain(guard).for_each(|register| *register = places[*register]);
    }
    (taken, places)
}

/// Instructions that follow each other, whatever happens.
struct Run {
    first: usize,
    last: usize,
    next: Vec<usize>,
    /// Registers that are read there before they are written, and those that are written for every thread.
    reads: Set,
    writes: Set,
    /// Registers that are read there or later before they are written.
    live: Set,
}

/// Where each register is in use: in all of a run where it is in use before it and behind it.
fn used(instructions: &mut [Instruction], count: usize) -> Vec<Option<Used>> {
    let mut runs = runs(instructions, count);
    let mut used = vec![None; count];
    let mut note = |register: Register, at: usize| {
        let Used { first, last } = used[register].get_or_insert(Used { first: at, last: at });
        (*first, *last) = ((*first).min(at), (*last).max(at));
    };
    for run in &mut runs {
        for (at, instruction) in instructions.iter_mut().enumerate().take(run.last + 1).skip(run.first) {
            let (guard, [writes, reads]) = (instruction.guard, instruction.operation.registers());
            for register in guard.into_iter().map(|(register, _)| register).chain(reads.into_iter().map(|r| *r)) {
                note(register, at);
                if !run.writes.has(register) {
                    run.reads.put(register);
                }
            }
            for register in writes {
                note(*register, at);
                if guard.is_none() {
                    run.writes.put(*register);
                }
            }
        }
    }
    let mut is_more = true;
    while is_more {
        is_more = false;
        for i in (0..runs.len()).rev() {
            let behind = behind(&runs, i, count);
            let run = &mut runs[i];
            let live = run.reads.with(&behind.without(&run.writes));
            is_more |= live != run.live;
            run.live = live;
        }
    }
    for (i, run) in runs.iter().enumerate() {
        run.live.registers().for_each(|register| note(register, run.first));
        behind(&runs, i, count).registers().for_each(|register| note(register, run.last));
    }
    used
}

/// What is in use behind a run.
fn behind(runs: &[Run], run: usize, count: usize) -> Set {
    runs[run].next.iter().fold(Set::of(count), |all, &next| all.with(&runs[next].live))
}

fn runs(instructions: &[Instruction], count: usize) -> Vec<Run> {
    let target = |at: usize| match instructions[at].operation {
        Operation::Branch(to) => Some(to),
        _ => None,
    };
    let ends = |at: usize| matches!(instructions[at].operation, Operation::Branch(_) | Operation::Exit);
    let mut starts = vec![false; instructions.len()];
    starts[0] = true;
    for at in 0..instructions.len() {
        if let Some(to) = target(at) {
            starts[to] = true;
        }
        if ends(at) && at + 1 < starts.len() {
            starts[at + 1] = true;
        }
    }
    let firsts: Vec<_> = (0..starts.len()).filter(|&at| starts[at]).collect();
    let lasts = firsts.iter().skip(1).map(|next| next - 1).chain(iter::once(instructions.len() - 1));
    let run_at = |at: usize| firsts.partition_point(|&first| first < at);
    let of = |(&first, last): (&usize, usize)| {
        let goes_on = last + 1 < instructions.len() && (instructions[last].guard.is_some() || !ends(last));
        let next = target(last).into_iter().chain(goes_on.then_some(last + 1)).map(run_at).collect();
        Run { first, last, next, reads: Set::of(count), writes: Set::of(count), live: Set::of(count) }
    };
    firsts.iter().zip(lasts).map(of).collect()
}

/// Registers, a bit for each.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn of(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, register: Register) -> bool {
        self.0[register / 64] >> (register % 64) & 1 == 1
    }

    fn put(&mut self, register: Register) {
        self.0[register / 64] |= 1 << (register % 64);
    }

    fn with(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    fn registers(&self) -> impl Iterator<Item = Register> {
        (0..64 * self.0.len()).filter(|&register| self.has(register))
    }
}
