//! Pictures that are larger than a network was trained for, drawn in tiles that overlap and are put together in each call: their mean
//! (Bar-Tal et al. 2023, MultiDiffusion), or with the middle of each tile counting more (Jimenez 2023, Mixture of Diffusers).
//!
//! Reference: ComfyUI-TiledDiffusion tiled_diffusion.py (`split_bboxes`, `gaussian_weights`), which Forge's sd_forge_multidiffusion has too.

use std::{f64::consts::TAU, sync::Arc};

use core_tensor::{Latent, Tensor, tensor};
use samplers::Denoiser;

use super::{Method, Settings, key};
use crate::{Around, Error, Holds, Inside, Key, Kind, Predictor, Size, Wrap};

pub(super) const METHOD: Method =
    Method { id: "tiles", keys: &[TILES, HEIGHT, OVERLAP, WEIGHTS], networks: &["unet", "transformer"], wraps };

const TILES: Key = key("tiles", Kind::Whole { min: 0, max: Size::MAX, step: 16 }, "off", "768")
    .about("Width of the tiles that each call draws the picture in, in pixels")
    .docs(
        "tiled diffusion: the width of the tiles, in pixels, in which each call of the model draws the picture; \
         those that overlap are put together each time",
    )
    .flag("tiles")
    .label("multidiffusion_tile_width");

const HEIGHT: Key = key("tiles_height", Kind::Whole { min: 16, max: Size::MAX, step: 16 }, "the width", "768")
    .about("Height of those tiles")
    .docs("the height of those tiles, in pixels")
    .label("multidiffusion_tile_height");

const OVERLAP: Key = key("tiles_overlap", Kind::Whole { min: 0, max: Size::MAX, step: 16 }, "64", "128")
    .about("How far those tiles overlap at least")
    .docs("how far they overlap at least, in pixels")
    .label("multidiffusion_tile_overlap");

const WEIGHTS: Key = key("tiles_weights", Kind::Choice(&["even", "gaussian"]), "even", "\"gaussian\"")
    .about("How tiles count where they overlap")
    .docs(
        "how tiles count where they overlap: `even`, as in MultiDiffusion, \
         or the more the nearer to their middle (`gaussian`), as in Mixture of Diffusers",
    )
    .label("Tile weights");

fn wraps(settings: &Settings) -> Vec<Arc<dyn Wrap>> {
    let pixels = |key| settings.number(key).map(|pixels| pixels as usize);
    let width = pixels(&TILES).unwrap_or(0);
    vec![Arc::new(Tiles {
        size: settings.pass.size,
        tile: [pixels(&HEIGHT).unwrap_or(width), width],
        overlap: pixels(&OVERLAP).unwrap_or(64),
        gaussian: settings.name(&WEIGHTS) == Some("gaussian"),
    })]
}

#[derive(Clone, Copy)]
struct Tiles {
    /// The picture's.
    size: Size,
    /// Height and width, in pixels.
    tile: [usize; 2],
    overlap: usize,
    gaussian: bool,
}

/// What sides are multiples of, in pixels: a token of Flux covers as many.
const STEP: usize = 16;

impl Wrap for Tiles {
    fn around(&self, inner: Box<dyn Denoiser>, _: &Around) -> Result<Box<dyn Denoiser>, Error> {
        let [height, width] = self.tile;
        let sides = [("tiles", width), ("tiles_height", height), ("tiles_overlap", self.overlap)];
        if let Some((what, side)) = sides.into_iter().find(|(_, side)| !side.is_multiple_of(STEP)) {
            let expected = format!("a multiple of {STEP} pixels");
            return Err(Error::Request { what, expected, found: side.to_string() });
        }
        if self.overlap >= height.min(width) {
            let expected = format!("less than the tiles' {}", height.min(width));
            return Err(Error::Request { what: "tiles_overlap", expected, found: self.overlap.to_string() });
        }
        Ok(inner)
    }

    fn predicting(&self, inner: Box<dyn Predictor>) -> Box<dyn Predictor> {
        Box::new(Tiled { inner, tiles: *self })
    }

    fn holds(&self) -> Holds {
        // In pixels, as sides are multiples of what a latent's pixel stands for.
        let Grid { tile: [height, width], places } = self.grid([self.size.height, self.size.width]);
        // The sums of both answers, and a tile's with nothing around it.
        Holds { latents: 4, tiles: Some((Size { width, height }, places.len())), ..Holds::default() }
    }
}

