//! The languages that kernels are written in.

use cubecl::ir::settings::ExecutionMode;

/// What a device's kernels are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Language {
    /// CUDA C++, compiled by NVRTC.
    Cuda,
    /// WGSL, of which naga makes SPIR-V for a Vulkan driver.
    Wgsl,
}

impl Language {
    /// Of WGSL that is checked, every loop would count how often it ran.
    pub(super) fn mode(self) -> ExecutionMode {
        match self {
            Self::Cuda => ExecutionMode::Checked,
            Self::Wgsl => ExecutionMode::Unchecked,
        }
    }
}
