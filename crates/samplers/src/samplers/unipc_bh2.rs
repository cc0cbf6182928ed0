//! UniPC with `B(h) = e^h - 1`.
//!
//! References: as [`unipc`](super::unipc).

use super::unipc::{ORDER, UniPc, Variant};
use crate::{Sampler, exploding::exploding};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("unipc_bh2", "UniPC BH2", |start| Ok(exploding(start, UniPc::of(start, Variant::Bh2))))
        .aliases(["uni_pc_bh2"])
        .about("UniPC with B(h) = e^h - 1, its authors' choice for few steps.")
        .params([ORDER.param()])
}