struct Tiled {
    inner: Box<dyn Predictor>,
    tiles: Tiles,
}

impl Predictor for Tiled {
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], inside: &Inside) -> Result<Vec<Latent>, Error> {
        let [.., h, w] = x.0.dims();
        let Grid { tile: [rows, columns], places } = self.tiles.grid([h, w]);
        if [rows, columns] == [h, w] {
            return self.inner.predict(x, sigma, which, inside);
        }
        let weights = self.tiles.weights([rows, columns]);
        let mut totals = vec![0.0; h * w];
        for [top, left] in &places {
            (0..rows * columns).for_each(|at| totals[(top + at / columns) * w + left + at % columns] += weights[at]);
        }
        let mut sums: Vec<Option<Tensor<4>>> = vec![None; which.len()];
        for (part, &[top, left]) in places.iter().enumerate() {
            let of_tile = Latent(x.0.clone().narrow(2, top, rows).narrow(3, left, columns));
            let answers = self.inner.predict(&of_tile, sigma, which, &inside.of_part(part))?;
            let share = |at: usize| (weights[at] / totals[(top + at / columns) * w + left + at % columns]) as f32;
            let share = tensor((0..rows * columns).map(share).collect(), [1, 1, rows, columns], &x.0.device());
            let edges = [top, left, h - rows - top, w - columns - left];
            for (sum, answer) in sums.iter_mut().zip(answers) {
                let placed = placed(answer.0 * share.clone(), edges);
                *sum = Some(sum.take().map_or(placed.clone(), |sum| sum + placed));
            }
        }
        Ok(sums.into_iter().flatten().map(Latent).collect())
    }
}

/// A tile with nothing around it: so many rows above, columns before, rows below and columns behind.
fn placed(tile: Tensor<4>, [top, left, bottom, right]: [usize; 4]) -> Tensor<4> {
    let around = |x: Tensor<4>, dim: usize, [before, behind]: [usize; 2]| {
        let nothing = |side: usize| {
            let mut shape = x.dims();
            shape[dim] = side;
            Tensor::zeros(shape, &x.device())
        };
        let parts = [nothing(before), x.clone(), nothing(behind)];
        Tensor::cat(parts.into_iter().filter(|part| part.dims()[dim] > 0).collect(), dim)
    };
    around(around(tile, 2, [top, bottom]), 3, [left, right])
}

/// Where tiles lie, in the latent's pixels.
struct Grid {
    tile: [usize; 2],
    /// Rows above, and columns before.
    places: Vec<[usize; 2]>,
}

impl Tiles {
    fn grid(&self, latent: [usize; 2]) -> Grid {
        let factor = (self.size.height / latent[0].max(1)).max(1);
        let of_side = |side: usize, tile: usize| {
            let tile = (tile / factor).clamp(1, side);
            let overlap = (self.overlap / factor).min(tile - 1);
            let count = (side - overlap).div_ceil(tile - overlap).max(1);
            let stride = (side - tile) as f64 / (count - 1).max(1) as f64;
            let places: Vec<usize> = (0..count).map(|i| ((i as f64 * stride) as usize).min(side - tile)).collect();
            (tile, places)
        };
        let [(rows, tops), (columns, lefts)] = [of_side(latent[0], self.tile[0]), of_side(latent[1], self.tile[1])];
        let places = tops.iter().flat_map(|top| lefts.iter().map(|left| [*top, *left])).collect();
        Grid { tile: [rows, columns], places }
    }

    /// How each pixel of a tile counts.
    fn weights(&self, [rows, columns]: [usize; 2]) -> Vec<f64> {
        if !self.gaussian {
            return vec![1.0; rows * columns];
        }
        const VARIANCE: f64 = 0.01; // tiled_diffusion.py: gaussian_weights
        let bell = |at: usize, middle: f64| {
            let away = (at as f64 - middle).powi(2) / (columns * columns) as f64;
            (-away / (2.0 * VARIANCE)).exp() / (TAU * VARIANCE).sqrt()
        };
        let of_pixel =
            |at: usize| bell(at / columns, rows as f64 / 2.0) * bell(at % columns, (columns - 1) as f64 / 2.0);
        (0..rows * columns).map(of_pixel).collect()
    }
}
