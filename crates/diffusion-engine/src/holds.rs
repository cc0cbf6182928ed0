use crate::Size;

/// What something around a model holds of memory in a pass, in sizes that a plan knows before the model is loaded.
///
/// The program's own [`Wrap`](crate::Wrap) says it by [`Wrap::holds`](crate::Wrap::holds); what says nothing holds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Maps that it keeps from call to call of each prompt and each picture, as large as what the first block of the network hands on.
    pub maps: usize,
    /// Latents of the whole batch that it keeps, or makes beside the model's answers.
    pub latents: usize,
    /// Whether it makes one tensor of all scores of the attention in the middle of a UNet.
    pub scores: bool,
    /// How large the tiles are that it calls the network with one by one, in pixels, and how many; `None` where it does not.
    pub tiles: Option<(Size, usize)>,
    /// Whether anything looks into the network, which then keeps what goes into its blocks.
    pub looks: bool,
}

impl Holds {
    /// What both hold.
    pub fn and(self, other: Self) -> Self {
        Self {
            maps: self.maps.saturating_add(other.maps),
            latents: self.latents.saturating_add(other.latents),
            scores: self.scores || other.scores,
            tiles: other.tiles.or(self.tiles),
            looks: self.looks || other.looks,
        }
    }

    /// The size of the pictures that the network is called with, of a pass of this size, and how many of them are one picture.
    pub fn called_with(&self, whole: Size) -> (Size, usize) {
        self.tiles.unwrap_or((whole, 1))
    }
}
