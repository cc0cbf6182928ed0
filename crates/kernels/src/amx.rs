//! Products of bf16 matrices on AMX: tiles of 16 by 32, four sums of 16 by 16 at a time.
//!
//! A tile of inputs is 16 rows of 32 values and a tile of weights 16 rows of 16 pairs, a kilobyte each (Intel SDM, volume 1,
//! chapter 18). Two of each make four products, so that loading keeps up with multiplying. All of a block's inputs stay in the second
//! cache while panel after panel of weights passes by.

mod gated;
mod kept;
mod rearranged;

use std::{arch::asm, cell::Cell, marker::PhantomData, ops::Range};

use self::rearranged::Also;
pub(crate) use self::{gated::gated, rearranged::Rearranged};
use crate::{
    epilogue::{Finish, Rows},
    isa::Isa,
    kept::MatrixRef,
    output::{Done, Order, Output, Part},
    packed::{self, DEPTH, PackedMatrix},
    pair::WithPair,
    shares::even_cuts,
    simd::{Body, Simd, vectorize},
    size::{product, sum},
};

/// Rows of two tiles, and columns of two.
pub(crate) const SIDE: usize = 32;

/// Bytes that one step takes of a block's rows, and of a panel: two tiles.
pub(crate) const STEP_BYTES: usize = 2048;

/// Steps that sums stay in the tiles for. Between two passes they are stored and loaded again.
pub(crate) const PASS: usize = 96;

/// Bytes of inputs that stay in the second cache (2 MiB) while panels pass by.
pub(crate) const BLOCK_BYTES: usize = 1_200_000;

/// Bytes of sums that wait for the next pass.
const WAITING_BYTES: usize = 600_000;

/// Sums of two by two tiles, `[SIDE, SIDE]`.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(crate) struct Sums(pub(crate) [f32; SIDE * SIDE]);

/// All sums one after the other.
pub(crate) fn flat(sums: &mut [Sums]) -> &mut [f32] {
    const { assert!(size_of::<Sums>() == size_of::<[f32; SIDE * SIDE]>()) };
    // SAFETY: `Sums` is an array of that many f32 and nothing else, as just checked.
    unsafe { std::slice::from_raw_parts_mut(sums.as_mut_ptr().cast(), sums.len() * SIDE * SIDE) }
}

/// Where the tiles of inputs of some steps begin, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Offsets<'a> {
    all: &'a [u64],
    /// Where the last of all the tiles ends, or one behind it.
    end: usize,
}

impl<'a> Offsets<'a> {
    /// # Panics
    /// If a tile ends where no slice does.
    pub(crate) fn of(all: &'a [u64]) -> Self {
        let last = all.iter().max().map(|&last| usize::try_from(last).unwrap_or(usize::MAX));
        Self { all, end: last.map_or(0, |last| sum("bytes", [last, STEP_BYTES])) }
    }

    pub(crate) fn len(self) -> usize {
        self.all.len()
    }

    /// Those of some of the steps.
    pub(crate) fn part(self, steps: Range<usize>) -> Self {
        Self { all: &self.all[steps], ..self }
    }
}

/// `input · weightᵀ`, finished and written, by a matrix that [`MatrixRef::takes_rows`].
pub(crate) fn linear<'o>(isa: Isa, weight: WithPair, input: Rows, finish: Finish, out: Output<'o>) -> &'o mut [f32] {
    let rows = Rearranged::of(isa, input, None, [weight.pair()]);
    multiply(isa, weight, (&rows, 0), [input.rows, input.d_in], finish, out)
}

/// [`linear`] of rows that are rearranged, where the weight's pair is that of this place.
pub(crate) fn multiply<'o>(
    isa: Isa,
    weight: WithPair,
    (rows, which): (&Rearranged, usize),
    shape: [usize; 2],
    finish: Finish,
    out: Output<'o>,
) -> &'o mut [f32] {
    let also = rows.also(which, weight.pair());
    match weight.matrix() {
        MatrixRef::Packed(matrix) => multiply_packed(isa, pairs(matrix), &rows.words, also, shape, finish, out),
        MatrixRef::Kept(matrix) => kept::multiply(isa, matrix, &rows.words, also, shape, finish, out),
        MatrixRef::Integers(_) => unreachable!("integers take no packed rows"),
    }
}

/// The panels of a matrix that takes packed rows.
pub(crate) fn pairs(matrix: &PackedMatrix) -> &[u32] {
    match matrix.panels() {
        packed::Panels::Pairs(panels) => panels,
        packed::Panels::F32(_) | packed::Panels::F16(_) | packed::Panels::Bf16(_) => {
            unreachable!("such a matrix takes no packed rows")
        }
    }
}

