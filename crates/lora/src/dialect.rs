//! Whose naming a file follows.

/// Whose naming a LoRA file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// kohya-ss sd-scripts: `lora_unet_….lora_down.weight`.
    Kohya,
    /// PEFT and diffusers: `….lora_A.weight`, and diffusers before PEFT: `….to_q_lora.down.weight`.
    Peft,
    /// cloneofsimo/lora: `unet:0:up`.
    Cloneofsimo,
    /// LyCORIS' algorithms other than LoRA: `….hada_w1_a`, `….lokr_w1`, `….oft_blocks`.
    Lycoris,
}

impl Dialect {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kohya => "kohya",
            Self::Peft => "peft",
            Self::Cloneofsimo => "cloneofsimo",
            Self::Lycoris => "lycoris",
        }
    }

    /// The dialect of a file's tensor names; `None` if they are not a LoRA's.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        names.into_iter().find_map(Self::of_name)
    }

    /// The dialect of one tensor's name; `None` where it is not a LoRA's.
    pub fn of_name(name: &str) -> Option<Self> {
        let (before, last) = name.rsplit_once('.').unwrap_or(("", name));
        let steps = |step: &str| before.split('.').any(|s| s == step);
        let kohya = ["lora_unet_", "lora_te"].iter().any(|start| name.starts_with(start)) || last == "dora_scale";
        if matches!(last, "lora_down" | "lora_up" | "lora_mid")
            || kohya
            || ["lora_down", "lora_up", "lora_mid"].into_iter().any(steps)
        {
            Some(Self::Kohya)
        } else if ["lora_A", "lora_B"].into_iter().any(steps)
            || matches!(last, "lora_A" | "lora_B" | "lora_magnitude_vector")
            || is_layer(before)
        {
            Some(Self::Peft)
        } else if [":up", ":down", ":alpha"].iter().any(|end| name.ends_with(end)) {
            Some(Self::Cloneofsimo)
        } else if ["hada_", "lokr_", "oft_", "boft_"].iter().any(|start| last.starts_with(start))
            || [".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"].iter().any(|end| name.ends_with(end))
            || matches!(last, "diff" | "diff_b" | "w_norm" | "b_norm" | "set_weight" | "a1" | "a2" | "b1" | "b2")
        {
            Some(Self::Lycoris)
        } else if ["ia3_", "vera_lambda_", "oft_", "boft_", "lora_embedding_"]
            .iter()
            .any(|start| name.split('.').any(|step| step.starts_with(start)))
        {
            Some(Self::Peft)
        } else {
            None
        }
    }
}

/// The method of PEFT's that a tensor's name tells, of those that are not read; `None` for any other name.
pub(crate) fn method_of(name: &str) -> Option<&'static str> {
    let is_pefts = name.starts_with("base_model.") || Dialect::of_name(name) == Some(Dialect::Peft);
    let steps = || name.split('.');
    let known = |(start, _): &&(&str, _)| is_pefts && steps().any(|step| step.starts_with(start));
    METHODS.iter().find(known).map(|(_, method)| *method)
}

/// How the tensors of PEFT's methods begin that are not read (PEFT 0.21.2, `prefix` of its tuners), and what these are called.
const METHODS: &[(&str, &str)] = &[
    ("adamss_", "AdaMSS"),
    ("boft_", "BOFT"),
    ("bone_", "Bone"),
    ("c3a_", "C3A"),
    ("delora_", "DeLoRA"),
    ("fourierft_", "FourierFT"),
    ("glora_", "GLoRA"),
    ("gralora_", "GraLoRA"),
    ("hira_", "HiRA"),
    ("hra_", "HRA"),
    ("ia3_", "IA3"),
    ("lily_", "Lily"),
    ("ln_tuning_", "LayerNorm tuning"),
    ("lora_embedding_", "LoRA of embeddings"),
    ("miss_", "MiSS"),
    ("oft_", "OFT"),
    ("osf_", "OSF"),
    ("poly_", "Poly"),
    ("psoft_", "PSOFT"),
    ("pvera_", "PVeRA"),
    ("randlora_", "RandLoRA"),
    ("road_", "RoAd"),
    ("shira_", "SHiRA"),
    ("tinylora_", "TinyLoRA"),
    ("trainable_tokens_", "trainable tokens"),
    ("vblora_", "VB-LoRA"),
    ("vera_", "VeRA"),
    ("waveft_", "WaveFT"),
];

