//! LoRA files, recognised by the names of their tensors.
//!
//! They are not applied yet; the engine knows them so that one given in place of a model is named for what it is.

#![warn(missing_docs)]

/// Whose naming a LoRA file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// kohya-ss sd-scripts: `lora_unet_….lora_down.weight`.
    Kohya,
    /// PEFT and diffusers: `….lora_A.weight`.
    Peft,
    /// cloneofsimo/lora: `unet:0:up`.
    Cloneofsimo,
}

impl Dialect {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kohya => "kohya",
            Self::Peft => "peft",
            Self::Cloneofsimo => "cloneofsimo",
        }
    }

    /// The dialect of a file's tensor names; `None` if they are not a LoRA's.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        names.into_iter().find_map(|name| {
            if name.ends_with(".lora_down.weight") || name.ends_with(".lora_up.weight") {
                Some(Self::Kohya)
            } else if name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight") {
                Some(Self::Peft)
            } else if name.ends_with(":up") || name.ends_with(":down") {
                Some(Self::Cloneofsimo)
            } else {
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_is_known_by_its_names() {
        let of = |name| Dialect::of(["x.weight", name]);
        assert_eq!(of("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"), Some(Dialect::Kohya));
        assert_eq!(of("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"), Some(Dialect::Peft));
        assert_eq!(of("text_encoder:0:down"), Some(Dialect::Cloneofsimo));
        assert_eq!(of("double_blocks.0.img_attn.qkv.weight"), None);
    }
}
