//! What is odd about a model's files and no reason to refuse them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use core_tensor::{Manifest, WeightSource};
use lora::Dialect;
use serde::Serialize;

use super::{
    abridged,
    folder::Shards,
    parts::{Part, owner},
};

/// Something odd about a file of a loaded model, which is no reason to refuse it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Note {
    /// The file or folder.
    pub path: PathBuf,
    /// What was found.
    pub finding: Finding,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "`{}`: {}", self.path.display(), self.finding)
    }
}

/// What is odd about a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// Tensors that no layer asks for, and of which it is not known that this is right.
    Unread {
        /// How many.
        tensors: usize,
        /// By the beginning of their names, the largest groups first.
        groups: Vec<Group>,
    },
    /// Tensors of a LoRA that was never applied; they change nothing.
    Lora {
        /// How many.
        tensors: usize,
        /// Whose naming they follow.
        dialect: &'static str,
        /// The first of them.
        first: String,
    },
    /// Weights that hold nothing but zeros.
    Zeros {
        /// How many tensors.
        tensors: usize,
        /// The first of them.
        names: Vec<String>,
    },
    /// A second model of the same kind in a file, such as an average of the training; the first is used.
    Another {
        /// What it is.
        role: String,
        /// What the names of the one that is used begin with.
        used: String,
        /// The same of the one that is not.
        prefix: String,
    },
    /// The average of a model's training that lies beside it, as latent-diffusion writes it; the model itself is used.
    Average {
        /// How many tensors.
        tensors: usize,
    },
    /// Tensors in a folder's files that its index does not list; they are not part of the model.
    Unlisted {
        /// How many.
        tensors: usize,
        /// The first of them.
        names: Vec<String>,
    },
    /// Another kind of model's `config.json` beside a file; it is left alone.
    OtherConfig {
        /// Where it stands.
        config: PathBuf,
        /// The class that it names.
        class: String,
    },
    /// A file in the folder of textual inversions that is none.
    NotAnEmbedding {
        /// Why not.
        why: String,
    },
    /// Words that a folder's tokenizer has behind CLIP's own; prompts are cut into tokens by CLIP's.
    AddedWords {
        /// How many.
        words: usize,
        /// The first of them.
        names: Vec<String>,
    },
    /// Matrices whose second half holds nothing but zeros, as a download that did not finish leaves it.
    HalfZeros {
        /// How many tensors.
        tensors: usize,
        /// The first of them.
        names: Vec<String>,
    },
}

/// Tensors whose names begin alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The common beginning.
    pub under: String,
    /// How many there are.
    pub tensors: usize,
    /// The first of them.
    pub first: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unread { tensors, groups } => {
                write!(f, "nothing reads {}", counted(*tensors))?;
                let groups: Vec<_> = groups.iter().take(SHOWN).map(ToString::to_string).collect();
                write!(f, ": {}", groups.join(", "))
            }
            Self::Lora { tensors, dialect, first } => {
                write!(f, "a LoRA's ({dialect}) {} not applied, such as `{first}`", with(*tensors, "is", "are"))
            }
            Self::Zeros { tensors, names } => {
                write!(f, "{} nothing but zeros: {}", with(*tensors, "holds", "hold"), listed(names, *tensors))
            }
            Self::Another { role, used, prefix } => {
                let named = |prefix: &str| match prefix {
                    "" => "without a prefix".to_owned(),
                    prefix => format!("under `{prefix}`"),
                };
                write!(f, "{role} {} is not used, that {} is", named(prefix), named(used))
            }
            Self::Average { tensors } => {
                write!(f, "the average of the training under `{AVERAGE}` is not used, {}", counted(*tensors))
            }
            Self::Unlisted { tensors, names } => {
                write!(f, "the folder's index does not list {}: {}", counted(*tensors), listed(names, *tensors))
            }
            Self::OtherConfig { config, class } => {
                write!(f, "`{}` is of a `{class}` and left alone", config.display())
            }
            Self::AddedWords { words, names } => {
                let words_of_its_own = if *words == 1 { "a word".into() } else { format!("{words} words") };
                let listed = listed(names, *words);
                write!(f, "its tokenizer has {words_of_its_own} that CLIP's has not, and prompts can't name: {listed}")
            }
            Self::NotAnEmbedding { why } => write!(f, "this is no textual inversion: {why}"),
            Self::HalfZeros { tensors, names } => {
                let they = with(*tensors, "ends", "end");
                write!(f, "{they} in zeros, half of them or more: {}", listed(names, *tensors))
            }
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.tensors {
            1 => write!(f, "`{}`", self.first),
            tensors => write!(f, "{tensors} under `{}`", self.under),
        }
    }
}

