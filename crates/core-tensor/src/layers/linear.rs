use burn::tensor::DType;
use kernels::{Epilogue, PackedRows, RowNorm, WithPair};

use super::LayerNorm;
use crate::{
    DeviceMatrix, Error, Matrix, Parameter, Tensor, Weight, Weights,
    cpu::{self, Rows, Values},
    gpu::{self, After},
    in_f32, in_format_of,
    ops::{self, Activation},
    weights::{Beside, F32, multiply},
};

/// `y = x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight<Matrix>,
    bias: Option<Parameter<1>>,
    d_out: usize,
}

impl Linear {
    /// Loads `weight` `[d_out, d_in]`, and `bias` `[d_out]` where the layout has one.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn load(w: &Weights) -> Result<Self, Error> {
        let [layer] = Self::load_stacked(w)?;
        Ok(layer)
    }

    /// Loads layers that are stored as one, `weight` and `bias` of each below those of the one before.
    ///
    /// # Errors
    /// As [`Weights::matrices`].
    pub fn load_stacked<const N: usize>(w: &Weights) -> Result<[Self; N], Error> {
        let has_bias = w.declares("bias");
        let bias = has_bias.then(|| w.vectors::<N>("bias", "weight")).transpose()?;
        let mut bias = bias.into_iter().flatten();
        let heights = w.heights("weight")?;
        let weights = w.matrices::<N>("weight")?.into_iter().zip(heights);
        let layers: Vec<_> = weights.map(|(weight, d_out)| Self { weight, bias: bias.next(), d_out: *d_out }).collect();
        Ok(layers.try_into().unwrap_or_else(|_| unreachable!("one for each matrix")))
    }

    /// A layer of `[d_out, d_in]` that no file has: nothing but what is put into its `weight` while it is in use, zeros without.
    ///
    /// # Errors
    /// As [`Weights::branches_alone`].
    pub fn of_branches(w: &Weights, [d_out, d_in]: [usize; 2]) -> Result<Self, Error> {
        Ok(Self { weight: w.branches_alone("weight", [d_out, d_in])?, bias: None, d_out })
    }

    /// Whether branches are in its weight, whatever their strength.
    pub fn has_branches(&self) -> bool {
        self.weight.has_branches()
    }

    /// Whether branches count beside its weight now.
    pub fn is_changed(&self) -> bool {
        self.weight.alone().is_none()
    }

    /// `[…, d_in]` to `[…, d_out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.followed(x, Then::Nothing)
    }

    /// `f(forward(x))`.
    pub fn forward_then<const D: usize>(&self, x: Tensor<D>, f: Activation) -> Tensor<D> {
        self.followed(x, Then::Activated(f))
    }

    /// `residual + forward(x)`.
    pub fn forward_onto<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        self.followed(x, Then::Onto { gate: None, residual: &residual })
    }

    /// `residual + gate · forward(x)`, with a gate for each of the batch, `[b, 1, d_out]`.
    pub fn forward_gated_onto(&self, x: Tensor<3>, gate: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        self.followed(x, Then::Onto { gate: Some(&gate), residual: &residual })
    }

    /// The product and what follows it.
    fn followed<const D: usize>(&self, x: Tensor<D>, then: Then<D>) -> Tensor<D> {
        self.fused(&x, then).unwrap_or_else(|| then.after(self.composed(x)))
    }

    /// The same in a kernel's own pass over the result, or but for the bias behind one; `None` where no kernel has the product.
    fn fused<const D: usize>(&self, x: &Tensor<D>, then: Then<D>) -> Option<Tensor<D>> {
        match self.weight.alone() {
            Some(Matrix::Device(w)) => return self.on_device(x, w, then),
            Some(Matrix::Mapped(mapped)) if gpu::multiplies(x) => {
                let w = mapped.on_device()?;
                return self.on_device(x, &w, then);
            }
            _ => {}
        }
        let beside = self.weight.beside();
        let weight = beside.for_kernels(self.weight.own())?;
        let (activation, gate, residual) = match then {
            Then::Nothing => (None, None, None),
            Then::Activated(f) => (Some(f), None, None),
            Then::Onto { gate, residual } => (None, gate.map(values_of), Some(values_of(residual))),
        };
        let bias = self.bias();
        let epilogue =
            Epilogue { bias: bias.as_deref(), activation, gate: gate.as_deref(), residual: residual.as_deref() };
        Some(multiply(weight, x, epilogue))
    }

    /// The same by a device's own kernels.
    fn on_device<const D: usize>(&self, x: &Tensor<D>, w: &DeviceMatrix, then: Then<D>) -> Option<Tensor<D>> {
        let bias = self.bias.as_ref().map(Parameter::value);
        if let Some(y) = w.thin(x, bias.as_ref()) {
            return Some(then.after(y));
        }
        if !gpu::multiplies(x) {
            return None;
        }
        let after = After { bias: bias.as_ref(), ..After::default() };
        gpu::linear(
            x,
            &w.unpacked(),
            w.compute(),
            match then {
                Then::Nothing => after,
                Then::Activated(f) => After { activation: Some(f), ..after },
                Then::Onto { gate, residual } => After { gate, residual: Some(residual), ..after },
            },
        )
    }

    /// What each layer makes of the same rows, or of what `norm` makes of them first: a kernel that has to put rows in order does it
    /// once.
    pub fn forward_each<const N: usize>(layers: [&Self; N], norm: Option<&LayerNorm>, x: Tensor<3>) -> [Tensor<3>; N] {
        let beside = layers.map(|layer| layer.weight.beside());
        let Some(weights) = Self::taking_rows(layers, &beside) else {
            let x = norm.map_or_else(|| x.clone(), |norm| norm.forward(x.clone()));
            return layers.map(|layer| layer.forward(x.clone()));
        };
        let rows = packed(norm, &x, weights);
        std::array::from_fn(|i| {
            let bias = layers[i].bias();
            of_rows(&rows, i, layers[i].d_out, &x, Epilogue { bias: bias.as_deref(), ..Epilogue::default() })
        })
    }

    /// `x + out(value(y) · f(gate(y)))` with `y = norm(x)`: a feed-forward layer with a gate, and what goes around it.
    pub fn gated_feed_forward(
        layers @ [value, gate, out]: [&Self; 3],
        f: Activation,
        norm: &LayerNorm,
        x: Tensor<3>,
    ) -> Tensor<3> {
        let beside = layers.map(|layer| layer.weight.beside());
        let Some([values, gates, outs]) = Self::taking_rows(layers, &beside) else {
            let normal = norm.forward(x.clone());
            return out.forward_onto(ops::gated(f, value.forward(normal.clone()), gate.forward(normal)), x);
        };
        let biases = [value.bias(), gate.bias()];
        let biases = [biases[0].as_deref(), biases[1].as_deref()];
        let inner = packed(Some(norm), &x, [values, gates]).gated([0, 1], biases, f, [outs]);
        let (bias, residual) = (out.bias(), values_of(&x));
        let epilogue = Epilogue { bias: bias.as_deref(), residual: Some(&residual), ..Epilogue::default() };
        of_rows(&inner, 0, out.d_out, &x, epilogue)
    }

    /// What each layer is multiplied with, if that is [`PackedRows`] for all of them.
    fn taking_rows<'a, const N: usize>(
        layers: [&'a Self; N],
        beside: &'a [Beside<Matrix>; N],
    ) -> Option<[WithPair<'a>; N]> {
        let weights = layers.iter().zip(beside).map(|(layer, beside)| beside.for_kernels(layer.weight.own()));
        let weights: Option<Vec<_>> = weights.map(|weight| weight.filter(|w| w.matrix().takes_rows())).collect();
        weights?.try_into().ok()
    }

    fn bias(&self) -> Option<Values> {
        self.bias.as_ref().map(|bias| values_of(&bias.value()))
    }

    fn composed<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let d_in = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        shape[D - 1] = self.d_out;
        let y = self.weight.product(x.reshape([rows, d_in]));
        match &self.bias {
            Some(bias) => {
                let bias = in_format_of(bias.value(), &y).unsqueeze();
                // Burn's sum would leave f16 where this one stays at its end.
                let y = if y.dtype() == DType::F16 { ops::add(y, bias.expand([rows, self.d_out])) } else { y + bias };
                y.reshape(shape)
            }
            None => y.reshape(shape),
        }
    }
}

