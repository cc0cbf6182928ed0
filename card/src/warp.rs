//! Threads that go together.

use std::array;

use crate::{
    arithmetic::mask,
    fragments,
    instruction::{Instruction, LANES, Lanes, Operation, Place, Register, Rows, Shuffle, Vote},
    matrices,
    memory::{Fault, Memory, Space},
    module::Kernel,
};

/// All threads of a warp.
const ALL: u32 = u32::MAX;

/// What is in a register that nobody wrote: as a float, no number.
const UNWRITTEN: u64 = u64::MAX;

/// A warp of a block.
pub(crate) struct Warp {
    /// Its number in the block.
    number: usize,
    registers: Vec<Lanes>,
    /// The instruction that each thread comes to.
    counters: [usize; LANES],
    /// Threads that have not ended.
    alive: u32,
    /// Threads that are at an instruction that others have to come to.
    waiting: u32,
}

/// Why a warp goes no further.
pub(crate) enum Stop {
    Ended,
    /// It is at a barrier of the block, which as many threads have to come to, or all of them.
    Barrier {
        number: u64,
        threads: Option<u64>,
    },
}

/// What comes next.
enum Next {
    Following,
    /// Of all threads that were asked.
    At(usize),
    /// Each thread's is where its counter says.
    Apart,
    /// Others of the warp have to be there too.
    Waits,
    Stops(Stop),
}

impl Warp {
    /// A warp of a kernel, by its number in a block.
    pub(crate) fn of(number: usize, kernel: &Kernel) -> Self {
        let registers = vec![[UNWRITTEN; LANES]; kernel.registers];
        Self { number, registers, counters: [0; LANES], alive: 0, waiting: 0 }
    }

    /// Goes to the first instruction: which of a block's threads it has, and what they are told of themselves.
    pub(crate) fn begin(&mut self, kernel: &Kernel, [grid, at, block]: [[u32; 3]; 3]) {
        let special = &kernel.special;
        self.registers.fill([UNWRITTEN; LANES]);
        for &(register, value) in &kernel.constants {
            self.registers[register] = [value; LANES];
        }
        (self.counters, self.alive, self.waiting) = ([0; LANES], 0, 0);
        let count = block.iter().product::<u32>() as usize;
        for lane in 0..LANES {
            let thread = self.number * LANES + lane;
            if thread < count {
                self.alive |= 1 << lane;
            }
            let [x, y] = [block[0] as usize, block[1] as usize];
            let place = [thread % x, thread / x % y, thread / x / y];
            for side in 0..3 {
                let values = [place[side] as u64, block[side].into(), at[side].into(), grid[side].into()];
                for (places, value) in special.places.iter().zip(values) {
                    self.registers[places[side]][lane] = value;
                }
            }
            self.registers[special.lane][lane] = lane as u64;
            self.registers[special.warp][lane] = self.number as u64;
        }
    }

    /// Threads that have not ended.
    pub(crate) fn threads(&self) -> u64 {
        self.alive.count_ones().into()
    }

    /// Goes on to where it has to stop.
    pub(crate) fn run(&mut self, instructions: &[Instruction], memory: &mut Memory) -> Result<Stop, Fault> {
        loop {
            if self.alive == 0 {
                return Ok(Stop::Ended);
            }
            let runs = self.alive & !self.waiting;
            let Some(first) = lanes(runs).map(|lane| self.counters[lane]).min() else {
                let at = self.counters[self.alive.trailing_zeros() as usize];
                return Err(Fault(format!(
                    "threads of a warp wait for each other, one at `{}`",
                    instructions[at].text
                )));
            };
            let here =
                lanes(self.alive).filter(|&lane| self.counters[lane] == first).fold(0, |all, lane| all | 1 << lane);
            self.waiting &= !here;
            // Those that are ahead are met, and then go on together.
            let others = self.alive & !here;
            let limit = lanes(others).map(|lane| self.counters[lane]).filter(|&at| at > first).min();
            let (mut at, limit) = (first, limit.unwrap_or(usize::MAX));
            loop {
                let instruction = &instructions[at];
                let told = |Fault(told): Fault| Fault(format!("{told}, by `{}`", instruction.text));
                match self.execute(instruction, here, at, memory).map_err(told)? {
                    Next::Following => at += 1,
                    Next::At(target) if others == 0 => at = target,
                    Next::At(target) => {
                        self.set(here, target);
                        break;
                    }
                    Next::Apart => break,
                    Next::Waits => {
                        self.set(here, at);
                        self.waiting |= here;
                        break;
                    }
                    Next::Stops(stop) => {
                        self.set(here, at + 1);
                        return Ok(stop);
                    }
                }
                if at >= limit {
                    self.set(here, at);
                    break;
                }
            }
        }
    }

    fn set(&mut self, which: u32, counter: usize) {
        lanes(which).for_each(|lane| self.counters[lane] = counter);
    }

    fn value(&self, register: Register) -> &Lanes {
        &self.registers[register]
    }

    fn values(&self, registers: &[Register]) -> Vec<&Lanes> {
        registers.iter().map(|&register| self.value(register)).collect()
    }

