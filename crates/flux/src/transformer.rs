//! The transformer, under the parameter names of Black Forest Labs' own files.
//!
//! Reference: flux/model.py and flux/modules/layers.py, 802fb47.

use core_tensor::{
    Blocks, Declare, Device, Layout, Tensor, Weights, in_format_of,
    layers::Linear,
    ops::{self, Activation, Rope},
    tensor,
};
use diffusion_engine::{Error, Inside, Site, family::BESIDE};

use crate::{
    Dimensions,
    blocks::{DoubleBlock, Modulation, SingleBlock, modulate},
};

/// The Flux transformer: predicts the velocity of a packed latent.
#[derive(Debug)]
pub struct Transformer {
    dimensions: Dimensions,
    img_in: Linear,
    /// What a LoRA adds for a control picture to a transformer that is shown none.
    control_in: Option<Linear>,
    txt_in: Linear,
    time_in: MlpEmbedder,
    vector_in: MlpEmbedder,
    guidance_in: Option<MlpEmbedder>,
    double_blocks: Blocks<DoubleBlock>,
    single_blocks: Blocks<SingleBlock>,
    final_linear: Linear,
    final_modulation: Modulation<2>,
    device: Device,
}

/// What the tensors of a transformer don't tell; from its `config.json`, where there is one.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct TransformerConfig {
    /// Channels of a head for each position axis; where not given, an eighth and twice seven sixteenths of a head,
    /// as 16, 56 and 56 are of 128.
    pub axes_dims_rope: Option<[usize; 3]>,
}

/// One call's worth of input.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The packed latent and what is shown beside it, `[b, image tokens, in_channels + beside]`.
    pub img: Tensor<3>,
    /// A packed control picture, as wide as the latent, for a LoRA that brings inputs for it to a transformer that is shown none.
    pub control: Option<Tensor<3>>,
    /// The T5 vectors, `[b, text tokens, context]`.
    pub txt: Tensor<3>,
    /// The CLIP vector, `[b, pooled]`.
    pub vec: Tensor<2>,
    /// The noise level, 0 to 1.
    pub timestep: f32,
    /// Distilled guidance; ignored by a transformer that has none.
    pub guidance: f32,
    /// The tokens' positions, text first.
    pub pe: &'a Rope,
}

/// How the network is called where hooks look inside.
const NETWORK: &str = "transformer";

/// Channels that Flux Fill is shown beside a packed latent: 64 of a masked picture's, and 2 × 2 × 8 × 8 of its mask.
const FILL_BESIDE: usize = 320; // flux/util.py: in_channels 384 of flux-dev-fill

/// All blocks, over the picture's tokens.
const BLOCKS: Site = Site::layer(NETWORK, Site::BLOCKS);
/// All blocks behind the first.
const REST: Site = Site::layer(NETWORK, Site::REST);

const THETA: f64 = 10_000.0; // flux/util.py: theta of every configuration
const TIME_FACTOR: f32 = 1000.0; // flux/modules/layers.py timestep_embedding
const TIME_CHANNELS: usize = 256; // flux/model.py: in_dim of time_in
const MAX_PERIOD: f32 = 10_000.0; // flux/modules/layers.py timestep_embedding

impl Dimensions {
    /// Reads the dimensions off the tensors' shapes.
    ///
    /// # Errors
    /// A tensor that is missing or contradicts another.
    pub fn of(w: &Weights, config: &TransformerConfig) -> Result<Self, Error> {
        let w = w.before(Transformer::MARK);
        let [hidden, columns] = w.dims("img_in.weight")?;
        // What it gives is a latent alone.
        let given = w.shape("final_layer.linear.weight").and_then(|shape| shape.first().copied());
        let is_beside = |beside: &usize| given.and_then(|given| given.checked_add(*beside)) == Some(columns);
        let beside = [Some(FILL_BESIDE), given].into_iter().flatten().find(is_beside).unwrap_or(0);
        let in_channels = columns - beside;
        let [_, context] = w.dims("txt_in.weight")?;
        let [_, pooled] = w.dims("vector_in.in_layer.weight")?;
        let [mlp, _] = w.dims("double_blocks.0.img_mlp.0.weight")?;
        let [head] = w.dims("double_blocks.0.img_attn.norm.query_norm.scale")?;
        let spatial = head * 7 / 16 / 2 * 2;
        let axes = config.axes_dims_rope.unwrap_or([head - 2 * spatial, spatial, spatial]);
        let wrong = |what, expected: String, found: String| Err(Error::Model { what, expected, found });
        if head == 0 || hidden % head != 0 {
            return wrong(
                "the width of the transformer",
                format!("a multiple of its heads' {head}"),
                hidden.to_string(),
            );
        }
        if axes.iter().any(|a| a % 2 != 0) || axes.iter().try_fold(0usize, |n, &a| n.checked_add(a)) != Some(head) {
            return wrong(
                "the position axes' channels",
                format!("even numbers that sum to {head}"),
                format!("{axes:?}"),
            );
        }
        if in_channels % 4 != 0 {
            return wrong("the transformer's input width", "a multiple of 4".into(), in_channels.to_string());
        }
        let (double_blocks, single_blocks) = (w.at("double_blocks").depth()?, w.at("single_blocks").depth()?);
        Ok(Self {
            in_channels,
            beside,
            context,
            pooled,
            hidden,
            mlp,
            heads: hidden / head,
            double_blocks,
            single_blocks,
            guidance: w.shape("guidance_in.in_layer.weight").is_some(),
            axes,
        })
    }

