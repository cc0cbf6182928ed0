//! How adapters call the modules of a Flux transformer.

use core_tensor::{Layout, Need};
use diffusion_engine::family::{Span, Spelling};

use crate::bfl_names::{LAST_MODULATION, theirs};

/// Modules of XLabs' processors, and BFL's. Reference: x-flux `DoubleStreamBlockLoraProcessor`, `SingleStreamBlockLoraProcessor`.
const XLABS: [(&str, &str, &str); 6] = [
    ("double_blocks.", "img_attn.qkv", "qkv_lora1"),
    ("double_blocks.", "txt_attn.qkv", "qkv_lora2"),
    ("double_blocks.", "img_attn.proj", "proj_lora1"),
    ("double_blocks.", "txt_attn.proj", "proj_lora2"),
    ("single_blocks.", "linear1", "qkv_lora"),
    ("single_blocks.", "linear2", "proj_lora"),
];

/// Every name of every module but BFL's own: diffusers', some of which are rows of BFL's, and those of XLabs' processors.
pub(crate) fn spellings(layout: &Layout) -> Vec<Spelling> {
    layout.needs().iter().flat_map(of_need).collect()
}

fn of_need(need: &Need) -> Vec<Spelling> {
    let Some((module, leaf)) = need.name.rsplit_once('.').filter(|(_, leaf)| *leaf != "bias") else { return vec![] };
    let theirs: Vec<String> = theirs(&format!("{module}.{leaf}"))
        .iter()
        .filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned()))
        .collect();
    let rows = need.shape.first().copied().unwrap_or(0);
    let mut spellings = match &theirs[..] {
        [whole] if module == LAST_MODULATION => {
            let half = rows / 2;
            let span = |from: usize, to| Span { rows: Some(from..from + half), module: module.to_owned(), start: to };
            vec![Spelling { name: whole.clone(), spans: vec![span(0, half), span(half, 0)] }]
        }
        [whole] => vec![Spelling::whole(whole.clone(), module)],
        parts => {
            // Queries, keys and values are as wide as what they are made from; what is left is the inner layer's.
            let width = need.shape.get(1).copied().unwrap_or(0);
            let end = |part: usize| if part + 1 == parts.len() { rows } else { rows.min(width * (part + 1)) };
            let part = |(i, name): (usize, &String)| Spelling::part(name.clone(), module, rows.min(width * i)..end(i));
            parts.iter().enumerate().map(part).collect()
        }
    };
    if let Some(block) = module.strip_suffix(".linear1") {
        // ComfyUI's name of the rows that are queries, keys and values.
        let rows = 0..rows.min(3 * need.shape.get(1).copied().unwrap_or(0));
        spellings.push(Spelling::part(format!("{block}.linear1_qkv"), module, rows));
    }
    spellings.extend(XLABS.iter().filter_map(|(stack, ours, name)| {
        let block = module.strip_suffix(ours)?.strip_suffix('.').filter(|block| block.starts_with(stack))?;
        let name = format!("{block}.processor.{name}");
        Some(match *ours {
            "linear1" => Spelling::part(name, module, 0..rows.min(3 * need.shape.get(1).copied().unwrap_or(0))),
            _ => Spelling::whole(name, module),
        })
    }));
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bfl_fuses_is_rows_of_it_and_the_last_halves_change_places() {
        let layout = Layout::of(|l| {
            l.linear("double_blocks.0.img_attn.qkv", 8, 24);
            l.stacked("single_blocks.3.linear1", 8, &[24, 32]);
            l.parameter("double_blocks.0.txt_attn.norm.key_norm.scale", &[4]);
            l.linear(LAST_MODULATION, 8, 16);
        });
        let all = spellings(&layout);
        let of = |name: &str| all.iter().find(|spelling| spelling.name == name).unwrap().spans.clone();
        let part = |name: &str, module: &str, rows| assert_eq!(of(name), Spelling::part(name, module, rows).spans);
        part("transformer_blocks.0.attn.to_k", "double_blocks.0.img_attn.qkv", 8..16);
        part("single_transformer_blocks.3.attn.to_v", "single_blocks.3.linear1", 16..24);
        part("single_transformer_blocks.3.proj_mlp", "single_blocks.3.linear1", 24..56);
        part("single_blocks.3.linear1_qkv", "single_blocks.3.linear1", 0..24);
        part("single_blocks.3.processor.qkv_lora", "single_blocks.3.linear1", 0..24);
        let norm = of("transformer_blocks.0.attn.norm_added_k");
        assert_eq!(norm[0].module, "double_blocks.0.txt_attn.norm.key_norm");
        assert_eq!(of("norm_out.linear").iter().map(|span| span.start).collect::<Vec<_>>(), [8, 0]);
        assert_eq!(of("double_blocks.0.processor.qkv_lora1")[0].rows, None);
    }
}
