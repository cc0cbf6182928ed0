//! The tile instructions of AMX in software, for tests on machines without it: only in builds with `--cfg emulated_tiles`.
//!
//! A CPU without AMX knows none of these instructions, and Linux tells so by SIGILL. The handler here decodes the instruction that it was
//! raised for, does to tiles of this thread's own what Intel's manual says of it, and has the thread go on behind it. So it is the kernels'
//! own machine code that is run, an instruction at a time.
//!
//! Reference: Intel SDM, volume 2, `LDTILECFG` to `TILEZERO` and `TDPBF16PS`; encodings by its section on VEX and ModRM. What the manual has
//! end in an exception ends the process with a message that names the instruction. A start row other than 0, which only a load that was
//! interrupted leaves, is such a case here, and so is an address relative to the instruction.

mod decode;
#[cfg(test)]
mod tests;

use std::{arch::asm, cell::UnsafeCell, mem, ptr, sync::Once};

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use self::decode::{Instruction, Memory};

/// Has the tile instructions of this process carried out from now on.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: a C structure of numbers, of which all may be 0.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_illegal_instruction as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and calls nothing that a handler must not.
        let failed = unsafe { libc::sigaction(libc::SIGILL, &action, ptr::null_mut()) };
        assert_eq!(failed, 0, "a handler of SIGILL");
    });
}

extern "C" fn on_illegal_instruction(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: what Linux gives to a handler with SA_SIGINFO, and to nobody else while it runs.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    match Instruction::decode(registers) {
        Some((instruction, next)) => {
            // SAFETY: const and without a destructor, so that a handler may ask for it at any time. Nothing else does, and this handler is
            // not interrupted by itself, as its signal is blocked while it runs.
            let tiles = unsafe { &mut *TILES.with(UnsafeCell::get) };
            tiles.carry_out(instruction);
            registers[libc::REG_RIP as usize] = next as i64;
        }
        // The instruction is met again, and ends the process as it would have done.
        // SAFETY: changes the process's action for one signal, back to what it was.
        None => _ = unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) },
    }
}

const ROWS: usize = 16;
const BYTES: usize = 64;

/// A thread's tiles.
#[repr(C, align(64))]
struct Tiles {
    /// As `ldtilecfg` read it; all 0 where tiles are not configured.
    config: [u8; 64],
    tiles: [[[u8; BYTES]; ROWS]; 8],
}

thread_local! {
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(Tiles::RELEASED) };
}

impl Tiles {
    const RELEASED: Self = Self { config: [0; 64], tiles: [[[0; BYTES]; ROWS]; 8] };

    fn carry_out(&mut self, instruction: Instruction) {
        match instruction {
            Instruction::LoadConfig(Memory { start, index }) => {
                let from = ptr::with_exposed_provenance::<[u8; 64]>(start.wrapping_add(index));
                // SAFETY: the program has the CPU read 64 bytes there, which may have any value.
                self.configure(unsafe { from.read() });
            }
            Instruction::StoreConfig(Memory { start, index }) => {
                let to = ptr::with_exposed_provenance_mut::<[u8; 64]>(start.wrapping_add(index));
                // SAFETY: the program has the CPU write 64 bytes there.
                unsafe { to.write(self.config) }
            }
            Instruction::Release => *self = Self::RELEASED,
            Instruction::Zero(tile) => {
                self.shape("tilezero", tile);
                self.tiles[tile] = [[0; BYTES]; ROWS];
            }
            Instruction::Load(tile, Memory { start, index }) => {
                let (rows, bytes) = self.shape("tileloadd", tile);
                self.tiles[tile] = [[0; BYTES]; ROWS];
                for (row, to) in self.tiles[tile].iter_mut().enumerate().take(rows) {
                    let from = ptr::with_exposed_provenance::<u8>(start.wrapping_add(row.wrapping_mul(index)));
                    // SAFETY: the program has the CPU read so many bytes there, `BYTES` at most; the tiles are no memory of its own.
                    unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), bytes) }
                }
            }
            Instruction::Store(tile, Memory { start, index }) => {
                let (rows, bytes) = self.shape("tilestored", tile);
                for (row, from) in self.tiles[tile].iter().enumerate().take(rows) {
                    let to = ptr::with_exposed_provenance_mut::<u8>(start.wrapping_add(row.wrapping_mul(index)));
                    // SAFETY: the program has the CPU write so many bytes there, `BYTES` at most; the tiles are no memory of its own.
                    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), bytes) }
                }
            }
            Instruction::Product(tiles) => self.multiply(tiles),
        }
    }

    fn configure(&mut self, config: [u8; 64]) {
        *self = Self::RELEASED;
        // Palette 0 is none.
        if config[0] == 0 {
            return;
        }
        let fault = |what| fault("ldtilecfg", what);
        if config[0] != 1 {
            fault("a palette that is unknown");
        }
        if config[1] != 0 {
            fault("a row to start with");
        }
        if [2..16, 32..48, 56..64].into_iter().any(|reserved| config[reserved].iter().any(|&byte| byte != 0)) {
            fault("reserved bytes that are not 0");
        }
        self.config = config;
        for tile in 0..8 {
            let (rows, bytes) = self.rows_and_bytes(tile);
            if rows > ROWS || bytes > BYTES || (rows == 0) != (bytes == 0) {
                fault("a tile of a size that there is not");
            }
        }
    }

    fn rows_and_bytes(&self, tile: usize) -> (usize, usize) {
        let bytes = u16::from_le_bytes([self.config[16 + 2 * tile], self.config[17 + 2 * tile]]);
        (self.config[48 + tile].into(), bytes.into())
    }

    /// Rows of a tile that an instruction uses, and bytes of each.
    fn shape(&self, instruction: &str, tile: usize) -> (usize, usize) {
        let shape = self.rows_and_bytes(tile);
        if shape.0 == 0 {
            fault(instruction, "a tile that is not configured");
        }
        shape
    }

    fn multiply(&mut self, [sum, left, right]: [usize; 3]) {
        let shape = |tile| self.shape("tdpbf16ps", tile);
        let ((rows, bytes), (left_rows, depth), (right_rows, right_bytes)) = (shape(sum), shape(left), shape(right));
        if sum == left || sum == right || left == right {
            fault("tdpbf16ps", "one tile twice");
        }
        let are_words = [bytes, depth, right_bytes].iter().all(|bytes| bytes.is_multiple_of(4));
        if !are_words || left_rows != rows || right_bytes != bytes || right_rows != depth / 4 {
            fault("tdpbf16ps", "tiles that do not fit each other");
        }
        let (left, right) = (self.tiles[left], self.tiles[right]);
        for (to, left) in self.tiles[sum].iter_mut().zip(&left).take(rows) {
            // SAFETY: the level is there, and with it AVX-512; a row has `depth` bytes, a pair each four, and as many rows are in `right`.
            unsafe { add_products(left, &right, depth / 4, to) }
            to[bytes..].fill(0);
        }
        self.tiles[sum][rows..].fill([0; BYTES]);
    }
}

