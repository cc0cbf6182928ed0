use std::collections::{BTreeMap, BTreeSet};

use core_tensor::{Branch, Error, MAX_DEPTH, Manifest, Stored, WeightSource};

/// A UNet in diffusers' layout under the names of latent-diffusion.
///
/// The same tensors in another order: diffusers counts blocks level by level, latent-diffusion through all levels. Reference: diffusers
/// `convert_ldm_unet_checkpoint`, 0.42.
#[derive(Debug)]
pub struct LdmUnetNames<S> {
    source: S,
    names: Names,
    manifest: Manifest,
}

/// How a UNet's names are translated.
#[derive(Debug)]
struct Names {
    prefix: String,
    /// The name of each numbered module in the file, by its original one.
    theirs: BTreeMap<String, String>,
    /// The other way round.
    ours: BTreeMap<String, String>,
}

/// Modules that there are once, here and in diffusers.
const ONCE: &[(&str, &str)] = &[
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// The layers of a residual block.
const RESNET: &[(&str, &str)] = &[
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

/// The only layer of what halves sides.
const DOWN: &[(&str, &str)] = &[("op", "conv")];

const RESNETS: &str = "resnets";
const ATTENTIONS: &str = "attentions";
const DOWNSAMPLERS: &str = "downsamplers";
const UPSAMPLERS: &str = "upsamplers";

impl<S: WeightSource> LdmUnetNames<S> {
    /// Wraps a source in diffusers' layout whose names have no prefix.
    pub fn over(source: S) -> Self {
        Self::under("", source)
    }

    /// Wraps the part of a source in diffusers' layout whose names begin with `prefix`, such as `unet.`; the prefix stays, and the
    /// source's other tensors are not there.
    pub fn under(prefix: impl Into<String>, source: S) -> Self {
        let prefix = prefix.into();
        let file = source.manifest();
        let names = Names::of(prefix, file);
        let renamed = file.under(&names.prefix).filter_map(|(theirs, form)| {
            let name = names.ours(theirs);
            // What stands under another tensor's original name is not that tensor.
            (names.theirs(&name) == theirs)
                .then(|| (format!("{}{name}", names.prefix), form.format, form.shape.to_vec()))
        });
        Self { manifest: renamed.collect(), source, names }
    }

    /// The name in the file of a tensor's original name; `None` for one without the prefix.
    fn theirs(&self, name: &str) -> Option<String> {
        let Names { prefix, .. } = &self.names;
        Some(format!("{prefix}{}", self.names.theirs(name.strip_prefix(prefix)?)))
    }
}

/// How many modules of each kind a level of diffusers' has.
#[derive(Clone, Copy, Default)]
struct Level {
    resnets: usize,
    attentions: usize,
    sampler: bool,
}

impl Names {
    fn of(prefix: String, file: &Manifest) -> Self {
        let mut modules = BTreeSet::new();
        for (name, _) in file.under(&prefix) {
            let mut parts = name.split('.');
            let stack = parts.next().unwrap_or_default();
            let level = if stack == "mid_block" { Some(0) } else { number(parts.next()) };
            let (kind, index) = (parts.next().unwrap_or_default(), number(parts.next()));
            if let (Some(level), Some(index)) = (level, index) {
                modules.insert((stack, level, kind, index));
            }
        }
        let levels = |stack: &str| {
            let mut levels = Vec::new();
            for &(_, level, kind, index) in modules.iter().filter(|(of, ..)| *of == stack) {
                levels.resize(levels.len().max(level + 1), Level::default());
                let counts: &mut Level = &mut levels[level];
                match kind {
                    RESNETS => counts.resnets = counts.resnets.max(index + 1),
                    ATTENTIONS => counts.attentions = counts.attentions.max(index + 1),
                    DOWNSAMPLERS | UPSAMPLERS => counts.sampler = true,
                    _ => {}
                }
            }
            levels
        };

        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut block = 1; // behind conv_in
        for (l, level) in levels("down_blocks").into_iter().enumerate() {
            for i in 0..level.resnets {
                pairs.push((format!("input_blocks.{block}.0"), format!("down_blocks.{l}.{RESNETS}.{i}")));
                if i < level.attentions {
                    pairs.push((format!("input_blocks.{block}.1"), format!("down_blocks.{l}.{ATTENTIONS}.{i}")));
                }
                block += 1;
            }
            if level.sampler {
                pairs.push((format!("input_blocks.{block}.0"), format!("down_blocks.{l}.{DOWNSAMPLERS}.0")));
                block += 1;
            }
        }
        for level in levels("mid_block") {
            let in_turns = (0..level.resnets).flat_map(|i| {
                let attention = (i < level.attentions).then(|| format!("mid_block.{ATTENTIONS}.{i}"));
                std::iter::once(format!("mid_block.{RESNETS}.{i}")).chain(attention)
            });
            pairs.extend(in_turns.enumerate().map(|(i, theirs)| (format!("middle_block.{i}"), theirs)));
        }
        let mut block = 0;
        for (l, level) in levels("up_blocks").into_iter().enumerate() {
            for i in 0..level.resnets {
                let attention = (i < level.attentions).then(|| format!("up_blocks.{l}.{ATTENTIONS}.{i}"));
                let sampler =
                    (level.sampler && i + 1 == level.resnets).then(|| format!("up_blocks.{l}.{UPSAMPLERS}.0"));
                let layers = std::iter::once(format!("up_blocks.{l}.{RESNETS}.{i}")).chain(attention).chain(sampler);
                pairs.extend(layers.enumerate().map(|(i, theirs)| (format!("output_blocks.{block}.{i}"), theirs)));
                block += 1;
            }
        }
        let ours = pairs.iter().map(|(ours, theirs)| (theirs.clone(), ours.clone())).collect();
        Self { prefix, theirs: pairs.into_iter().collect(), ours }
    }

    /// The name in the file of a tensor's original name, both without the prefix.
    fn theirs(&self, name: &str) -> String {
        let parts = if name.starts_with("middle_block.") { 2 } else { 3 };
        let (module, layer) = cut(name, parts);
        match self.theirs.get(module) {
            Some(theirs) => format!("{theirs}.{}", replaced(layer, layers_of(theirs), |(ours, theirs)| (ours, theirs))),
            None => replaced(name, ONCE, |(ours, theirs)| (ours, theirs)),
        }
    }

    /// The original name of a tensor in the file, both without the prefix.
    fn ours(&self, name: &str) -> String {
        let parts = if name.starts_with("mid_block.") { 3 } else { 4 };
        let (module, layer) = cut(name, parts);
        match self.ours.get(module) {
            Some(ours) => format!("{ours}.{}", replaced(layer, layers_of(module), |(ours, theirs)| (theirs, ours))),
            None => replaced(name, ONCE, |(ours, theirs)| (theirs, ours)),
        }
    }
}

/// What diffusers calls a module that latent-diffusion calls `ours`, where `block` tells its names of the layers of blocks, such as
/// `input_blocks.1.0`.
pub(crate) fn diffusers_name<'b>(ours: &str, block: impl Fn(&str) -> Option<&'b str>) -> String {
    let parts = if ours.starts_with("middle_block.") { 2 } else { 3 };
    let (module, layer) = cut(ours, parts);
    // Tables name what is before a leaf.
    let with_leaf = |name: &str, table| {
        let name = replaced(&format!("{name}.weight"), table, |(ours, theirs)| (ours, theirs));
        name.strip_suffix(".weight").unwrap_or(&name).to_owned()
    };
    match block(module) {
        Some(theirs) => format!("{theirs}.{}", with_leaf(layer, layers_of(theirs))),
        None => with_leaf(ours, ONCE),
    }
}

/// A number that modules may have.
fn number(part: Option<&str>) -> Option<usize> {
    part?.parse().ok().filter(|&number| number < MAX_DEPTH)
}

/// The first parts of a name and the others.
fn cut(name: &str, parts: usize) -> (&str, &str) {
    let end = name.match_indices('.').nth(parts - 1).map_or(name.len(), |(end, _)| end);
    (&name[..end], name[end..].strip_prefix('.').unwrap_or_default())
}

/// The layers whose names differ in a module of diffusers'.
fn layers_of(theirs: &str) -> &'static [(&'static str, &'static str)] {
    let kind = theirs.rsplit('.').nth(1).unwrap_or_default();
    match kind {
        RESNETS => RESNET,
        DOWNSAMPLERS => DOWN,
        _ => &[],
    }
}

/// A name whose beginning is one of a table's, under the other name of that; others as they are.
fn replaced(
    name: &str,
    table: &[(&'static str, &'static str)],
    turned: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> String {
    let other = table.iter().find_map(|&pair| {
        let (from, to) = turned(pair);
        let leaf = name.strip_prefix(from)?.strip_prefix('.')?;
        Some(format!("{to}.{leaf}"))
    });
    other.unwrap_or_else(|| name.to_owned())
}

impl<S: WeightSource> WeightSource for LdmUnetNames<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        self.source.read(&self.theirs(name).ok_or_else(missing)?)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.theirs(name).map_or_else(Vec::new, |theirs| self.source.branches(&theirs))
    }
}
