//! Matrix products and what follows them.

use burn::tensor::DType;
use kernels::{Activation, Compute};

use super::{
    View,
    kernel::{Args, Kernel, Text, activation, bits, element},
    language::Language,
    rows::cast,
    takes,
    units::Units,
    wgsl::{SIZE, WIDE, wide},
};
use crate::{Tensor, packed::THIN_ROWS};

static PRODUCT: Text = Text::of(
    include_str!("cuda/product.cu"),
    concat!(
        include_str!("wgsl/product_args.wgsl"),
        include_str!("wgsl/product_windows.wgsl"),
        include_str!("wgsl/product.wgsl"),
    ),
    &["OUT_F32", "CONV", "TILE"],
)
.folded();
static OF_UNITS: Text = Text::of_wgsl(
    concat!(
        include_str!("wgsl/product_args.wgsl"),
        include_str!("wgsl/product_windows.wgsl"),
        include_str!("wgsl/product_matrix_units.wgsl"),
    ),
    &["OUT_F32", "CONV", "TILE", "PART_M", "PART_N", "BUFFERS"],
)
.folded();
static THIN: Text = Text::of(
    include_str!("cuda/thin.cu"),
    concat!(include_str!("wgsl/product_args.wgsl"), include_str!("wgsl/thin.wgsl")),
    &[],
)
.folded();

/// Inputs of a matrix are a multiple of this.
const UNIT: usize = 8;

/// What follows a product: `residual + gate · activation(product + bias)`, each part optional.
#[derive(Debug, Default)]
pub(crate) struct After<'a, const D: usize> {
    /// `[d_out]`
    pub(crate) bias: Option<&'a Tensor<1>>,
    pub(crate) activation: Option<Activation>,
    /// A row for each of the batch, `[b, 1, d_out]`.
    pub(crate) gate: Option<&'a Tensor<D>>,
    /// As large as the result, which has its number format.
    pub(crate) residual: Option<&'a Tensor<D>>,
}

/// Whether there is a kernel for products of `[…, d_in]` and a matrix.
pub(crate) fn multiplies<const D: usize>(x: &Tensor<D>) -> bool {
    x.dims()[D - 1].is_multiple_of(UNIT) && takes(x)
}

/// `[…, d_in]` times a matrix `[d_out, d_in]`, in TF32 where f32 is computed so; `None` where there is no kernel for it.
pub(crate) fn linear<const D: usize>(
    x: &Tensor<D>,
    w: &Tensor<2>,
    compute: Compute,
    after: After<D>,
) -> Option<Tensor<D>> {
    let (x, w) = (View::of(x)?, View::of(w)?);
    let [n, k] = w.dims();
    if !k.is_multiple_of(UNIT) {
        return None;
    }
    let mut shape: [usize; D] = x.dims();
    let m: usize = shape[..D - 1].iter().product();
    shape[D - 1] = n;
    let is_thin = m <= THIN_ROWS && x.dtype() == DType::F32;
    let x = if is_thin { x } else { cast(x, w.dtype()) };
    let (x, _, lda) = x.rows(UNIT);
    let residual = after.residual.map(|residual| View::ours(residual).contiguous());
    let dtype = match &residual {
        Some(residual) => residual.dtype(),
        None if is_thin => DType::F32,
        None => w.dtype(),
    };
    // A thin product is f32, and others f32 or of their matrix's number format; whoever wants another has it changed.
    let written = match dtype {
        _ if is_thin => DType::F32,
        DType::F32 => DType::F32,
        _ => w.dtype(),
    };
    let residual = residual.map(|residual| cast(residual, written));
    let out = x.empty(shape, written);
    let floats = |x: Option<View>| x.map(|x| cast(x, DType::F32).contiguous());
    let bias = floats(after.bias.map(View::ours));
    let gate = floats(after.gate.map(View::ours));
    let gates = gate.as_ref().map_or(1, |gate| gate.len() / n);
    let flags = [bias.is_some(), gate.is_some(), residual.is_some()];
    let args = Args::default()
        .ints([m, n, k, lda, n, n, (m / gates).max(1), if gates == 1 { 0 } else { n }])
        .ints([bits(flags), activation(after.activation)])
        .ints([0; 8]);
    let unused = out.stand_in();
    let part = |x: &Option<View>| x.as_ref().unwrap_or(&unused).clone();
    let buffers = [&x, &w, &part(&bias), &part(&gate), &part(&residual), &out];
    match is_thin {
        true => {
            let wide = (w.language() == Language::Wgsl).then_some((WIDE, 4));
            let defines = [element(w.dtype())].into_iter().chain(wide).collect();
            let kernel = Kernel { text: &THIN, entry: "thin", defines, threads: THIN_THREADS };
            kernel.launch([n.div_ceil(THIN_OUTPUTS), 1, 1], buffers, args);
        }
        false => launch((&w, compute), &out, [m, n], false, buffers, args),
    }
    Some(cast(out, dtype).into_tensor())
}

