use core_tensor::{Declare, Layout, Weights};

use crate::{ClipTokenizer, Error};

/// What the tensors of a CLIP file don't tell; from its `config.json`, where there is one.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct ClipConfig {
    /// Attention heads; 64 channels each where not given, as in every CLIP that image models use.
    pub num_attention_heads: Option<usize>,
    /// Where not given, `gelu` at the widths of OpenCLIP's H and bigG, and `quick_gelu` at others, as in OpenAI's own models.
    pub hidden_act: Option<Activation>,
}

/// A CLIP layer's activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
    /// By the error function.
    Gelu,
}

impl ClipConfig {
    /// The activation function of an encoder of this width.
    pub(super) fn activation(&self, width: usize) -> Activation {
        let of_width = if OPEN_CLIP.contains(&width) { Activation::Gelu } else { Activation::QuickGelu };
        self.hidden_act.unwrap_or(of_width)
    }
}

/// Widths of OpenCLIP's ViT-H-14 and ViT-bigG-14, whose `quick_gelu` is off.
const OPEN_CLIP: [usize; 2] = [1024, 1280];

const WORDS: usize = ClipTokenizer::END + 1; // transformers CLIPTextConfig: vocab_size
const MORE_WORDS: usize = 1024; // words that were added behind, which no prompt here asks for; other vocabularies differ by more
const LONG: usize = 248; // positions of LongCLIP (Zhang et al. 2024)

/// How large a CLIP text encoder is, as its tensors and its config say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipDimensions {
    /// Words that it has vectors for.
    pub vocabulary: usize,
    /// The most tokens that it sees at once: 77, and 248 in LongCLIP.
    pub positions: usize,
    /// Width of the vectors that it makes.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the layers' inner layers.
    pub inner: usize,
    /// Layers.
    pub layers: usize,
    /// What the pooled vector is multiplied with, where that was asked for.
    pub projection: Option<ClipProjection>,
}

/// How the vector that stands for the whole prompt is projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipProjection {
    /// Width of the vector that comes out.
    pub width: usize,
    /// What stands before the names of all tensors but the projection: `text_model`, or nothing.
    pub beside: &'static str,
}

impl ClipDimensions {
    /// A tensor that every CLIP text encoder has and no other model; before its name stands the file's prefix.
    pub(super) const MARK: &str = "embeddings.token_embedding.weight";

    /// Reads the dimensions of the encoder without a projection off the tensors' shapes.
    ///
    /// # Errors
    /// A tensor that is missing, another vocabulary than CLIP's, more or fewer positions than CLIP or LongCLIP has, or heads that
    /// can't be told.
    pub fn of(w: &Weights, config: &ClipConfig) -> Result<Self, Error> {
        let w = w.before(Self::MARK);
        let [vocabulary, width] = w.dims("embeddings.token_embedding.weight")?;
        let model =
            |what, expected: String, found: usize| Err(Error::Model { what, expected, found: found.to_string() });
        if !(WORDS..=WORDS + MORE_WORDS).contains(&vocabulary) {
            return model("the CLIP vocabulary", WORDS.to_string(), vocabulary);
        }
        let heads = match config.num_attention_heads {
            Some(heads) if heads > 0 && width % heads == 0 => heads,
            None if width % 64 == 0 => width / 64,
            _ => {
                let source_name = w.label().to_owned();
                return Err(Error::Untold { source_name, what: "the number of CLIP's attention heads" });
            }
        };
        // A table that is missing or has another width is told with the other tensors' faults.
        let positions = match w.shape("embeddings.position_embedding.weight") {
            Some(&[positions, _]) => positions,
            _ => ClipTokenizer::LENGTH,
        };
        if ![ClipTokenizer::LENGTH, LONG].contains(&positions) {
            return model("the number of CLIP's positions", format!("{} or {LONG}", ClipTokenizer::LENGTH), positions);
        }
        let layers = w.at("encoder.layers");
        let depth = layers.depth()?;
        let inner = if depth == 0 { 0 } else { layers.dims::<2>("0.mlp.fc1.weight")?[0] };
        Ok(Self { vocabulary, positions, width, heads, inner, layers: depth, projection: None })
    }

    /// The same with the projection, `text_projection.weight`, which stands beside the text model.
    ///
    /// # Errors
    /// As [`ClipDimensions::of`], or a projection that is missing.
    pub fn of_projected(w: &Weights, config: &ClipConfig) -> Result<Self, Error> {
        let mark = format!("{TEXT_MODEL}.{}", Self::MARK);
        let (root, beside) = match w.before(&mark) {
            root if root.shape(&mark).is_some() => (root, TEXT_MODEL),
            _ => (w.before(Self::MARK), ""),
        };
        let dimensions = Self::of(&root, config)?;
        let [width, _] = root.dims("text_projection.weight")?;
        Ok(Self { projection: Some(ClipProjection { width, beside }), ..dimensions })
    }

    /// The part of a file that the layout's names are behind.
    pub fn within<'w>(&self, w: &Weights<'w>) -> Weights<'w> {
        match self.beside() {
            "" => w.before(Self::MARK),
            beside => w.before(&format!("{beside}.{}", Self::MARK)),
        }
    }

    /// Every tensor of such an encoder, behind the prefix of [`ClipDimensions::within`].
    pub fn layout(&self) -> Layout {
        let Self { vocabulary, positions, width, inner, layers, projection, .. } = *self;
        Layout::of(|l| {
            let mut text = l.at(self.beside());
            text.table("embeddings.token_embedding.weight", [vocabulary, width]);
            text.parameter("embeddings.position_embedding.weight", &[positions, width]);
            (0..layers).for_each(|i| declare_layer(&mut text.at("encoder.layers").at(i), width, inner));
            text.norm("final_layer_norm", width);
            if let Some(projection) = projection {
                l.unbiased("text_projection", width, projection.width);
            }
        })
    }

    /// What stands before the names of all tensors but the projection.
    pub(super) fn beside(&self) -> &'static str {
        self.projection.map_or("", |projection| projection.beside)
    }
}

const TEXT_MODEL: &str = "text_model";

fn declare_layer(l: &mut Declare, width: usize, inner: usize) {
    l.norm("layer_norm1", width);
    ["q_proj", "k_proj", "v_proj", "out_proj"]
        .into_iter()
        .for_each(|proj| l.at("self_attn").linear(proj, width, width));
    l.norm("layer_norm2", width);
    l.linear("mlp.fc1", width, inner);
    l.linear("mlp.fc2", inner, width);
}
