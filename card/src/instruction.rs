//! A kernel's instructions, decoded.

use crate::memory::Space;

/// Threads of a warp.
pub(crate) const LANES: usize = 32;

/// A register of all threads of a warp. Those of less than 64 bits are in the lower bits; a predicate is 0 or 1.
pub(crate) type Lanes = [u64; LANES];

/// A register's place among those of a thread. Constants, and addresses of variables, are registers that nobody writes.
pub(crate) type Register = usize;

/// Registers that are set when a block begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Special {
    /// `%tid`, `%ntid`, `%ctaid`, `%nctaid`, three each.
    pub(crate) places: [[Register; 3]; 4],
    pub(crate) lane: Register,
    pub(crate) warp: Register,
}

impl Special {
    /// The same, where registers have other places.
    pub(crate) fn at(&self, places: &[Register]) -> Self {
        let Self { places: all, lane, warp } = self;
        Self { places: all.map(|all| all.map(|one| places[one])), lane: places[*lane], warp: places[*warp] }
    }
}

/// Where memory is read or written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) base: Register,
    pub(crate) offset: u64,
}

pub(crate) type One = Box<dyn Fn(&Lanes, &mut Lanes) + Send + Sync>;
pub(crate) type Two = Box<dyn Fn([&Lanes; 2], &mut Lanes) + Send + Sync>;
pub(crate) type Three = Box<dyn Fn([&Lanes; 3], &mut Lanes) + Send + Sync>;

/// What is done, by those threads for which the guard is true.
pub(crate) struct Instruction {
    /// A predicate, and what it has to be.
    pub(crate) guard: Option<(Register, bool)>,
    pub(crate) operation: Operation,
    /// As it is written.
    pub(crate) text: String,
}

pub(crate) enum Operation {
    One(One, Register, Register),
    Two(Two, Register, [Register; 2]),
    Three(Three, Register, [Register; 3]),
    /// Parts of so many bits of a register, from the lowest.
    Split {
        to: Vec<Register>,
        from: Register,
        bits: u32,
    },
    Join {
        to: Register,
        from: Vec<Register>,
        bits: u32,
    },
    /// Elements of so many bytes.
    Load {
        space: Space,
        bytes: usize,
        is_signed: bool,
        to: Vec<Register>,
        place: Place,
    },
    Store {
        space: Space,
        bytes: usize,
        from: Vec<Register>,
        place: Place,
    },
    /// Reads a word of 32 bits, and writes what becomes of it and of a value, with nobody between.
    Atomic {
        space: Space,
        combine: fn(u32, u32) -> u32,
        to: Option<Register>,
        place: Place,
        value: Register,
    },
    /// As many bytes from the card's memory to the block's, of which only some are read; the others are 0.
    CopyAsync {
        to: Place,
        from: Place,
        bytes: usize,
        read: Option<Register>,
    },
    /// To an instruction, by its number.
    Branch(usize),
    Exit,
    /// Waits for all of the block's threads, or for as many.
    Barrier {
        number: Register,
        threads: Option<Register>,
    },
    /// Waits for some of the warp's threads.
    WarpBarrier {
        members: Register,
    },
    Shuffle {
        mode: Shuffle,
        to: Register,
        is_there: Option<Register>,
        value: Register,
        lane: Register,
        clamp: Register,
        members: Register,
    },
    Vote {
        kind: Vote,
        to: Register,
        value: Register,
        is_negated: bool,
        members: Register,
    },
    /// As many matrices of 8 × 8 of 16 bits as registers, from the block's memory.
    LoadMatrices {
        to: Vec<Register>,
        place: Place,
        is_turned: bool,
    },
    /// `d = a · bᵀ + c`, of 16 and 8 rows of 32 bytes.
    Multiply {
        element: Element,
        d: [Register; 4],
        a: [Register; 4],
        b: [Register; 2],
        c: [Register; 4],
    },
    /// `d = a · bᵀ + d` of a group of four warps: 64 rows of 32 bytes and as many columns as a warp has sums, times 2.
    MultiplyGroup {
        element: Element,
        d: Vec<Register>,
        a: Rows,
        b: Register,
        adds: Register,
        is_turned: bool,
    },
    /// `wmma`: a matrix, wherever it is, into the registers of a warp.
    LoadFragment {
        layout: Layout,
        element: Element,
        to: Vec<Register>,
        place: Place,
        stride: Register,
    },
    StoreFragment {
        layout: Layout,
        from: Vec<Register>,
        place: Place,
        stride: Register,
    },
    /// `d = a · b + c` of fragments.
    MultiplyFragments {
        shape: [usize; 3],
        element: Element,
        d: Vec<Register>,
        a: Vec<Register>,
        b: Vec<Register>,
        c: Vec<Register>,
    },
    /// Nothing that has to be done where all is done in order.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shuffle {
    Butterfly,
    Down,
    Up,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Vote {
    Any,
    All,
    Ballot,
}

/// How a fragment's matrix lies in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) space: Space,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Whether columns are what lies together.
    pub(crate) is_turned: bool,
}

