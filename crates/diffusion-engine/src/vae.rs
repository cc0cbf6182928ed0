//! The decoder of AutoencoderKL (Rombach et al. 2022): from a latent to pixels, in Flux eight times as wide and high.
//!
//! Reference: latent-diffusion `Decoder`, whose parameter names these are; as in flux/modules/autoencoder.py, 802fb47.

use core_tensor::{
    Tensor, Weights,
    layers::{Attention, Conv2d, GroupNorm},
    ops,
};

use crate::{Autoencoder, Error, Inside, Site, Size};

/// A decoder of any width and depth.
pub struct AutoencoderKl {
    conv_in: Conv2d,
    block_1: ResnetBlock,
    attn_1: AttnBlock,
    block_2: ResnetBlock,
    /// From the coarsest level to the finest.
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    post_quant_conv: Option<Conv2d>,
    channels: usize,
    width: usize,
    scale: f64,
    shift: f64,
}

/// What the tensors of an autoencoder don't tell; from its `config.json`, where there is one.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct VaeHints {
    /// What a latent was multiplied with; 0.3611 where not given.
    pub scaling_factor: Option<f64>,
    /// What was subtracted from a latent before; 0.1159 where not given.
    pub shift_factor: Option<f64>,
    /// Groups of the group norms; 32 where not given.
    pub norm_num_groups: Option<usize>,
}

const EPS: f64 = 1e-6; // flux/modules/autoencoder.py: every GroupNorm
const GROUPS: usize = 32; // the same
const SCALE: f64 = 0.3611; // flux/util.py: scale_factor of every Flux autoencoder
const SHIFT: f64 = 0.1159; // flux/util.py: shift_factor

impl AutoencoderKl {
    /// A tensor that every autoencoder has; before its name stands the file's prefix.
    pub const MARK: &str = "decoder.conv_in.weight";

    /// Loads the decoder of a file in the original layout, with or without a prefix.
    ///
    /// # Errors
    /// A tensor that is missing or has the wrong shape.
    pub fn load(w: &Weights, hints: &VaeHints) -> Result<Self, Error> {
        let root = w.before(Self::MARK);
        let w = root.at("decoder");
        let groups = hints.norm_num_groups.unwrap_or(GROUPS);
        let [mut c, channels, _, _] = w.dims("conv_in.weight")?;
        let conv_in = Conv2d::load(&w.at("conv_in"), channels, c, 3)?;
        let block_1 = ResnetBlock::load(&w.at("mid.block_1"), &mut c, groups)?;
        let attn_1 = AttnBlock::load(&w.at("mid.attn_1"), c, groups)?;
        let block_2 = ResnetBlock::load(&w.at("mid.block_2"), &mut c, groups)?;
        let most = Size::MAX.ilog2() as usize;
        let levels = w.at("up").depth()?;
        // Each level but the last doubles; a few that don't are no reason to refuse.
        if levels > 2 * most {
            let (expected, found) = (format!("at most {}", 2 * most), levels.to_string());
            return Err(Error::Model { what: "an autoencoder's levels", expected, found });
        }
        let mut up = Vec::new();
        for level in (0..levels).rev() {
            let level = Level::load(&w.at("up").at(level), &mut c, groups)?;
            up.push(level);
        }
        let doublings = up.iter().filter(|level| level.upsample.is_some()).count();
        if doublings > most {
            let expected = format!("at most {most}");
            return Err(Error::Model {
                what: "how often an autoencoder doubles",
                expected,
                found: doublings.to_string(),
            });
        }
        let has_post_quant = root.shape("post_quant_conv.weight").is_some();
        Ok(Self {
            conv_in,
            block_1,
            attn_1,
            block_2,
            up,
            norm_out: norm(&w.at("norm_out"), c, groups)?,
            conv_out: Conv2d::load(&w.at("conv_out"), c, 3, 3)?,
            post_quant_conv: has_post_quant
                .then(|| Conv2d::load(&root.at("post_quant_conv"), channels, channels, 1))
                .transpose()?,
            channels,
            width: c,
            scale: as_f32("scaling_factor", hints.scaling_factor.unwrap_or(SCALE), f32::is_normal)?,
            shift: as_f32("shift_factor", hints.shift_factor.unwrap_or(SHIFT), f32::is_finite)?,
        })
    }

    /// Channels of a latent.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Channels of the finest level, which takes the most memory.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many pixels a latent's pixel becomes, in each direction.
    pub fn factor(&self) -> usize {
        1 << self.up.iter().filter(|level| level.upsample.is_some()).count()
    }
}

