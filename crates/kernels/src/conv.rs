//! Two-dimensional convolution as a product of matrices, without the matrix of patches.
//!
//! On vectors a row of the first factor is a filter, and a panel of the second is made of some pixels' patches when it is needed.
//! On tiles a row is a pixel of the padded picture with 32 channels side by side, so that a patch is the same rows seen from another
//! start: nothing is copied but the picture, once. That is why maps are read and written pixel by pixel there, and plane by plane
//! elsewhere ([`MapOrder`]).

#[cfg(target_arch = "x86_64")]
mod tiled;

use std::{marker::PhantomData, sync::Arc};

use rayon::prelude::*;

use crate::{
    aligned::{Aligned, Scratch, Word},
    elementwise::Activation,
    isa::{Isa, Level},
    output::{Done, Order, Out, Output, Part, cuts, filled},
    packed::{Compute, Values, each_panel, pack_pairs, width},
    simd::{Body, Simd, vectorize},
    size::{product, sum},
    vector::{Pairs, Singles, Weights, products, tile_rows, tile_rows_of},
};

/// The parameters of a convolution, `[c_out, c_in, kernel, kernel]`, ready to be multiplied with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PackedConv {
    isa: Isa,
    shape: [usize; 3],
    filters: Arc<Filters>,
}

#[derive(Debug)]
enum Filters {
    /// Tiles of filters; for each step, which is a channel and a place of the kernel, the filters' values side by side.
    Singles(Aligned<f32>),
    /// The same, a step being two channels.
    Pairs(Aligned<f32>),
    /// Panels of pairs; a step of a tile is 32 channels at a place of the kernel.
    Tiles(Aligned<u32>),
}

impl PackedConv {
    /// Packs `[c_out, c_in, kernel, kernel]`; `compute` is as in [`PackedMatrix::pack`](crate::PackedMatrix::pack).
    ///
    /// # Panics
    /// If `values` does not fill the shape, the kernel is 0, or a size can't be counted.
    pub fn pack(isa: Isa, compute: Compute, shape: [usize; 3], values: Values) -> Self {
        let [c_out, c_in, kernel] = shape;
        assert!(kernel > 0, "a kernel of 0");
        let taps = product("places of a kernel", [kernel, kernel]);
        let count = product("weights", [c_out, c_in, taps]);
        assert_eq!(values.len(), count, "values for [{c_out}, {c_in}, {kernel}, {kernel}]");
        let value =
            |o: usize, c: usize, tap: usize| if c < c_in { values.at((o * c_in + c) * taps + tap) } else { 0.0 };
        let filters = match (compute.is_in_pairs(isa), isa.level()) {
            (true, Level::Amx) => Filters::Tiles(pack_pairs(isa, values, [c_out, c_in, taps])),
            (true, _) => Filters::Pairs(tiles(isa, c_out, product("inputs", [c_in.div_ceil(2), taps]), |o, step| {
                let (c, tap) = (step / taps * 2, step % taps);
                let bits = |v: f32| u32::from(half::bf16::from_f32(v).to_bits());
                f32::from_bits(bits(value(o, c, tap)) | bits(value(o, c + 1, tap)) << 16)
            })),
            _ => {
                let steps = product("inputs", [c_in, taps]);
                Filters::Singles(tiles(isa, c_out, steps, |o, step| value(o, step / taps, step % taps)))
            }
        };
        Self { isa, shape, filters: Arc::new(filters) }
    }

    /// In which order it reads and writes maps.
    pub fn order(&self) -> MapOrder {
        match &*self.filters {
            Filters::Singles(_) | Filters::Pairs(_) => MapOrder::Planes,
            Filters::Tiles(_) => MapOrder::Pixels,
        }
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        match &*self.filters {
            Filters::Singles(v) | Filters::Pairs(v) => size_of_val(&**v),
            Filters::Tiles(v) => size_of_val(&**v),
        }
    }

