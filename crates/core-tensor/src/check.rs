//! Whether a device computes rightly: every operation, and layers, held in memory and left where they are stored, from where they are brought
//! to it while it computes with others.

use std::borrow::Cow;

use burn::tensor::DType;
use half::{bf16, f16};

use crate::{
    Branch, Change, Compute, Device, Error, Layout, Manifest, Packed, Place, Residency, Stored, Strength, Tensor,
    WeightSource, Weights,
    format::Format,
    gpu, in_f32,
    layers::{Conv2d, Linear},
    on_host,
    ops::{
        dtype_on,
        suite::{self, Difference, numbers, share},
    },
    tensor,
    weights::Memory,
};

/// Layers of a kind: more than a device has room for of what passes.
const LAYERS: usize = 5;

/// The order in which they are asked for, which is not that in which they are built; and once more, when it is known.
const ORDER: [usize; 2 * LAYERS] = [0, 2, 1, 3, 4, 0, 2, 1, 3, 4];

/// Inputs and outputs of matrices, and rows that they are multiplied with: large enough to pass through memory that is pinned once and for
/// all, and sums short enough to be near to those of f64.
const MATRIX: [usize; 2] = [256, 34_816];
const ROWS: usize = 3;
/// More rows than a device multiplies by a kernel for few.
const MANY_ROWS: usize = 24;

/// Rows, inputs and outputs of a matrix with branches: more rows than a device takes in f32. And the rank of each branch, and how much it counts.
const BRANCHED: [usize; 3] = [24, 64, 96];
const RANK: usize = 8;
const STRENGTHS: [f32; 2] = [0.8, -0.3];

/// Channels in and out, the side of the kernel, and the map's.
const CONVOLUTION: [usize; 3] = [64, 48, 3];
const MAP: [usize; 2] = [6, 7];

/// How far what a device computes is from the same in f64 on the host, where products are computed in `compute`.
///
/// # Errors
/// [`Error::DeviceMemory`] or [`Error::DeviceFault`] where the device could not compute something.
pub fn differences(device: &Device, compute: Compute) -> Result<Vec<Difference>, Error> {
    Ok([suite::of_device(device, compute)?, of_layers(device, compute)?].concat())
}

/// The side of the matrices that a device's instructions for products of f16 take, where kernels for Vulkan use them: not on CUDA, whose kernels always do.
pub fn matrix_units(device: &Device) -> Option<usize> {
    gpu::side_of_units(device)
}

/// The weights of a matrix as a device unpacks them by itself, in f32, row-major; `None` on the CPU, and where they are unpacked before
/// they are brought there.
///
/// # Errors
/// [`Error::DeviceMemory`] or [`Error::DeviceFault`] where the device could not.
pub fn unpacked(stored: &Stored, device: &Device, compute: Compute) -> Result<Option<Vec<f32>>, Error> {
    packed(stored, device, compute).map(|packed| on_host(&in_f32(packed.unpacked()))).transpose()
}

/// `x` `[rows, d_in]` times such a matrix, and a bias `[d_out]` added, as a device multiplies few rows, without unpacking the matrix; `None`
/// as of [`unpacked`], and for more rows than that is done with.
///
/// # Errors
/// As [`unpacked`].
pub fn thin(stored: &Stored, x: &Tensor<2>, bias: Option<&[f32]>, compute: Compute) -> Result<Option<Vec<f32>>, Error> {
    let device = x.device();
    let bias = bias.map(|bias| tensor(bias.to_vec(), [bias.len()], &device));
    let product = packed(stored, &device, compute).and_then(|packed| packed.thin(x, bias.as_ref()));
    product.map(|product| on_host(&product)).transpose()
}

fn packed(stored: &Stored, device: &Device, compute: Compute) -> Option<Packed> {
    stored.packing(Place::of(device, compute)).and_then(|packing| stored.brought(packing, device, compute))
}

fn of_layers(device: &Device, compute: Compute) -> Result<Vec<Difference>, Error> {
    let dtype = dtype_on(device, compute);
    let of = |operation, kind, residency| {
        let share = apart(&Setting { device, dtype, compute, residency }, kind)?;
        Ok(Difference { operation: Cow::Borrowed(operation), share })
    };
    let branched = branched(&Setting { device, dtype, compute, residency: Residency::Unpacked })?;
    Ok(vec![
        Difference { operation: Cow::Borrowed("linear, two branches"), share: branched },
        of("linear", Kind::Linear(MANY_ROWS), Residency::Unpacked)?,
        of("linear, few rows", Kind::Linear(ROWS), Residency::Unpacked)?,
        of("linear, passing", Kind::Linear(ROWS), Residency::Mapped)?,
        of("conv2d", Kind::Conv2d, Residency::Unpacked)?,
        of("conv2d, passing", Kind::Conv2d, Residency::Mapped)?,
    ])
}