/// Where the tiles of a block's inputs begin.
pub(crate) fn offsets(steps: usize) -> Vec<u64> {
    (0..steps).map(|step| (step * STEP_BYTES) as u64).collect()
}

/// [`multiply`] by panels of pairs.
fn multiply_packed<'o>(
    isa: Isa,
    panels: &[u32],
    inputs: &[u32],
    also: Option<Also>,
    [rows, d_in]: [usize; 2],
    finish: Finish,
    out: Output<'o>,
) -> &'o mut [f32] {
    let (steps, blocks) = (d_in.div_ceil(DEPTH), rows.div_ceil(SIDE));
    let offsets = offsets(steps);
    let panel_count = out.width().div_ceil(SIDE);
    let pass = steps.div_ceil(steps.div_ceil(PASS).max(1)).max(1);
    let (row_tasks, panel_tasks) = split(blocks, panel_count, BLOCK_BYTES / (pass * STEP_BYTES));
    // Sums that wait for the next pass stay in the second cache, too.
    let waiting_blocks = if steps > pass { blocks.div_ceil(row_tasks) } else { 0 };
    let waiting = product("waiting bytes", [waiting_blocks, panel_count, size_of::<Sums>()]);
    let panel_tasks = panel_tasks.max(waiting.div_ceil(WAITING_BYTES)).min(panel_count);
    let (rows, columns) =
        (even_cuts(0..blocks, row_tasks, SIDE, rows), even_cuts(0..panel_count, panel_tasks, SIDE, out.width()));
    let offsets = Offsets::of(&offsets);
    // SAFETY: a block's last pass goes through `Finish::write`, which fills every row that it is given.
    unsafe {
        out.each_part(&rows, &columns, Order::ByRows, |out| {
            vectorize(isa, Task { isa, inputs, offsets, panels, also, pass, finish, out })
        })
    }
}

/// Into how many parts rows and panels are cut: at most `most` blocks of rows in a part, and work for every thread.
pub(crate) fn split(blocks: usize, panels: usize, most: usize) -> (usize, usize) {
    let threads = rayon::current_num_threads();
    let rows = blocks.div_ceil(most.max(2)).max(1);
    let rows = if rows >= threads { rows.next_multiple_of(threads).min(blocks) } else { rows };
    if rows >= 2 * threads { (rows, 1) } else { (rows, (4 * threads).div_ceil(rows).min(panels.div_ceil(2)).max(1)) }
}

struct Task<'a> {
    isa: Isa,
    inputs: &'a [u32],
    offsets: Offsets<'a>,
    panels: &'a [u32],
    also: Option<Also<'a>>,
    pass: usize,
    finish: Finish<'a>,
    out: Part<'a>,
}

impl Body for Task<'_> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        let Self { isa, inputs, offsets, panels, also, pass, finish, mut out } = self;
        let (rows, width) = (out.rows().end, out.columns().end);
        let blocks = out.rows().start / SIDE..rows.div_ceil(SIDE);
        let columns = out.columns().start / SIDE..width.div_ceil(SIDE);
        let steps = offsets.len();
        let words = STEP_BYTES / 4;
        let tiles = Tiles::configure(isa);
        let is_one_pass = steps <= pass;
        let mut sums = vec![Sums([0.0; SIDE * SIDE]); if is_one_pass { 1 } else { blocks.len() * columns.len() }];
        for start in (0..steps.max(1)).step_by(pass) {
            let end = steps.min(start + pass);
            for (j, panel) in columns.clone().enumerate() {
                let weights = &panels[(panel * steps + start) * words..(panel * steps + end) * words];
                for (i, block) in blocks.clone().enumerate() {
                    let sums = &mut sums[if is_one_pass { 0 } else { j * blocks.len() + i }];
                    let count = SIDE.min(rows - block * SIDE);
                    let input = &inputs[block * steps * words..][..steps * words];
                    // The next panel is fetched while this one is used, a part with each block.
                    let ahead = weights.as_ptr().wrapping_add((steps + i * (end - start) / blocks.len()) * words);
                    let offsets = offsets.part(start..end);
                    let more = also.filter(|_| end == steps).map(|also| also.of(block, panel));
                    tiles.multiply_and(input, offsets, weights, more, sums, start == 0, count > 16, ahead);
                    if end == steps {
                        for r in 0..count {
                            let row = block * SIDE + r;
                            let out = out.row(row, panel * SIDE, SIDE.min(width - panel * SIDE));
                            let sums = &sums.0[r * SIDE..][..SIDE];
                            let vectors = [s.load(sums), s.load(&sums[SIDE / 2..])];
                            finish.write(s, &vectors, row, panel * SIDE, out);
                        }
                    }
                }
            }
        }
        out.done()
    }
}

