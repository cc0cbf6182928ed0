use core_tensor::{Branch, Error, Form, Format, Manifest, Stored, WeightSource};

/// A transformer in diffusers' layout under BFL's names.
///
/// What BFL fuses is split there: `qkv` into three matrices and `linear1` into four, which may be stored in formats of their own: together
/// they are F32 then. The halves of the last modulation stand the other way round. Reference: diffusers
/// `convert_flux_transformer_checkpoint_to_diffusers`, 0.42.
#[derive(Debug)]
pub struct BflNames<S> {
    source: S,
    prefix: String,
    manifest: Manifest,
}

/// BFL's module, and diffusers' modules that it is made of, one below the other; `weight` and `bias` follow.
type Modules = [(&'static str, &'static [&'static str])];

const WHOLE: &Modules = &[
    ("img_in", &["x_embedder"]),
    ("txt_in", &["context_embedder"]),
    ("time_in.in_layer", &["time_text_embed.timestep_embedder.linear_1"]),
    ("time_in.out_layer", &["time_text_embed.timestep_embedder.linear_2"]),
    ("vector_in.in_layer", &["time_text_embed.text_embedder.linear_1"]),
    ("vector_in.out_layer", &["time_text_embed.text_embedder.linear_2"]),
    ("guidance_in.in_layer", &["time_text_embed.guidance_embedder.linear_1"]),
    ("guidance_in.out_layer", &["time_text_embed.guidance_embedder.linear_2"]),
    ("final_layer.linear", &["proj_out"]),
    (LAST_MODULATION, &["norm_out.linear"]),
];

/// Its halves, shift and scale, change places.
pub(crate) const LAST_MODULATION: &str = "final_layer.adaLN_modulation.1";

const DOUBLE: &Modules = &[
    ("img_mod.lin", &["norm1.linear"]),
    ("img_attn.qkv", &["attn.to_q", "attn.to_k", "attn.to_v"]),
    ("img_attn.proj", &["attn.to_out.0"]),
    ("img_mlp.0", &["ff.net.0.proj"]),
    ("img_mlp.2", &["ff.net.2"]),
    ("txt_mod.lin", &["norm1_context.linear"]),
    ("txt_attn.qkv", &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
    ("txt_attn.proj", &["attn.to_add_out"]),
    ("txt_mlp.0", &["ff_context.net.0.proj"]),
    ("txt_mlp.2", &["ff_context.net.2"]),
];

const SINGLE: &Modules = &[
    ("modulation.lin", &["norm.linear"]),
    ("linear1", &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]),
    ("linear2", &["proj_out"]),
];

/// The query and key norms, whose only tensor has another name too.
const DOUBLE_NORMS: &[(&str, &str)] = &[
    ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
];

const SINGLE_NORMS: &[(&str, &str)] =
    &[("norm.query_norm.scale", "attn.norm_q.weight"), ("norm.key_norm.scale", "attn.norm_k.weight")];

/// A stack of numbered blocks: both its names, and the tables of a block.
struct Stack {
    ours: &'static str,
    theirs: &'static str,
    modules: &'static Modules,
    norms: &'static [(&'static str, &'static str)],
}

const STACKS: [Stack; 2] = [
    Stack { ours: "double_blocks", theirs: "transformer_blocks", modules: DOUBLE, norms: DOUBLE_NORMS },
    Stack { ours: "single_blocks", theirs: "single_transformer_blocks", modules: SINGLE, norms: SINGLE_NORMS },
];

/// The names in the file of the tensors that make up one of BFL's; none for a name that BFL does not have.
pub(crate) fn theirs(name: &str) -> Vec<String> {
    for Stack { ours, theirs, modules, norms } in STACKS {
        let Some((i, rest)) = name.strip_prefix(ours).and_then(|n| n.strip_prefix('.')?.split_once('.')) else {
            continue;
        };
        if let Some((_, norm)) = norms.iter().find(|(ours, _)| *ours == rest) {
            return vec![format!("{theirs}.{i}.{norm}")];
        }
        return parts(modules, rest).into_iter().map(|part| format!("{theirs}.{i}.{part}")).collect();
    }
    parts(WHOLE, name)
}

fn parts(modules: &Modules, name: &str) -> Vec<String> {
    let Some((module, leaf)) = name.rsplit_once('.') else { return Vec::new() };
    let made_of = modules.iter().find(|(ours, _)| *ours == module).map_or(&[][..], |(_, theirs)| theirs);
    made_of.iter().map(|part| format!("{part}.{leaf}")).collect()
}

/// BFL's name of the tensor that one in the file is the first part of; `None` for the further parts.
fn ours(name: &str) -> Option<String> {
    for Stack { ours, theirs, modules, norms } in STACKS {
        let Some((i, rest)) = name.strip_prefix(theirs).and_then(|n| n.strip_prefix('.')?.split_once('.')) else {
            continue;
        };
        if let Some((norm, _)) = norms.iter().find(|(_, theirs)| *theirs == rest) {
            return Some(format!("{ours}.{i}.{norm}"));
        }
        return first(modules, rest).map(|name| format!("{ours}.{i}.{name}"));
    }
    first(WHOLE, name)
}

fn first(modules: &Modules, name: &str) -> Option<String> {
    let (module, leaf) = name.rsplit_once('.')?;
    let (ours, _) = modules.iter().find(|(_, theirs)| theirs[0] == module)?;
    Some(format!("{ours}.{leaf}"))
}

impl<S: WeightSource> BflNames<S> {
    /// Wraps a source in diffusers' layout whose names have no prefix.
    pub fn over(source: S) -> Self {
        Self::under("", source)
    }

    /// Wraps the part of a source in diffusers' layout whose names begin with `prefix`, such as `transformer.`; the prefix stays,
    /// and the source's other tensors are not there.
    pub fn under(prefix: impl Into<String>, source: S) -> Self {
        let prefix = prefix.into();
        let file = source.manifest();
        let renamed = file.under(&prefix).filter_map(|(name, _)| {
            let name = ours(name)?;
            let (format, shape) = stacked(theirs(&name).iter().map(|part| file.get(&format!("{prefix}{part}"))))?;
            Some((format!("{prefix}{name}"), format, shape))
        });
        Self { manifest: renamed.collect(), source, prefix }
    }

    /// The names in the file of the tensors that make up one of BFL's; none for a name that BFL does not have.
    fn theirs(&self, name: &str) -> Vec<String> {
        let parts = name.strip_prefix(&self.prefix).map(theirs).unwrap_or_default();
        parts.into_iter().map(|part| format!("{}{part}", self.prefix)).collect()
    }
}

/// A branch of a tensor of two halves of so many rows, for the tensor in which they have changed places. What can't be cut stays
/// whole, for the layer to refuse.
fn exchanged(branch: &Branch, half: usize) -> Vec<Branch> {
    let of_half =
        |start: usize, to: usize| branch.within(start..start + half).map(|part| part.map(|part| part.behind(to)));
    match (of_half(0, half), of_half(half, 0)) {
        (Ok(first), Ok(second)) => first.into_iter().chain(second).collect(),
        (Err(_), _) | (_, Err(_)) => vec![branch.clone()],
    }
}

/// The form of tensors one below the other, as [`Stored::stacked`] has it; `None` where one is not there or they don't fit.
fn stacked<'m>(parts: impl Iterator<Item = Option<Form<'m>>>) -> Option<(Format, Vec<usize>)> {
    let parts = parts.collect::<Option<Vec<_>>>()?;
    let format = Format::in_common(parts.iter().map(|part| part.format))?;
    let (first, others) = parts.split_first()?;
    let mut shape = first.shape.to_vec();
    for part in others {
        let part = Some(part).filter(|part| part.shape.get(1..) == shape.get(1..))?;
        *shape.first_mut()? = shape.first()?.checked_add(*part.shape.first()?)?;
    }
    Some((format, shape))
}

impl<S: WeightSource> WeightSource for BflNames<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let names = self.theirs(name);
        if names.is_empty() {
            return Err(Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() });
        }
        let parts = names.iter().map(|part| self.source.read(part)).collect::<Result<Vec<_>, _>>()?;
        let apart = || {
            let of = |(name, part): (&String, &Stored)| (name.clone(), part.format(), part.shape().to_vec());
            let parts = names.iter().zip(&parts).map(of).collect();
            Error::Apart { name: name.to_owned(), source_name: self.label().to_owned(), parts }
        };
        let whole = Stored::stacked(&parts).ok_or_else(apart)?;
        if name.strip_prefix(&self.prefix).is_some_and(|name| name.starts_with(LAST_MODULATION)) {
            let rows = whole.shape()[0];
            let halves = [whole.rows(rows / 2..rows)?, whole.rows(0..rows / 2)?];
            return Stored::stacked(&halves).ok_or_else(apart);
        }
        Ok(whole)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        let mut above = 0;
        let mut branches = Vec::new();
        for part in self.theirs(name) {
            branches.extend(self.source.branches(&part).into_iter().map(|branch| branch.behind(above)));
            let height = self.source.manifest().get(&part).and_then(|form| form.shape.first().copied());
            above += height.unwrap_or(0);
        }
        match name.strip_prefix(&self.prefix).is_some_and(|name| name.starts_with(LAST_MODULATION)) {
            true => branches.iter().flat_map(|branch| exchanged(branch, above / 2)).collect(),
            false => branches,
        }
    }
}