    fn put(&mut self, to: Register, values: &Lanes, which: u32) {
        let register = &mut self.registers[to];
        if which == ALL {
            *register = *values;
        } else {
            for (lane, (register, value)) in register.iter_mut().zip(values).enumerate() {
                *register = if which >> lane & 1 == 1 { *value } else { *register };
            }
        }
    }

    fn addresses(&self, place: Place) -> Lanes {
        (*self.value(place.base)).map(|base| base.wrapping_add(place.offset))
    }

    /// Addresses in a block's memory, of 32 bits.
    fn shared(&self, place: Place) -> Lanes {
        self.addresses(place).map(|address| address & 0xffff_ffff)
    }

    /// Whether all that are named and have not ended are here.
    fn have_come(&self, members: Register, which: u32) -> bool {
        let members = self.value(members)[which.trailing_zeros() as usize] as u32;
        members & self.alive & !which == 0
    }

    fn execute(&mut self, instruction: &Instruction, here: u32, at: usize, memory: &mut Memory) -> Result<Next, Fault> {
        let which = match instruction.guard {
            None => here,
            Some((register, wanted)) => {
                let guard = &self.registers[register];
                lanes(here).filter(|&lane| (guard[lane] != 0) == wanted).fold(0, |all, lane| all | 1 << lane)
            }
        };
        if which == 0 {
            return Ok(Next::Following);
        }
        match &instruction.operation {
            Operation::One(f, to, a) => {
                let mut values = [0; LANES];
                f(self.value(*a), &mut values);
                self.put(*to, &values, which);
            }
            Operation::Two(f, to, [a, b]) => {
                let mut values = [0; LANES];
                f([self.value(*a), self.value(*b)], &mut values);
                self.put(*to, &values, which);
            }
            Operation::Three(f, to, [a, b, c]) => {
                let mut values = [0; LANES];
                f([self.value(*a), self.value(*b), self.value(*c)], &mut values);
                self.put(*to, &values, which);
            }
            Operation::Split { to, from, bits } => {
                let values = *self.value(*from);
                for (i, &to) in to.iter().enumerate() {
                    let part = values.map(|value| value >> (i as u32 * bits) & mask(*bits));
                    self.put(to, &part, which);
                }
            }
            Operation::Join { to, from, bits } => {
                let mut values = [0; LANES];
                for (i, &part) in from.iter().enumerate() {
                    let part = self.value(part);
                    values.iter_mut().zip(part).for_each(|(value, part)| *value |= part << (i as u32 * bits));
                }
                self.put(*to, &values, which);
            }
            Operation::Load { space, bytes, is_signed, to, place } => {
                let addresses = self.addresses(*place);
                let unused = 64 - 8 * *bytes as u32;
                for lane in lanes(which) {
                    let read = memory.reading(*space, addresses[lane], bytes * to.len())?;
                    for (i, &to) in to.iter().enumerate() {
                        let value = read.element(i, *bytes);
                        self.registers[to][lane] =
                            if *is_signed { ((value << unused) as i64 >> unused) as u64 } else { value };
                    }
                }
            }
            Operation::Store { space, bytes, from, place } => {
                let addresses = self.addresses(*place);
                for lane in lanes(which) {
                    let mut written = memory.writing(*space, addresses[lane], bytes * from.len())?;
                    for (i, &from) in from.iter().enumerate() {
                        written.put(i, *bytes, self.registers[from][lane]);
                    }
                }
            }
            Operation::Atomic { space, combine, to, place, value } => {
                let addresses = self.addresses(*place);
                for lane in lanes(which) {
                    let value = self.registers[*value][lane] as u32;
                    let before = memory.replace(*space, addresses[lane], |now| combine(now, value))?;
                    if let Some(to) = *to {
                        self.registers[to][lane] = before.into();
                    }
                }
            }
            Operation::CopyAsync { to, from, bytes, read } => {
                let (to, from) = (self.shared(*to), self.addresses(*from));
                let read = read.map_or([*bytes as u64; LANES], |read| *self.value(read));
                for lane in lanes(which) {
                    let mut copied = [0; 16];
                    let read = (read[lane] as usize).min(*bytes);
                    if read > 0 {
                        memory.read_all(Space::Global, from[lane], &mut copied[..*bytes])?;
                        copied[read..].fill(0);
                    }
                    memory.write_all(Space::Shared, to[lane], &copied[..*bytes])?;
                }
            }
            Operation::Branch(target) => {
                if which == here {
                    return Ok(Next::At(*target));
                }
                self.set(which, *target);
                self.set(here & !which, at + 1);
                return Ok(Next::Apart);
            }
            Operation::Exit => {
                self.set(here & !which, at + 1);
                self.alive &= !which;
                return Ok(Next::Apart);
            }
            Operation::Barrier { number, threads } => {
                if which != self.alive {
                    return Ok(Next::Waits);
                }
                let lane = which.trailing_zeros() as usize;
                let threads = threads.map(|threads| self.value(threads)[lane]);
                return Ok(Next::Stops(Stop::Barrier { number: self.value(*number)[lane], threads }));
            }
            Operation::WarpBarrier { members } => {
                if !self.have_come(*members, which) {
                    return Ok(Next::Waits);
                }
            }
            Operation::Shuffle { mode, to, is_there, value, lane, clamp, members } => {
                if !self.have_come(*members, which) {
                    return Ok(Next::Waits);
                }
                let (values, by, clamps) = (self.value(*value), self.value(*lane), self.value(*clamp));
                let from = array::from_fn::<_, LANES, _>(|lane| source(*mode, lane as u64, by[lane], clamps[lane]));
                let moved = array::from_fn(|lane| values[from[lane].unwrap_or(lane)]);
                self.put(*to, &moved, which);
                if let Some(is_there) = is_there {
                    self.put(*is_there, &from.map(|from| from.is_some().into()), which);
                }
            }
            Operation::Vote { kind, to, value, is_negated, members } => {
                if !self.have_come(*members, which) {
                    return Ok(Next::Waits);
                }
                let values = self.value(*value);
                let yes = lanes(which)
                    .filter(|&lane| (values[lane] != 0) != *is_negated)
                    .fold(0, |all, lane| all | 1 << lane);
                let answer = match kind {
                    Vote::Any => u64::from(yes != 0),
                    Vote::All => u64::from(yes == which),
                    Vote::Ballot => u64::from(yes),
                };
                self.put(*to, &[answer; LANES], which);
            }
            Operation::LoadMatrices { to, place, is_turned } => {
                if which != ALL {
                    return Ok(Next::Waits);
                }
                let addresses = self.shared(*place);
                for (i, &to) in to.iter().enumerate() {
                    self.registers[to] = matrices::loaded(memory, &addresses[8 * i..8 * i + 8], *is_turned)?;
                }
            }
            Operation::Multiply { element, d, a, b, c } => {
                if which != ALL {
                    return Ok(Next::Waits);
                }
                let sums = c.map(|c| *self.value(c));
                let sums = matrices::product(*element, a.map(|a| self.value(a)), b.map(|b| self.value(b)), sums);
                for (to, sums) in d.iter().zip(sums) {
                    self.registers[*to] = sums;
                }
            }
            Operation::MultiplyGroup { element, d, a, b, adds, is_turned } => {
                if which != ALL {
                    return Ok(Next::Waits);
                }
                let rows = match a {
                    Rows::Held(a) => matrices::held(*element, a.map(|a| self.value(a))),
                    Rows::Described(a) => {
                        matrices::described_rows(*element, memory, self.value(*a)[0], self.number % 4)?
                    }
                };
                let columns =
                    matrices::described_columns(*element, memory, self.value(*b)[0], 2 * d.len(), *is_turned)?;
                let adds = self.value(*adds)[0] != 0;
                for (i, &to) in d.iter().enumerate() {
                    let sums = &mut self.registers[to];
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum = matrices::sum(&rows, &columns, i, lane, if adds { *sum } else { 0 });
                    }
                }
            }
            Operation::LoadFragment { layout, element, to, place, stride } => {
                if which != ALL {
                    return Ok(Next::Waits);
                }
                let (address, stride) = (self.addresses(*place)[0], self.value(*stride)[0]);
                let values = fragments::loaded(*layout, *element, memory, address, stride, to.len())?;
                to.iter().zip(values).for_each(|(&to, values)| self.registers[to] = values);
            }
            Operation::StoreFragment { layout, from, place, stride } => {
                if which != ALL {
                    return Ok(Next::Waits);
                }
                let (address, stride) = (self.addresses(*place)[0], self.value(*stride)[0]);
                fragments::stored(*layout, memory, address, stride, &self.values(from))?;
            }
            Operation::MultiplyFragments { shape, element, d, a, b, c } => {
                if which != ALL {
                    return Ok(Next::Waits);
                }
                let sums = fragments::product(*shape, *element, &self.values(a), &self.values(b), &self.values(c));
                d.iter().zip(sums).for_each(|(&to, values)| self.registers[to] = values);
            }
            Operation::Nothing => {}
        }
        Ok(Next::Following)
    }
}

fn lanes(which: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| which >> lane & 1 == 1)
}

/// Which thread's value a thread gets; `None` where it keeps its own, as there is none in its part of the warp.
fn source(mode: Shuffle, lane: u64, by: u64, clamp: u64) -> Option<usize> {
    let (bound, parts, by) = (clamp & 31, clamp >> 8 & 31, by & 31);
    let first = lane & parts;
    let last = first | bound & !parts;
    let from = match mode {
        Shuffle::Butterfly => Some(lane ^ by).filter(|&from| from <= last),
        Shuffle::Down => Some(lane + by).filter(|&from| from <= last),
        // The bound is the least there.
        Shuffle::Up => lane.checked_sub(by).filter(|&from| from >= last),
        Shuffle::Index => Some(first | by & !parts).filter(|&from| from <= last),
    };
    from.map(|from| from as usize)
}