/// What factors are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Element {
    F16,
    Bf16,
    /// f32, of whose bits products see the upper 19.
    Float,
}

/// Rows of a group's product.
pub(crate) enum Rows {
    /// In the warps' registers.
    Held([Register; 4]),
    /// In the block's memory, where a descriptor says.
    Described(Register),
}

impl Operation {
    /// Registers that it writes, and those that it reads.
    pub(crate) fn registers(&mut self) -> [Vec<&mut Register>; 2] {
        match self {
            Self::One(_, to, a) => [vec![to], vec![a]],
            Self::Two(_, to, from) => [vec![to], from.iter_mut().collect()],
            Self::Three(_, to, from) => [vec![to], from.iter_mut().collect()],
            Self::Split { to, from, .. } => [to.iter_mut().collect(), vec![from]],
            Self::Join { to, from, .. } => [vec![to], from.iter_mut().collect()],
            Self::Load { to, place, .. } | Self::LoadMatrices { to, place, .. } => {
                [to.iter_mut().collect(), vec![&mut place.base]]
            }
            Self::Store { from, place, .. } => [Vec::new(), from.iter_mut().chain([&mut place.base]).collect()],
            Self::Atomic { to, place, value, .. } => [to.iter_mut().collect(), vec![&mut place.base, value]],
            Self::CopyAsync { to, from, read, .. } => {
                [Vec::new(), [&mut to.base, &mut from.base].into_iter().chain(read).collect()]
            }
            Self::Branch(_) | Self::Exit | Self::Nothing => [Vec::new(), Vec::new()],
            Self::Barrier { number, threads } => [Vec::new(), [number].into_iter().chain(threads).collect()],
            Self::WarpBarrier { members } => [Vec::new(), vec![members]],
            Self::Shuffle { to, is_there, value, lane, clamp, members, .. } => {
                [[to].into_iter().chain(is_there).collect(), vec![value, lane, clamp, members]]
            }
            Self::Vote { to, value, members, .. } => [vec![to], vec![value, members]],
            Self::Multiply { d, a, b, c, .. } => [d.iter_mut().collect(), a.iter_mut().chain(b).chain(c).collect()],
            Self::LoadFragment { to, place, stride, .. } => [to.iter_mut().collect(), vec![&mut place.base, stride]],
            Self::StoreFragment { from, place, stride, .. } => {
                [Vec::new(), from.iter_mut().chain([&mut place.base, stride]).collect()]
            }
            Self::MultiplyFragments { d, a, b, c, .. } => {
                [d.iter_mut().collect(), a.iter_mut().chain(b).chain(c).collect()]
            }
            // What is added to is written, and never anew.
            Self::MultiplyGroup { d, a, b, adds, .. } => {
                let rows: Vec<_> = match a {
                    Rows::Held(rows) => rows.iter_mut().collect(),
                    Rows::Described(rows) => vec![rows],
                };
                [Vec::new(), d.iter_mut().chain(rows).chain([b, adds]).collect()]
            }
        }
    }
}
