/// What a network is there for in a model, and how its tensors are told where several networks lie under one prefix. Kinds of one duty stand
/// in each other's place: under a prefix of a file there is one of them at most.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// Its name among duties.
    pub id: &'static str,
    /// Of several parts of a file that of the lowest rank is told first.
    pub rank: u8,
    /// How names of its tensors begin; none for the duty that has all tensors that are no other's.
    pub owns: &'static [&'static str],
    /// How names begin of what may lie beside such a network and no picture needs, so that how it is stored is of no account.
    pub idle: &'static [&'static str],
    /// How names begin of what is stored twice, so that nothing need read it.
    pub doubled: &'static [&'static str],
}

impl Duty {
    /// Denoises latents.
    pub const DENOISER: Self = Self { id: "denoiser", rank: 0, owns: &[], idle: &[], doubled: &[] };

    /// Encodes text as T5 does.
    pub const T5: Self = Self {
        id: "t5",
        rank: 1,
        owns: &[
            "shared.",
            "lm_head.",
            "spiece_model",
            "encoder.block.",
            "encoder.final_layer_norm.",
            "encoder.embed_tokens.",
            "decoder.block.",
            "decoder.final_layer_norm.",
            "decoder.embed_tokens.",
            "token_embd.",
            "enc.blk.",
            "enc.output_norm.",
            "dec.blk.",
            "dec.output_norm.",
        ],
        idle: &["decoder.", "lm_head.", "dec.", "output."],
        doubled: &["spiece_model", "encoder.embed_tokens.", "shared."],
    };

    /// Encodes text as CLIP does.
    pub const CLIP: Self = Self {
        id: "clip",
        rank: 2,
        owns: &[
            "text_model.",
            "vision_model.",
            "text_projection",
            "visual_projection",
            "logit_scale",
            "embeddings.",
            "encoder.layers.",
            "final_layer_norm.",
            "positional_embedding",
            "token_embedding.",
        ],
        idle: &["vision_model.", "visual_projection.", "visual.", "text_projection."],
        doubled: &[],
    };

    /// Makes pictures of latents and latents of pictures.
    pub const AUTOENCODER: Self = Self {
        id: "autoencoder",
        rank: 3,
        owns: &["encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "bn."],
        idle: &["encoder.", "quant_conv.", "loss."],
        doubled: &[],
    };
}

impl PartialEq for Duty {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Duty {}
