//! Attention whose scores stay on the chip.

use burn::tensor::DType;

use super::{
    View,
    kernel::{Args, Kernel, Text, bits, element},
    language::Language,
    rows::cast,
    units::Units,
    wgsl::{SIZE, WIDE},
};
use crate::Tensor;

static ATTEND: Text = Text::of(
    include_str!("cuda/attend.cu"),
    concat!(include_str!("wgsl/attend_rules.wgsl"), include_str!("wgsl/attend.wgsl")),
    &["D"],
);
static OF_UNITS: Text = Text::of_wgsl(
    concat!(include_str!("wgsl/attend_rules.wgsl"), include_str!("wgsl/attend_matrix_units.wgsl")),
    &["D", "LANES"],
);

/// Channels of a head are a multiple of this, and no more than that.
const UNIT: usize = 8;
const WIDEST: usize = 512;
/// The most that matrix units of WGSL attend with: their sums stay in registers.
const WIDEST_OF_UNITS: usize = 160;

/// What is done to scores, the products of queries and keys, before they become weights.
#[derive(Debug)]
pub(crate) struct Scoring<'a> {
    pub(crate) scale: f64,
    /// A number for each head and distance: query `q` and key `k` get number `k + q tokens - 1 - q` of their head.
    pub(crate) relative: Option<&'a Tensor<2>>,
    /// A number for each head, query and key.
    pub(crate) full: Option<&'a Tensor<4>>,
    /// Whether query `q` sees keys 0 to `q` alone.
    pub(crate) is_causal: bool,
    /// The keys that each of the batch sees.
    pub(crate) seen: Option<&'a [bool]>,
}

/// `softmax(q · kᵀ · scale + bias) · v` of heads `[b, heads, tokens, d]`; `None` where there is no kernel for it.
pub(crate) fn attend([q, k, v]: &[Tensor<4>; 3], scores: &Scoring) -> Option<Tensor<4>> {
    let ([b, heads, n, d], m) = (q.dims(), k.dims()[2]);
    let wide = d.next_multiple_of(UNIT);
    if wide > WIDEST {
        return None;
    }
    if wide > d {
        // Channels of zeros change no score, and what is attended of them is taken off again.
        let widened = [q, k, v].map(|x| {
            let [b, heads, tokens, _] = x.dims();
            Tensor::cat(vec![x.clone(), Tensor::zeros([b, heads, tokens, wide - d], (&x.device(), x.dtype()))], 3)
        });
        return Some(attend(&widened, scores)?.narrow(3, 0, d));
    }
    let q = View::ours(q);
    let dtype = q.dtype();
    let [k, v] = [k, v].map(|x| cast(View::ours(x), dtype));
    let [q, k, v] = [q, k, v].map(heads_of);
    let floats = |x: Tensor<4>| cast(View::ours(&x), DType::F32).contiguous();
    let relative = scores.relative.map(|table| floats(table.clone().unsqueeze()));
    let full = scores.full.map(|all| floats(all.clone()));
    let seen = scores.seen.map(|seen| {
        let (bytes, dtype) = match q.language() {
            Language::Cuda => (seen.iter().map(|&seen| u8::from(seen)).collect(), DType::U8),
            Language::Wgsl => (seen.iter().flat_map(|&seen| u32::from(seen).to_ne_bytes()).collect(), DType::U32),
        };
        q.upload(bytes, dtype, [seen.len()])
    });
    let flags = bits([scores.is_causal, relative.is_some(), full.is_some(), seen.is_some()]);
    let bias = relative.or(full);
    let out = q.empty([b, n, heads, d], dtype);
    let strides = |x: &View| {
        let [batch, head, token, _] = x.strides::<4>();
        [batch, head, token]
    };
    let args = Args::default()
        .ints([heads, n, m])
        .ints(strides(&q))
        .ints(strides(&k))
        .ints(strides(&v))
        .float(scores.scale)
        .ints([flags]);
    let mut defines = vec![element(dtype), ("D", d)];
    // A subgroup for each square of queries.
    let threads_of = |units: &Units| (64 / units.side * units.lanes).max(128);
    let units = q.matrix_units().filter(|_| dtype == DType::F16 && d <= WIDEST_OF_UNITS);
    let units = units.filter(|units| threads_of(units) <= 256);
    let text = if units.is_some() { &OF_UNITS } else { &ATTEND };
    let (rows, threads) = match q.language() {
        Language::Cuda if q.is_hopper() && dtype != DType::F32 && [64, 128].contains(&d) => {
            defines.push(("WGMMA", 1));
            (192, 384)
        }
        Language::Cuda => shape_of(d, dtype),
        Language::Wgsl => {
            defines.push((WIDE, 4));
            defines.extend(units.iter().flat_map(|units| [(SIZE, units.side), ("LANES", units.lanes)]));
            (64, units.as_ref().map_or(256, threads_of))
        }
    };
    let kernel = Kernel { text, entry: "attend", defines, threads };
    let buffers = [&q, &k, &v, bias.as_ref().unwrap_or(&out), seen.as_ref().unwrap_or(&out), &out];
    kernel.launch([n.div_ceil(rows), heads, b], buffers, args);
    let (token, batch) = (heads * d, n * heads * d);
    Some(out.seen_as([b, heads, n, d], [batch, d, token, 1]).into_tensor())
}

/// Heads whose channels lie side by side, and whose rows begin where a kernel can read.
fn heads_of(x: View) -> View {
    let [batch, head, token, channel] = x.strides::<4>();
    let is_readable = channel == 1 && [batch, head, token].iter().all(|stride| stride.is_multiple_of(UNIT));
    if is_readable && x.is_aligned() { x } else { x.contiguous() }
}

/// Queries of a block and its threads on CUDA, for heads of so many channels; as the kernel's text has them.
fn shape_of(d: usize, dtype: DType) -> (usize, usize) {
    match (dtype, d) {
        (DType::F32, ..=256) => (64, 128),
        (DType::F32, _) => (32, 128),
        (_, ..=64) => (128, 128),
        (_, ..=80) => (64, 128),
        (_, ..=128) => (192, 384),
        (_, ..=160) => (64, 128),
        _ => (64, 64 * d.div_ceil(128)),
    }
}