/// Whether the steps before `weight` are those of a layer of diffusers' own processors, or of XLabs' and UNO's.
fn is_layer(before: &str) -> bool {
    let mut steps = before.rsplit('.');
    let end = steps.next();
    let side = steps.next().unwrap_or_default();
    // Some have a number behind them, or a list of several between.
    let layer = if side.bytes().all(|b| b.is_ascii_digit()) { steps.next().unwrap_or_default() } else { side };
    let layer = layer.trim_end_matches(|c: char| c.is_ascii_digit());
    matches!(end, Some("up" | "down"))
        && ["lora", "loras", "lora_layer", "lora_linear_layer", "lora_conv2d_layer"].iter().any(|e| layer.ends_with(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_is_known_by_its_names() {
        let of = |name| Dialect::of(["x.weight", name]);
        assert_eq!(of("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"), Some(Dialect::Kohya));
        assert_eq!(of("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"), Some(Dialect::Kohya));
        assert_eq!(of("diffusion_model.double_blocks.0.img_attn.qkv.lora_up.weight"), Some(Dialect::Kohya));
        assert_eq!(of("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"), Some(Dialect::Peft));
        assert_eq!(of("base_model.model.x.lora_B.default.weight"), Some(Dialect::Peft));
        assert_eq!(of("unet.down_blocks.0.attn1.processor.to_q_lora.up.weight"), Some(Dialect::Peft));
        assert_eq!(of("double_blocks.0.processor.qkv_lora1.down.weight"), Some(Dialect::Peft));
        assert_eq!(of("single_blocks.0.processor.proj_lora.up.weight"), Some(Dialect::Peft));
        assert_eq!(of("text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight"), Some(Dialect::Peft));
        assert_eq!(of("double_blocks.0.processor.q_loras.0.down.weight"), Some(Dialect::Peft));
        assert_eq!(of("x.ia3_l"), Some(Dialect::Peft));
        assert_eq!(of("base_model.model.x.vera_lambda_b"), Some(Dialect::Peft));
        assert_eq!(of("base_model.model.x.oft_r.default"), Some(Dialect::Peft));
        assert_eq!(of("double_blocks.0.img_attn.qkv.lora_down"), Some(Dialect::Kohya));
        assert_eq!(of("double_blocks.0.img_attn.qkv.diff"), Some(Dialect::Lycoris));
        assert_eq!(of("double_blocks.0.img_attn.qkv.diff_b"), Some(Dialect::Lycoris));
        assert_eq!(of("double_blocks.0.img_attn.qkv.a1"), Some(Dialect::Lycoris));
        assert_eq!(of("diffusion_model.img_in.set_weight"), Some(Dialect::Lycoris));
        assert_eq!(of("lycoris_down_blocks_0_resnets_0_norm1.b_norm"), Some(Dialect::Lycoris));
        assert_eq!(of("unet:0:alpha"), Some(Dialect::Cloneofsimo));
        assert_eq!(of("down.0.downsample.weight"), None);
        assert_eq!(of("encoder.down.0.block.0.conv1.weight"), None);
        assert_eq!(of("text_encoder:0:down"), Some(Dialect::Cloneofsimo));
        assert_eq!(of("lycoris_double_blocks_0_img_attn_qkv.lokr_w1"), Some(Dialect::Lycoris));
        assert_eq!(of("double_blocks.0.img_attn.qkv.hada_w1_a"), Some(Dialect::Lycoris));
        assert_eq!(of("double_blocks.0.img_attn.qkv.weight"), None);
        assert_eq!(of("decoder.up.0.block.0.conv1.weight"), None);
    }
}
