//! What a picture's text says of another picture that it was drawn from, as keys of a config.

use diffusion_engine::{Infotext, Key, Value, Writer};

use crate::{Config, Result, config::find};

/// What is said of the picture that another was drawn from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DrawnFrom {
    /// Keys of `[img2img]` and `[inpaint]`, and what they are set to.
    settings: Vec<(&'static Key, Value)>,
    /// The keys of the text that say so.
    pub(crate) read: Vec<String>,
    /// Whether a part of it was drawn anew.
    pub(crate) is_masked: bool,
}

/// What texts call the keys of `[img2img]` and `[inpaint]`, and whether that means that there was a mask.
static SAID: [(&str, &str, &str, bool); 21] = [
    ("Denoising strength", "img2img", "strength", false),
    ("Exact steps", "img2img", "exact_steps", false),
    ("Resize mode", "img2img", "resize", false),
    ("Noise multiplier", "img2img", "noise_multiplier", false),
    ("Sampled latent", "img2img", "sampled", false),
    ("Color correction", "img2img", "colour_correction", false),
    ("Mask blur", "inpaint", "blur", true),
    ("Mask round", "inpaint", "round", true),
    ("Mask mode", "inpaint", "invert", true),
    ("Masked content", "inpaint", "fill", true),
    ("Inpaint area", "inpaint", "area", true),
    ("Masked area padding", "inpaint", "padding", true),
    ("Conditional mask weight", "inpaint", "hidden", true),
    ("Soft inpainting enabled", "inpaint", "soft", true),
    ("Differential diffusion", "inpaint", "soft", true),
    ("Soft inpainting schedule bias", "inpaint", "soft_schedule_bias", true),
    ("Soft inpainting preservation strength", "inpaint", "soft_preservation", true),
    ("Soft inpainting transition contrast boost", "inpaint", "soft_contrast", true),
    ("Soft inpainting mask influence", "inpaint", "soft_mask_influence", true),
    ("Soft inpainting difference threshold", "inpaint", "soft_threshold", true),
    ("Soft inpainting difference contrast", "inpaint", "soft_threshold_contrast", true),
];

/// The values of texts that configs call otherwise.
static VALUES: [(&str, &str, &str); 11] = [
    ("resize", "Just resize", "just"),
    ("resize", "Crop and resize", "crop"),
    ("resize", "Resize and fill", "fill"),
    ("resize", "Just resize (latent upscale)", "latent"),
    ("invert", "Inpaint not masked", "on"),
    ("invert", "Inpaint masked", "off"),
    ("fill", "latent noise", "noise"),
    ("fill", "latent nothing", "nothing"),
    ("area", "Only masked", "masked"),
    ("area", "Whole picture", "whole"),
    ("soft", "True", "blended"),
];

impl DrawnFrom {
    /// What a text of A1111, Forge or this engine says; `None` for a picture that was drawn from words alone.
    pub(crate) fn said_by(infotext: &Infotext) -> Option<Self> {
        let is_theirs = matches!(infotext.from, Writer::Forge | Writer::A1111 | Writer::ForgeWebUi | Writer::Unknown);
        // A second pass has a denoising strength too.
        let is_hires = infotext.pairs.iter().any(|(key, _)| key.starts_with("Hires "));
        let is_from = infotext.pairs.iter().any(|(key, _)| key == SAID[0].0);
        if !is_theirs || is_hires || !is_from {
            return None;
        }
        let mut found = Self { settings: Vec::new(), read: Vec::new(), is_masked: false };
        for (label, text) in &infotext.pairs {
            let known = SAID.iter().find(|(known, ..)| known == label);
            let Some(&(_, table, name, is_of_mask)) = known else { continue };
            let Some(key) = find(table, name) else { continue };
            let text = match label.as_str() {
                "Differential diffusion" => "differential",
                _ => config_value(name, text.trim()),
            };
            found.settings.push((key, key.read(text)));
            found.read.push(label.clone());
            found.is_masked |= is_of_mask;
        }
        Some(found)
    }

    /// A config whose tables of pictures are as the text says, with the files of another, at that size.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for what is out of its key's range.
    pub(crate) fn config(&self, files: &Config) -> Result<Config> {
        let mut config = Config::default();
        config.image.clone_from(&files.image);
        config.img2img.image.clone_from(&files.img2img.image);
        config.img2img.scale = 0.0;
        if self.is_masked {
            config.inpaint.mask.clone_from(&files.inpaint.mask);
        }
        // A text leaves a blur of nothing out.
        config.inpaint.blur = 0.0;
        self.settings.iter().try_for_each(|(key, value)| config.set(key, value, key.name))?;
        Ok(config)
    }
}

/// What a config calls what a text says of a key.
fn config_value<'t>(name: &str, text: &'t str) -> &'t str {
    let value = VALUES.iter().find(|(of, said, _)| *of == name && said.eq_ignore_ascii_case(text));
    value.map_or(
        match text {
            "True" => "on",
            "False" => "off",
            text => text,
        },
        |(_, _, value)| value,
    )
}

#[cfg(test)]
mod tests {
    use diffusion_engine::{Fill, Resize, parse};

    use super::*;
    use crate::{InpaintArea, SoftInpainting};

    fn said(settings: &str) -> Option<DrawnFrom> {
        let text = format!("a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, {settings}");
        DrawnFrom::said_by(&parse(&text, &[]))
    }

    #[test]
    fn a1111s_words_are_the_keys_that_they_set() {
        let text = "Denoising strength: 0.6, Mask blur: 8, Inpaint area: Only masked, Masked area padding: 48, Masked content: latent noise, \
                    Mask mode: Inpaint not masked, Soft inpainting enabled: True, Soft inpainting schedule bias: 2, Version: v1.10.1";
        let found = said(text).unwrap();
        assert!(found.is_masked && found.read.len() == 8, "{:?}", found.read);
        let Config { img2img, inpaint, .. } = found.config(&Config::default()).unwrap();
        assert_eq!((img2img.strength, img2img.resize, img2img.scale), (0.6, Resize::Just, 0.0));
        assert_eq!((inpaint.blur, inpaint.area, inpaint.padding), (8.0, InpaintArea::Masked, 48));
        assert_eq!((inpaint.fill, inpaint.invert, inpaint.soft), (Fill::Noise, true, SoftInpainting::Blended));
        assert_eq!((inpaint.soft_schedule_bias, inpaint.soft_preservation), (2.0, 0.5));
    }

    #[test]
    fn a_picture_of_words_or_of_two_passes_is_drawn_from_no_other() {
        assert_eq!(said("Version: v1.10.1"), None);
        assert_eq!(
            said("Denoising strength: 0.7, Hires upscale: 2, Hires upscaler: R-ESRGAN 4x+, Version: v1.10.1"),
            None
        );
        let plain = said("Denoising strength: 0.7, Version: v1.10.1").unwrap();
        assert!(!plain.is_masked && plain.config(&Config::default()).unwrap().inpaint.blur == 0.0);
        let wrong = said("Denoising strength: 7, Version: v1.10.1").unwrap();
        assert!(matches!(wrong.config(&Config::default()), Err(crate::Error::Value { .. })));
    }
}
