//! How adapters call the modules of a UNet.

use std::collections::BTreeMap;

use core_tensor::Layout;
use diffusion_engine::family::Spelling;

use crate::names::diffusers_name;

/// What a layer of a block is, which its tensors' names tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Res,
    Transformer,
    Down,
    Up,
}

/// The modules of a transformer block that cloneofsimo's training changes, in the order in which diffusers makes them.
const COUNTED: [&str; 9] = [
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "ff.net.0.proj",
    "attn2.to_q",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.to_out.0",
];

/// Every name of every module but latent-diffusion's own: diffusers', those of its processors before PEFT, and cloneofsimo's numbers.
pub(crate) fn spellings(layout: &Layout) -> Vec<Spelling> {
    let blocks = blocks(layout);
    let mut spellings = Vec::new();
    let mut counted = Vec::new();
    for module in modules(layout) {
        let theirs = diffusers_name(module, |block| blocks.get(block).map(String::as_str));
        spellings.push(Spelling::whole(theirs.clone(), module));
        if let Some((attention, to)) = theirs.rsplit_once(".to_").filter(|(before, _)| before.contains(".attn")) {
            let to = to.trim_end_matches(".0");
            spellings.push(Spelling::whole(format!("{attention}.processor.to_{to}_lora"), module));
        }
        let place = COUNTED.iter().position(|end| theirs.ends_with(end));
        counted.extend(place.map(|place| (place_of(&theirs), place, module)));
    }
    // diffusers' UNet has its middle block behind the others.
    counted.sort();
    let numbered = counted.into_iter().enumerate();
    spellings.extend(numbered.map(|(number, (.., module))| Spelling::whole(format!("unet:{number}"), module)));
    spellings
}

/// Modules by their names, in the order of the layout.
fn modules(layout: &Layout) -> impl Iterator<Item = &str> {
    layout.needs().iter().filter_map(|need| need.name.strip_suffix(".weight"))
}

/// Where a transformer block stands in the order in which diffusers' UNet has its modules.
fn place_of(theirs: &str) -> (usize, Vec<usize>) {
    let stacks = ["down_blocks", "up_blocks", "mid_block"];
    let stack = stacks.iter().position(|stack| theirs.starts_with(stack)).unwrap_or(stacks.len());
    let block = theirs.split_once(".attn").or(theirs.split_once(".ff")).map_or(theirs, |(block, _)| block);
    (stack, block.split('.').filter_map(|step| step.parse().ok()).collect())
}

/// The layers of the blocks, as `input_blocks.1.0`, and diffusers' names of them.
fn blocks(layout: &Layout) -> BTreeMap<String, String> {
    let mut sorts: BTreeMap<(&str, usize, usize), Sort> = BTreeMap::new();
    for module in modules(layout) {
        let mut steps = module.split('.');
        let stack = steps.next().unwrap_or_default();
        let number = |step: Option<&str>| step.and_then(|step| step.parse::<usize>().ok());
        let block = if stack == "middle_block" { Some(0) } else { number(steps.next()) };
        let (Some(block), Some(layer), Some(first)) = (block, number(steps.next()), steps.next()) else { continue };
        let sort = match first {
            "in_layers" => Sort::Res,
            "transformer_blocks" => Sort::Transformer,
            "op" => Sort::Down,
            "conv" => Sort::Up,
            _ => continue,
        };
        sorts.insert((stack, block, layer), sort);
    }
    let mut names = BTreeMap::new();
    for stack in ["input_blocks", "middle_block", "output_blocks"] {
        let (mut level, mut resnets, mut attentions) = (0, 0, 0);
        for (&(_, block, layer), sort) in sorts.iter().filter(|((of, ..), _)| *of == stack) {
            let ours = match stack {
                "middle_block" => format!("{stack}.{layer}"),
                _ => format!("{stack}.{block}.{layer}"),
            };
            let theirs = match stack {
                "input_blocks" => format!("down_blocks.{level}"),
                "middle_block" => "mid_block".to_owned(),
                _ => format!("up_blocks.{level}"),
            };
            let theirs = match sort {
                Sort::Res => {
                    resnets += 1;
                    format!("{theirs}.resnets.{}", resnets - 1)
                }
                Sort::Transformer => {
                    attentions += 1;
                    format!("{theirs}.attentions.{}", attentions - 1)
                }
                Sort::Down => format!("{theirs}.downsamplers.0"),
                Sort::Up => format!("{theirs}.upsamplers.0"),
            };
            if matches!(sort, Sort::Down | Sort::Up) {
                (level, resnets, attentions) = (level + 1, 0, 0);
            }
            names.insert(ours, theirs);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use core_tensor::{Device, Residency, WeightSource, Weights};
    use fixtures::Listed;

    use super::*;
    use crate::{LdmUnetNames, UnetConfig, UnetDimensions};

    #[test]
    fn every_module_has_the_name_that_diffusers_gives_it() {
        // given the lists of the tensors of real models in diffusers' layout
        for list in
            ["sd15.diffusers-unet", "sd21.diffusers-unet", "sdxl-base.diffusers-unet", "sdxl-refiner.diffusers-unet"]
        {
            let file = Listed::open(list);
            let theirs: Vec<String> = file.manifest().names().map(str::to_owned).collect();
            let named = LdmUnetNames::over(file);
            let w = Weights::of(&named, &Device::flex(), Residency::Mapped);
            let layout = UnetDimensions::of(&w, &UnetConfig::default()).unwrap().layout();
            // then each of them but the biases is a module's
            let spellings = spellings(&layout);
            let weights: Vec<&str> = theirs.iter().filter_map(|name| name.strip_suffix(".weight")).collect();
            for name in &weights {
                assert!(spellings.iter().any(|spelling| spelling.name == *name), "{list}: {name}");
            }
            let own = spellings.iter().filter(|s| !s.name.contains(':') && !s.name.contains(".processor."));
            assert_eq!(own.count(), weights.len(), "{list}");
        }
    }

    #[test]
    fn cloneofsimos_numbers_count_the_middle_block_last() {
        let named = LdmUnetNames::over(Listed::open("sd15.diffusers-unet"));
        let w = Weights::of(&named, &Device::flex(), Residency::Mapped);
        let spellings = spellings(&UnetDimensions::of(&w, &UnetConfig::default()).unwrap().layout());
        let module = |name: &str| spellings.iter().find(|s| s.name == name).map(|s| s.spans[0].module.clone());
        let block = |layer: &str| format!("{layer}.transformer_blocks.0");
        assert_eq!(module("unet:4"), Some(block("input_blocks.1.1") + ".ff.net.0.proj"));
        assert_eq!(module("unet:53"), Some(block("input_blocks.8.1") + ".attn2.to_out.0"));
        assert_eq!(module("unet:54"), Some(block("output_blocks.3.1") + ".attn1.to_q"));
        assert_eq!(module("unet:143"), Some(block("middle_block.1") + ".attn2.to_out.0"));
        assert_eq!(module("unet:144"), None);
    }
}
