//! A kernel's texts, and its launch.

use std::{
    iter,
    sync::atomic::{AtomicUsize, Ordering},
};

use burn::tensor::DType;
use cubecl::{
    CubeCount, CubeDim, CubeKernel, PrecompiledSource,
    ir::{AddressType, ElemType, Scope, UIntKind, attributes::BufferIOAttr, metadata::Info, settings::KernelSettings},
    prelude::{KernelDefinition, KernelId, KernelMetadata},
    server::{KernelArguments, MetadataBindingInfo},
};

use kernels::Activation;

use super::{View, language::Language, wgsl};

/// One or more kernels in both languages, or in WGSL alone. What is chosen when they are compiled is told by definitions that are put before them.
#[derive(Debug)]
pub(super) struct Text {
    cuda: &'static str,
    wgsl: &'static str,
    /// Names that the WGSL has to be given, 0 where nothing is defined.
    pub(super) choices: &'static [&'static str],
    /// Whether its WGSL counts blocks of a grid of one dimension by both of those that it may be folded into.
    is_folded: bool,
    /// Kernels that were compiled once are found by it.
    hash: u64,
}

impl Text {
    pub(super) const fn of(cuda: &'static str, wgsl: &'static str, choices: &'static [&'static str]) -> Self {
        let hash = hashed(wgsl, hashed(cuda, 0xcbf2_9ce4_8422_2325));
        Self { cuda, wgsl, choices, is_folded: false, hash }
    }

    /// The same, whose grid of one dimension is folded where drivers take none so long.
    pub(super) const fn folded(self) -> Self {
        Self { is_folded: true, ..self }
    }

    /// One that CUDA has not.
    pub(super) const fn of_wgsl(wgsl: &'static str, choices: &'static [&'static str]) -> Self {
        Self::of("", wgsl, choices)
    }
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo), going on from a hash.
const fn hashed(text: &str, mut hash: u64) -> u64 {
    let (bytes, mut i) = (text.as_bytes(), 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// A text, compiled in one way.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) text: &'static Text,
    pub(super) entry: &'static str,
    /// Names that are defined, with values.
    pub(super) defines: Vec<(&'static str, usize)>,
    /// Threads of a block.
    pub(super) threads: usize,
}

/// The same for a device.
#[derive(Debug)]
struct InLanguage(Language, Kernel);

/// What the number format of its elements is called in a kernel's text.
pub(super) fn element(dtype: DType) -> (&'static str, usize) {
    match dtype {
        DType::BF16 => ("T_BF16", 1),
        DType::F16 => ("T_F16", 1),
        _ => ("T_F32", 1),
    }
}

/// How many were compiled by NVRTC.
static COMPILED: AtomicUsize = AtomicUsize::new(0);

/// How many kernels of CUDA were compiled, as they were not kept.
pub(crate) fn compiled() -> usize {
    COMPILED.load(Ordering::Relaxed)
}

impl KernelMetadata for InLanguage {
    fn id(&self) -> KernelId {
        let Self(language, kernel) = self;
        KernelId::new::<Self>()
            .info((*language, kernel.text.hash, kernel.entry, kernel.defines.clone()))
            .cube_dim(CubeDim::new_1d(kernel.threads as u32).into())
            .mode(language.mode())
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl CubeKernel for InLanguage {
    fn define(&self) -> KernelDefinition {
        let Self(language, kernel) = self;
        let threads = CubeDim::new_1d(kernel.threads as u32).into();
        let settings = KernelSettings::new(threads, language.mode(), AddressType::U32).kernel_name(kernel.entry);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    /// Asked for where it is about to be compiled, and only there.
    fn source(&self) -> Option<PrecompiledSource> {
        let Self(language, kernel) = self;
        let source = match language {
            Language::Cuda => {
                COMPILED.fetch_add(1, Ordering::Relaxed);
                let defines = kernel.defines.iter().map(|(name, value)| format!("#define {name} {value}\n"));
                // CubeCL keeps what it compiled by the text as well, so that two entries of one text would be taken for each other.
                let entry = format!("// {}\n", kernel.entry);
                iter::once(entry).chain(defines).chain([kernel.text.cuda.to_owned()]).collect()
            }
            Language::Wgsl => {
                let header = wgsl::header(kernel.text.choices, &kernel.defines, kernel.threads);
                [&*header, kernel.text.wgsl].concat()
            }
        };
        let lang = match language {
            Language::Cuda => "cuda",
            Language::Wgsl => "wgsl",
        };
        Some(PrecompiledSource { source, entrypoint_name: kernel.entry.to_owned(), lang })
    }
}

/// Flags, the first in the lowest bit.
pub(super) fn bits<const N: usize>(flags: [bool; N]) -> usize {
    flags.iter().rev().fold(0, |bits, &flag| 2 * bits + usize::from(flag))
}

/// An activation's number in the kernels' texts; 0 for none.
pub(super) fn activation(f: Option<Activation>) -> usize {
    match f {
        None => 0,
        Some(Activation::GeluTanh) => 1,
        Some(Activation::GeluErf) => 2,
        Some(Activation::Silu) => 3,
        Some(Activation::QuickGelu) => 4,
    }
}

/// A kernel's last parameter: numbers of 32 bits, one after the other.
#[derive(Debug, Default)]
pub(super) struct Args(Vec<u32>);

impl Args {
    /// # Panics
    /// If a number does not fit, which no tensor of a model can bring about.
    pub(super) fn ints<const N: usize>(mut self, numbers: [usize; N]) -> Self {
        self.0.extend(numbers.map(|n| u32::try_from(n).expect("a dimension of less than 2³²")));
        self
    }

    pub(super) fn float(mut self, number: f64) -> Self {
        self.0.push((number as f32).to_bits());
        self
    }

    fn words(mut self) -> Vec<u64> {
        self.0.resize(self.0.len().next_multiple_of(2), 0);
        self.0.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect()
    }
}

impl Kernel {
    /// Puts the kernel into the queue of its buffers' device. It writes the last buffer, all of it or a part, and reads the others: those
    /// are as good as before where it fails.
    pub(super) fn launch<const N: usize>(self, grid: [usize; 3], buffers: [&View; N], args: Args) {
        self.launch_to::<1, N>(grid, buffers, args);
    }

    /// The same of a kernel that writes the last `W` buffers.
    pub(super) fn launch_to<const W: usize, const N: usize>(self, grid: [usize; 3], buffers: [&View; N], args: Args) {
        let language = buffers[0].language();
        let is_folded = language == Language::Wgsl && self.text.is_folded;
        let grid = if is_folded { wgsl::folded(grid) } else { grid };
        let [x, y, z] = grid.map(|n| u32::try_from(n).expect("a grid of less than 2³² blocks"));
        let words = args.words();
        let end = words.len();
        let given = buffers.iter().enumerate().fold(KernelArguments::new(), |given, (i, view)| {
            let io = if i + W >= N { BufferIOAttr::ReadWrite } else { BufferIOAttr::ReadOnly };
            given.with_buffer_io(view.0.handle.clone().binding(), io)
        });
        let arguments = given.with_info(MetadataBindingInfo { data: words, dynamic_metadata_offset: end });
        buffers[0].client().launch(Box::new(InLanguage(language, self)), CubeCount::Static(x, y, z), arguments);
    }
}
