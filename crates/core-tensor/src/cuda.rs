//! NVIDIA's cards: their driver, what they fail of, and weights that pass through their memory while they compute. The kernels are
//! [`crate::gpu`]'s.

mod ahead;
mod driver;
mod pinned;
mod watch;

pub(crate) use self::{
    ahead::{Ahead, Brought, SLOTS},
    driver::{Card, cards, free_memory, ready},
    pinned::Fill,
    watch::answered,
};
