//! Which instruction of tiles a thread stands at, and what its operands are.
//!
//! Reference: Intel SDM, volume 2, chapter 2, for VEX, ModRM and SIB; the opcodes are those of each instruction's page.

use std::ptr;

use libc::c_int;

use super::fault;

/// Where a memory operand begins, and what its index times its scale is: for tiles the bytes from row to row.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) start: usize,
    pub(super) index: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Instruction {
    LoadConfig(Memory),
    StoreConfig(Memory),
    Release,
    Zero(usize),
    Load(usize, Memory),
    Store(usize, Memory),
    /// The sum, the rows that are multiplied, and what they are multiplied with.
    Product([usize; 3]),
}

impl Instruction {
    /// The instruction that a thread stands at and the address of the next one, if it is one of tiles.
    pub(super) fn decode(registers: &[i64; 23]) -> Option<(Self, usize)> {
        let mut code = Code(registers[libc::REG_RIP as usize] as usize);
        // VEX in three bytes: inverted R, X and B and the map, which is 2 for 0F 38; then W, inverted vvvv, L and the prefix.
        if code.byte() != 0xC4 {
            return None;
        }
        let (first, second) = (code.byte(), code.byte());
        if first & 31 != 2 {
            return None;
        }
        let [r, x, b] = [7, 6, 5].map(|bit| usize::from(!first >> bit & 1));
        let (vvvv, prefix) = (usize::from(!second >> 3 & 15), second & 3);
        let (opcode, modrm) = (code.byte(), code.byte());
        let (mode, reg, rm) = (modrm >> 6, usize::from(modrm >> 3 & 7), usize::from(modrm & 7));
        // W and L are 0, and vvvv is a third tile, of which there are eight, or unused.
        if second & 0b1000_0100 != 0 || r != 0 || vvvv > if opcode == 0x5C { 7 } else { 0 } {
            return None;
        }
        const NONE: u8 = 0;
        const P66: u8 = 1;
        const PF3: u8 = 2;
        const PF2: u8 = 3;
        let mut memory = || code.memory(registers, mode, rm, x, b);
        let instruction = match (opcode, prefix, mode) {
            (0x49, NONE, 3) if modrm == 0xC0 && b == 0 => Self::Release,
            (0x49, PF2, 3) if rm == 0 && b == 0 => Self::Zero(reg),
            (0x5C, PF3, 3) if b == 0 => Self::Product([reg, rm, vvvv]),
            (0x49, NONE, 0..3) if reg == 0 => Self::LoadConfig(memory()),
            (0x49, P66, 0..3) if reg == 0 => Self::StoreConfig(memory()),
            // Of the two loads, the one with 66 hints at the caches.
            (0x4B, PF2 | P66, 0..3) if rm == 4 => Self::Load(reg, memory()),
            (0x4B, PF3, 0..3) if rm == 4 => Self::Store(reg, memory()),
            _ => return None,
        };
        Some((instruction, code.0))
    }
}

/// The address of the next byte of an instruction.
struct Code(usize);

impl Code {
    fn byte(&mut self) -> u8 {
        let at = ptr::with_exposed_provenance::<u8>(self.0);
        self.0 += 1;
        // SAFETY: a byte of the instruction, which the CPU has read: none is asked for but where those before it say that there is one.
        unsafe { at.read() }
    }

    /// The memory operand of a ModRM byte with these fields, and VEX's X and B.
    fn memory(&mut self, registers: &[i64; 23], mode: u8, rm: usize, x: usize, b: usize) -> Memory {
        let register = |number: usize| registers[REGISTERS[number] as usize] as usize;
        let (mut base, mut index) = (rm, 0);
        if rm == 4 {
            let sib = usize::from(self.byte());
            base = sib & 7;
            let number = sib >> 3 & 7 | x << 3;
            // What would be RSP says that there is no index.
            index = if number == 4 { 0 } else { register(number) << (sib >> 6) };
        }
        // Without a displacement, what would be RBP or R13 says that one stands in for the base.
        let is_alone = mode == 0 && base == 5;
        if is_alone && rm == 5 {
            fault("a tile instruction", "an address relative to it");
        }
        let base = if is_alone { 0 } else { register(base | b << 3) };
        let displacement = match mode {
            0 if !is_alone => 0,
            1 => isize::from(self.byte() as i8),
            _ => i32::from_le_bytes([(); 4].map(|()| self.byte())) as isize,
        };
        Memory { start: base.wrapping_add_signed(displacement), index }
    }
}

/// Where a context has the registers, by their numbers in instructions.
const REGISTERS: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];
