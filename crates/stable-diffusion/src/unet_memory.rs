//! What a UNet holds while it predicts, counted from `unet.rs` and `blocks.rs`. Counts are f64, which no number in a file makes too large.

use core_tensor::packs_bf16;
use diffusion_engine::Holds;

use crate::dimensions::{Block, Layer, Res, Transformer, UnetDimensions};

/// Channels that a kernel fills a pixel, a token or a head up to.
const WIDTH: usize = 32; // kernels: two vectors of sixteen, or a row of a tile

/// How often the result of a layer is held whose parameters stay in their file: in parts and as a whole, or without the bias and with it.
const RESULTS: f64 = 2.0; // core_tensor: Conv2d, Linear

/// Outputs whose parameters are unpacked at a time where they stay in their file.
const PANEL: f64 = 512.0; // core_tensor: MappedConv, MappedMatrix

impl UnetDimensions {
    /// How many bytes a prediction for a batch of latents of this height and width takes at most, for a prompt of so many tokens;
    /// parameters in memory are not counted, nor the little that each thread packs for itself.
    ///
    /// Counted from the code, where all parameters stay in their file, and rounded up. `held` is what methods around it hold, of which
    /// those inside it are counted here.
    pub fn working_bytes(&self, latent: [usize; 2], tokens: usize, batch: usize, held: &Holds) -> u64 {
        let sizes = vec![latent.map(|side| side as f64)];
        let mut count = Count { sizes, batch: batch as f64, tokens, skips: Vec::new(), most: 0.0 };
        // The latent, the prompt and the vectors.
        let prompt = count.batch * tokens as f64 * self.context.unwrap_or(0) as f64;
        let given = count.values(self.in_channels) + prompt + count.batch * 8.0 * self.embedding as f64;
        // What came out of the first block, for who looks inside.
        let seen = if held.looks { count.values(self.first_channels()) } else { 0.0 };

        for block in &self.input_blocks {
            let made = count.block(block, true);
            count.skips.push(made);
        }
        if held.scores {
            let scores = self.middle_block.iter().map(|layer| count.scores(layer)).fold(0.0, f64::max);
            count.hold(scores);
        }
        // What came down last, where nothing lies between.
        let down = count.skips.last().copied().unwrap_or(0.0);
        let middle = count.block(&self.middle_block, true);
        let mut below = if self.middle_block.is_empty() { down } else { middle };
        for block in &self.output_blocks {
            let skip = count.skips.pop().unwrap_or(0.0);
            count.hold(2.0 * (below + skip));
            below = count.block(block, false);
        }
        count.hold(2.0 * below + count.packed(self.width) + RESULTS * count.values(self.out_channels));

        // A panel as it is stored and as it is multiplied with.
        (4.0 * (given + seen + count.most + 2.0 * self.panel())) as u64
    }

    /// What the first block hands on of one picture, in bytes.
    pub fn map_bytes(&self, latent: [usize; 2]) -> u64 {
        latent
            .iter()
            .fold(4, |bytes: u64, &side| bytes.saturating_mul(side as u64))
            .saturating_mul(self.first_channels() as u64)
    }

    /// The most values that a matrix is given of one picture.
    pub fn widest_inputs(&self, latent: [usize; 2]) -> u64 {
        let mut sizes = vec![latent];
        let mut most = 0;
        for layer in self.input_blocks.iter().chain([&self.middle_block]).flatten() {
            let [height, width] = sizes.last().copied().unwrap_or(latent);
            match layer {
                Layer::Transformer(transformer) => {
                    let widest = transformer.mlp.max(transformer.inner) as u64;
                    most = widest.saturating_mul(height as u64).saturating_mul(width as u64).max(most);
                }
                Layer::Down(_) => sizes.push([height, width].map(|side| side.div_ceil(2))),
                Layer::Convolution(_) | Layer::Res(_) | Layer::Up(_) => {}
            }
        }
        most
    }

    /// Channels behind the first block that is more than a convolution.
    fn first_channels(&self) -> usize {
        self.input_blocks.get(1).and_then(|block| block.last()).map_or(self.width, Layer::c_out)
    }

    /// The most values of a layer's parameters that are unpacked at a time.
    fn panel(&self) -> f64 {
        let of = |inputs: usize, outputs: usize| inputs as f64 * PANEL.min(outputs as f64);
        let of_layer = |layer: &Layer| match layer {
            Layer::Convolution(conv) | Layer::Down(conv) | Layer::Up(conv) => 9.0 * of(conv.c_in, conv.c_out),
            Layer::Res(res) => 9.0 * of(res.c_in.max(res.c_out), res.c_out),
            Layer::Transformer(transformer) => of(transformer.mlp.max(transformer.inner), transformer.mlp),
        };
        let blocks = self.input_blocks.iter().chain([&self.middle_block]).chain(&self.output_blocks);
        blocks.flatten().map(of_layer).fold(0.0, f64::max)
    }
}