/// Groups and names that a sentence holds.
const SHOWN: usize = 3;

/// Names that a finding holds.
const KEPT: usize = 20;

fn counted(tensors: usize) -> String {
    if tensors == 1 { "1 tensor".into() } else { format!("{tensors} tensors") }
}

fn with(tensors: usize, one: &str, several: &str) -> String {
    format!("{} {}", counted(tensors), if tensors == 1 { one } else { several })
}

fn listed(names: &[String], of: usize) -> String {
    let mut shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if of > shown.len() {
        shown.push("…".into());
    }
    shown.join(", ")
}

/// What is left of a file when the tensors in `read` are taken away: the LoRA, and what nothing knows. `used` are the parts that
/// were looked at in full; what belongs to another part is that part's.
pub(crate) fn leftovers(manifest: &Manifest, parts: &[Part], used: &[usize], read: &BTreeSet<String>) -> Vec<Finding> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut unread = 0;
    let mut lora: Option<(usize, Dialect, String)> = None;
    for name in manifest.names() {
        if read.contains(name) {
            continue;
        }
        if let Some(dialect) = Dialect::of_name(name) {
            lora.get_or_insert_with(|| (0, dialect, abridged(name))).0 += 1;
            continue;
        }
        let part = owner(parts, name);
        if part.is_some_and(|part| !used.contains(&part)) || is_harmless(part.map(|part| &parts[part]), name) {
            continue;
        }
        unread += 1;
        let under = beginning(name);
        if let Some(group) = groups.get_mut(under) {
            group.tensors += 1;
        } else if groups.len() < MOST_GROUPS {
            let group = Group { under: abridged(under), tensors: 1, first: abridged(name) };
            groups.insert(under.to_owned(), group);
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.tensors));
    groups.truncate(KEPT);
    let lora = lora.map(|(tensors, dialect, first)| Finding::Lora { tensors, dialect: dialect.name(), first });
    let unread = (unread > 0).then_some(Finding::Unread { tensors: unread, groups });
    unread.into_iter().chain(lora).collect()
}

const MOST_GROUPS: usize = 1024;

/// A name without its last step and what follows its first number.
fn beginning(name: &str) -> &str {
    let end = name.rfind('.').unwrap_or(name.len());
    let is_number = |step: &str| !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit());
    let mut at = 0;
    for step in name.split('.') {
        if is_number(step) && at > 0 {
            return &name[..end.min(at - 1)];
        }
        at += step.len() + 1;
    }
    &name[..end]
}

/// Weights among the tensors in `read` that hold nothing but zeros, and those that end in zeros.
pub(crate) fn zeros(source: &dyn WeightSource, read: &BTreeSet<String>) -> Vec<Finding> {
    // Beyond this many bytes the samples are believed.
    let mut budget = 1 << 30;
    let (mut whole, mut half) = (Named::default(), Named::default());
    for name in read {
        let Ok(stored) = source.read(name) else { continue };
        // A bias may well be zero; what is multiplied with may not.
        let is_matrix = stored.shape().len() > 1;
        let is_factor = is_matrix || name.ends_with(".weight") || name.ends_with(".scale");
        if is_factor && stored.is_zero(&mut budget) {
            whole.see(name);
        } else if is_matrix && stored.ends_in_zeros(&mut budget) {
            half.see(name);
        }
    }
    let whole = whole.found().map(|(tensors, names)| Finding::Zeros { tensors, names });
    let half = half.found().map(|(tensors, names)| Finding::HalfZeros { tensors, names });
    whole.into_iter().chain(half).collect()
}

/// Tensors, counted, and the first of their names.
#[derive(Default)]
struct Named {
    tensors: usize,
    names: Vec<String>,
}

