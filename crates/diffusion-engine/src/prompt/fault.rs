use super::ExtraNetwork;

/// What is wrong with a prompt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptFault {
    /// Something that is named beside the words and can't be applied.
    #[error(
        "`{network}` is not in the model: LoRAs are found in `prompt.loras`, and other extra networks are not known"
    )]
    ExtraNetwork {
        /// What is named.
        network: ExtraNetwork,
    },
    /// A weight that no number holds.
    #[error("the weight of `{words}` is too large")]
    Weight {
        /// The words.
        words: String,
    },
    /// Brackets in brackets.
    #[error("more than {most} brackets are open at once")]
    TooDeep {
        /// How many there may be.
        most: usize,
    },
    /// Words that change to so many others that all of them can't be kept.
    #[error("its words change to more than {most} different prompts")]
    Editions {
        /// How many there may be.
        most: usize,
    },
    /// A wildcard without lines, or none of the name.
    #[error("no wildcard is called `{name}`, or it is empty")]
    NoWildcard {
        /// The name.
        name: String,
    },
    /// A wildcard that can't be read.
    #[error("the wildcard `{name}` can't be read: {why}")]
    WildcardFile {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Variables of the extension sd-dynamic-prompts.
    #[error("variables, `${{…}}`, are not supported")]
    Variables,
    /// Random choices that lie in each other too deep, or come to more than a prompt may be.
    #[error("its random choices don't come to an end")]
    Choices,
    /// A style that is not in the table.
    #[error("no style is called `{name}`")]
    NoStyle {
        /// The name.
        name: String,
    },
    /// A table of styles that is not one.
    #[error("line {line} of the styles has no column `name`, or a quote that does not end")]
    StyleTable {
        /// From 1.
        line: usize,
    },
}