/// The way through a UNet, and the most values that are held on it.
struct Count {
    /// Heights and widths, of each level from the finest down to this.
    sizes: Vec<[f64; 2]>,
    batch: f64,
    tokens: usize,
    /// What input blocks made and no output block has taken.
    skips: Vec<f64>,
    most: f64,
}

impl Count {
    /// Finds out what a block holds beside the skips, and gives what it makes. What the first layer of an input block is given is a skip.
    fn block(&mut self, block: &Block, is_given_skip: bool) -> f64 {
        for (i, layer) in block.iter().enumerate() {
            let counted = if i == 0 && is_given_skip { self.skips.last().copied().unwrap_or(0.0) } else { 0.0 };
            let held = match layer {
                Layer::Convolution(conv) => self.convolution(conv.c_in, conv.c_out),
                Layer::Res(res) => self.res(res),
                Layer::Transformer(transformer) => self.transformer(transformer),
                Layer::Down(conv) => {
                    let given = self.values(conv.c_in) + self.packed(conv.c_in);
                    self.sizes.push(self.size().map(|side| (side / 2.0).ceil()));
                    given + RESULTS * self.values(conv.c_out)
                }
                Layer::Up(conv) => {
                    self.sizes.pop();
                    // Twice where a row or a column is cut off.
                    self.values(conv.c_in) + self.convolution(conv.c_in, conv.c_out)
                }
            };
            self.hold(held - counted);
        }
        block.last().map_or(0.0, |layer| self.values(layer.c_out()))
    }

    fn res(&self, Res { c_in, c_out, .. }: &Res) -> f64 {
        let [x, h] = [c_in, c_out].map(|c| self.values(*c));
        // The first convolution, which is given a normalised `x`; the second, which is given what the skip connection makes of `x` too.
        let first = x + self.convolution(*c_in, *c_out);
        let skip = x + h + self.packed(*c_in) + RESULTS * h;
        let second = x + h + self.convolution(*c_out, *c_out);
        first.max(skip).max(second)
    }

    fn transformer(&self, transformer: &Transformer) -> f64 {
        let Transformer { channels, inner, mlp, heads, .. } = *transformer;
        let [x, tokens, wide] = [channels, inner, mlp].map(|c| self.values(c));
        let [packed, packed_wide] = [channels.max(inner), mlp].map(|c| self.packed(c));
        // Pixels are normalised and put in the order of tokens before the first block, and tokens in that of pixels behind the last.
        let order = 3.0 * x.max(tokens) + packed + RESULTS * x.max(tokens);
        // Normalised tokens and what they become; queries, keys and values with what attention packs of the last two, and what it makes.
        let queries = 4.0 * tokens + packed + RESULTS * tokens;
        // Keys side by side in f32, or in bf16 and filled up; values filled up.
        let (head, filled) = (inner / heads, (inner / heads).next_multiple_of(WIDTH));
        let heads = heads * (head.max(filled / 2) + filled);
        let seen = |count: f64| self.batch * (count / WIDTH as f64).ceil() * WIDTH as f64;
        let of_pixels = 5.0 * tokens + seen(self.pixels()) * heads as f64;
        let text = seen(self.tokens as f64);
        let of_prompt = 3.0 * tokens + text * (heads + 2 * inner) as f64;
        // The inner layers, which gate each other.
        let gated = 2.0 * tokens + packed + (1.0 + RESULTS) * wide;
        let out = tokens + wide + packed_wide + RESULTS * tokens;
        x + [order, queries, of_pixels, of_prompt, gated, out].into_iter().fold(0.0, f64::max)
    }

    /// What the attention of a layer holds among pixels whose scores are one tensor: these, what becomes of them twice, and queries, keys,
    /// values and what is made of them.
    fn scores(&self, layer: &Layer) -> f64 {
        let Layer::Transformer(Transformer { channels, inner, heads, .. }) = *layer else { return 0.0 };
        let scores = self.batch * heads as f64 * self.pixels() * self.pixels();
        self.values(channels) + 8.0 * self.values(inner) + 4.0 * scores
    }

    /// What a convolution is given, what it packs of it, and what it makes.
    fn convolution(&self, c_in: usize, c_out: usize) -> f64 {
        self.values(c_in) + self.packed(c_in) + RESULTS * self.values(c_out)
    }

    /// Channels of each pixel in bf16, side by side and filled up, with a border; nothing where no instructions are for that.
    fn packed(&self, channels: usize) -> f64 {
        if !packs_bf16() {
            return 0.0;
        }
        let [h, w] = self.size().map(|side| side + 2.0);
        self.batch * h * w * channels.div_ceil(WIDTH) as f64 * (WIDTH / 2) as f64
    }

    fn values(&self, channels: usize) -> f64 {
        self.batch * self.pixels() * channels as f64
    }

    /// Of one picture.
    fn pixels(&self) -> f64 {
        let [h, w] = self.size();
        h * w
    }

    fn size(&self) -> [f64; 2] {
        *self.sizes.last().expect("a UNet doubles sides no more often than it halved them")
    }

    fn hold(&mut self, values: f64) {
        self.most = self.most.max(self.skips.iter().sum::<f64>() + values);
    }
}
