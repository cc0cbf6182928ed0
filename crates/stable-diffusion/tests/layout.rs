//! What UNets need is what the published checkpoints have, under either layout's names, and what they read is what they need.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;

use core_tensor::{Device, Format, Manifest, Residency, Stored, WeightSource, Weights};
use fixtures::{Listed, Made};
use stable_diffusion::{LdmUnetNames, Unet, UnetConfig, UnetDimensions};

/// The lists of published checkpoints, and the channels, prompt width, vector width and number of tensors of their UNets.
const LISTS: [(&str, usize, usize, Option<usize>, usize); 5] = [
    ("sd15", 4, 768, None, 686),
    ("sd15-inpaint", 9, 768, None, 686),
    ("sd21", 4, 1024, None, 686),
    ("sdxl-base", 4, 2048, Some(2816), 1680),
    ("sdxl-refiner", 4, 1280, Some(2560), 1220),
];

fn forms(source: &dyn WeightSource, prefix: &str) -> BTreeMap<String, Vec<usize>> {
    source.manifest().under(prefix).map(|(name, form)| (name.to_owned(), form.shape.to_vec())).collect()
}

fn dimensions(source: &dyn WeightSource) -> UnetDimensions {
    let w = Weights::of(source, &Device::flex(), Residency::Mapped);
    UnetDimensions::of(&w, &UnetConfig::default()).unwrap()
}

#[test]
fn the_layout_of_each_published_unet_is_its_tensors_and_nothing_else() {
    for (name, channels, context, adm, tensors) in LISTS {
        let list = Listed::open(&format!("{name}.ldm"));
        let dimensions = dimensions(&list);
        assert_eq!(
            (dimensions.in_channels, dimensions.out_channels, dimensions.multiple()),
            (channels, 4, if name == "sdxl-base" { 4 } else { 8 })
        );
        assert_eq!((dimensions.context, dimensions.adm), (Some(context), adm), "{name}");
        let layout = dimensions.layout();
        let needs: BTreeMap<_, _> = layout.needs().iter().map(|need| (need.name.clone(), need.shape.clone())).collect();
        assert_eq!(needs.len(), tensors, "{name}");
        assert_eq!(needs, forms(&list, "model.diffusion_model."), "{name}");
    }
}

#[test]
fn diffusers_names_cover_every_name_of_latent_diffusion_once() {
    for (name, ..) in LISTS {
        let (ldm, diffusers) = (Listed::open(&format!("{name}.ldm")), Listed::open(&format!("{name}.diffusers-unet")));
        let renamed = LdmUnetNames::over(diffusers);
        assert_eq!(forms(&renamed, ""), forms(&ldm, "model.diffusion_model."), "{name}");
        assert_eq!(dimensions(&renamed), dimensions(&ldm), "{name}");
    }
}

/// Names and shapes behind a prefix, among other tensors.
struct Prefixed(Manifest);

impl WeightSource for Prefixed {
    fn label(&self) -> &str {
        "a list behind a prefix"
    }
    fn manifest(&self) -> &Manifest {
        &self.0
    }
    fn read(&self, name: &str) -> Result<Stored, core_tensor::Error> {
        // The name that was asked for comes back in the error.
        Err(core_tensor::Error::Missing { name: name.to_owned(), source_name: "a list behind a prefix".to_owned() })
    }
}