/// What follows a layer's product.
#[derive(Clone, Copy)]
enum Then<'a, const D: usize> {
    Nothing,
    Activated(Activation),
    /// `residual + gate · product`
    Onto {
        gate: Option<&'a Tensor<D>>,
        residual: &'a Tensor<D>,
    },
}

impl<const D: usize> Then<'_, D> {
    /// It by operations of their own.
    fn after(self, y: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Nothing => y,
            Self::Activated(f) => ops::activate(f, y),
            Self::Onto { gate, residual } => {
                // In f32, as Burn's product would leave f16.
                let added = match gate {
                    Some(gate) => in_f32(gate.clone()) * in_f32(y),
                    None => y,
                };
                ops::add(residual.clone(), in_format_of(added, residual))
            }
        }
    }
}

fn values_of<const D: usize>(x: &Tensor<D>) -> Values {
    Values::of(x).expect(F32)
}

/// Rows along the last dimension, put in order once for some weights.
fn packed<'w, const D: usize>(
    norm: Option<&LayerNorm>,
    x: &Tensor<D>,
    weights: impl IntoIterator<Item = WithPair<'w>>,
) -> PackedRows<'w> {
    let (d, rows) = (x.dims()[D - 1], Rows::of(x).expect(F32));
    let norm = norm.map(LayerNorm::parameters);
    let norm = norm.as_ref().map(|([weight, bias], eps)| RowNorm { weight, bias, eps: *eps });
    PackedRows::pack(cpu::isa(), norm, rows.values(), [rows.count, d], rows.stride, weights)
}

