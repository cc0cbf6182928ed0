use core_tensor::{Tensor, in_f32, on_host, tensor};

use crate::{Emphasis, Error};

/// What a text encoder made of chunks, `[chunks, tokens, width]`, with each token's vector changed as its weight says: one list of
/// weights for each chunk, each as long as the chunk.
///
/// Reference: lllyasviel/stable-diffusion-webui-forge `backend/text_processing/emphasis.py`, dfdcbab. Where all weights are 1
/// nothing changes, to the bit.
///
/// # Errors
/// [`Error::Weights`] for a device that could not compute the states.
///
/// # Panics
/// If there are not as many weights as tokens.
pub fn weighted(states: Tensor<3>, weights: &[&[f32]], emphasis: Emphasis) -> Result<Tensor<3>, Error> {
    let [chunks, tokens, _] = states.dims();
    assert!(
        weights.len() == chunks && weights.iter().all(|weights| weights.len() == tokens),
        "a weight for each token"
    );
    let of_chunk = |(i, weights): (usize, &&[f32])| {
        let row = Row { states: states.clone().narrow(0, i, 1), weights, times: 1 };
        Ok(weighted_together(vec![row], emphasis)?.remove(0))
    };
    if weights.iter().all(|weights| is_plain(weights)) {
        return Ok(states);
    }
    Ok(Tensor::cat(weights.iter().enumerate().map(of_chunk).collect::<Result<_, Error>>()?, 0))
}

/// A chunk of one of several editions of a prompt.
#[derive(Debug)]
pub struct Row<'a> {
    /// What a text encoder made of it, `[1, tokens, width]`.
    pub states: Tensor<3>,
    /// A weight for each token.
    pub weights: &'a [f32],
    /// How often it counts in the mean of all.
    pub times: usize,
}

/// The same chunk of all editions of a prompt, with each token's vector changed as its weight says. What brings back a mean is taken over
/// all of them, as `Emphasis::Original` of the reference takes it over what it encodes at once.
///
/// # Errors
/// [`Error::Weights`] for a device that could not compute the states.
///
/// # Panics
/// If there are not as many weights as tokens.
pub fn weighted_together(rows: Vec<Row>, emphasis: Emphasis) -> Result<Vec<Tensor<3>>, Error> {
    let normed = match emphasis {
        Emphasis::Original => true,
        Emphasis::NoNorm => false,
        Emphasis::Ignore | Emphasis::None => return Ok(rows.into_iter().map(|row| row.states).collect()),
    };
    if rows.iter().all(|row| is_plain(row.weights)) {
        return Ok(rows.into_iter().map(|row| row.states).collect());
    }
    let scale = if normed { scale(&rows)? } else { 1.0 };
    let of_row = |Row { states, weights, .. }: Row| {
        let [_, tokens, _] = states.dims();
        assert_eq!(weights.len(), tokens, "a weight for each token");
        let factors = weights.iter().map(|&weight| weight * scale).collect();
        let factors: Tensor<3> = tensor(factors, [1, tokens, 1], &states.device());
        in_f32(states) * factors
    };
    Ok(rows.into_iter().map(of_row).collect())
}

fn is_plain(weights: &[f32]) -> bool {
    weights.iter().all(|&weight| weight == 1.0)
}

/// What brings back the mean of rows whose vectors are multiplied by weights; 1 where nothing does.
fn scale(rows: &[Row]) -> Result<f32, Error> {
    let (mut before, mut after) = (0.0, 0.0);
    for Row { states, weights, times } in rows {
        let width = states.dims()[2];
        for (vector, &weight) in on_host(states)?.chunks(width).zip(*weights) {
            let sum = vector.iter().map(|&value| f64::from(value)).sum::<f64>() * *times as f64;
            before += sum;
            after += sum * f64::from(weight);
        }
    }
    let scale = (before / after) as f32;
    Ok(if scale.is_finite() { scale } else { 1.0 })
}
