//! An NVIDIA card that a CPU plays, for tests of what kernels compute: it runs their PTX, as NVRTC makes it of their source.
//!
//! Threads of a warp go together, each with a program counter of its own; those that are behind go first, so that they meet again where
//! branches join. Blocks are independent of each other and are spread over the CPU's threads. What a real card may do in any order is done in one:
//! a copy of `cp.async` and a product of `wgmma` are over when they are asked for, so that a wait that a kernel lacks is not found. What is
//! found is every access outside of the card's memory or a block's, or at an address that its size does not divide, warps that wait for each
//! other for good, and an instruction that is not known. What nobody wrote is no number, in memory and in registers. Numbers that are subnormal are
//! kept where an instruction may flush them.
//!
//! Only those instructions are known that the kernels of `forge` and of Burn compile to. They are described in NVIDIA's
//! [PTX ISA](https://docs.nvidia.com/cuda/parallel-thread-execution/), from where layouts of fragments and descriptors are.

mod allotment;
mod arithmetic;
mod block;
mod decode;
pub mod driver;
mod floats;
mod fragments;
mod instruction;
mod matrices;
mod memory;
mod module;
mod statements;
mod warp;

#[cfg(test)]
mod tests;
