/// Why a text of a known form says nothing that could be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TextFault {
    /// More text than any program writes.
    #[error("{bytes} bytes are more than any program writes")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// More settings than any program writes.
    #[error("it has more than {max} settings")]
    TooManyKeys {
        /// The most that are read.
        max: usize,
    },
    /// More JSON than any program writes.
    #[error("it has more than {max} JSON values")]
    TooManyValues {
        /// The most that are read.
        max: usize,
    },
    /// JSON that ends too early or is not JSON.
    #[error("it is not whole: the JSON breaks at line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON that is no program's that is known.
    #[error("it is JSON of a program that is not known")]
    UnknownJson,
    /// What ComfyUI's editor shows, without what was run.
    #[error("it is the editor's workflow, without the graph that was run")]
    WorkflowOnly,
    /// A graph that draws nothing.
    #[error("it has no sampler")]
    NoSampler,
    /// Several samplers of which none comes first.
    #[error("it has {count} samplers of which none follows another, and does not say which of them drew this picture")]
    SeveralSamplers {
        /// How many.
        count: usize,
    },
    /// Links that lead back, or further than any graph goes.
    #[error("its links lead nowhere at node {node}")]
    Endless {
        /// The node's name.
        node: String,
    },
    /// A link to a node that is not there.
    #[error("it has no node {node}, from which {what} comes")]
    NoNode {
        /// The node's name.
        node: String,
        /// What is looked for.
        what: &'static str,
    },
    /// A node of which it is not known what it does.
    #[error("{what} comes from node {node}, a `{class}`, which is not understood")]
    UnknownNode {
        /// The node's name.
        node: String,
        /// Its class.
        class: String,
        /// What is looked for.
        what: &'static str,
    },
}
