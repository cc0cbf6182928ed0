//! Which instructions this machine has, found out once, at run time.

#[cfg(all(emulated_tiles, target_arch = "x86_64", target_os = "linux"))]
mod tiles;

use std::sync::OnceLock;

/// A level of instructions that the kernels have a path for, slowest first.
///
/// A value says what *may* be executed: the only ways to get one are [`Isa::best`] and [`Isa::available`], which ask the CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Level);

/// The levels by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What every target has; Rust's own arithmetic.
    Portable,
    /// 128-bit vectors of AArch64.
    Neon,
    /// 256-bit vectors and fused multiply-add (Haswell, Zen).
    Avx2,
    /// 512-bit vectors: F, BW, DQ, VL (Skylake-X, Zen 4).
    Avx512,
    /// [`Level::Avx512`] with dot products of bf16 pairs and of four bytes (Cooper Lake, Zen 4).
    Avx512Bf16,
    /// [`Level::Avx512Bf16`] with tiles of 16 by 32 bf16 (Sapphire Rapids), where the system lets a process use them.
    Amx,
}

impl Isa {
    /// The fastest that this machine has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().expect("the portable level is always there"))
    }

    /// Everything that this machine has, slowest first: what a test goes through.
    pub fn available() -> Vec<Self> {
        let all = [Level::Portable, Level::Neon, Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];
        all.into_iter().filter(|&level| is_available(level)).map(Self).collect()
    }

    /// The name of the level.
    pub fn level(self) -> Level {
        self.0
    }

    /// Whether products of bf16 have instructions of their own here.
    pub fn has_bf16(self) -> bool {
        self.0 >= Level::Avx512Bf16
    }
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(target_arch = "x86_64")]
fn is_available(level: Level) -> bool {
    match level {
        Level::Portable => true,
        Level::Neon => false,
        Level::Avx2 => {
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
        }
        Level::Avx512 => {
            is_available(Level::Avx2)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
        Level::Avx512Bf16 => {
            is_available(Level::Avx512)
                && is_x86_feature_detected!("avx512bf16")
                && is_x86_feature_detected!("avx512vnni")
        }
        // Miri knows no tiles, and executes no `cpuid`.
        Level::Amx => !cfg!(miri) && is_available(Level::Avx512Bf16) && has_tiles(),
    }
}

#[cfg(target_arch = "aarch64")]
fn is_available(level: Level) -> bool {
    match level {
        Level::Portable => true,
        Level::Neon => !cfg!(miri) && std::arch::is_aarch64_feature_detected!("neon"),
        Level::Avx2 | Level::Avx512 | Level::Avx512Bf16 | Level::Amx => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn is_available(level: Level) -> bool {
    level == Level::Portable
}

/// Whether there are tiles: the CPU's, or in a build for tests those in software.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    if has_amx_bf16() && may_use_tiles() {
        return true;
    }
    #[cfg(all(emulated_tiles, target_os = "linux"))]
    tiles::install();
    cfg!(all(emulated_tiles, target_os = "linux"))
}

/// Leaf 7 of `cpuid`, EDX: bit 22 is AMX-BF16, bit 24 is AMX-TILE (Intel SDM, volume 2A, table 3-17).
#[cfg(target_arch = "x86_64")]
fn has_amx_bf16() -> bool {
    let edx = std::arch::x86_64::__cpuid_count(7, 0).edx;
    edx & (1 << 22) != 0 && edx & (1 << 24) != 0
}

/// Asks Linux for the tiles' state, which a process has to do once before it touches one.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023; // Linux, arch/x86/include/uapi/asm/prctl.h
    const XFEATURE_XTILEDATA: libc::c_ulong = 18; // the same, asm/fpu/types.h
    // SAFETY: the call takes two numbers and changes nothing but this process's permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn may_use_tiles() -> bool {
    false
}