    /// `[c_out, c_in, kernel]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Height and width of the result for a picture of this height and width.
    ///
    /// # Panics
    /// If the stride is 0, or a side with its border and the stride is more than a `usize` holds.
    pub fn size(&self, size: [usize; 2], stride: usize) -> [usize; 2] {
        let kernel = self.shape[2];
        assert!(stride > 0, "a stride of 0");
        size.map(|n| sum("pixels of a side", [n, kernel / 2 * 2, stride]).saturating_sub(kernel) / stride)
    }
}

fn tiles(isa: Isa, c_out: usize, steps: usize, value: impl Fn(usize, usize) -> f32 + Sync) -> Aligned<f32> {
    let rows = tile_rows_of(isa);
    each_panel(c_out.div_ceil(rows), product("weights of a tile", [steps, rows]), |tile, to| {
        for (r, o) in (tile * rows..c_out.min((tile + 1) * rows)).enumerate() {
            for step in 0..steps {
                to[step * rows + r] = value(o, step);
            }
        }
    })
}

/// In which order the values of a map lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOrder {
    /// `[batch, channels, h, w]`
    Planes,
    /// `[batch, h, w, channels]`
    Pixels,
}

/// What becomes of a convolution's result: `residual + activation(result + bias)`, times a slope where that is below zero; each part
/// optional.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvEpilogue<'a> {
    /// One value for each output channel, or for each of each batch entry, `[batch, c_out]`.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// As large as the result, and in its order.
    pub residual: Option<&'a [f32]>,
    /// One value for each output channel, by which it is multiplied at last where it is below zero.
    pub slopes: Option<&'a [f32]>,
}

/// `v`, times the slope where it is below zero. NaN stays NaN.
#[inline(always)]
fn rectified<S: Simd>(s: S, v: S::V, slope: S::V) -> S::V {
    let below = s.min(v, s.splat(0.0));
    s.fma(slope, below, s.sub(v, below))
}

/// What becomes of an input before a convolution sees it: `activation(x · scale + shift)`, as a group norm is once its means are known.
#[derive(Clone, Copy, Debug)]
pub struct Prologue<'a> {
    /// One value for each input channel of each batch entry, `[batch, c_in]`.
    pub scale: &'a [f32],
    /// As many.
    pub shift: &'a [f32],
    /// Applied last.
    pub activation: Option<Activation>,
}

/// `[batch, c_in, h, w]` to `[batch, c_out, h', w']` (see [`PackedConv::size`]), both in the convolution's order
/// ([`PackedConv::order`]), the border filled up with `kernel / 2` zeros. Without input channels, or where all that the kernel sees is
/// border, the result is what the epilogue makes of 0.
///
/// # Panics
/// If `x`, `out` or a part of the epilogue does not fit the shapes, the stride is 0, or a size can't be counted.
pub fn conv2d<'o>(
    conv: &PackedConv,
    x: &[f32],
    batch: usize,
    size: [usize; 2],
    stride: usize,
    epilogue: ConvEpilogue,
    out: Out<'o>,
) -> &'o mut [f32] {
    convolve(conv, x, None, batch, size, stride, epilogue, out)
}

/// [`conv2d`] of what `prologue` makes of `x`; the border is 0 as ever.
///
/// # Panics
/// As [`conv2d`], if the prologue does not fit, and where the order is [`MapOrder::Planes`].
#[allow(clippy::too_many_arguments, reason = "a layer's parameters")]
pub fn conv2d_after<'o>(
    conv: &PackedConv,
    prologue: Prologue,
    x: &[f32],
    batch: usize,
    size: [usize; 2],
    stride: usize,
    epilogue: ConvEpilogue,
    out: Out<'o>,
) -> &'o mut [f32] {
    let count = product("values of a prologue", [batch, conv.shape[1]]);
    assert!(prologue.scale.len() == count && prologue.shift.len() == count, "a scale and a shift for {count} channels");
    assert_eq!(conv.order(), MapOrder::Pixels, "a prologue is part of reading pixels");
    convolve(conv, x, Some(prologue), batch, size, stride, epilogue, out)
}