#[derive(Clone, Copy)]
enum Kind {
    /// Of so many rows.
    Linear(usize),
    Conv2d,
}

struct Setting<'a> {
    device: &'a Device,
    dtype: DType,
    compute: Compute,
    residency: Residency,
}

/// The largest difference of the layers of a kind.
fn apart(setting: &Setting, kind: Kind) -> Result<f64, Error> {
    let shape = kind.shape();
    let weights: [Vec<f32>; LAYERS] = std::array::from_fn(|i| setting.values(shape.iter().product(), i as u32));
    let biases: [Vec<f32>; LAYERS] = std::array::from_fn(|i| setting.values(shape[0], 50 + i as u32));
    let tensors = (0..LAYERS).flat_map(|i| {
        let weight = setting.stored(&weights[i], shape.clone());
        [(format!("{i}.weight"), weight), (format!("{i}.bias"), Stored::of(&biases[i], vec![shape[0]]))]
    });
    let source = Memory::of(tensors);
    let layout = Layout::of(|l| (0..LAYERS).for_each(|i| kind.declare(l, &i.to_string())));
    let w = Weights::of(&source, setting.device, setting.residency).computed_in(setting.compute).laid_out(layout);
    let layers: Vec<_> = (0..LAYERS).map(|i| kind.load(&w.at(i))).collect::<Result<_, _>>()?;
    let mut most = 0.0f64;
    for (round, i) in ORDER.into_iter().enumerate() {
        let x = setting.values(kind.inputs(), 100 + round as u32);
        let found = layers[i](&setting.on_device(&x))?;
        most = most.max(share(&found, &kind.expected(&x, &weights[i], &biases[i])));
    }
    Ok(most)
}

/// How far a matrix is off beside which two pairs of factors count differently.
fn branched(setting: &Setting) -> Result<f64, Error> {
    let [rows, d_in, d_out] = BRANCHED;
    let weight = setting.values(d_out * d_in, 200);
    let factors =
        [0, 1].map(|i| [(RANK * d_in, 201 + i), (d_out * RANK, 203 + i)].map(|(n, seed)| setting.values(n, seed)));
    let branch = |([down, up], strength): (&[Vec<f32>; 2], f32)| Branch {
        rows: 0..d_out,
        change: Change::LowRank {
            down: setting.stored(down, vec![RANK, d_in]),
            mid: None,
            up: setting.stored(up, vec![d_out, RANK]),
        },
        scale: 1.0,
        strength: Strength::of(strength),
    };
    let branches = factors.iter().zip(STRENGTHS).map(branch).collect();
    let source = Beside { own: Memory::of([("0.weight", setting.stored(&weight, vec![d_out, d_in]))]), branches };
    let layout = Layout::of(|l| l.unbiased("0", d_in, d_out));
    let w = Weights::of(&source, setting.device, setting.residency).computed_in(setting.compute).laid_out(layout);
    let layer = Linear::load(&w.at("0"))?;
    let x = setting.values(rows * d_in, 300);
    let found = numbers(layer.forward(setting.on_device(&x).reshape([rows, d_in])))?;
    let x: Vec<f64> = x.into_iter().map(f64::from).collect();
    let added = factors.iter().zip(STRENGTHS).map(|([down, up], strength)| {
        let inner = multiplied(&x, down, d_in);
        multiplied(&inner, up, RANK).into_iter().map(|y| y * f64::from(strength)).collect::<Vec<_>>()
    });
    let expected =
        added.fold(multiplied(&x, &weight, d_in), |sum, part| sum.iter().zip(part).map(|(a, b)| a + b).collect());
    Ok(share(&found, &expected))
}

/// Rows of `d_in` values times a matrix of as many columns.
fn multiplied(x: &[f64], w: &[f32], d_in: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * f64::from(*w)).sum();
    x.chunks_exact(d_in).flat_map(|x| w.chunks_exact(d_in).map(move |w| dot(x, w))).collect()
}

/// Tensors of which one has branches.
struct Beside {
    own: Memory,
    branches: Vec<Branch>,
}

impl WeightSource for Beside {
    fn label(&self) -> &str {
        self.own.label()
    }

