//! What speaks against a conversion.

use std::path::PathBuf;

/// Why a file can't be converted as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertFault {
    /// A type that tensors are not written in.
    #[error("tensors are not written in `{found}`")]
    Type {
        /// What was asked for.
        found: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A rule that is none.
    #[error("the rule `{rule}` is not `PATTERN=TYPE`, such as `norm|bias=f32`")]
    Rule {
        /// The rule.
        rule: String,
    },
    /// A rule that speaks of no tensor, as it happens when a name is mistyped.
    #[error("no tensor's name matches the rule `{rule}`")]
    Unmatched {
        /// The rule.
        rule: String,
    },
    /// A rule that earlier ones leave no tensor to.
    #[error(
        "the rule `{rule}` is never used: the rule `{earlier}` stands before it and matches `{tensor}` and all else that it matches"
    )]
    Shadowed {
        /// The rule.
        rule: String,
        /// The rule that takes the first tensor that it matches.
        earlier: String,
        /// That tensor.
        tensor: String,
    },
    /// A name that does not say which kind of file is wanted.
    #[error("`{}` ends neither in .gguf nor in .safetensors", path.display())]
    Ending {
        /// The output.
        path: PathBuf,
    },
    /// A type that a kind of file does not hold.
    #[error("{kept} does not hold {target}, {other} does")]
    NotHeld {
        /// The kind of file.
        kept: &'static str,
        /// The type.
        target: &'static str,
        /// The other kind.
        other: &'static str,
    },
    /// A LoRA, whose small matrices nobody reads in blocks.
    #[error("`{}` is a LoRA, and only models are converted", path.display())]
    Lora {
        /// The file.
        path: PathBuf,
    },
    /// A file without tensors.
    #[error("`{}` has no tensors", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
    },
    /// One of the files of a model that lies in several.
    #[error("`{}` is one of {of} files that are a model together, expected the folder that they lie in", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// How many there are, by its name.
        of: usize,
    },
    /// A name that readers of the new file refuse.
    #[error("the new file would have a tensor `{name}` of {found} bytes in its name, expected 1 to {most}")]
    Name {
        /// The name, cut.
        name: String,
        /// Its length.
        found: usize,
        /// The most that are read.
        most: usize,
    },
    /// A header that readers of the new file refuse.
    #[error("the new file would have a header of {found} bytes, of which at most {most} are read")]
    Header {
        /// Its length.
        found: u64,
        /// The most that are read.
        most: u64,
    },
    /// A LoRA without a file.
    #[error("`{name}` is not the name of a LoRA's file, which ends in .safetensors, .pt, .bin or .ckpt")]
    NoLoraFile {
        /// What there is in its place.
        name: String,
    },
    /// A LoRA that is to count in some steps.
    #[error("LoRA `{}` is to count in steps {} to {}, and a file has none", path.display(), steps[0], steps[1])]
    LoraSteps {
        /// Its file.
        path: PathBuf,
        /// The first and the last of them.
        steps: [usize; 2],
    },
    /// A LoRA with vectors of words.
    #[error("LoRA `{}` brings vectors of {} for prompts, which a model's file does not hold", path.display(), words.join(", "))]
    LoraWords {
        /// Its file.
        path: PathBuf,
        /// The words.
        words: Vec<String>,
    },
    /// A LoRA for a file without anything that LoRAs change.
    #[error("no LoRA can be merged into {found}")]
    NothingToMerge {
        /// What the file is, with its article.
        found: String,
    },
    /// A LoRA of a part that stands among others under names that are not its network's.
    #[error("LoRAs can't be merged into {part} among other models, as it has the names of another layout there")]
    Renamed {
        /// The part, with its article.
        part: String,
    },
    /// Numbers that a kind of file does not hold.
    #[error("tensor `{tensor}` is of {format}, which {kept} does not hold")]
    Numbers {
        /// The tensor.
        tensor: String,
        /// What its numbers are.
        format: String,
        /// The kind of file.
        kept: &'static str,
    },
    /// More dimensions than a GGUF file's readers take.
    #[error("tensor `{tensor}` has {found} dimensions, a GGUF file's have at most {most}")]
    Rank {
        /// The tensor.
        tensor: String,
        /// How many.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Weights that a format can't hold.
    #[error("tensor `{tensor}` has weights beyond what {target} holds")]
    Range {
        /// The tensor.
        tensor: String,
        /// The format.
        target: &'static str,
    },
    /// Weights that a format makes zeros of.
    #[error("tensor `{tensor}` would be nothing but zeros in {target}, its largest weight is {most:e}")]
    Vanished {
        /// The tensor.
        tensor: String,
        /// The format.
        target: &'static str,
        /// Its largest weight, without its sign.
        most: f32,
    },
    /// Two tensors of one name in the new file.
    #[error(
        "the new file would have two tensors `{name}`: one that is called so in the old file, and one that `{of}` brings"
    )]
    Twice {
        /// The name.
        name: String,
        /// The tensor that becomes one of that name, or needs one beside it.
        of: String,
    },
    /// A tensor whose name means something else in a kind of file.
    #[error("{kept} can't hold a tensor called `{tensor}`")]
    Reserved {
        /// The tensor.
        tensor: String,
        /// The kind of file.
        kept: &'static str,
    },
    /// A file that would be larger than any can be.
    #[error("the file would have more bytes than can be counted")]
    Size,
}

impl ConvertFault {
    /// Whether what was asked for is wrong, and not the file.
    pub(crate) fn is_of_usage(&self) -> bool {
        match self {
            Self::Type { .. } | Self::Rule { .. } | Self::Unmatched { .. } | Self::Ending { .. } => true,
            Self::Shadowed { .. } => true,
            Self::NotHeld { .. } | Self::NoLoraFile { .. } | Self::LoraSteps { .. } => true,
            Self::LoraWords { .. } | Self::NothingToMerge { .. } | Self::Renamed { .. } => false,
            Self::Lora { .. } | Self::Nothing { .. } | Self::Shard { .. } => false,
            Self::Name { .. } | Self::Header { .. } => false,
            Self::Numbers { .. } | Self::Rank { .. } | Self::Range { .. } | Self::Size => false,
            Self::Vanished { .. } | Self::Twice { .. } | Self::Reserved { .. } => false,
        }
    }
}