#[allow(clippy::too_many_arguments, reason = "a layer's parameters")]
fn convolve<'o>(
    conv: &PackedConv,
    x: &[f32],
    prologue: Option<Prologue>,
    batch: usize,
    [h, w]: [usize; 2],
    stride: usize,
    epilogue: ConvEpilogue,
    out: Out<'o>,
) -> &'o mut [f32] {
    let [c_out, c_in, kernel] = conv.shape;
    let [oh, ow] = conv.size([h, w], stride);
    let len = out.len();
    let inputs = product("inputs", [batch, c_in, h, w]);
    let results = product("results", [batch, c_out, oh, ow]);
    assert_eq!(x.len(), inputs, "values of [{batch}, {c_in}, {h}, {w}]");
    assert_eq!(len, results, "values of a result [{batch}, {c_out}, {oh}, {ow}]");
    let biases = epilogue.bias.map_or(c_out, <[f32]>::len);
    assert!(biases == c_out || biases == product("biases", [batch, c_out]), "a bias for each of {c_out} channels");
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == len), "a residual as large as the result");
    assert!(epilogue.slopes.is_none_or(|slopes| slopes.len() == c_out), "a slope for each of {c_out} channels");
    if len == 0 {
        return &mut [];
    }
    let size = Size { c_out, c_in, kernel, h, w, oh, ow, stride };
    for (entry, out) in out.chunks_exact_mut(len / batch).enumerate() {
        let x = &x[entry * (x.len() / batch)..][..x.len() / batch];
        let residual = epilogue.residual.map(|all| &all[entry * out.len()..][..out.len()]);
        let bias = epilogue.bias.map(|all| if all.len() == c_out { all } else { &all[entry * c_out..][..c_out] });
        let epilogue = ConvEpilogue { bias, residual, ..epilogue };
        let size = if x.is_empty() { Size { c_in: 0, ..size } } else { size };
        #[cfg(not(target_arch = "x86_64"))]
        let _ = prologue;
        #[cfg(target_arch = "x86_64")]
        if let Filters::Tiles(panels) = &*conv.filters {
            let prologue = prologue.map(|Prologue { scale, shift, activation }| {
                let [scale, shift] = [scale, shift].map(|all| &all[entry * c_in..][..c_in]);
                Prologue { scale, shift, activation }
            });
            tiled::convolve(conv.isa, panels, x, prologue, size, epilogue, out);
            continue;
        }
        let (place, out) = (Place { epilogue, pixels: oh * ow }, Output::of(out, oh * ow));
        match &*conv.filters {
            _ if x.is_empty() => in_vectors::<Singles<f32>>(conv.isa, &[], x, size, place, out),
            Filters::Singles(filters) => in_vectors::<Singles<f32>>(conv.isa, filters, x, size, place, out),
            Filters::Pairs(filters) => {
                let pairs = pair_channels(conv.isa, x, size);
                in_vectors::<Pairs>(conv.isa, filters, &pairs, Size { c_in: c_in.div_ceil(2), ..size }, place, out)
            }
            Filters::Tiles(_) => unreachable!("on x86 they have gone another way, and only x86 has tiles"),
        };
    }
    // SAFETY: every entry of the batch was written, and there are as many values as entries with theirs.
    unsafe { filled(out) }
}

#[derive(Clone, Copy)]
struct Size {
    c_out: usize,
    c_in: usize,
    kernel: usize,
    h: usize,
    w: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only tiles ask for it"))]
    oh: usize,
    ow: usize,
    stride: usize,
}

/// What becomes of one picture's results before they are written.
#[derive(Clone, Copy)]
struct Place<'a> {
    epilogue: ConvEpilogue<'a>,
    pixels: usize,
}