    /// Every tensor of such a transformer, behind the file's prefix.
    pub fn layout(&self) -> Layout {
        Layout::of(|l| {
            l.linear("img_in", self.in_channels + self.beside, self.hidden);
            l.linear("txt_in", self.context, self.hidden);
            MlpEmbedder::declare(&mut l.at("time_in"), TIME_CHANNELS, self.hidden);
            MlpEmbedder::declare(&mut l.at("vector_in"), self.pooled, self.hidden);
            if self.guidance {
                MlpEmbedder::declare(&mut l.at("guidance_in"), TIME_CHANNELS, self.hidden);
            }
            (0..self.double_blocks).for_each(|i| DoubleBlock::declare(&mut l.at("double_blocks").at(i), self));
            (0..self.single_blocks).for_each(|i| SingleBlock::declare(&mut l.at("single_blocks").at(i), self));
            l.linear("final_layer.linear", self.hidden, self.in_channels);
            Modulation::<2>::declare(l, "final_layer.adaLN_modulation.1", self.hidden);
        })
    }
}

impl Transformer {
    /// A tensor that every Flux transformer has; before its name stands the file's prefix.
    pub const MARK: &str = "double_blocks.0.img_attn.qkv.weight";

    /// Loads a transformer under BFL's names, with or without a prefix such as `model.diffusion_model.`.
    ///
    /// # Errors
    /// A tensor that is missing or has the wrong shape.
    pub fn load(w: &Weights, config: &TransformerConfig) -> Result<Self, Error> {
        let w = w.before(Self::MARK);
        let dimensions = Dimensions::of(&w, config)?;
        let w = w.laid_out(dimensions.layout());
        let double = |i| DoubleBlock::load(&w.at("double_blocks").at(i), dimensions.heads);
        let single = |i| SingleBlock::load(&w.at("single_blocks").at(i), dimensions.heads);
        Ok(Self {
            img_in: Linear::load(&w.at("img_in"))?,
            control_in: (dimensions.beside == 0)
                .then(|| Linear::of_branches(&w.at("img_in").at(BESIDE), [dimensions.hidden, dimensions.in_channels]))
                .transpose()?,
            txt_in: Linear::load(&w.at("txt_in"))?,
            time_in: MlpEmbedder::load(&w.at("time_in"))?,
            vector_in: MlpEmbedder::load(&w.at("vector_in"))?,
            guidance_in: dimensions.guidance.then(|| MlpEmbedder::load(&w.at("guidance_in"))).transpose()?,
            double_blocks: Blocks::load(dimensions.double_blocks, double)?,
            single_blocks: Blocks::load(dimensions.single_blocks, single)?,
            final_linear: Linear::load(&w.at("final_layer.linear"))?,
            final_modulation: Modulation::load(&w.at("final_layer.adaLN_modulation.1"))?,
            device: w.device().clone(),
            dimensions,
        })
    }

    /// How large it is.
    pub fn dimensions(&self) -> &Dimensions {
        &self.dimensions
    }

    /// The positions of so many text tokens, all at the origin, and of an `h × w` grid of image tokens.
    pub fn positions(&self, txt: usize, h: usize, w: usize) -> Rope {
        let txt_ids = std::iter::repeat_n([0.0; 3], txt);
        let img_ids = (0..h).flat_map(|row| (0..w).map(move |column| [0.0, row as f32, column as f32]));
        let ids: Vec<[f32; 3]> = txt_ids.chain(img_ids).collect();
        Rope::new(&ids, self.dimensions.axes, THETA, &self.device)
    }

    /// The velocity, `[b, image tokens, in_channels]`: the direction from data to noise.
    ///
    /// Hooks see what comes out of each block, may have it skipped, and may have something stand in for all of them ([`Site::BLOCKS`], whose
    /// sign is what the first one's attention is given of the picture) or all but the first ([`Site::REST`], whose sign is what that one adds).
    ///
    /// # Errors
    /// Those of [`Inside`].
    pub fn forward(&self, inputs: Inputs, inside: &Inside) -> Result<Tensor<3>, Error> {
        let Inputs { img, control, txt, vec, timestep, guidance, pe } = inputs;
        let [b, ..] = img.dims();
        // The one may have so few tokens that it leaves its layer in another number format; hooks compare what comes of the picture's.
        let img = self.taken_in(img, control)?;
        let txt = in_format_of(self.txt_in.forward(txt), &img);
        let vec = self.vector_in.forward(vec);
        let mut vec = in_format_of(self.time_in.forward(self.sinusoid(timestep)), &vec) + vec;
        if let Some(guidance_in) = &self.guidance_in {
            vec = in_format_of(guidance_in.forward(self.sinusoid(guidance)), &vec) + vec;
        }
        // Every modulation is made of it, activated.
        let vec = ops::silu(vec.expand([b, self.dimensions.hidden]));

        let sign = || self.double_blocks.first().map_or(img.clone(), |block| block.sign(img.clone(), &vec));
        let img = match inside.stand_in(BLOCKS, &img, &sign)? {
            Some(img) => img,
            None => self.through(img, txt, &vec, pe, inside)?,
        };

        let [shift, scale] = self.final_modulation.forward(&vec);
        inside.after(Site::layer(NETWORK, "out"), self.final_linear.forward(modulate(img, shift, scale)))
    }

