use std::fmt;

use samplers::noise::NoiseSource;

/// The program that wrote a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// This engine.
    Forge,
    /// Stable Diffusion WebUI.
    A1111,
    /// Stable Diffusion WebUI Forge, reForge and Forge Neo.
    ForgeWebUi,
    /// SD.Next.
    SdNext,
    /// A node of ComfyUI that writes A1111's form.
    ComfyUi,
    /// ComfyUI's own graph.
    ComfyGraph,
    /// SwarmUI.
    SwarmUi,
    /// Fooocus.
    Fooocus,
    /// stable-diffusion.cpp.
    StableDiffusionCpp,
    /// NovelAI.
    NovelAi,
    /// InvokeAI.
    InvokeAi,
    /// Draw Things.
    DrawThings,
    /// Easy Diffusion.
    EasyDiffusion,
    /// A program on diffusers.
    Diffusers,
    /// The generator of the site Civitai.
    Civitai,
    /// A program on the Stable Horde.
    Horde,
    /// The text does not say who.
    #[default]
    Unknown,
}

impl Writer {
    /// The name in JSON; none if the text does not say.
    pub fn id(self) -> Option<&'static str> {
        Some(match self {
            Self::Forge => "forge",
            Self::A1111 => "a1111",
            Self::ForgeWebUi => "forge-webui",
            Self::SdNext => "sdnext",
            Self::ComfyUi => "comfyui",
            Self::ComfyGraph => "comfyui-graph",
            Self::SwarmUi => "swarmui",
            Self::Fooocus => "fooocus",
            Self::StableDiffusionCpp => "stable-diffusion.cpp",
            Self::NovelAi => "novelai",
            Self::InvokeAi => "invokeai",
            Self::DrawThings => "draw-things",
            Self::EasyDiffusion => "easy-diffusion",
            Self::Diffusers => "diffusers",
            Self::Civitai => "civitai",
            Self::Horde => "horde",
            Self::Unknown => return None,
        })
    }

    /// Whose version this is, as it stands behind `Version` or `App`.
    pub(crate) fn of_version(version: &str) -> Option<Self> {
        const NAMES: [(&str, Writer); 15] = [
            ("comfyui", Writer::ComfyUi),
            ("stable-diffusion.cpp", Writer::StableDiffusionCpp),
            ("sd.cpp", Writer::StableDiffusionCpp),
            ("fooocus", Writer::Fooocus),
            ("swarm", Writer::SwarmUi),
            ("invoke", Writer::InvokeAi),
            ("novelai", Writer::NovelAi),
            ("draw things", Writer::DrawThings),
            ("drawthings", Writer::DrawThings),
            ("sd.next", Writer::SdNext),
            ("sdnext", Writer::SdNext),
            ("easy diffusion", Writer::EasyDiffusion),
            ("diffusers", Writer::Diffusers),
            ("reforge", Writer::ForgeWebUi),
            ("neo", Writer::ForgeWebUi),
        ];
        if version.starts_with("forge ") {
            return Some(Self::Forge);
        }
        let lower = version.to_lowercase();
        if let Some((_, writer)) = NAMES.iter().find(|(name, _)| lower.contains(name)) {
            return Some(*writer);
        }
        let numbered =
            |letter| lower.strip_prefix(letter).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        match () {
            // without git A1111 leaves the `v` out; it has not got past 1
            () if numbered('v') || is_number_of_1(version) => Some(Self::A1111),
            () if numbered('f') => Some(Self::ForgeWebUi),
            () => None,
        }
    }

    /// Where the program takes its noise from if its text does not say; none if it has noise of its own, or that isn't known.
    ///
    /// A1111 and its forks leave the graphics card's out of the text (modules/processing.py `create_infotext`, 1.10), and
    /// stable-diffusion.cpp's default is the same stream. ComfyUI, which SwarmUI and Fooocus run on, and InvokeAI draw on the CPU.
    pub(crate) fn noise(self) -> Option<NoiseSource> {
        match self {
            Self::A1111 | Self::ForgeWebUi | Self::SdNext | Self::StableDiffusionCpp => Some(NoiseSource::Nv),
            Self::Forge
            | Self::ComfyUi
            | Self::ComfyGraph
            | Self::SwarmUi
            | Self::Fooocus
            | Self::InvokeAi
            | Self::Diffusers => Some(NoiseSource::Cpu),
            Self::NovelAi | Self::DrawThings | Self::EasyDiffusion => None,
            Self::Civitai | Self::Horde | Self::Unknown => None,
        }
    }

    /// The id of the profile that does as the program does; none if there is no such.
    ///
    /// stable-diffusion.cpp shifts every picture of a flow alike and pads prompts to as many tokens as ComfyUI does.
    pub(crate) fn profile(self) -> Option<&'static str> {
        match self {
            Self::ComfyUi | Self::ComfyGraph | Self::SwarmUi | Self::Fooocus | Self::StableDiffusionCpp => {
                Some("comfy")
            }
            Self::InvokeAi | Self::Diffusers | Self::SdNext => Some("diffusers"),
            Self::Forge
            | Self::A1111
            | Self::ForgeWebUi
            | Self::NovelAi
            | Self::DrawThings
            | Self::EasyDiffusion
            | Self::Civitai
            | Self::Horde
            | Self::Unknown => None,
        }
    }
}

