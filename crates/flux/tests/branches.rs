//! Branches on the transformer's layers, brought by a source around its file.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{
    Branch, Change, Device, Error, Manifest, Residency, Stored, Strength, WeightSource, Weights,
    safetensors::Safetensors, tensor, values,
};
use diffusion_engine::Inside;
use flux::{BflNames, Inputs, Transformer, TransformerConfig};

/// A source with a branch of rank 2 on all of one tensor.
struct Adapted<S> {
    source: S,
    name: &'static str,
    strength: Strength,
}

impl<S: WeightSource> WeightSource for Adapted<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        self.source.manifest()
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        self.source.read(name)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        let mut branches = self.source.branches(name);
        if name == self.name {
            let &[d_out, d_in] = self.manifest().get(name).unwrap().shape else { panic!("{name} is no matrix") };
            let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin() * 0.3).collect::<Vec<_>>();
            let change = Change::LowRank {
                down: Stored::of(&wave(2 * d_in, 0.7), vec![2, d_in]),
                mid: None,
                up: Stored::of(&wave(2 * d_out, 0.4), vec![d_out, 2]),
            };
            branches.push(Branch { rows: 0..d_out, change, scale: 0.5, strength: self.strength.clone() });
        }
        branches
    }
}

fn load(source: &dyn WeightSource) -> Transformer {
    let weights = Weights::of(source, &Device::flex(), Residency::Unpacked);
    Transformer::load(&weights, &TransformerConfig::default()).unwrap()
}

fn velocity(transformer: &Transformer) -> Vec<f32> {
    let (d, device) = (transformer.dimensions(), Device::flex());
    let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let pe = transformer.positions(5, 2, 3);
    let inputs = Inputs {
        img: tensor(wave(6 * d.in_channels), [1, 6, d.in_channels], &device),
        control: None,
        txt: tensor(wave(5 * d.context), [1, 5, d.context], &device),
        vec: tensor(wave(d.pooled), [1, d.pooled], &device),
        timestep: 0.7,
        guidance: 3.5,
        pe: &pe,
    };
    values(&transformer.forward(inputs, &Inside::default()).unwrap())
}

fn file(case: &str) -> Safetensors {
    Safetensors::open(&fixtures::path(&format!("golden/{case}/transformer.safetensors"))).unwrap()
}

#[test]
fn a_branch_on_any_layer_changes_what_is_drawn_until_its_strength_is_0() {
    let plain = velocity(&load(&file("tiny-dev")));
    for name in [
        "img_in.weight",
        "double_blocks.1.txt_attn.qkv.weight",
        "double_blocks.0.img_mlp.2.weight",
        "single_blocks.0.linear1.weight",
        "final_layer.adaLN_modulation.1.weight",
    ] {
        let strength = Strength::of(1.0);
        let transformer = load(&Adapted { source: file("tiny-dev"), name, strength: strength.clone() });
        let full = velocity(&transformer);
        assert_ne!(full, plain, "{name}");
        strength.set(0.5);
        assert!(![&full, &plain].contains(&&velocity(&transformer)), "{name}");
        strength.set(0.0);
        assert_eq!(velocity(&transformer), plain, "{name}");
        strength.set(1.0);
        assert_eq!(velocity(&transformer), full, "{name}");
    }
}

/// The tensors of BFL's file under the names of diffusers, as far as the test goes: parts of fused ones by their rows.
struct Split {
    source: Safetensors,
    manifest: Manifest,
}

/// A tensor of diffusers', BFL's that it is part of, and its rows.
fn parts(d_out: impl Fn(&str) -> usize) -> Vec<(&'static str, &'static str, std::ops::Range<usize>)> {
    let qkv = "double_blocks.0.img_attn.qkv.weight";
    let (linear1, hidden) = ("single_blocks.0.linear1.weight", d_out(qkv) / 3);
    let last = ("final_layer.adaLN_modulation.1.weight", d_out("final_layer.adaLN_modulation.1.weight"));
    vec![
        ("transformer_blocks.0.attn.to_q.weight", qkv, 0..hidden),
        ("transformer_blocks.0.attn.to_k.weight", qkv, hidden..2 * hidden),
        ("transformer_blocks.0.attn.to_v.weight", qkv, 2 * hidden..3 * hidden),
        ("single_transformer_blocks.0.attn.to_q.weight", linear1, 0..hidden),
        ("single_transformer_blocks.0.attn.to_k.weight", linear1, hidden..2 * hidden),
        ("single_transformer_blocks.0.attn.to_v.weight", linear1, 2 * hidden..3 * hidden),
        ("single_transformer_blocks.0.proj_mlp.weight", linear1, 3 * hidden..d_out(linear1)),
        ("norm_out.linear.weight", last.0, 0..last.1),
    ]
}

impl Split {
    fn of(source: Safetensors) -> Self {
        let form = |name: &str| source.manifest().get(name).unwrap();
        let parts = parts(|name| form(name).shape[0]);
        let manifest = parts
            .into_iter()
            .map(|(name, whole, rows)| (name, form(whole).format, vec![rows.len(), form(whole).shape[1]]));
        Self { manifest: manifest.collect(), source }
    }
}

impl WeightSource for Split {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let parts = parts(|name| self.source.manifest().get(name).unwrap().shape[0]);
        let (_, whole, rows) = parts.into_iter().find(|(n, ..)| *n == name).unwrap();
        self.source.read(whole)?.rows(rows)
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init, reason = "one range of rows is meant")]
fn branches_under_the_names_of_diffusers_change_their_rows_of_what_is_fused() {
    let cases = [
        ("transformer_blocks.0.attn.to_k.weight", "double_blocks.0.img_attn.qkv.weight", vec![64..128]),
        ("single_transformer_blocks.0.proj_mlp.weight", "single_blocks.0.linear1.weight", vec![192..448]),
        // The halves of this one change places, and so do those of its branches.
        ("norm_out.linear.weight", "final_layer.adaLN_modulation.1.weight", vec![64..128, 0..64]),
    ];
    for (name, fused, rows) in cases {
        let strength = Strength::of(1.0);
        let source = BflNames::over(Adapted { source: Split::of(file("tiny-dev")), name, strength });
        let branches = source.branches(fused);
        assert_eq!(branches.iter().map(|branch| branch.rows.clone()).collect::<Vec<_>>(), rows, "{name}");
        let ups: Vec<f32> = branches
            .iter()
            .flat_map(|branch| match &branch.change {
                Change::LowRank { up, .. } => up.to_f32().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected: Vec<f32> = (0..ups.len()).map(|i| (i as f32 * 0.4).sin() * 0.3).collect();
        assert_eq!(ups, expected, "{name}");
        // and nothing else has any
        assert!(source.branches("single_blocks.0.linear2.weight").is_empty());
    }
}