#[test]
fn a_name_is_translated_back_to_the_one_that_is_read_and_others_stay() {
    let list = Listed::open("sdxl-base.diffusers-unet");
    let names = list.manifest().names().map(|name| format!("unet.{name}"));
    let others = [
        "unet.mid_block.gligen.0.weight",
        "unet.down_blocks.0.motion_modules.0.weight",
        "unet.x",
        "vae.conv_in.weight",
    ];
    // and one that takes the original name of another
    let hostile = ["unet.input_blocks.0.0.weight"];
    let all = names.chain(others.into_iter().chain(hostile).map(str::to_owned));
    let source = LdmUnetNames::under("unet.", Prefixed(all.map(|name| (name, Format::F16, vec![1])).collect()));
    let read = |name: &str| match source.read(name) {
        Err(core_tensor::Error::Missing { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    for (ours, theirs) in [
        ("input_blocks.0.0.weight", "conv_in.weight"),
        ("input_blocks.3.0.op.bias", "down_blocks.0.downsamplers.0.conv.bias"),
        ("input_blocks.4.0.emb_layers.1.weight", "down_blocks.1.resnets.0.time_emb_proj.weight"),
        (
            "input_blocks.8.1.transformer_blocks.9.ff.net.2.bias",
            "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.2.bias",
        ),
        ("middle_block.1.norm.weight", "mid_block.attentions.0.norm.weight"),
        ("middle_block.2.out_layers.3.weight", "mid_block.resnets.1.conv2.weight"),
        ("output_blocks.2.2.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ("output_blocks.8.0.skip_connection.weight", "up_blocks.2.resnets.2.conv_shortcut.weight"),
        ("label_emb.0.2.bias", "add_embedding.linear_2.bias"),
    ] {
        assert!(source.manifest().contains(&format!("unet.{ours}")), "{ours}");
        assert_eq!(read(&format!("unet.{ours}")), format!("unet.{theirs}"));
    }
    // What is no UNet's keeps its name, so that it can be told; what is not in it is not there.
    for name in &others[..3] {
        assert!(source.manifest().contains(name), "{name}");
        assert_eq!(read(name), *name);
    }
    assert!(!source.manifest().contains(others[3]));
    assert_eq!(source.manifest().len(), 1680 + 3);
    assert_eq!(read(others[3]), others[3]);
}

#[test]
fn a_unet_that_contradicts_itself_is_an_error_that_says_where() {
    type Change = fn(&str) -> Vec<String>;
    let cases: [(&str, Change); 5] = [
        ("tensor `middle_block.0.in_layers.2.weight` is missing", |name| without("middle_block.0.", name)),
        ("a UNet's output blocks is 11, expected 12", |name| without("output_blocks.11.", name)),
        ("a UNet's output blocks is larger, expected that of its input blocks", |name| {
            let twice = name.strip_prefix("output_blocks.11.").map(|layer| format!("output_blocks.12.{layer}"));
            std::iter::once(name.to_owned()).chain(twice).collect()
        }),
        ("where a UNet's output block begins is 3, expected 2 times", |name| without("output_blocks.2.1.", name)),
        ("how often a UNet halves sides is 0, expected as often as it doubles them", |name| {
            vec![name.replace("input_blocks.3.0.op", "input_blocks.3.0.conv")]
        }),
    ];
    let list = Listed::open("sd15.ldm");
    for (expected, change) in cases {
        let tensors = list.manifest().under("model.diffusion_model.");
        let changed = tensors.flat_map(|(name, form)| {
            change(name).into_iter().map(move |name| (name, Format::F16, form.shape.to_vec()))
        });
        let source = Prefixed(changed.collect());
        let w = Weights::of(&source, &Device::flex(), Residency::Mapped);
        let found = UnetDimensions::of(&w, &UnetConfig::default()).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}, not: {expected}");
    }
    // and so are norms whose channels no groups divide
    let config = UnetConfig { norm_num_groups: Some(7), ..UnetConfig::default() };
    let w = Weights::of(&list, &Device::flex(), Residency::Mapped);
    let found = UnetDimensions::of(&w, &config).unwrap_err().to_string();
    assert_eq!(found, "the channels of a UNet's group norm is 320, expected a multiple of 7");
}

#[test]
fn a_middle_is_left_out_only_where_no_config_says_that_there_is_one() {
    let list = Listed::open("sd15.ldm");
    let names = list.manifest().under("model.diffusion_model.");
    let rest = names.filter(|(name, _)| !name.starts_with("middle_block."));
    let source = Prefixed(rest.map(|(name, form)| (name.to_owned(), Format::F16, form.shape.to_vec())).collect());
    let w = Weights::of(&source, &Device::flex(), Residency::Mapped);
    let of = |json: &str| UnetDimensions::of(&w, &serde_json::from_str(json).unwrap()).map_err(|e| e.to_string());
    let bare = UnetDimensions::of(&w, &UnetConfig::default()).unwrap();
    assert_eq!(of(r#"{"mid_block_type": null}"#).unwrap(), bare);
    for json in ["{}", r#"{"mid_block_type": "UNetMidBlock2DCrossAttn"}"#] {
        let found = of(json).unwrap_err();
        assert!(found.contains("tensor `middle_block.0.in_layers.2.weight` is missing"), "{found}");
    }
}

fn without(start: &str, name: &str) -> Vec<String> {
    (!name.starts_with(start)).then(|| name.to_owned()).into_iter().collect()
}

/// Of a small UNet with everything in it: names and shapes as in a published one, each side divided.
fn small(list: &str, prefix: &str, by: usize) -> Made {
    let source = Listed::open(list);
    let narrowed = |(name, form): (&str, core_tensor::Form)| {
        let fixed = ["input_blocks.0.0.weight", "out.2.weight", "out.2.bias"];
        let shape = form.shape.iter().enumerate().map(|(i, &side)| match (side, i) {
            (4 | 9, 0) if name.starts_with("out.2") => side,
            (4 | 9, 1) if fixed.contains(&name) => side,
            (1 | 3, 2 | 3) => side,
            _ => side / by,
        });
        core_tensor::Need { name: name.to_owned(), shape: shape.collect(), kind: core_tensor::Kind::Parameter }
    };
    let needs: Vec<_> = source.manifest().under("model.diffusion_model.").map(narrowed).collect();
    Made::of(prefix, &needs)
}

#[test]
fn a_unet_reads_its_layout_and_nothing_else() {
    let config = UnetConfig { num_head_channels: Some(1), norm_num_groups: Some(2), ..UnetConfig::default() };
    for (name, ..) in LISTS {
        // given a file of nothing but the layout, under a prefix
        let made = small(&format!("{name}.ldm"), "unet.", 32);
        let w = Weights::of(&made, &Device::flex(), Residency::Mapped);
        // when it is loaded, then it has these dimensions and all of it was read
        let unet = Unet::load(&w, &config).unwrap();
        assert_eq!(*unet.dimensions(), UnetDimensions::of(&w, &config).unwrap());
        assert_eq!(made.read_names(), made.manifest().names().collect::<Vec<_>>(), "{name}");
    }
}
