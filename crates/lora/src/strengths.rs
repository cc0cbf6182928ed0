//! How much an adapter counts, block by block.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use core_tensor::Strength;

use crate::Error;

/// The strengths of an adapter whose branches are in a model. They may be set between any two calls; none of the model's weights is
/// touched.
#[derive(Debug, Default)]
pub struct Adapter {
    strengths: Mutex<BTreeMap<Place, Strength>>,
}

/// Where branches lie that have one strength.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The part's key.
    pub(crate) part: String,
    /// Whether it is what denoises.
    pub(crate) denoises: bool,
    /// `double_blocks.3`, `middle_block`, or another beginning of the modules' names.
    pub(crate) block: String,
}

impl Place {
    /// The place of a module.
    pub(crate) fn of(part: &str, denoises: bool, module: &str) -> Self {
        let mut steps = module.split('.');
        let (first, second) = (steps.next().unwrap_or_default(), steps.next());
        let number = second.filter(|step| step.bytes().all(|b| b.is_ascii_digit()) && first.ends_with("blocks"));
        let block = match number {
            Some(number) => format!("{first}.{number}"),
            None => first.to_owned(),
        };
        Self { part: part.to_owned(), denoises, block }
    }
}

impl Adapter {
    /// The strength that all branches in a place share; 0 until it is set.
    pub(crate) fn at(&self, place: Place) -> Strength {
        let mut strengths = self.strengths.lock().unwrap_or_else(PoisonError::into_inner);
        strengths.entry(place).or_insert_with(|| Strength::of(0.0)).clone()
    }

    /// Sets how much it counts in what denoises and in the text encoders, and what blocks are multiplied with beside that.
    pub fn set(&self, model: f32, text: f32, blocks: &Blocks) {
        let strengths = self.strengths.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, strength) in strengths.iter() {
            strength.set(if place.denoises { model } else { text } * blocks.of(place));
        }
    }
}

/// What single blocks of a model are multiplied with: all with 1 where nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blocks(Rules);

#[derive(Clone, Debug, Default, PartialEq)]
enum Rules {
    #[default]
    All,
    /// Of each place of a UNet or of Flux, in the order of sd-webui-lora-block-weight.
    Listed(Vec<(String, f32)>),
    /// Beginnings of names; the last that fits counts.
    Named(Vec<(Pattern, f32)>),
}

#[derive(Clone, Debug, PartialEq)]
struct Pattern {
    stack: String,
    numbers: Option<(usize, usize)>,
}

/// Presets of sd-webui-lora-block-weight, `lbwpresets.txt`, for the 17 blocks of a LoRA of Stable Diffusion 1; two of one number for all.
const PRESETS: &[(&str, &str)] = &[
    ("INS", "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0"),
    ("IND", "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0"),
    ("INALL", "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0"),
    ("MIDD", "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0"),
    ("OUTD", "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0"),
    ("OUTS", "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1"),
    ("OUTALL", "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"),
    ("ALL0.5", "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5"),
];