    fn manifest(&self) -> &Manifest {
        self.own.manifest()
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        self.own.read(name)
    }

    fn branches(&self, _: &str) -> Vec<Branch> {
        self.branches.clone()
    }
}

/// What a layer makes of inputs.
type Layer = Box<dyn Fn(&Tensor<1>) -> Result<Vec<f64>, Error>>;

impl Kind {
    /// A layer's weight.
    fn shape(self) -> Vec<usize> {
        let ([d_in, d_out], [c_in, c_out, kernel]) = (MATRIX, CONVOLUTION);
        match self {
            Self::Linear(_) => vec![d_out, d_in],
            Self::Conv2d => vec![c_out, c_in, kernel, kernel],
        }
    }

    /// How many values it is given.
    fn inputs(self) -> usize {
        match self {
            Self::Linear(rows) => rows * MATRIX[0],
            Self::Conv2d => CONVOLUTION[0] * MAP[0] * MAP[1],
        }
    }

    fn declare(self, l: &mut crate::Declare, name: &str) {
        let ([d_in, d_out], [c_in, c_out, kernel]) = (MATRIX, CONVOLUTION);
        match self {
            Self::Linear(_) => l.linear(name, d_in, d_out),
            Self::Conv2d => l.convolution(name, c_in, c_out, kernel),
        }
    }

    fn load(self, w: &Weights) -> Result<Layer, Error> {
        Ok(match self {
            Self::Linear(rows) => {
                let layer = Linear::load(w)?;
                Box::new(move |x| numbers(layer.forward(x.clone().reshape([rows, MATRIX[0]]))))
            }
            Self::Conv2d => {
                let layer = Conv2d::load(w)?;
                Box::new(move |x| numbers(layer.forward(x.clone().reshape([1, CONVOLUTION[0], MAP[0], MAP[1]]))))
            }
        })
    }

    fn expected(self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
        match self {
            Self::Linear(_) => {
                let dot =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let columns = || weight.chunks_exact(MATRIX[0]).zip(bias);
                let row = |x: &[f32]| columns().map(|(w, bias)| dot(x, w) + f64::from(*bias)).collect::<Vec<_>>();
                x.chunks_exact(MATRIX[0]).flat_map(row).collect()
            }
            Self::Conv2d => {
                let ([c_in, c_out, kernel], [h, w]) = (CONVOLUTION, MAP);
                let pixel = |out: usize, y: usize, column: usize| {
                    let taps = (0..c_in * kernel * kernel).map(|tap| {
                        let (c, dy, dx) = (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel);
                        let (y, column) = (y + dy, column + dx);
                        let half = kernel / 2;
                        let is_inside = (half..h + half).contains(&y) && (half..w + half).contains(&column);
                        let at = || x[(c * h + y - half) * w + column - half];
                        if is_inside {
                            f64::from(weight[out * c_in * kernel * kernel + tap]) * f64::from(at())
                        } else {
                            0.0
                        }
                    });
                    f64::from(bias[out]) + taps.sum::<f64>()
                };
                (0..c_out * h * w).map(|i| pixel(i / (h * w), i / w % h, i % w)).collect()
            }
        }
    }
}

impl Setting<'_> {
    /// Values between -1 and 1 that the number format of products has.
    fn values(&self, count: usize, seed: u32) -> Vec<f32> {
        let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let bits = std::iter::successors(Some(seed.wrapping_mul(747_796_405).wrapping_add(1)), next);
        let values = bits.skip(3).map(|x| (x >> 8) as f32 / (1 << 23) as f32 - 1.0).take(count);
        match self.compute {
            Compute::Bf16 => values.map(|x| bf16::from_f32(x).to_f32()).collect(),
            Compute::F16 => values.map(|x| f16::from_f32(x).to_f32()).collect(),
            Compute::F32 | Compute::Tf32 | Compute::Integers => values.collect(),
        }
    }

    fn stored(&self, values: &[f32], shape: Vec<usize>) -> Stored {
        match self.compute {
            Compute::Bf16 => {
                let bytes = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
                Stored::of_bytes(Format::BF16, shape, bytes).expect("two bytes for each value")
            }
            Compute::F16 => {
                let bytes = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
                Stored::of_bytes(Format::F16, shape, bytes).expect("two bytes for each value")
            }
            Compute::F32 | Compute::Tf32 | Compute::Integers => Stored::of(values, shape),
        }
    }

    fn on_device(&self, values: &[f32]) -> Tensor<1> {
        tensor(values.to_vec(), [values.len()], self.device).cast(self.dtype)
    }
}