/// The product of rows that were put in order and one of their weights, in the shape of `x` but for the outputs.
fn of_rows<const D: usize>(
    rows: &PackedRows,
    which: usize,
    d_out: usize,
    x: &Tensor<D>,
    epilogue: Epilogue,
) -> Tensor<D> {
    let mut shape = x.dims();
    shape[D - 1] = d_out;
    cpu::tensor(shape, |out| rows.linear(which, epilogue, out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Compute, Device, Layout, Residency, Stored,
        layers::tests::{agree, agree_within, random, wave},
        weights::tests::Memory,
    };

    #[test]
    fn layers_of_the_same_rows_are_what_each_makes_of_them_alone() {
        // given three layers behind a norm, in memory and in their file
        let (d, inner) = (45, 70);
        let stored = |n: usize, shape: Vec<usize>, step: f32| Stored::of(&wave(n, step), shape);
        let source = Memory::of([
            ("norm.weight", stored(d, vec![d], 0.31)),
            ("norm.bias", stored(d, vec![d], 0.77)),
            ("value.weight", stored(d * inner, vec![inner, d], 0.7)),
            ("value.bias", stored(inner, vec![inner], 1.3)),
            ("gate.weight", stored(d * inner, vec![inner, d], 0.9)),
            ("out.weight", stored(d * inner, vec![d, inner], 1.1)),
            ("out.bias", stored(d, vec![d], 0.4)),
        ]);
        let layout = || {
            Layout::of(|l| {
                l.norm("norm", d);
                l.linear("value", d, inner);
                l.unbiased("gate", d, inner);
                l.linear("out", inner, d);
            })
        };
        for (compute, allowed) in [(Compute::F32, 1e-4), (Compute::Bf16, 0.3)] {
            let of = |residency| {
                let w = Weights::of(&source, &Device::flex(), residency).computed_in(compute).laid_out(layout());
                let layers = ["value", "gate", "out"].map(|name| Linear::load(&w.at(name)).unwrap());
                (LayerNorm::load(&w.at("norm"), 1e-5).unwrap(), layers)
            };
            let ((norm, [value, gate, out]), (plain, each)) = (of(Residency::Unpacked), of(Residency::Mapped));
            for x in [random([2, 37, d], 0.11), random([1, 5, d + 3], 0.13).narrow(2, 3, d)] {
                // when they are asked at once, then the answers are those of each alone
                let found = Linear::forward_each([&value, &gate], Some(&norm), x.clone());
                let normal = plain.forward(x.clone());
                for (found, layer) in found.into_iter().zip(&each) {
                    agree_within(allowed, found, layer.forward(normal.clone()));
                }
                let [found] = Linear::forward_each([&value], None, x.clone());
                agree_within(allowed, found, each[0].forward(x.clone()));
                let found = Linear::gated_feed_forward([&value, &gate, &out], Activation::GeluErf, &norm, x.clone());
                let inner = ops::gated(Activation::GeluErf, each[0].forward(normal.clone()), each[1].forward(normal));
                agree_within(allowed * 10.0, found, each[2].forward(inner) + x);
            }
        }
    }

    #[test]
    fn what_follows_a_linear_layer_is_the_same_inside_it_and_after_it() {
        // given a layer in memory and one in its file
        let (d_in, d_out) = (13, 37);
        let source = Memory::of([
            ("weight", Stored::of(&wave(d_in * d_out, 0.7), vec![d_out, d_in])),
            ("bias", Stored::of(&wave(d_out, 1.3), vec![d_out])),
        ]);
        let weights = |residency| {
            Weights::of(&source, &Device::flex(), residency).laid_out(Layout::of(|l| l.linear("", d_in, d_out)))
        };
        let inside = Linear::load(&weights(Residency::Unpacked)).unwrap();
        let after = Linear::load(&weights(Residency::Mapped)).unwrap();
        assert!(matches!(
            (inside.weight.alone(), after.weight.alone()),
            (Some(Matrix::Panels(_)), Some(Matrix::Mapped(_)))
        ));
        let (residual, gate) = (random([2, 5, d_out], 0.3), random([2, 1, d_out], 0.9));
        // when rows are given to them that lie together, with gaps, and across
        let wide = random([2, 5, d_in + 4], 0.21);
        for x in [
            random([2, 5, d_in], 0.11),
            wide.narrow(2, 3, d_in),
            random([2, 7, d_in], 0.17).narrow(1, 1, 5),
            random([2, d_in, 5], 0.19).swap_dims(1, 2),
            random([1, 1, d_in], 0.23).expand([2, 5, d_in]),
        ] {
            // then both say the same
            agree(inside.forward(x.clone()), after.forward(x.clone()));
            let f = Activation::GeluTanh;
            agree(inside.forward_then(x.clone(), f), after.forward_then(x.clone(), f));
            agree(inside.forward_onto(x.clone(), residual.clone()), after.forward_onto(x.clone(), residual.clone()));
            agree(
                inside.forward_gated_onto(x.clone(), gate.clone(), residual.clone()),
                after.forward_gated_onto(x, gate.clone(), residual.clone()),
            );
        }
        // and so do the two layers that are stored as one
        let x = random([3, d_in], 0.5);
        for residency in [Residency::Unpacked, Residency::Mapped] {
            let stacked = Layout::of(|l| l.stacked("", d_in, &[10, 27]));
            let [first, second] = Linear::load_stacked(&weights(residency).laid_out(stacked)).unwrap();
            let both = Tensor::cat(vec![first.forward(x.clone()), second.forward(x.clone())], 1);
            agree(both, inside.forward(x.clone()));
        }
    }
}
