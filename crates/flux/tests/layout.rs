//! What the transformer reads is what its layout says.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use core_tensor::{Device, Residency, WeightSource, Weights};
use fixtures::Made;
use flux::{Dimensions, Transformer, TransformerConfig};

#[test]
fn the_transformer_reads_its_layout_and_nothing_else() {
    let base = Dimensions {
        in_channels: 8,
        beside: 0,
        context: 12,
        pooled: 6,
        hidden: 32,
        mlp: 20,
        heads: 2,
        double_blocks: 2,
        single_blocks: 3,
        guidance: true,
        axes: [4, 6, 6],
    };
    for dimensions in [
        base,
        Dimensions { guidance: false, double_blocks: 1, single_blocks: 1, ..base },
        Dimensions { hidden: 96, heads: 3, axes: [4, 14, 14], mlp: 200, in_channels: 64, ..base },
        Dimensions { in_channels: 64, beside: 320, ..base },
        Dimensions { single_blocks: 0, pooled: 1, context: 1, ..base },
    ] {
        // given a file of nothing but the layout, under a prefix
        let layout = dimensions.layout();
        let made = Made::of("model.", layout.needs());
        let w = Weights::of(&made, &Device::flex(), Residency::Unpacked);
        // when it is loaded, then it has these dimensions and all of it was read
        let transformer = Transformer::load(&w, &TransformerConfig::default()).unwrap();
        assert_eq!(*transformer.dimensions(), dimensions);
        assert_eq!(made.read_names(), made.manifest().names().collect::<Vec<_>>());
    }
}
