/// A network's stack of blocks, which run one after the other.
///
/// The one loop over them is [`Blocks::each`]: what has to happen between two blocks happens there.
#[derive(Clone, Debug)]
pub struct Blocks<B>(Vec<B>);

impl<B> Blocks<B> {
    /// As many blocks as the stack is deep, from the first.
    ///
    /// # Errors
    /// The first of `load`.
    pub fn load<E>(depth: usize, load: impl FnMut(usize) -> Result<B, E>) -> Result<Self, E> {
        (0..depth).map(load).collect::<Result<_, E>>().map(Self)
    }

    /// What comes out of the last block: each gets what the one before made, and its place in the stack.
    ///
    /// # Errors
    /// The first of `run`, behind which no block runs.
    pub fn each<X, E>(&self, x: X, mut run: impl FnMut(X, usize, &B) -> Result<X, E>) -> Result<X, E> {
        self.0.iter().enumerate().try_fold(x, |x, (index, block)| run(x, index, block))
    }

    /// The first of them, if there is any.
    pub fn first(&self) -> Option<&B> {
        self.0.first()
    }

    /// How many there are.
    pub fn depth(&self) -> usize {
        self.0.len()
    }
}
