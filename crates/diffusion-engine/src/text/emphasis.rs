use core_tensor::{Tensor, tensor, values};

use crate::Emphasis;

/// What a text encoder made of chunks, `[chunks, tokens, width]`, with each token's vector changed as its weight says: one list of
/// weights for each chunk, each as long as the chunk.
///
/// Reference: lllyasviel/stable-diffusion-webui-forge `backend/text_processing/emphasis.py`, dfdcbab. Where all weights are 1
/// nothing changes, to the bit.
///
/// # Panics
/// If there are not as many weights as tokens.
pub fn weighted(states: Tensor<3>, weights: &[&[f32]], emphasis: Emphasis) -> Tensor<3> {
    let [chunks, tokens, width] = states.dims();
    assert!(
        weights.len() == chunks && weights.iter().all(|weights| weights.len() == tokens),
        "a weight for each token"
    );
    let plain = weights.iter().all(|weights| weights.iter().all(|&weight| weight == 1.0));
    let normed = match emphasis {
        Emphasis::Original => true,
        Emphasis::NoNorm => false,
        Emphasis::Ignore | Emphasis::None => return states,
    };
    if plain {
        return states;
    }
    let factors = match normed {
        false => weights.concat(),
        true => {
            let all = values(&states);
            let of_chunk = |(states, weights): (&[f32], &&[f32])| {
                let scale = scale(states, weights, width);
                weights.iter().map(move |&weight| weight * scale).collect::<Vec<_>>()
            };
            all.chunks(tokens * width).zip(weights).flat_map(of_chunk).collect()
        }
    };
    let factors: Tensor<3> = tensor(factors, [chunks, tokens, 1], &states.device());
    states * factors
}

/// What brings back the mean of a chunk whose vectors are multiplied by weights; 1 where nothing does.
fn scale(states: &[f32], weights: &[f32], width: usize) -> f32 {
    let sum_of = |vector: &[f32]| vector.iter().map(|&value| f64::from(value)).sum::<f64>();
    let sums = || states.chunks(width).map(sum_of).zip(weights);
    let before: f64 = sums().map(|(sum, _)| sum).sum();
    let after: f64 = sums().map(|(sum, &weight)| sum * f64::from(weight)).sum();
    let scale = (before / after) as f32;
    if scale.is_finite() { scale } else { 1.0 }
}