impl Autoencoder for AutoencoderKl {
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        let z = latent / self.scale + self.shift;
        let z = match &self.post_quant_conv {
            Some(conv) => conv.forward(z),
            None => z,
        };
        let h = inside.after_map(Site::layer("decoder", "conv_in"), self.conv_in.forward(z))?;
        let h = self.block_2.forward(self.attn_1.forward(self.block_1.forward(h)));
        let h = inside.after_map(Site::layer("decoder", "mid"), h)?;
        let levels = self.up.len();
        let h = self.up.iter().enumerate().try_fold(h, |h, (i, level)| {
            inside.after_map(Site::block("decoder", "up", levels - 1 - i), level.forward(h))
        })?;
        inside.after_map(Site::layer("decoder", "out"), self.conv_out.forward(self.norm_out.forward_silu(h)))
    }
}

/// A number of the config, as the f32 that it is computed in.
fn as_f32(what: &'static str, value: f64, fits: fn(f32) -> bool) -> Result<f64, Error> {
    if fits(value as f32) {
        return Ok(value);
    }
    Err(Error::Model {
        what,
        expected: "a number that f32 can hold, and a factor one that it can divide by".into(),
        found: value.to_string(),
    })
}

fn norm(w: &Weights, channels: usize, groups: usize) -> Result<GroupNorm, Error> {
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(Error::Model {
            what: "the channels of an autoencoder's group norm",
            expected: format!("a multiple of {groups}"),
            found: channels.to_string(),
        });
    }
    Ok(GroupNorm::load(w, channels, groups, EPS)?)
}

struct Level {
    blocks: Vec<ResnetBlock>,
    upsample: Option<Conv2d>,
}

impl Level {
    fn load(w: &Weights, c: &mut usize, groups: usize) -> Result<Self, Error> {
        let mut blocks = Vec::new();
        for i in 0..w.at("block").depth()?.max(1) {
            blocks.push(ResnetBlock::load(&w.at("block").at(i), c, groups)?);
        }
        let upsample = match w.shape("upsample.conv.weight") {
            Some(_) => Some(Conv2d::load(&w.at("upsample.conv"), *c, *c, 3)?),
            None => None,
        };
        Ok(Self { blocks, upsample })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        match &self.upsample {
            Some(conv) => conv.forward(ops::upsample_nearest_2x(x)),
            None => x,
        }
    }
}

struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    /// A block that takes `c` channels, and leaves in `c` how many it gives.
    fn load(w: &Weights, c: &mut usize, groups: usize) -> Result<Self, Error> {
        let [c_out, _, _, _] = w.dims("conv1.weight")?;
        let c_in = std::mem::replace(c, c_out);
        let shortcut = c_in != c_out || w.shape("nin_shortcut.weight").is_some();
        Ok(Self {
            norm1: norm(&w.at("norm1"), c_in, groups)?,
            conv1: Conv2d::load(&w.at("conv1"), c_in, c_out, 3)?,
            norm2: norm(&w.at("norm2"), c_out, groups)?,
            conv2: Conv2d::load(&w.at("conv2"), c_out, c_out, 3)?,
            nin_shortcut: shortcut.then(|| Conv2d::load(&w.at("nin_shortcut"), c_in, c_out, 1)).transpose()?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.conv1.forward(self.norm1.forward_silu(x.clone()));
        let x = match &self.nin_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.conv2.forward_onto(self.norm2.forward_silu(h), x)
    }
}

struct AttnBlock {
    norm: GroupNorm,
    q: Conv2d,
    k: Conv2d,
    v: Conv2d,
    proj_out: Conv2d,
    attention: Attention,
}

impl AttnBlock {
    fn load(w: &Weights, c: usize, groups: usize) -> Result<Self, Error> {
        let conv = |name| Conv2d::load(&w.at(name), c, c, 1);
        Ok(Self {
            norm: norm(&w.at("norm"), c, groups)?,
            q: conv("q")?,
            k: conv("k")?,
            v: conv("v")?,
            proj_out: conv("proj_out")?,
            attention: Attention::of(w),
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let normal = self.norm.forward(x.clone());
        let pixels = |conv: &Conv2d| conv.forward(normal.clone()).reshape([b, 1, c, h * w]).swap_dims(2, 3); // b 1 (h w) c
        let attended = self.attention.forward(pixels(&self.q), pixels(&self.k), pixels(&self.v));
        self.proj_out.forward_onto(attended.swap_dims(2, 3).reshape([b, c, h, w]), x)
    }
}
