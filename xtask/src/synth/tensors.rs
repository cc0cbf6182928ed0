//! What stands in a tensor, as its name and shape tell.

use std::io::{self, Write};

use half::{bf16, f16};

use super::{
    CHUNK,
    keys::{DType, Tensor},
    numbers::Numbers,
};

const EMBEDDING: f32 = 0.02; // the spread of CLIP's embeddings when its training starts

/// The numbers of a tensor.
#[derive(Debug, PartialEq)]
enum Content {
    /// 0, 1, 2, …
    Counted,
    /// The same one everywhere.
    Constant(f32),
    /// What is left of a picture after so many steps of Stable Diffusion's noise.
    Alphas,
    /// Of a normal distribution, with this spread.
    Normal(f32),
}

impl Content {
    fn of(name: &str, shape: &[usize]) -> Self {
        let is_embedding = name.contains("embedding") || name == "shared.weight";
        match (name.rsplit('.').next().unwrap_or(name), shape) {
            ("position_ids", _) => Self::Counted,
            ("alphas_cumprod", _) => Self::Alphas,
            // Scales of norms; a weight of one dimension is nothing else.
            ("weight" | "scale", [_]) => Self::Constant(1.0),
            // Biases, single numbers and tables that follow from others.
            (_, [] | [_]) => Self::Constant(0.0),
            (_, [_, ..]) if is_embedding => Self::Normal(EMBEDDING),
            // A row's inputs together leave the spread of values as it is.
            (_, [_, inputs @ ..]) => Self::Normal(1.0 / (inputs.iter().product::<usize>().max(1) as f32).sqrt()),
        }
    }
}

/// The spread of the numbers of a matrix; `None` for what is no matrix of random numbers.
pub(super) fn spread(name: &str, shape: &[usize]) -> Option<f32> {
    match (Content::of(name, shape), shape) {
        (Content::Normal(spread), [_, _]) => Some(spread),
        _ => None,
    }
}

/// Writes a tensor's numbers.
pub(super) fn write(name: &str, tensor: &Tensor, numbers: &mut Numbers, to: &mut impl Write) -> io::Result<()> {
    let count = tensor.len().ok_or(io::ErrorKind::InvalidInput)?;
    match tensor.dtype {
        DType::F32 => fill(name, tensor, count, f32::to_le_bytes, numbers, to),
        DType::F16 => fill(name, tensor, count, |v| f16::from_f32(v).to_le_bytes(), numbers, to),
        DType::Bf16 => fill(name, tensor, count, |v| bf16::from_f32(v).to_le_bytes(), numbers, to),
    }
}

fn fill<const N: usize>(
    name: &str,
    tensor: &Tensor,
    count: usize,
    encode: impl Fn(f32) -> [u8; N],
    numbers: &mut Numbers,
    to: &mut impl Write,
) -> io::Result<()> {
    match Content::of(name, &tensor.shape) {
        Content::Counted => (0..count).try_for_each(|i| to.write_all(&encode(i as f32))),
        Content::Constant(value) => (0..count).try_for_each(|_| to.write_all(&encode(value))),
        Content::Alphas => alphas(count).into_iter().try_for_each(|value| to.write_all(&encode(value))),
        Content::Normal(spread) => {
            let encoded: Vec<[u8; N]> = numbers.normals().iter().map(|v| encode(v * spread)).collect();
            let mut chunk = Vec::with_capacity(CHUNK);
            let mut left = count;
            while left > 0 {
                chunk.clear();
                while chunk.len() < CHUNK / N && chunk.len() < left {
                    chunk.extend(numbers.places().map(|place| encoded[place]));
                }
                chunk.truncate(left);
                left -= chunk.len();
                to.write_all(chunk.as_flattened())?;
            }
            Ok(())
        }
    }
}

/// latent-diffusion's `make_beta_schedule("linear")` with the ends of its configs, multiplied up.
fn alphas(count: usize) -> Vec<f32> {
    let [first, last] = [0.00085f64, 0.012].map(f64::sqrt);
    let beta = |i: usize| (first + (last - first) * i as f64 / count.saturating_sub(1).max(1) as f64).powi(2);
    let products = (0..count).scan(1.0, |product, i| {
        *product *= 1.0 - beta(i);
        Some(*product as f32)
    });
    products.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, shape: &[usize]) -> Vec<f32> {
        let tensor = Tensor { dtype: DType::F32, shape: shape.to_vec() };
        let mut bytes = Vec::new();
        write(name, &tensor, &mut Numbers::of(5), &mut bytes).unwrap();
        bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    #[test]
    fn a_norm_leaves_values_as_they_are_and_a_matrix_their_spread() {
        assert_eq!(written("in_layers.0.weight", &[7]), [1.0; 7]);
        assert_eq!(written("img_attn.norm.key_norm.scale", &[7]), [1.0; 7]);
        assert_eq!(written("in_layers.0.bias", &[7]), [0.0; 7]);
        assert_eq!(written("text_model.embeddings.position_ids", &[1, 77])[76], 76.0);
        assert_eq!(written("logit_scale", &[]), [0.0]);
        for (name, shape, expected) in [
            ("to_q.weight", &[300, 400][..], 0.05),
            ("conv.weight", &[300, 100, 2, 2], 0.05),
            ("token_embedding.weight", &[300, 400], 0.02),
        ] {
            let found = written(name, shape);
            let spread = (found.iter().map(|v| v * v).sum::<f32>() / found.len() as f32).sqrt();
            assert_eq!(found.len(), shape.iter().product::<usize>());
            assert!((spread / expected - 1.0).abs() < 0.02, "{name}: {spread}");
        }
    }

    #[test]
    fn what_is_left_of_a_picture_is_as_published() {
        // Stable Diffusion 1.5's own `alphas_cumprod`, the first and the last
        let found = written("alphas_cumprod", &[1000]);
        assert!((found[0] - 0.99915).abs() < 1e-5 && (found[999] - 0.0047).abs() < 1e-4, "{} {}", found[0], found[999]);
    }

    #[test]
    fn a_tensor_of_more_numbers_than_are_made_at_a_time_has_all_of_them() {
        let count = CHUNK / 4 + 3;
        assert_eq!(written("to_q.weight", &[count, 1]).len(), count);
    }
}