impl Place<'_> {
    /// Writes sums of one channel for the pixels from `pixel` on.
    #[inline(always)]
    fn write<S: Simd>(&self, s: S, part: &mut Part, channel: usize, pixel: usize, sums: &[f32]) {
        let ConvEpilogue { bias, activation, residual, slopes } = self.epilogue;
        let out = part.row(channel, pixel, sums.len());
        let bias = s.splat(bias.map_or(0.0, |bias| bias[channel]));
        for at in (0..sums.len()).step_by(S::LANES) {
            let n = S::LANES.min(sums.len() - at);
            let mut v = if n == S::LANES { s.load(&sums[at..]) } else { s.load_part(&sums[at..], 0.0) };
            v = s.add(v, bias);
            if let Some(activation) = activation {
                v = activation.apply(s, v);
            }
            if let Some(residual) = residual {
                let residual = &residual[channel * self.pixels + pixel + at..][..n];
                v = s.add(v, if n == S::LANES { s.load(residual) } else { s.load_part(residual, 0.0) });
            }
            if let Some(slopes) = slopes {
                v = rectified(s, v, s.splat(slopes[channel]));
            }
            if n == S::LANES { s.write(&mut out[at..], v) } else { s.write_part(&mut out[at..], v) }
        }
    }
}

/// Steps of patches that are made at a time: a panel of them stays in the first cache or nearly.
const BLOCK: usize = 256;

/// The most panels of a task, for which a tile of filters is read once; their patches and sums stay in the second cache.
const TASK_PANELS: usize = 8;

fn in_vectors<'o, W: Weights<Value: Word>>(
    isa: Isa,
    filters: &[f32],
    x: &[f32],
    size: Size,
    place: Place,
    out: Output<'o>,
) -> &'o mut [f32] {
    let panels = place.pixels.div_ceil(width(isa));
    let pixels = panels.div_ceil(rayon::current_num_threads()).min(TASK_PANELS) * width(isa);
    // SAFETY: a task ends with `Place::write` for all of its pixels in every channel.
    unsafe {
        out.each_part(&[0, size.c_out], &cuts(place.pixels, pixels), Order::ByRows, |out| {
            vectorize(isa, Patches::<W> { filters, x, size, place, out, weights: PhantomData })
        })
    }
}

/// Some pixels of the result, in all channels.
struct Patches<'a, W> {
    filters: &'a [f32],
    x: &'a [f32],
    size: Size,
    place: Place<'a>,
    out: Part<'a>,
    weights: PhantomData<W>,
}

impl<W: Weights<Value: Word>> Body for Patches<'_, W> {
    type Output = Done;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Done {
        match tile_rows::<S>() {
            14 => self.with::<S, 14>(s),
            6 => self.with::<S, 6>(s),
            _ => self.with::<S, 8>(s),
        }
    }
}