/// The blocks of a UNet that lists of fewer numbers mean: input blocks, and output blocks; `BASE` and the middle block are in all.
const LISTS: &[(usize, &[usize], &[usize])] = &[
    (12, &[4, 5, 7, 8], &[0, 1, 2, 3, 4, 5]),
    (17, &[1, 2, 4, 5, 7, 8], &[3, 4, 5, 6, 7, 8, 9, 10, 11]),
    (20, &[0, 1, 2, 3, 4, 5, 6, 7, 8], &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
    (26, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
];

/// Numbers of a list for Flux: CLIP, T5, what is before the blocks, 19 and 38 blocks, and what is behind them.
const FLUX: usize = 61;
const FLUX_DOUBLE: usize = 19;

const TEXT: &str = "text";
const CLIP: &str = "clip";
const T5: &str = "t5";
const BEFORE: &str = "in";
const BEHIND: &str = "out";

impl Blocks {
    /// Reads a preset's name, a list of 12, 17, 20, 26 or 61 numbers, or weights of names such as `double_blocks=0.5,single_blocks.7-9=0`.
    ///
    /// # Errors
    /// [`Error::Blocks`].
    pub fn read(text: &str) -> Result<Self, Error> {
        let wrong = |expected: String| Error::Blocks { given: text.chars().take(80).collect(), expected };
        let name = text.trim();
        if name.eq_ignore_ascii_case("ALL") {
            return Ok(Self::default());
        }
        if name.eq_ignore_ascii_case("NONE") {
            return Ok(Self(Rules::Listed(Vec::new())));
        }
        let preset = PRESETS.iter().find(|(preset, _)| preset.eq_ignore_ascii_case(name)).map(|(_, list)| *list);
        let items: Vec<&str> = preset.unwrap_or(name).split(',').map(str::trim).collect();
        let number = |item: &str| {
            let number = item.parse::<f32>().ok().filter(|number| number.is_finite() && number.abs() <= 1000.0);
            number.ok_or_else(|| wrong("numbers from -1000 to 1000".into()))
        };
        if items.iter().any(|item| item.contains('=')) {
            let rule = |item: &str| {
                let (name, weight) = item.split_once('=').ok_or_else(|| wrong("NAME=WEIGHT in each".into()))?;
                let pattern = Pattern::read(name.trim());
                Ok((
                    pattern.ok_or_else(|| wrong("a block such as `double_blocks.3` or `double_blocks.3-7`".into()))?,
                    number(weight.trim())?,
                ))
            };
            return items.into_iter().map(rule).collect::<Result<_, Error>>().map(|rules| Self(Rules::Named(rules)));
        }
        if let ([one], None) = (&items[..], preset)
            && one.parse::<f32>().is_err()
        {
            let presets: Vec<_> = ["ALL", "NONE"].into_iter().chain(PRESETS.iter().map(|(name, _)| *name)).collect();
            return Err(wrong(format!("one of {}, or a list of numbers", presets.join(", "))));
        }
        let numbers = items.iter().map(|item| number(item)).collect::<Result<Vec<_>, _>>()?;
        let names = listed(numbers.len()).ok_or_else(|| wrong("12, 17, 20, 26 or 61 numbers".into()))?;
        Ok(Self(Rules::Listed(names.into_iter().zip(numbers).collect())))
    }

    /// Whether this is a preset's name.
    pub fn is_preset(text: &str) -> bool {
        let mut known = ["ALL", "NONE"].into_iter().chain(PRESETS.iter().map(|(name, _)| *name));
        known.any(|name| name.eq_ignore_ascii_case(text.trim()))
    }

    /// What a place is multiplied with.
    fn of(&self, place: &Place) -> f32 {
        match &self.0 {
            Rules::All => 1.0,
            Rules::Listed(weights) => {
                let is = |name: &str| match name {
                    TEXT => !place.denoises,
                    CLIP => !place.denoises && place.part != T5,
                    T5 => place.part == T5,
                    BEFORE => place.denoises && !place.block.contains('.') && !place.block.starts_with("final"),
                    BEHIND => place.denoises && place.block.starts_with("final"),
                    block => place.denoises && place.block == block,
                };
                weights.iter().find(|(name, _)| is(name)).map_or(0.0, |(_, weight)| *weight)
            }
            Rules::Named(rules) => {
                rules.iter().rev().find(|(pattern, _)| pattern.is(place)).map_or(1.0, |(_, weight)| *weight)
            }
        }
    }
}

/// What a list of so many numbers is about, in its order.
fn listed(numbers: usize) -> Option<Vec<String>> {
    let owned = |name: &str| name.to_owned();
    if numbers == FLUX {
        let double = (0..FLUX_DOUBLE).map(|block| format!("double_blocks.{block}"));
        let single = (0..FLUX - FLUX_DOUBLE - 4).map(|block| format!("single_blocks.{block}"));
        let ends = [CLIP, T5, BEFORE].into_iter().map(owned);
        return Some(ends.chain(double).chain(single).chain([owned(BEHIND)]).collect());
    }
    let (_, inputs, outputs) = LISTS.iter().find(|(of, ..)| *of == numbers)?;
    let inputs = inputs.iter().map(|block| format!("input_blocks.{block}"));
    let outputs = outputs.iter().map(|block| format!("output_blocks.{block}"));
    Some([owned(TEXT)].into_iter().chain(inputs).chain([owned("middle_block")]).chain(outputs).collect())
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        let whole = || Some(Self { stack: text.to_owned(), numbers: None }).filter(|pattern| !pattern.stack.is_empty());
        let Some((stack, numbers)) = text.split_once('.') else { return whole() };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        Some(Self { stack: stack.to_owned(), numbers: Some((first.parse().ok()?, last.parse().ok()?)) })
    }

    fn is(&self, place: &Place) -> bool {
        let (stack, number) = place.block.split_once('.').unwrap_or((&place.block, ""));
        let named = stack == self.stack || place.part == self.stack;
        named
            && self.numbers.is_none_or(|(first, last)| number.parse().is_ok_and(|n: usize| (first..=last).contains(&n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(blocks: &str, part: &str, module: &str) -> f32 {
        Blocks::read(blocks).unwrap().of(&Place::of(part, ["unet", "transformer"].contains(&part), module))
    }

    #[test]
    fn a_list_means_the_blocks_that_its_length_stands_for() {
        assert_eq!(weight("OUTALL", "unet", "output_blocks.3.1.x"), 1.0);
        assert_eq!(weight("outall", "unet", "input_blocks.4.1.x"), 0.0);
        assert_eq!(weight("MIDD", "unet", "middle_block.1.x"), 1.0);
        assert_eq!(weight("INS", "clip", "text_model.x"), 1.0);
        // IN01, IN02 and IN04 are what its list has beside the text encoders.
        let inputs = [1, 2, 4, 5].map(|i| weight("INS", "unet", &format!("input_blocks.{i}.1.x")));
        assert_eq!(inputs, [1.0, 1.0, 1.0, 0.0]);
        assert_eq!(weight("ALL0.5", "unet", "output_blocks.11.1.x"), 0.5);
        assert_eq!(weight("ALL", "unet", "time_embed.0"), 1.0);
        assert_eq!(weight("NONE", "clip", "text_model.x"), 0.0);
        let twelve: Vec<_> = (0..12).map(|i| i.to_string()).collect();
        assert_eq!(weight(&twelve.join(","), "unet", "input_blocks.7.1.x"), 3.0);
        assert_eq!(weight(&twelve.join(","), "unet", "output_blocks.5.0.x"), 11.0);
        let flux: Vec<_> = (0..61).map(|i| i.to_string()).collect();
        let flux = flux.join(",");
        assert_eq!(weight(&flux, "clip", "encoder.x"), 0.0);
        assert_eq!(weight(&flux, "t5", "encoder.x"), 1.0);
        assert_eq!(weight(&flux, "transformer", "img_in"), 2.0);
        assert_eq!(weight(&flux, "transformer", "double_blocks.18.img_mlp.0"), 21.0);
        assert_eq!(weight(&flux, "transformer", "single_blocks.37.linear1"), 59.0);
        assert_eq!(weight(&flux, "transformer", "final_layer.linear"), 60.0);
    }

    #[test]
    fn the_last_name_that_fits_counts() {
        let blocks = "double_blocks=0.5, single_blocks.7-9=0, single_blocks.8=2, clip=0.25";
        assert_eq!(weight(blocks, "transformer", "double_blocks.3.x"), 0.5);
        assert_eq!(weight(blocks, "transformer", "single_blocks.7.x"), 0.0);
        assert_eq!(weight(blocks, "transformer", "single_blocks.8.x"), 2.0);
        assert_eq!(weight(blocks, "transformer", "single_blocks.17.x"), 1.0);
        assert_eq!(weight(blocks, "clip", "encoder.x"), 0.25);
    }

    #[test]
    fn what_can_t_be_read_says_what_could() {
        for wrong in ["", "OUTAL", "1,2", "1,x", "a.b=1", "a=b", "double_blocks.1-=1", "inf", "a=1,2"] {
            assert!(matches!(Blocks::read(wrong), Err(Error::Blocks { .. })), "{wrong}");
        }
    }

    #[test]
    fn strengths_of_all_branches_move_at_once() {
        let adapter = Adapter::default();
        let model = adapter.at(Place::of("unet", true, "output_blocks.3.1.x"));
        let same = adapter.at(Place::of("unet", true, "output_blocks.3.0.y"));
        let text = adapter.at(Place::of("clip", false, "encoder.x"));
        assert_eq!([&model, &same, &text].map(Strength::get), [0.0; 3]);
        adapter.set(0.8, 0.4, &Blocks::read("output_blocks.3=0.5").unwrap());
        assert_eq!([&model, &same, &text].map(Strength::get), [0.4, 0.4, 0.4]);
    }
}
