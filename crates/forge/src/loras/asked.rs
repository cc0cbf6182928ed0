use std::fmt::Write as _;

use diffusion_engine::ExtraNetwork;
use lora::{Blocks, Dora};

use crate::{Error, Result};

/// A LoRA as a prompt asks for it: `<lora:name:0.8>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What it is called.
    pub name: String,
    /// How much it counts in what denoises.
    pub model: f32,
    /// How much it counts in the text encoders.
    pub text: f32,
    /// What single blocks are multiplied with.
    pub blocks: Blocks,
    /// The steps that it counts in.
    pub steps: Steps,
    /// How DoRA's magnitudes are understood where its file does not say it.
    pub dora: Dora,
}

/// Steps of a pass, from 1, of which the last counts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

impl Steps {
    /// All of them.
    pub const ALL: Self = Self { first: 1, last: usize::MAX };

    /// Whether a step, from 1, is one of them.
    pub fn contain(self, step: usize) -> bool {
        (self.first..=self.last).contains(&step)
    }
}

/// The most that a LoRA may count.
const MOST: f32 = 100.0;

impl Asked {
    /// What a tag asks for: `<lora:name:te:unet>` as A1111 and Forge have it; `te=`, `unet=`, `lbw=`, `start=`, `stop=` and `step=A-B` as
    /// sd-webui-lora-block-weight adds them, also a preset's name in the second place; and `dora=paper`. `<lyco:…>` means the same.
    ///
    /// # Errors
    /// [`Error::LoraTag`].
    pub fn of(network: &ExtraNetwork) -> Result<Self> {
        let wrong = |expected: &str, found: &str| Error::LoraTag {
            tag: network.to_string(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let weight = |text: &str| {
            let number = text.trim().parse::<f32>().ok().filter(|number| number.abs() <= MOST);
            number.ok_or_else(|| wrong("a number from -100 to 100", text))
        };
        let step = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong("the number of a step", text));
        let (mut text, mut model) = (None, None);
        let (mut blocks, mut steps, mut dora) = (Blocks::default(), Steps::ALL, Dora::default());
        // The third without a name is `dyn`, the rank that Forge reads and leaves out too.
        let mut places = network.args.iter().filter(|arg| !arg.contains('='));
        if let Some(arg) = places.next() {
            text = Some(weight(arg)?);
        }
        match places.next() {
            Some(preset) if Blocks::is_preset(preset) => blocks = Blocks::read(preset)?,
            Some(arg) => model = Some(weight(arg)?),
            None => {}
        }
        for (name, value) in network.args.iter().filter_map(|arg| arg.split_once('=')) {
            match name.trim() {
                "te" => text = Some(weight(value)?),
                "unet" => model = Some(weight(value)?),
                "dyn" => {}
                "lbw" => blocks = Blocks::read(value)?,
                "start" => steps.first = step(value)?.max(1),
                "stop" => steps.last = step(value)?,
                "step" => {
                    let (first, last) = value.split_once('-').ok_or_else(|| wrong("`step=FIRST-LAST`", value))?;
                    steps = Steps { first: step(first)?.max(1), last: step(last)? };
                }
                "dora" => {
                    dora = match value.trim() {
                        "forge" => Dora::Forge,
                        "paper" => Dora::Paper,
                        other => return Err(wrong("`dora=forge` or `dora=paper`", other)),
                    }
                }
                other => return Err(wrong("te, unet, lbw, start, stop, step or dora", other)),
            }
        }
        let text = text.unwrap_or(1.0);
        Ok(Self { name: network.name.trim().to_owned(), model: model.unwrap_or(text), text, blocks, steps, dora })
    }

    /// The tag that asks for a LoRA with these strengths, and what else stands in it.
    pub fn tag(name: &str, model: f32, text: f32, more: &[(&str, &str)]) -> String {
        let mut tag = format!("<lora:{name}:{text}");
        if model != text {
            let _ = write!(tag, ":{model}");
        }
        for (key, value) in more {
            let _ = write!(tag, ":{key}={value}");
        }
        tag + ">"
    }
}

#[cfg(test)]
mod tests {
    use diffusion_engine::extra_networks;

    use super::*;

    fn asked(tag: &str) -> Result<Asked> {
        Asked::of(&extra_networks(tag)[0])
    }

    #[test]
    fn a_tag_says_how_much_a_lora_counts_where_and_when() {
        let of = |tag: &str| {
            let Asked { name, model, text, steps, .. } = asked(tag).unwrap();
            (name, text, model, steps)
        };
        assert_eq!(of("<lora:a>"), ("a".into(), 1.0, 1.0, Steps::ALL));
        assert_eq!(of("<lyco:a b:0.8>"), ("a b".into(), 0.8, 0.8, Steps::ALL));
        assert_eq!(of("<lora:a:0.5:-0.8:64>"), ("a".into(), 0.5, -0.8, Steps::ALL));
        assert_eq!(of("<lora:a:1:unet=0.2:te=0>"), ("a".into(), 0.0, 0.2, Steps::ALL));
        assert_eq!(of("<lora:a:1:start=3:stop=9>").3, Steps { first: 3, last: 9 });
        assert_eq!(of("<lora:a:1:step=0-4>").3, Steps { first: 1, last: 4 });
        assert!(Steps { first: 2, last: 3 }.contain(3) && !Steps { first: 2, last: 3 }.contain(4));
        for tag in ["<lora:a:1:lbw=OUTALL>", "<lora:a:1:OUTALL>", "<lora:a:1:outall>"] {
            assert_eq!(asked(tag).unwrap().blocks, Blocks::read("OUTALL").unwrap(), "{tag}");
        }
        assert_eq!(asked("<lora:a:1:dora=paper>").unwrap().dora, Dora::Paper);
        assert_eq!(asked("<lora:a:1>").unwrap().dora, Dora::Forge);
    }

    #[test]
    fn what_a_tag_can_t_say_is_refused() {
        for tag in [
            "<lora:a:x>",
            "<lora:a:1:nan>",
            "<lora:a:1000>",
            "<lora:a:1:x=1>",
            "<lora:a:1:step=4>",
            "<lora:a:1:start=-1>",
            "<lora:a:1:dora=pager>",
            "<lora:a:1:OUTAL>",
            "<lora:a:OUTALL>",
        ] {
            assert!(matches!(asked(tag), Err(Error::LoraTag { .. })), "{tag}");
        }
        assert!(matches!(asked("<lora:a:1:lbw=1,2>"), Err(Error::Lora(_))));
    }

    #[test]
    fn a_tag_that_is_written_is_read_as_it_was_meant() {
        let tag = Asked::tag("a", 0.8, 0.5, &[("lbw", "OUTALL"), ("start", "2")]);
        let read = asked(&tag).unwrap();
        assert_eq!((read.model, read.text, read.steps.first), (0.8, 0.5, 2));
        assert_eq!(Asked::tag("a", 0.8, 0.8, &[]), "<lora:a:0.8>");
    }
}
