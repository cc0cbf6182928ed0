//! What a tensor's name says: which module it changes, and what of the change it is.

/// What of a module's change a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaf {
    /// What the input meets, `[rank, in]`.
    Down,
    /// What makes the output, `[out, rank]`.
    Up,
    /// Between both, of a convolution.
    Mid,
    /// Added to the bias.
    UpBias,
    Alpha,
    /// LyCORIS' magnitudes of DoRA.
    DoraScale,
    /// PEFT's, which are the paper's.
    Magnitude,
    Hada1A,
    Hada1B,
    Hada2A,
    Hada2B,
    Hada1T,
    Hada2T,
    Lokr1,
    Lokr1A,
    Lokr1B,
    Lokr2,
    Lokr2A,
    Lokr2B,
    Lokr2T,
    A1,
    A2,
    B1,
    B2,
    OftBlocks,
    Rescale,
    /// A difference of the weight.
    Diff,
    /// A difference of the bias.
    DiffBias,
    /// What the weight becomes.
    Set,
}

impl Leaf {
    /// What messages call it: the name that the most programs give it.
    pub(crate) fn called(self) -> &'static str {
        match self {
            Self::UpBias => "lora_B.bias",
            leaf => LEAVES.iter().find(|(_, known)| *known == leaf).map_or("a tensor", |(name, _)| name),
        }
    }
}

/// The last steps of names that say what a tensor is, and what.
const LEAVES: &[(&str, Leaf)] = &[
    ("lora_down", Leaf::Down),
    ("lora_A", Leaf::Down),
    ("lora_up", Leaf::Up),
    ("lora_B", Leaf::Up),
    ("lora_mid", Leaf::Mid),
    ("alpha", Leaf::Alpha),
    ("dora_scale", Leaf::DoraScale),
    ("lora_magnitude_vector", Leaf::Magnitude),
    ("hada_w1_a", Leaf::Hada1A),
    ("hada_w1_b", Leaf::Hada1B),
    ("hada_w2_a", Leaf::Hada2A),
    ("hada_w2_b", Leaf::Hada2B),
    ("hada_t1", Leaf::Hada1T),
    ("hada_t2", Leaf::Hada2T),
    ("lokr_w1", Leaf::Lokr1),
    ("lokr_w1_a", Leaf::Lokr1A),
    ("lokr_w1_b", Leaf::Lokr1B),
    ("lokr_w2", Leaf::Lokr2),
    ("lokr_w2_a", Leaf::Lokr2A),
    ("lokr_w2_b", Leaf::Lokr2B),
    ("lokr_t2", Leaf::Lokr2T),
    ("a1", Leaf::A1),
    ("a2", Leaf::A2),
    ("b1", Leaf::B1),
    ("b2", Leaf::B2),
    ("oft_blocks", Leaf::OftBlocks),
    ("oft_diag", Leaf::OftBlocks),
    ("rescale", Leaf::Rescale),
    ("diff", Leaf::Diff),
    ("w_norm", Leaf::Diff),
    ("diff_b", Leaf::DiffBias),
    ("b_norm", Leaf::DiffBias),
    ("set_weight", Leaf::Set),
];

/// Steps between a module and `up` or `down` in diffusers' older files.
const LAYERS: [&str; 4] = ["lora", "lora_layer", "lora_linear_layer", "lora_conv2d_layer"];