/// Steps of rows and of a panel, one after the other in both.
#[derive(Clone, Copy)]
pub(crate) struct More<'a> {
    a: &'a [u32],
    b: &'a [u32],
    steps: usize,
}

thread_local! {
    /// Whether this thread's tiles are in use.
    static IN_USE: Cell<bool> = const { Cell::new(false) };
}

/// This thread's tiles, in use; they are given back when this is dropped. It stays on its thread.
pub(crate) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// All eight as 16 rows of 64 bytes.
    ///
    /// # Panics
    /// If `isa` has none, or this thread has them in use.
    pub(crate) fn configure(isa: Isa) -> Self {
        assert_eq!(isa.level(), crate::isa::Level::Amx);
        assert!(!IN_USE.replace(true), "a thread's tiles are used by one at a time");
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            bytes_per_row: [u16; 16],
            rows: [u8; 16],
        }
        let eight = |x| std::array::from_fn(|i| if i < 8 { x } else { 0 });
        let rows = eight(16).map(|rows| rows as u8);
        let config = Config { palette: 1, start_row: 0, reserved: [0; 14], bytes_per_row: eight(64u16), rows };
        // SAFETY: the level says that the tiles exist and that the system lets this process use them; the configuration is one of
        // palette 1.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const config,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags),
            );
        }
        Self(PhantomData)
    }

    /// `sums = a · b`, or `sums += a · b` where they aren't fresh, and a hint to fetch what lies at `ahead`.
    ///
    /// Of the rows, the first 16 of each step lie at `a` plus its offset, 64 bytes each, and the others (left out where not `is_high`)
    /// a kilobyte behind them; `b` is a panel whose two tiles are side by side, step after step. `ahead` may be any address.
    ///
    /// # Panics
    /// If `a` or `b` has not all of the tiles.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the operands of one loop")]
    pub(crate) fn multiply(
        &self,
        a: &[u32],
        offsets: Offsets,
        b: &[u32],
        sums: &mut Sums,
        is_fresh: bool,
        is_high: bool,
        ahead: *const u32,
    ) {
        self.multiply_and(a, offsets, b, None, sums, is_fresh, is_high, ahead);
    }

    /// The same with the products of some more steps in the sums.
    ///
    /// # Panics
    /// If `a`, `b` or `more` has not all of the tiles.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the operands of one loop")]
    pub(crate) fn multiply_and(
        &self,
        a: &[u32],
        offsets: Offsets,
        b: &[u32],
        more: Option<More>,
        sums: &mut Sums,
        is_fresh: bool,
        is_high: bool,
        ahead: *const u32,
    ) {
        let steps = offsets.len();
        assert!(offsets.end <= size_of_val(a) && steps <= size_of_val(b) / STEP_BYTES);
        let more = more.unwrap_or(More { a: &[], b: &[], steps: 0 });
        assert!(more.steps <= size_of_val(more.a) / STEP_BYTES && more.steps <= size_of_val(more.b) / STEP_BYTES);
        let more = [more.a.as_ptr().addr(), more.b.as_ptr().addr(), more.steps];
        let (a, b, offsets) = (a.as_ptr(), b.as_ptr(), offsets.all.as_ptr());
        // SAFETY: reads tiles that `a`, `b` and `more` have, as just checked, and writes `sums` alone; the tiles are configured while
        // `self` lives, which is on this thread.
        unsafe {
            if is_high {
                asm!(
                    "test {fresh:e}, {fresh:e}",
                    "jz 3f",
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    "jmp 2f",
                    "3:",
                    "tileloadd tmm0, [{c} + {row}]",
                    "tileloadd tmm1, [{c} + {row} + 64]",
                    "tileloadd tmm2, [{c} + {row} + 2048]",
                    "tileloadd tmm3, [{c} + {row} + 2112]",
                    "2:",
                    "test {steps}, {steps}",
                    "jz 5f",
                    "4:",
                    "mov {at}, qword ptr [{offsets}]",
                    "add {offsets}, 8",
                    "add {at}, {a}",
                    "tileloadd tmm4, [{at} + {half}]",
                    "tileloadd tmm6, [{b} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {row} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{at} + {half} + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead}]", "prefetcht1 [{ahead} + 64]", "prefetcht1 [{ahead} + 128]",
                    "prefetcht1 [{ahead} + 192]", "prefetcht1 [{ahead} + 256]", "prefetcht1 [{ahead} + 320]",
                    "add {ahead}, 384",
                    "add {b}, 2048",
                    "dec {steps}",
                    "jnz 4b",
                    "5:",
                    "mov {a}, qword ptr [{more}]",
                    "mov {b}, qword ptr [{more} + 8]",
                    "mov {steps}, qword ptr [{more} + 16]",
                    "test {steps}, {steps}",
                    "jz 7f",
                    "6:",
                    "tileloadd tmm4, [{a} + {half}]",
                    "tileloadd tmm6, [{b} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {row} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a} + {half} + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 2048",
                    "add {b}, 2048",
                    "dec {steps}",
                    "jnz 6b",
                    "7:",
                    "tilestored [{c} + {row}], tmm0",
                    "tilestored [{c} + {row} + 64], tmm1",
                    "tilestored [{c} + {row} + 2048], tmm2",
                    "tilestored [{c} + {row} + 2112], tmm3",
                    fresh = in(reg) u32::from(is_fresh), c = in(reg) sums.0.as_mut_ptr(),
                    row = in(reg) 128usize, half = in(reg) 64usize, a = inout(reg) a => _, at = out(reg) _,
                    more = in(reg) more.as_ptr(),
                    offsets = inout(reg) offsets => _, b = inout(reg) b => _,
                    ahead = inout(reg) ahead => _, steps = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            } else {
                asm!(
                    "test {fresh:e}, {fresh:e}",
                    "jz 3f",
                    "tilezero tmm0", "tilezero tmm1",
                    "jmp 2f",
                    "3:",
                    "tileloadd tmm0, [{c} + {row}]",
                    "tileloadd tmm1, [{c} + {row} + 64]",
                    "2:",
                    "test {steps}, {steps}",
                    "jz 5f",
                    "4:",
                    "mov {at}, qword ptr [{offsets}]",
                    "add {offsets}, 8",
                    "add {at}, {a}",
                    "tileloadd tmm4, [{at} + {half}]",
                    "tileloadd tmm6, [{b} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {row} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {b}, 2048",
                    "dec {steps}",
                    "jnz 4b",
                    "5:",
                    "mov {a}, qword ptr [{more}]",
                    "mov {b}, qword ptr [{more} + 8]",
                    "mov {steps}, qword ptr [{more} + 16]",
                    "test {steps}, {steps}",
                    "jz 7f",
                    "6:",
                    "tileloadd tmm4, [{a} + {half}]",
                    "tileloadd tmm6, [{b} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {row} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {a}, 2048",
                    "add {b}, 2048",
                    "dec {steps}",
                    "jnz 6b",
                    "7:",
                    "tilestored [{c} + {row}], tmm0",
                    "tilestored [{c} + {row} + 64], tmm1",
                    fresh = in(reg) u32::from(is_fresh), c = in(reg) sums.0.as_mut_ptr(),
                    row = in(reg) 128usize, half = in(reg) 64usize, a = inout(reg) a => _, at = out(reg) _,
                    more = in(reg) more.as_ptr(),
                    offsets = inout(reg) offsets => _, b = inout(reg) b => _,
                    steps = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they were configured on this thread.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem, preserves_flags),
            );
        }
        IN_USE.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The level with tiles, where this machine has it.
    fn amx() -> Option<Isa> {
        Isa::available().into_iter().find(|isa| isa.level() == crate::isa::Level::Amx)
    }

    #[test]
    fn operands_that_are_too_short_are_refused() {
        let Some(isa) = amx() else { return };
        let multiply = |a: usize, offsets: &[u64], b: usize| {
            let (a, b) = (vec![0; a], vec![0; b]);
            let product = || {
                let mut sums = Sums([1.0; SIDE * SIDE]);
                let (offsets, ahead) = (Offsets::of(offsets), b.as_ptr());
                Tiles::configure(isa).multiply(&a, offsets, &b, &mut sums, true, true, ahead);
                sums.0[0]
            };
            std::panic::catch_unwind(product).ok()
        };
        let tiles = STEP_BYTES / 4;
        assert_eq!(multiply(2 * tiles, &[0, STEP_BYTES as u64], 2 * tiles), Some(0.0));
        assert_eq!(multiply(2 * tiles - 1, &[0, STEP_BYTES as u64], 2 * tiles), None);
        assert_eq!(multiply(2 * tiles, &[0, STEP_BYTES as u64], 2 * tiles - 1), None);
        assert_eq!(multiply(2 * tiles, &[0, STEP_BYTES as u64 + 1], 2 * tiles), None);
    }

    #[test]
    fn tiles_that_are_in_use_are_not_configured_again() {
        let Some(isa) = amx() else { return };
        let _tiles = Tiles::configure(isa);
        assert!(std::panic::catch_unwind(|| drop(Tiles::configure(isa))).is_err());
    }
}
