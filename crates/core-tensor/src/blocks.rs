use crate::{Weights, read_ahead::ReadAhead};

/// A network's stack of blocks, which run one after the other.
///
/// The one loop over them is [`Blocks::each`]: what has to happen between two blocks happens there. While a block runs, the system
/// reads what the next one is multiplied with, where that stays in its file.
#[derive(Clone, Debug)]
pub struct Blocks<B> {
    blocks: Vec<B>,
    read_ahead: ReadAhead,
}

impl<B> Blocks<B> {
    /// As many blocks as the stack is deep, from the first: `load` gets the number of each and the part of `w` under that.
    ///
    /// # Errors
    /// The first of `load`.
    pub fn load<E>(
        w: &Weights,
        depth: usize,
        mut load: impl FnMut(usize, &Weights) -> Result<B, E>,
    ) -> Result<Self, E> {
        let (mut blocks, mut parts) = (Vec::with_capacity(depth), Vec::with_capacity(depth));
        for i in 0..depth {
            let (w, left) = w.at(i).noting();
            blocks.push(load(i, &w)?);
            parts.push(left.parts());
        }
        Ok(Self { blocks, read_ahead: ReadAhead::of(parts) })
    }

    /// What comes out of the last block: each gets what the one before made, and its place in the stack.
    ///
    /// # Errors
    /// The first of `run`, behind which no block runs.
    pub fn each<X, E>(&self, x: X, mut run: impl FnMut(X, usize, &B) -> Result<X, E>) -> Result<X, E> {
        self.blocks.iter().enumerate().try_fold(x, |x, (index, block)| {
            // Nothing came before the first one.
            self.read_ahead.begin(if index == 0 { 0..2 } else { index + 1..index + 2 });
            run(x, index, block)
        })
    }

    /// The first of them, if there is any.
    pub fn first(&self) -> Option<&B> {
        self.blocks.first()
    }

    /// How many there are.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error, Format, Layout, Residency, Stored, weights::tests::Memory};

    #[test]
    fn what_stays_in_its_file_is_noted_block_by_block_and_what_is_unpacked_is_not() {
        // given two blocks of a matrix, a convolution and a vector, and what is of no block
        let tensor = |shape: &[usize]| {
            let bytes = vec![0; 2 * shape.iter().product::<usize>()];
            Stored::of_bytes(Format::F16, shape.to_vec(), bytes).unwrap()
        };
        let of_block = |i: usize| {
            [("a.weight", &[6, 4][..]), ("a.bias", &[6]), ("b.weight", &[3, 2, 1, 1]), ("b.bias", &[3])]
                .map(|(name, shape)| (format!("blocks.{i}.{name}"), tensor(shape)))
        };
        let other = ("other.weight".to_owned(), tensor(&[6, 4]));
        let source = Memory::of(of_block(0).into_iter().chain(of_block(1)).chain([other]));
        let layout = || {
            Layout::of(|l| {
                l.unbiased("other", 4, 6);
                let mut blocks = l.at("blocks");
                for i in 0..2 {
                    let mut block = blocks.at(i);
                    block.stacked("a", 4, &[4, 2]);
                    block.convolution("b", 2, 3, 1);
                }
            })
        };
        let noted = |residency| {
            let w = Weights::of(&source, &Device::flex(), residency).laid_out(layout());
            w.matrix("other.weight").unwrap();
            let blocks = Blocks::load(&w.at("blocks"), 2, |_, w| {
                w.matrices::<2>("a.weight")?;
                w.parameter::<1>("b.bias")?;
                w.convolution("b.weight").map(drop)
            });
            let blocks: Blocks<()> = blocks.map_err(|error: Error| error.to_string()).unwrap();
            // what is asked for runs beside the blocks and changes nothing of them
            let order = blocks.each(vec![], |order, i, ()| Ok::<_, Error>([order, vec![i]].concat())).unwrap();
            assert_eq!((order, blocks.depth()), (vec![0, 1], 2));
            blocks.read_ahead.bytes()
        };
        // then the matrix, in its parts, and the convolution are noted where they stay
        assert_eq!(noted(Residency::Mapped), [vec![32, 16, 12], vec![32, 16, 12]]);
        assert_eq!(noted(Residency::Unpacked), [vec![0; 0], vec![0; 0]]);
    }
}