/// The module that a tensor's name begins with, and what of its change the tensor is; `None` for a name that is no adapter's.
pub(crate) fn parsed(name: &str) -> Option<(String, Leaf)> {
    if let Some((module, leaf)) = name.rsplit_once(':') {
        let leaf = match leaf {
            "down" => Leaf::Down,
            "up" => Leaf::Up,
            "alpha" => Leaf::Alpha,
            _ => return None,
        };
        return Some((module.to_owned(), leaf));
    }
    let mut steps: Vec<&str> = name.split('.').collect();
    let is_bias = steps.last() == Some(&"bias");
    let is_weight = steps.last() == Some(&"weight");
    if is_bias || is_weight {
        steps.pop();
    }
    let leaf_of = |step: &str| LEAVES.iter().find(|(name, _)| *name == step).map(|(_, leaf)| *leaf);
    let last = *steps.last()?;
    let before = steps.len().checked_sub(2).map(|at| steps[at]).unwrap_or_default();
    let (module, leaf) = if let Some(leaf) = leaf_of(last) {
        (&steps[..steps.len() - 1], leaf)
    } else if let Some(leaf @ (Leaf::Down | Leaf::Up | Leaf::Magnitude)) = leaf_of(before) {
        // PEFT's name of the adapter stands behind it.
        (&steps[..steps.len() - 2], leaf)
    } else if let Some(leaf) = of_layer(last, before) {
        (&steps[..steps.len() - 1], leaf)
    } else if last == "scale" || is_weight && last.starts_with("norm") {
        let end = steps.len() - usize::from(last == "scale");
        (&steps[..end], Leaf::Set)
    } else {
        return None;
    };
    let leaf = match (leaf, is_bias) {
        (leaf, false) => leaf,
        (Leaf::Up, true) => Leaf::UpBias,
        (_, true) => return None,
    };
    let (module, leaf) = match (module, leaf) {
        ([module @ .., layer], leaf) if LAYERS.contains(layer) => (module, leaf),
        // ComfyUI calls what is no `weight` by the parameter's own name.
        ([module @ .., "scale"], leaf @ (Leaf::Diff | Leaf::Set)) => (module, leaf),
        ([module @ .., "bias"], Leaf::Diff) => (module, Leaf::DiffBias),
        (module, leaf) => (module, leaf),
    };
    (!module.is_empty()).then(|| (module.join("."), leaf))
}

/// `up` or `down` behind a layer of diffusers' or XLabs' processors.
fn of_layer(last: &str, before: &str) -> Option<Leaf> {
    let layer = before.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_layer = LAYERS.contains(&before) || layer.ends_with("_lora");
    match last {
        "down" if is_layer => Some(Leaf::Down),
        "up" if is_layer => Some(Leaf::Up),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_program_are_a_module_and_what_is_done_to_it() {
        let of = |name: &str| parsed(name).unwrap_or_else(|| panic!("{name}"));
        for (name, module, leaf) in [
            ("lora_unet_x_attn1_to_q.lora_down.weight", "lora_unet_x_attn1_to_q", Leaf::Down),
            ("lora_unet_x_attn1_to_q.alpha", "lora_unet_x_attn1_to_q", Leaf::Alpha),
            ("transformer.x.to_q.lora_A.weight", "transformer.x.to_q", Leaf::Down),
            ("base_model.model.x.to_q.lora_B.default.weight", "base_model.model.x.to_q", Leaf::Up),
            ("x.to_q.lora_magnitude_vector.default.weight", "x.to_q", Leaf::Magnitude),
            ("x.to_q.lora_magnitude_vector", "x.to_q", Leaf::Magnitude),
            ("unet.x.attn1.processor.to_q_lora.down.weight", "unet.x.attn1.processor.to_q_lora", Leaf::Down),
            ("x.self_attn.q_proj.lora_linear_layer.up.weight", "x.self_attn.q_proj", Leaf::Up),
            ("x.to_q.lora.up.weight", "x.to_q", Leaf::Up),
            ("x.to_q.lora.alpha", "x.to_q", Leaf::Alpha),
            ("double_blocks.0.processor.qkv_lora1.down.weight", "double_blocks.0.processor.qkv_lora1", Leaf::Down),
            ("x.a1.weight", "x", Leaf::A1),
            ("img_in.lora_B.bias", "img_in", Leaf::UpBias),
            ("single_blocks.0.norm.key_norm.scale", "single_blocks.0.norm.key_norm", Leaf::Set),
            ("transformer.x.attn.norm_q.weight", "transformer.x.attn.norm_q", Leaf::Set),
            ("lora_unet_conv_in.diff_b", "lora_unet_conv_in", Leaf::DiffBias),
            ("lora_te_x.w_norm", "lora_te_x", Leaf::Diff),
            ("diffusion_model.x.query_norm.scale.diff", "diffusion_model.x.query_norm", Leaf::Diff),
            ("diffusion_model.x.query_norm.scale.set_weight", "diffusion_model.x.query_norm", Leaf::Set),
            ("diffusion_model.x.qkv.bias.diff", "diffusion_model.x.qkv", Leaf::DiffBias),
            ("unet:9:up", "unet:9", Leaf::Up),
        ] {
            assert_eq!(of(name), (module.to_owned(), leaf), "{name}");
        }
        for name in ["x.to_q.weight", "x.bias", "<s1>", "lora_A.weight", "x.lora_down.bias", "unet:9:rank", "", "."] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }
}
