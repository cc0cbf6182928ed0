//! A stand-in for CubeCL's LLVM back end.
//!
//! `cubecl-cuda` links two compilers: this one, which wants a whole LLVM at build time, and CUDA C++ through NVRTC, which is loaded at
//! run time and is the one that is used (`cubecl/cuda-cpp`). This crate has the names that `cubecl-cuda` 0.11.3 asks of the first, and
//! an error where a kernel would be compiled.

use std::ffi::c_char;

use cubecl_core::{ir::nvidia::SmArch, prelude::KernelDefinition};
use cubecl_server::{compiler::CompilationError, kernel::BufferIOAttr};

/// What CubeCL keeps of NVIDIA's targets.
pub mod nvptx {
    /// Versions of PTX.
    pub mod ptx_version {
        use std::fmt;

        /// A version of PTX, of which there is none without LLVM.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// `None`: NVRTC chooses its own.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }
    }
}

/// What CubeCL keeps of all targets.
pub mod shared {
    /// What a target can do.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// A target whose features could be narrowed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA's.
            Nvptx,
        }

        /// Leaves the features as they are: CUDA C++ has all of them.
        pub fn restrict_features(_: &mut DeviceProperties, _: GpuTarget) {}
    }
}

/// What to compile for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// NVIDIA's.
    #[default]
    Nvptx,
}

/// The compiler that is not there.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What it would compile for.
    pub target: LlvmTarget,
}

/// What would be told to the compiler.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// An AMD architecture.
    pub arch: Option<String>,
    /// An NVIDIA architecture.
    pub sm_arch: Option<SmArch>,
    /// The version of PTX.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether scalars are parameters.
    pub grid_constants: bool,
}

/// What the compiler would give.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlironArtifact {
    /// A module for NVIDIA's driver.
    NvptxCode(NvptxModule),
}

/// A module for NVIDIA's driver.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// Its text.
    pub ptx: Vec<c_char>,
    /// What it was made of.
    pub ir: String,
    /// Bytes.
    pub shared_memory_size: usize,
    /// What it does with each buffer.
    pub io: Vec<BufferIOAttr>,
}

impl PlironCompiler {
    /// # Errors
    /// Always.
    pub fn compile(
        &mut self,
        kernel: KernelDefinition,
        _: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: format!("kernel `{}`: this build has no LLVM; kernels go through NVRTC", kernel.settings.kernel_name),
            backtrace: Default::default(),
        })
    }

    /// The language of a kernel's text.
    pub fn lang_tag(&self) -> &'static str {
        "ll"
    }
}