/// Whose text it is, as an error says it.
impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Forge | Self::Unknown => "the infotext",
            Self::A1111 => "A1111's text",
            Self::ForgeWebUi => "the text of Stable Diffusion WebUI Forge",
            Self::SdNext => "SD.Next's text",
            Self::ComfyUi => "the text of a ComfyUI node",
            Self::ComfyGraph => "a ComfyUI graph",
            Self::SwarmUi => "SwarmUI's text",
            Self::Fooocus => "Fooocus' text",
            Self::StableDiffusionCpp => "stable-diffusion.cpp's text",
            Self::NovelAi => "NovelAI's text",
            Self::InvokeAi => "InvokeAI's text",
            Self::DrawThings => "Draw Things' text",
            Self::EasyDiffusion => "Easy Diffusion's text",
            Self::Diffusers => "the text of a program on diffusers",
            Self::Civitai => "Civitai's text",
            Self::Horde => "the text of a program on the Stable Horde",
        })
    }
}

/// Whether a version is `1.` with two more numbers behind: `1.8.0`, `1.10.0-RC`.
fn is_number_of_1(version: &str) -> bool {
    let starts = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    version
        .strip_prefix("1.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(minor, patch)| minor.bytes().all(|b| b.is_ascii_digit()) && starts(minor) && starts(patch))
}

#[cfg(test)]
mod tests {
    use super::Writer;

    #[test]
    fn a_version_tells_whose_it_is() {
        for (version, writer) in [
            ("forge 0.1.0", Some(Writer::Forge)),
            ("v1.10.1", Some(Writer::A1111)),
            ("v1.6.0-2-g4afaaf8", Some(Writer::A1111)),
            ("f2.0.1v1.10.1-previous-669-gdfdcbab6", Some(Writer::ForgeWebUi)),
            ("neo-2.3", Some(Writer::ForgeWebUi)),
            ("ComfyUI", Some(Writer::ComfyUi)),
            ("comfyui v0.3.64", Some(Writer::ComfyUi)),
            ("stable-diffusion.cpp", Some(Writer::StableDiffusionCpp)),
            ("Fooocus v2.5.5", Some(Writer::Fooocus)),
            ("SD.Next", Some(Writer::SdNext)),
            ("1.8.0", Some(Writer::A1111)),
            ("1.10.0-RC", Some(Writer::A1111)),
            ("f0.0.17v1.8.0rc-latest-276", Some(Writer::ForgeWebUi)),
            ("5.4.1", None),
            ("1.8", None),
            ("v", None),
            ("four", None),
            ("", None),
        ] {
            assert_eq!(Writer::of_version(version), writer, "{version}");
        }
    }
}