/// Adds the products of a row of so many pairs of bf16 and the rows of `right`: those of the pairs' first halves are summed up by
/// themselves, and so are the others, before both and the old value are. Every operation rounds to the nearest, ties to even, and has
/// denormals as 0, before and after.
///
/// # Safety
/// The CPU has AVX-512, and there is a pair, and at most [`ROWS`].
unsafe fn add_products(left: &[u8; BYTES], right: &[[u8; BYTES]; ROWS], pairs: usize, to: &mut [u8; BYTES]) {
    // All exceptions masked, with the two bits for denormals: DAZ and FTZ.
    let (own, mut before) = (0x9FC0u32, 0u32);
    // SAFETY: reads as many rows and pairs as the caller says that there are, writes `to` and `before`, and gives MXCSR back.
    unsafe {
        asm!(
            "stmxcsr [{before}]",
            "ldmxcsr [{own}]",
            "vpternlogd zmm7, zmm7, zmm7, 255",
            "vpslld zmm7, zmm7, 16",
            "vpxord zmm0, zmm0, zmm0",
            "vpxord zmm1, zmm1, zmm1",
            "2:",
            "vpbroadcastd zmm2, dword ptr [{left}]",
            "vmovdqu32 zmm3, [{right}]",
            "vpslld zmm4, zmm2, 16",
            "vpslld zmm5, zmm3, 16",
            "vfmadd231ps zmm0, zmm4, zmm5",
            "vpandd zmm2, zmm2, zmm7",
            "vpandd zmm3, zmm3, zmm7",
            "vfmadd231ps zmm1, zmm2, zmm3",
            "add {left}, 4",
            "add {right}, 64",
            "dec {pairs}",
            "jnz 2b",
            "vaddps zmm0, zmm0, zmm1",
            "vmovups zmm1, [{to}]",
            "vaddps zmm0, zmm1, zmm0",
            "vmovups [{to}], zmm0",
            "ldmxcsr [{before}]",
            own = in(reg) &raw const own, before = in(reg) &raw mut before,
            left = inout(reg) left.as_ptr() => _, right = inout(reg) right.as_ptr() => _,
            pairs = inout(reg) pairs => _, to = in(reg) to.as_mut_ptr(),
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _, out("zmm7") _,
            options(nostack),
        );
    }
}

/// Ends the process, where the CPU would have raised an exception.
fn fault(instruction: &str, what: &str) -> ! {
    for text in ["emulated tiles: ", instruction, ": ", what, "\n"] {
        // SAFETY: reads the text; a handler may write to a file and abort.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: as just said.
    unsafe { libc::abort() }
}