impl<W: Weights<Value: Word>> Patches<'_, W> {
    #[inline(always)]
    fn with<S: Simd, const M: usize>(self, s: S) -> Done {
        let Self { filters, x, size, place, mut out, .. } = self;
        let pixels = out.columns();
        let Size { c_out, c_in, kernel, .. } = size;
        let width = 2 * S::LANES;
        let (taps, panels, tiles) = (kernel * kernel, pixels.len().div_ceil(width), c_out.div_ceil(M));
        let steps = c_in * taps;
        let mut patches = Scratch::<W::Value>::of(product("values of patches", [panels, BLOCK.min(steps), width]));
        let mut sums = Scratch::<f32>::of(product("sums", [tiles, panels, M, width]));
        sums.fill(0.0);
        for start in (0..steps).step_by(BLOCK) {
            let count = BLOCK.min(steps - start);
            for panel in 0..panels {
                let first = pixels.start + panel * width;
                for step in 0..count {
                    let (c, tap) = ((start + step) / taps, (start + step) % taps);
                    let plane = &x[c * size.h * size.w..][..size.h * size.w];
                    let to = W::Value::as_floats(&mut patches[(panel * count + step) * width..][..width]);
                    size.fill(plane, tap, first, &mut to[..width.min(pixels.end - first)]);
                }
            }
            for tile in 0..tiles {
                let filters = &filters[(tile * steps + start) * M..][..count * M];
                for panel in 0..panels {
                    let patches = &patches[panel * count * width..][..count * width];
                    let bytes = size_of_val(filters) / panels;
                    let ahead = filters.as_ptr_range().end.cast::<u8>().wrapping_add(panel * bytes);
                    let products = products::<S, W, M>(s, filters, patches, ahead, bytes.div_ceil(count));
                    let sums = &mut sums[(tile * panels + panel) * M * width..][..M * width];
                    for r in 0..M {
                        let row = &mut sums[r * width..][..width];
                        let low = s.add(s.load(row), products[r][0]);
                        let high = s.add(s.load(&row[S::LANES..]), products[r][1]);
                        s.store(row, low);
                        s.store(&mut row[S::LANES..], high);
                    }
                }
            }
        }
        for channel in 0..c_out {
            for panel in 0..panels {
                let at = ((channel / M * panels + panel) * M + channel % M) * width;
                let first = pixels.start + panel * width;
                place.write(s, &mut out, channel, first, &sums[at..][..width.min(pixels.end - first)]);
            }
        }
        out.done()
    }
}

impl Size {
    /// What the pixels of the result from `first` on see of a plane through one place of the kernel; 0 beyond the border.
    #[inline(always)]
    fn fill(&self, plane: &[f32], tap: usize, first: usize, to: &mut [f32]) {
        let Size { kernel, h, w, ow, stride, .. } = *self;
        let (ky, kx, border) = (tap / kernel, tap % kernel, kernel / 2);
        let mut done = 0;
        while done < to.len() {
            let (y, x) = ((first + done) / ow, (first + done) % ow);
            let run = (ow - x).min(to.len() - done);
            let to = &mut to[done..done + run];
            done += run;
            let row = y * stride + ky;
            if row < border || row - border >= h {
                to.fill(0.0);
                continue;
            }
            let row = &plane[(row - border) * w..][..w];
            // The run's columns are `start + i · stride - border`; those within the row lie between `low` and `high`.
            let start = x * stride + kx;
            let low = border.saturating_sub(start).div_ceil(stride).min(run);
            let high = (w + border).saturating_sub(start).div_ceil(stride).clamp(low, run);
            to[..low].fill(0.0);
            to[high..].fill(0.0);
            let from = &row[(start + low * stride).saturating_sub(border).min(w)..];
            if stride == 1 {
                to[low..high].copy_from_slice(&from[..high - low]);
            } else {
                for (to, from) in to[low..high].iter_mut().zip(from.iter().step_by(stride)) {
                    *to = *from;
                }
            }
        }
    }
}

/// Planes of two channels each, rounded to bf16.
fn pair_channels(isa: Isa, x: &[f32], size: Size) -> Aligned<f32> {
    let plane = size.h * size.w;
    let mut pairs = Aligned::<f32>::zeros(product("pairs of channels", [size.c_in.div_ceil(2), plane]));
    pairs.par_chunks_mut(plane).enumerate().for_each(|(pair, to)| {
        let one = &x[2 * pair * plane..][..plane];
        let other = x.get((2 * pair + 1) * plane..(2 * pair + 2) * plane).unwrap_or(&[]);
        vectorize(isa, Join { one, other, to });
    });
    pairs
}

struct Join<'a> {
    one: &'a [f32],
    other: &'a [f32],
    to: &'a mut [f32],
}

impl Body for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { one, other, to } = self;
        for at in (0..to.len()).step_by(S::LANES) {
            let n = S::LANES.min(to.len() - at);
            let first = s.load_part(&one[at..at + n], 0.0);
            let second = if other.is_empty() { s.splat(0.0) } else { s.load_part(&other[at..at + n], 0.0) };
            s.store_part(&mut to[at..at + n], s.join(first, second));
        }
    }
}
