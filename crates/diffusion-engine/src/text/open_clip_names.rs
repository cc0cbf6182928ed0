use std::{ops::Range, sync::Arc};

use core_tensor::{Branch, Change, Error, Form, Format, Manifest, Stored, Strength, WeightSource};

/// A CLIP text encoder in OpenCLIP's layout under Hugging Face's names.
///
/// Queries, keys and values are one matrix there, and the projection stands the other way round. `text_model.` comes before all
/// names but the projection's. Tensors that an image model has no use for, such as `logit_scale`, are not there.
/// Reference: transformers `convert_clip_original_pytorch_to_hf`, diffusers `convert_open_clip_checkpoint`, 0.42.
#[derive(Debug)]
pub struct OpenClipNames<S = Arc<dyn WeightSource>> {
    source: S,
    prefix: String,
    manifest: Manifest,
}

/// How a tensor of Hugging Face's is made from one in the file.
#[derive(Clone, Debug, PartialEq)]
enum Taken {
    Whole,
    /// Of three parts, one below the other.
    Third(usize),
    Transposed,
}

const WHOLE: &[(&str, &str)] = &[
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.final_layer_norm.weight", "ln_final.weight"),
    ("text_model.final_layer_norm.bias", "ln_final.bias"),
];

const OF_LAYER: &[(&str, &str)] = &[
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.out_proj.", "attn.out_proj."),
];

/// In the order in which they stand in `attn.in_proj_weight` and `attn.in_proj_bias`.
const IN_PROJ: [&str; 3] = ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."];

const OUR_LAYERS: &str = "text_model.encoder.layers.";
const THEIR_LAYERS: &str = "transformer.resblocks.";
const OUR_PROJECTION: &str = "text_projection.weight";
const THEIR_PROJECTION: &str = "text_projection";

/// The tensor of the file that one of Hugging Face's is made from; `None` for a name that it lacks.
fn theirs(name: &str) -> Option<(String, Taken)> {
    if name == OUR_PROJECTION {
        return Some((THEIR_PROJECTION.to_owned(), Taken::Transposed));
    }
    let Some((i, rest)) = name.strip_prefix(OUR_LAYERS).and_then(|name| name.split_once('.')) else {
        let (_, theirs) = WHOLE.iter().find(|(ours, _)| *ours == name)?;
        return Some(((*theirs).to_owned(), Taken::Whole));
    };
    if let Some((part, leaf)) = IN_PROJ.iter().enumerate().find_map(|(i, ours)| Some((i, rest.strip_prefix(ours)?))) {
        return Some((format!("{THEIR_LAYERS}{i}.attn.in_proj_{leaf}"), Taken::Third(part)));
    }
    let renamed = |(ours, theirs): &(&str, &str)| Some(format!("{theirs}{}", rest.strip_prefix(ours)?));
    Some((format!("{THEIR_LAYERS}{i}.{}", OF_LAYER.iter().find_map(renamed)?), Taken::Whole))
}

/// Hugging Face's tensors that are had from one of the file.
fn ours(name: &str) -> Vec<String> {
    if name == THEIR_PROJECTION {
        return vec![OUR_PROJECTION.to_owned()];
    }
    let Some((i, rest)) = name.strip_prefix(THEIR_LAYERS).and_then(|name| name.split_once('.')) else {
        return WHOLE.iter().filter(|(_, theirs)| *theirs == name).map(|(ours, _)| (*ours).to_owned()).collect();
    };
    if let Some(leaf) = rest.strip_prefix("attn.in_proj_") {
        return IN_PROJ.iter().map(|part| format!("{OUR_LAYERS}{i}.{part}{leaf}")).collect();
    }
    let renamed = |(ours, theirs): &(&str, &str)| Some(format!("{OUR_LAYERS}{i}.{ours}{}", rest.strip_prefix(theirs)?));
    OF_LAYER.iter().find_map(renamed).into_iter().collect()
}

impl OpenClipNames {
    /// Where a branch of one of Hugging Face's tensors, by its name behind a prefix and its shape, lies in OpenCLIP's; a change that is
    /// computed of a matrix which stands the other way round there is computed now, at the strength that it has. `None` for a tensor that
    /// OpenCLIP lacks.
    pub fn place_of(prefix: &str, (name, shape): (&str, &[usize]), branch: Branch) -> Option<(String, Branch)> {
        let (theirs, taken) = theirs(name.strip_prefix(prefix)?)?;
        let branch = match (taken, shape) {
            (Taken::Whole, _) => branch,
            (Taken::Third(part), &[rows, ..]) => branch.behind(part.checked_mul(rows)?),
            (Taken::Transposed, &[rows, columns]) => transposed_branch(as_difference(branch), [rows, columns]),
            (Taken::Third(_) | Taken::Transposed, _) => return None,
        };
        Some((format!("{prefix}{theirs}"), branch))
    }
}

impl<S: WeightSource> OpenClipNames<S> {
    /// A tensor that every text encoder of this layout has and no other; before its name stands the file's prefix.
    pub const MARK: &str = "transformer.resblocks.0.attn.in_proj_weight";

    /// Wraps a source in OpenCLIP's layout whose names have no prefix.
    pub fn over(source: S) -> Self {
        Self::under("", source)
    }

