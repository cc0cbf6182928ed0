use std::fmt;

/// A place between two layers of a network, named as the checkpoint names what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// The network: `transformer`, `clip`, `t5`, `decoder`, … .
    pub network: &'static str,
    /// The stack of blocks, such as `double_blocks`, or the single layer, such as `out`.
    pub block: &'static str,
    /// Which block of the stack, from 0.
    pub index: Option<usize>,
    /// Which of the blocks inside that one, from 0, such as one of a UNet's transformers.
    pub inner: Option<usize>,
    /// Which of the block's streams, such as `img`.
    pub stream: Option<&'static str>,
}

impl Site {
    /// As the block of a stretch: all of a network's blocks; its sign is what the first block's layers are given.
    pub const BLOCKS: &str = "blocks";

    /// As the block of a stretch: all of a network's blocks behind the first; its sign is what that one adds.
    pub const REST: &str = "rest";

    /// Behind a layer that there is once.
    pub const fn layer(network: &'static str, block: &'static str) -> Self {
        Self { network, block, index: None, inner: None, stream: None }
    }

    /// Behind a block of a stack.
    pub const fn block(network: &'static str, block: &'static str, index: usize) -> Self {
        Self { network, block, index: Some(index), inner: None, stream: None }
    }

    /// Behind a block inside of this one.
    pub const fn inner(self, inner: usize) -> Self {
        Self { inner: Some(inner), ..self }
    }

    /// The same of one of the block's streams.
    pub const fn stream(self, stream: &'static str) -> Self {
        Self { stream: Some(stream), ..self }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.block)?;
        for number in [self.index, self.inner].into_iter().flatten() {
            write!(f, ".{number}")?;
        }
        self.stream.map_or(Ok(()), |stream| write!(f, ".{stream}"))
    }
}

/// Why a hook failed.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;
