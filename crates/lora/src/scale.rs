//! What a change counts beside the strength that is asked for.

/// What a module's change is multiplied with beside the user's strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Nothing is said of it: 1.
    Unsaid,
    /// An `alpha` among the tensors: `alpha / rank`, and 1 of a change that has no rank.
    Alpha(f32),
    /// What a config says, which counts whether the change has a rank of its own or not.
    Config(f32),
}

impl Scale {
    /// The number itself, for tensors of a rank.
    pub(crate) fn of(self, rank: Option<usize>) -> f32 {
        match (self, rank) {
            (Self::Unsaid, _) | (Self::Alpha(_), None) => 1.0,
            (Self::Alpha(alpha), Some(rank)) => alpha / rank as f32,
            (Self::Config(scale), _) => scale,
        }
    }
}