impl Named {
    fn see(&mut self, name: &str) {
        self.tensors += 1;
        if self.names.len() < KEPT {
            self.names.push(abridged(name));
        }
    }

    fn found(self) -> Option<(usize, Vec<String>)> {
        (self.tensors > 0).then_some((self.tensors, self.names))
    }
}

/// Models in a file that could be used in the place of those that are.
pub(crate) fn others(parts: &[Part], used: &[usize]) -> Vec<Finding> {
    let first = |part: &Part| {
        let same = |used: &&usize| parts[**used].kind.duty == part.kind.duty;
        used.iter().find(same).map(|&used| parts[used].prefix.clone())
    };
    let unused = parts.iter().enumerate().filter(|(i, part)| !used.contains(i) && part.is_usable);
    let another = |(_, part): (usize, &Part)| {
        Some(Finding::Another { role: part.kind.name.clone(), used: first(part)?, prefix: part.prefix.clone() })
    };
    unused.filter_map(another).collect()
}

/// An average of the training beside a model, if it is not told as a second model already.
pub(crate) fn average(manifest: &Manifest, told: &[Finding]) -> Option<Finding> {
    let is_it = |finding: &Finding| matches!(finding, Finding::Another { prefix, .. } if prefix.starts_with(AVERAGE));
    if told.iter().any(is_it) {
        return None;
    }
    let tensors = manifest.under(AVERAGE).filter(|(name, _)| !COUNTERS.contains(name)).count();
    (tensors > 0).then_some(Finding::Average { tensors })
}

/// What a folder's index leaves out.
pub(crate) fn unlisted(shards: &Shards) -> Option<Finding> {
    let mut unlisted = Named::default();
    shards.unlisted().for_each(|name| unlisted.see(name));
    unlisted.found().map(|(tensors, names)| Finding::Unlisted { tensors, names })
}

/// Whether a tensor is of the half of its part that no picture needs, so that how it is stored is of no account.
pub(crate) fn is_of_no_use(part: &Part, name: &str) -> bool {
    part.is_usable && begins(part, name, part.kind.duty.idle)
}

/// Whether a tensor's name begins in one of these ways, behind its part's prefix.
fn begins(part: &Part, name: &str, starts: &[&str]) -> bool {
    let rest = name.strip_prefix(&*part.prefix).unwrap_or(name);
    starts.iter().any(|start| rest.starts_with(start))
}

/// Whether it is right that nothing reads a tensor: buffers that are computed anew, and halves of models that no picture needs.
fn is_harmless(part: Option<&Part>, name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let steps = |step: &str| name.split('.').any(|s| s == step);
    let is_buffer = BUFFERS.contains(&last)
        || last.starts_with("posterior_")
        || last.starts_with("sqrt_")
        || steps("text_projection")
        || steps("loss")
        || name.starts_with(AVERAGE)
        || name.ends_with("denoiser.sigmas");
    if is_buffer {
        return true;
    }
    part.is_some_and(|part| {
        [part.kind.duty.idle, part.kind.duty.doubled].iter().any(|starts| begins(part, name, starts))
    })
}

/// How names begin of an average of a training that lies beside the model, as latent-diffusion writes it.
const AVERAGE: &str = "model_ema.";

/// What counts the steps of an average, and is kept where there is none.
const COUNTERS: [&str; 2] = ["decay", "num_updates"];

/// Buffers by the last step of their names: positions, schedules, and factors of a training.
const BUFFERS: &[&str] = &[
    "position_ids",
    "logit_scale",
    "logit_bias",
    "text_projection",
    "inv_freq",
    "num_batches_tracked",
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "log_one_minus_alphas_cumprod",
    "lvlb_weights",
    "logvar",
    "spiece_model",
    "tekken_model",
    "v_pred",
    "ztsnr",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_grouped_by_what_stands_before_their_numbers() {
        let cases = [
            ("model_ema.decay", "model_ema"),
            ("control_model.input_blocks.0.0.weight", "control_model.input_blocks"),
            ("double_blocks.0.img_attn.weight", "double_blocks"),
            ("unused", "unused"),
            ("0.weight", "0"),
            ("", ""),
        ];
        for (name, under) in cases {
            assert_eq!(beginning(name), under, "{name}");
        }
    }
}
