use crate::{Error, mu, registry::unknown};

/// Whose habits a run follows where the engines disagree.
///
/// Today that is the shift of Flux's schedule and the length of its T5 prompt. `a1111` has no Flux of its own and follows
/// ComfyUI; `forge` follows the model's makers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// This engine's own choice: as `bfl`.
    #[default]
    Forge,
    /// Stable Diffusion WebUI.
    A1111,
    /// ComfyUI.
    Comfy,
    /// Hugging Face diffusers: as `bfl` (FluxPipeline's own default is 512 T5 tokens for schnell too).
    Diffusers,
    /// Black Forest Labs' reference code.
    Bfl,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 5] = [Self::Forge, Self::A1111, Self::Comfy, Self::Diffusers, Self::Bfl];

    /// The name in configs and flags.
    pub fn id(self) -> &'static str {
        match self {
            Self::Forge => "forge",
            Self::A1111 => "a1111",
            Self::Comfy => "comfy",
            Self::Diffusers => "diffusers",
            Self::Bfl => "bfl",
        }
    }

    /// The profile of a name.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn named(name: &str) -> Result<Self, Error> {
        (Self::ALL.into_iter())
            .find(|p| p.id().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown("profile", name, Self::ALL.into_iter().map(Self::id)))
    }

    /// The shift's logarithm for a Flux picture of so many image tokens; `None` for a model without distilled guidance
    /// (schnell), whose time is not shifted.
    ///
    /// ComfyUI shifts every picture as if it were 1024 × 1024 (ModelSamplingFlux, v0.3.64).
    pub fn mu(self, guidance_distilled: bool, image_tokens: usize) -> Option<f64> {
        let tokens = match self {
            Self::Forge | Self::Diffusers | Self::Bfl => image_tokens,
            Self::A1111 | Self::Comfy => 4096,
        };
        guidance_distilled.then(|| mu(tokens))
    }

    /// How many T5 tokens a Flux prompt is padded to: 512 with distilled guidance (dev) and 256 without (schnell) by flux/cli.py
    /// 802fb47, at least 256 in ComfyUI, and exactly 256 here.
    pub fn t5_length(self, guidance_distilled: bool) -> usize {
        match self {
            Self::Forge | Self::Diffusers | Self::Bfl if guidance_distilled => 512,
            Self::Forge | Self::Diffusers | Self::Bfl | Self::A1111 | Self::Comfy => 256,
        }
    }
}