    /// What the blocks make of the picture's tokens.
    fn through(
        &self,
        img: Tensor<3>,
        txt: Tensor<3>,
        vec: &Tensor<2>,
        pe: &Rope,
        inside: &Inside,
    ) -> Result<Tensor<3>, Error> {
        let ([_, image_tokens, _], [_, text_tokens, _]) = (img.dims(), txt.dims());
        let kept = |img: &Tensor<3>| inside.is_seen().then(|| img.clone());
        let before = kept(&img);
        let mut rest = Rest::default();
        let (img, txt) = self.double_blocks.each((img, txt), |(img, txt), i, block| {
            let at = Site::block(NETWORK, "double_blocks", i);
            if rest.stands || inside.skips(at)? {
                return Ok::<_, Error>((img, txt));
            }
            let (img, txt) = block.forward(img, txt, vec, pe, at, inside)?;
            let (img, txt) = (inside.after(at.stream("img"), img)?, inside.after(at.stream("txt"), txt)?);
            match &before {
                Some(before) if i == 0 => {
                    let made = inside.stand_in(REST, &img, &|| img.clone() - before.clone())?;
                    rest = Rest { stands: made.is_some(), from: kept(&img) };
                    Ok((made.unwrap_or(img), txt))
                }
                Some(_) | None => Ok((img, txt)),
            }
        })?;
        let whole =
            |img: Tensor<3>| before.iter().try_for_each(|before| inside.computed(BLOCKS, [before, &img])).map(|()| img);
        if rest.stands {
            return whole(img);
        }
        let x = self.single_blocks.each(Tensor::cat(vec![txt, img], 1), |x, i, block| {
            let at = Site::block(NETWORK, "single_blocks", i);
            if inside.skips(at)? {
                return Ok(x);
            }
            inside.after(at, block.forward(x, vec, pe, at, inside)?)
        })?;
        let img = x.narrow(1, text_tokens, image_tokens);
        rest.from.iter().try_for_each(|from| inside.computed(REST, [from, &img]))?;
        whole(img)
    }

    /// Whether a LoRA has inputs for a control picture, at whatever strength.
    pub fn takes_control(&self) -> bool {
        self.control_in.as_ref().is_some_and(Linear::has_branches)
    }

    fn taken_in(&self, img: Tensor<3>, control: Option<Tensor<3>>) -> Result<Tensor<3>, Error> {
        match (control, &self.control_in) {
            (Some(control), Some(of_loras)) => Ok(of_loras.forward_onto(control, self.img_in.forward(img))),
            (None, Some(of_loras)) if of_loras.is_changed() => {
                let (expected, found) = ("one, which a LoRA in use is made for".to_owned(), "none".to_owned());
                Err(Error::Request { what: "the control picture", expected, found })
            }
            (None | Some(_), _) => Ok(self.img_in.forward(img)),
        }
    }

    /// Cosines, then sines, of `1000 · value` at geometrically falling frequencies, `[1, 256]`; in f32 as the reference.
    fn sinusoid(&self, value: f32) -> Tensor<2> {
        let half = TIME_CHANNELS / 2;
        let angle = |i: usize| TIME_FACTOR * value * (-MAX_PERIOD.ln() * i as f32 / half as f32).exp();
        let channels = (0..half).map(|i| angle(i).cos()).chain((0..half).map(|i| angle(i).sin())).collect();
        tensor(channels, [1, TIME_CHANNELS], &self.device)
    }
}

/// All blocks behind the first, as hooks may have something else stand for them.
#[derive(Default)]
struct Rest {
    stands: bool,
    /// What goes into them, if a hook wants to know what comes out.
    from: Option<Tensor<3>>,
}

#[derive(Debug)]
struct MlpEmbedder {
    in_layer: Linear,
    out_layer: Linear,
}

impl MlpEmbedder {
    fn declare(l: &mut Declare, d_in: usize, hidden: usize) {
        l.linear("in_layer", d_in, hidden);
        l.linear("out_layer", hidden, hidden);
    }

    fn load(w: &Weights) -> Result<Self, Error> {
        Ok(Self { in_layer: Linear::load(&w.at("in_layer"))?, out_layer: Linear::load(&w.at("out_layer"))? })
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.out_layer.forward(self.in_layer.forward_then(x, Activation::Silu))
    }
}