/// Outputs of a block of the thin kernel, and its threads.
const THIN_OUTPUTS: usize = 16;
const THIN_THREADS: usize = 128;

/// Puts a product of `[m, n]` into the queue, in tiles that give every multiprocessor something to do.
pub(super) fn launch(
    (w, compute): (&View, Compute),
    out: &View,
    [m, n]: [usize; 2],
    is_conv: bool,
    buffers: [&View; 6],
    args: Args,
) {
    let is_enough = |tile: usize| m.div_ceil(tile) * n.div_ceil(tile) >= 2 * w.multiprocessors();
    let has_units = w.matrix_units().is_some() && w.dtype() == DType::F16;
    let tile = match (n, w.language()) {
        (65.., _) if is_enough(128) => 128,
        (_, Language::Wgsl) if !has_units && !is_enough(64) => 32,
        _ => 64,
    };
    launch_in(tile, (w, compute), out, [m, n], is_conv, buffers, args);
}

/// The same in tiles of so many rows and columns.
pub(super) fn launch_in(
    tile: usize,
    (w, compute): (&View, Compute),
    out: &View,
    [m, n]: [usize; 2],
    is_conv: bool,
    buffers: [&View; 6],
    args: Args,
) {
    let mut defines = Vec::new();
    if out.dtype() == DType::F32 && w.dtype() != DType::F32 {
        defines.push(("OUT_F32", 1));
    }
    if is_conv {
        defines.push(("CONV", 1));
    }
    let kernel = match w.language() {
        Language::Cuda => {
            let is_tf32 = compute == Compute::Tf32 && w.dtype() == DType::F32;
            let factors = if is_tf32 { ("T_TF32", 1) } else { element(w.dtype()) };
            defines.extend([factors, ("TILE_M", tile), ("TILE_N", tile)]);
            if w.is_hopper() {
                defines.push(("WGMMA", 1));
            }
            if is_conv && n <= 64 {
                // What one block reads is read again for every tap, and there is one column of blocks.
                defines.push(("LOAD_CA", 1));
            }
            let threads = if w.dtype() == DType::F32 && !is_tf32 { 256 } else { 128 };
            Kernel { text: &PRODUCT, entry: "product", defines, threads }
        }
        Language::Wgsl => {
            defines.push(element(w.dtype()));
            match w.matrix_units().filter(|_| w.dtype() == DType::F16) {
                Some(Units { side, lanes }) => {
                    // Matrices of a subgroup: with those of 16 numbers a quarter of a tile, for as many subgroups of 32 threads.
                    let (part, buffers) = if tile == 128 { (4, 1) } else { (2, 2) };
                    defines.extend([(WIDE, wide(&[n])), (SIZE, side), ("BUFFERS", buffers)]);
                    defines.extend([("TILE", tile), ("PART_M", part), ("PART_N", part)]);
                    let threads = if lanes > 32 { 256 } else { 128 };
                    Kernel { text: &OF_UNITS, entry: "product", defines, threads }
                }
                None => {
                    defines.push(("TILE", tile));
                    let threads = if tile == 32 { 64 } else { 256 };
                    Kernel { text: &PRODUCT, entry: "product", defines, threads }
                }
            }
        }
    };
    kernel.launch([m.div_ceil(tile) * n.div_ceil(tile), 1, 1], buffers, args);
}
