//! Layers that take the same rows, each with what is added to it.

use core_tensor::{
    Branch, Change, Compute, Format, Layout, Residency, Strength,
    layers::{LayerNorm, Linear},
    ops::{self, Activation},
    values,
};

use super::{Adapted, input, stored};

#[test]
fn layers_of_the_same_rows_have_branches_of_their_own() {
    // given three layers behind a norm, of which one has two branches, one none, and one a branch of a part of its rows
    let (d, inner) = (45, 70);
    let low = |rows: std::ops::Range<usize>, rank: usize, d_in: usize, strength: &Strength| {
        let (down, up) = (stored(Format::F16, [rank, d_in], 0.9), stored(Format::F16, [rows.len(), rank], 0.4));
        let change = Change::LowRank { down, mid: None, up };
        Branch { rows, change, scale: 0.5, strength: strength.clone() }
    };
    let tensors = || {
        [
            ("norm.weight", stored(Format::F32, [d], 0.31)),
            ("norm.bias", stored(Format::F32, [d], 0.77)),
            ("value.weight", stored(Format::F32, [inner, d], 0.7)),
            ("value.bias", stored(Format::F32, [inner], 1.3)),
            ("gate.weight", stored(Format::BF16, [inner, d], 0.9)),
            ("out.weight", stored(Format::F32, [d, inner], 1.1)),
        ]
    };
    let [first, second] = [Strength::of(0.7), Strength::of(-1.5)];
    let source = Adapted::of(tensors())
        .with("value.weight", low(0..inner, 5, d, &first))
        .with("value.weight", low(7..50, 16, d, &second))
        .with("out.weight", low(3..40, 3, inner, &second));
    let plain = Adapted::of(tensors());
    for (compute, allowed) in [(Compute::F32, 1e-5), (Compute::Bf16, 2e-2)] {
        for residency in [Residency::Unpacked, Residency::Mapped] {
            let layers = |source: &Adapted| {
                let layout = Layout::of(|l| {
                    l.norm("norm", d);
                    l.linear("value", d, inner);
                    l.unbiased("gate", d, inner);
                    l.unbiased("out", inner, d);
                });
                let w = source.view(residency, layout).computed_in(compute);
                let layers = ["value", "gate", "out"].map(|name| Linear::load(&w.at(name)).unwrap());
                (LayerNorm::load(&w.at("norm"), 1e-5).unwrap(), layers)
            };
            let ((norm, [value, gate, out]), (_, [own_value, own_gate, own_out])) = (layers(&source), layers(&plain));
            let x = input([2, 37, d], 0.11);
            for strengths in [[0.7, -1.5], [0.0, 2.0], [0.0, 0.0]] {
                first.set(strengths[0]);
                second.set(strengths[1]);
                // when they are asked at once
                let each = Linear::forward_each([&value, &gate], Some(&norm), x.clone());
                let fed = Linear::gated_feed_forward([&value, &gate, &out], Activation::Silu, &norm, x.clone());
                // then the answers are those of each alone
                let normal = norm.forward(x.clone());
                let alone = [value.forward(normal.clone()), gate.forward(normal)];
                let [values_alone, gates_alone] = alone.clone();
                let inside = ops::gated(Activation::Silu, values_alone, gates_alone);
                let all = each
                    .into_iter()
                    .chain([fed.clone()])
                    .zip(alone.into_iter().chain([out.forward(inside) + x.clone()]));
                for (found, expected) in all {
                    let (found, expected) = (values(&found), values(&expected));
                    let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                    let difference = found.iter().zip(&expected).fold(0.0f32, |most, (f, e)| most.max((f - e).abs()));
                    assert!(difference <= allowed * largest, "{difference} of {largest}, {compute:?} {residency:?}");
                }
                // and without strength those of the layers without branches, to the bit
                let layers = [&own_value, &own_gate, &own_out];
                let own = values(&Linear::gated_feed_forward(layers, Activation::Silu, &norm, x.clone()));
                assert_eq!(values(&fed) == own, strengths == [0.0, 0.0]);
            }
        }
    }
}
