//! What goes into a product, and what usually follows it.

use crate::{elementwise::Activation, output::Out, simd::Simd};

/// What becomes of a product before it is written: `residual + gate · activation(product + bias)`, each part optional.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value for each output.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// One value for each output of each batch entry, `[batch, d_out]`, where a batch entry is `rows / batch` rows.
    pub gate: Option<&'a [f32]>,
    /// As large as the result, `[rows, d_out]`.
    pub residual: Option<&'a [f32]>,
}

/// Rows of input, checked: `rows` of `d_in` values, `stride` apart, lie in `x`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    pub(crate) d_in: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.x[row * self.stride..][..self.d_in]
    }
}

/// An [`Epilogue`] that fits its result.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    epilogue: Epilogue<'a>,
    d_out: usize,
    rows_per_gate: usize,
}

impl<'a> Finish<'a> {
    pub(crate) fn of(epilogue: Epilogue<'a>, rows: usize, d_out: usize) -> Self {
        let batch = epilogue.gate.map_or(1, |gate| gate.len() / d_out);
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == d_out), "a bias for each of {d_out} outputs");
        assert!(
            epilogue.residual.is_none_or(|residual| residual.len() == rows * d_out),
            "a residual [{rows}, {d_out}]"
        );
        let gate = epilogue.gate.map_or(d_out, <[f32]>::len);
        assert!(
            gate == batch * d_out && batch > 0 && rows.is_multiple_of(batch),
            "{gate} gates for rows [{rows}, {d_out}]"
        );
        Self { epilogue, d_out, rows_per_gate: rows / batch }
    }

    /// Writes sums into a row of the result from `column` on. `sums` are stored in vectors of `S`; the last may be partly used.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(&self, s: S, sums: &[S::V], row: usize, column: usize, out: Out) {
        let Epilogue { bias, activation, gate, residual } = self.epilogue;
        let gate = gate.map(|gate| &gate[row / self.rows_per_gate * self.d_out..]);
        let residual = residual.map(|residual| &residual[row * self.d_out..]);
        for (i, (&sum, out)) in sums.iter().zip(out.chunks_mut(S::LANES)).enumerate() {
            let at = column + i * S::LANES;
            let load = |x: &[f32]| {
                if out.len() == S::LANES { s.load(&x[at..]) } else { s.load_part(&x[at..at + out.len()], 0.0) }
            };
            let mut v = sum;
            if let Some(bias) = bias {
                v = s.add(v, load(bias));
            }
            if let Some(activation) = activation {
                v = activation.apply(s, v);
            }
            match (gate, residual) {
                (Some(gate), Some(residual)) => v = s.fma(load(gate), v, load(residual)),
                (Some(gate), None) => v = s.mul(load(gate), v),
                (None, Some(residual)) => v = s.add(v, load(residual)),
                (None, None) => {}
            }
            if out.len() == S::LANES { s.write(out, v) } else { s.write_part(out, v) }
        }
    }
}