    /// Wraps the part of a source in OpenCLIP's layout whose names begin with `prefix`, such as `cond_stage_model.model.`; the
    /// prefix stays, and the source's other tensors are not there.
    pub fn under(prefix: impl Into<String>, source: S) -> Self {
        let prefix = prefix.into();
        let renamed = source.manifest().under(&prefix).flat_map(|(theirs_bare, form)| {
            let had = move |name: String| {
                let (from, taken) = theirs(&name)?;
                let (format, shape) = taken.form(form)?;
                (from == theirs_bare).then_some((name, format, shape))
            };
            ours(theirs_bare).into_iter().filter_map(had)
        });
        let manifest = renamed.map(|(name, format, shape)| (format!("{prefix}{name}"), format, shape)).collect();
        Self { manifest, source, prefix }
    }

    /// The tensor of the file that one of ours is made from.
    fn theirs(&self, name: &str) -> Option<(String, Taken)> {
        let (theirs, taken) = theirs(name.strip_prefix(&self.prefix)?)?;
        Some((format!("{}{theirs}", self.prefix), taken))
    }
}

impl Taken {
    /// What a tensor becomes; `None` for one that this can't be had from.
    fn form(&self, form: Form) -> Option<(Format, Vec<usize>)> {
        match (self, form.shape) {
            (Self::Whole, shape) => Some((form.format, shape.to_vec())),
            (Self::Third(_), &[rows, ref rest @ ..]) if rows.is_multiple_of(3) => {
                Some((form.format, [&[rows / 3], rest].concat()))
            }
            (Self::Transposed, &[rows, columns]) => Some((transposed_format(form.format), vec![columns, rows])),
            (Self::Third(_) | Self::Transposed, _) => None,
        }
    }
}

/// The format of a matrix that was turned round: blocks of several numbers lie along rows, and scales may lie elsewhere, so that all but
/// plain numbers are unpacked.
fn transposed_format(format: Format) -> Format {
    let is_plain = [Format::F64, Format::F32, Format::F16, Format::BF16].contains(&format);
    if is_plain || !format.is_float() { format } else { Format::F32 }
}

fn third(rows: usize, part: usize) -> Range<usize> {
    rows / 3 * part..rows / 3 * (part + 1)
}

/// A matrix turned round, which is a copy; `None` where its values can't be read.
fn transposed(stored: &Stored) -> Option<Stored> {
    let &[rows, columns] = stored.shape() else { return None };
    let format = transposed_format(stored.format());
    let bytes = match format == stored.format() {
        true => stored.to_bytes(),
        false => stored.to_f32()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let size = format.bytes();
    let turned = (0..columns).flat_map(|column| (0..rows).map(move |row| (row * columns + column) * size));
    let turned = turned.flat_map(|at| bytes[at..at + size].iter().copied()).collect();
    Stored::of_bytes(format, vec![columns, rows], turned).ok()
}

/// A branch whose change is computed of the weight, as the difference that it comes to now.
fn as_difference(branch: Branch) -> Branch {
    let Change::Computed(computed) = &branch.change else { return branch };
    let difference = Stored::of(&computed.values(branch.strength.get()), computed.shape());
    Branch { change: Change::Difference(difference), strength: Strength::of(1.0), ..branch }
}

/// A branch of a matrix for the matrix turned round. What changes only some rows stays as it is, for the layer to refuse.
fn transposed_branch(branch: Branch, [rows, columns]: [usize; 2]) -> Branch {
    let turned = match &branch.change {
        Change::LowRank { down, mid: None, up } => {
            (transposed(up).zip(transposed(down))).map(|(down, up)| Change::LowRank { down, mid: None, up })
        }
        Change::Difference(all) => transposed(all).map(Change::Difference),
        _ => None,
    };
    match turned.filter(|_| branch.rows == (0..rows)) {
        Some(change) => Branch { rows: 0..columns, change, ..branch },
        None => Branch { rows: columns..columns + rows, ..branch },
    }
}

impl<S: WeightSource> WeightSource for OpenClipNames<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let (theirs, taken) = self.theirs(name).ok_or_else(missing)?;
        if !self.manifest.contains(name) {
            // The source knows why it has none.
            self.source.read(&theirs)?;
            return Err(missing());
        }
        let stored = self.source.read(&theirs)?;
        match (taken, stored.shape()) {
            (Taken::Whole, _) => Ok(stored),
            (Taken::Third(part), &[rows, ..]) => stored.rows(third(rows, part)),
            (Taken::Third(_), []) => Err(missing()),
            (Taken::Transposed, _) => transposed(&stored).ok_or_else(missing),
        }
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        let Some((theirs, taken)) = self.theirs(name) else { return Vec::new() };
        let branches = self.source.branches(&theirs);
        let shape = self.source.manifest().get(&theirs).map_or(&[][..], |form| form.shape);
        match (taken, shape) {
            (Taken::Whole, _) => branches,
            (Taken::Third(part), &[rows, ..]) => {
                // What can't be cut stays whole, for the layer to refuse.
                let within = |branch: Branch| match branch.within(third(rows, part)) {
                    Ok(part) => part,
                    Err(_) => Some(branch),
                };
                branches.into_iter().filter_map(within).collect()
            }
            (Taken::Transposed, &[rows, columns]) => {
                branches.into_iter().map(|branch| transposed_branch(branch, [rows, columns])).collect()
            }
            (Taken::Third(_) | Taken::Transposed, _) => branches,
        }
    }
}
