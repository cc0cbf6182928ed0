//! What branches add to layers, against the same arithmetic in f64.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod same_rows;

use std::collections::BTreeMap;

use core_tensor::{
    Branch, Change, Computed, Device, Error, Format, Layout, Manifest, Residency, Rule, Stored, Strength, Tensor,
    WeightSource, Weights,
    layers::{Conv2d, Downsample, GroupNorm, LayerNorm, Linear, RmsNorm},
    ops::Activation,
    tensor, values,
};

/// Tensors and branches by name.
struct Adapted {
    tensors: BTreeMap<&'static str, Stored>,
    branches: BTreeMap<&'static str, Vec<Branch>>,
    manifest: Manifest,
}

impl Adapted {
    fn of<const N: usize>(tensors: [(&'static str, Stored); N]) -> Self {
        let manifest = tensors.iter().map(|(name, s)| (*name, s.format(), s.shape().to_vec())).collect();
        Self { tensors: tensors.into(), branches: BTreeMap::new(), manifest }
    }

    fn with(mut self, name: &'static str, branch: Branch) -> Self {
        self.branches.entry(name).or_default().push(branch);
        self
    }

    fn view(&self, residency: Residency, layout: Layout) -> Weights<'_> {
        Weights::of(self, &Device::flex(), residency).laid_out(layout)
    }
}

impl WeightSource for Adapted {
    fn label(&self) -> &str {
        "memory"
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: "memory".to_owned() };
        self.tensors.get(name).cloned().ok_or_else(missing)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.branches.get(name).cloned().unwrap_or_default()
    }
}

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

fn stored<const D: usize>(format: Format, shape: [usize; D], step: f32) -> Stored {
    let values = wave(shape.iter().product(), step);
    let bytes = match format.name() {
        "F32" => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        "F16" => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
    };
    Stored::of_bytes(format, shape.to_vec(), bytes).unwrap()
}

fn input<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
    tensor(wave(shape.iter().product(), step), shape, &Device::flex())
}

fn doubles(stored: &Stored) -> Vec<f64> {
    stored.to_f32().unwrap().into_iter().map(f64::from).collect()
}

/// `x · wᵀ` of rows of `d_in` values.
fn product(w: &[f64], x: &[f64], d_in: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
    x.chunks(d_in).flat_map(|x| w.chunks(d_in).map(move |w| dot(x, w))).collect()
}

/// A convolution of one picture `[c_in, h, w]` by `[c_out, c_in, k, k]`, with a border of `k / 2` zeros.
fn convolved(w: &Stored, x: &[f64], [height, width]: [usize; 2]) -> Vec<f64> {
    let &[c_out, c_in, k, _] = w.shape() else { panic!("{:?}", w.shape()) };
    let (w, border) = (doubles(w), k / 2);
    let at = |c: usize, row: usize, column: usize| {
        let inside = (border..height + border).contains(&row) && (border..width + border).contains(&column);
        if inside { x[(c * height + row - border) * width + column - border] } else { 0.0 }
    };
    let taps = || (0..c_in).flat_map(|c| (0..k * k).map(move |tap| (c, tap / k, tap % k)));
    let pixel = |o: usize, row: usize, column: usize| -> f64 {
        taps().map(|(c, r, q)| w[((o * c_in + c) * k + r) * k + q] * at(c, row + r, column + q)).sum()
    };
    let place = |i: usize| (i / (height * width), i / width % height, i % width);
    (0..c_out * height * width).map(place).map(|(o, row, column)| pixel(o, row, column)).collect()
}

/// `y` with `factor · part` added from place `at` of each of its rows on.
fn add(y: &mut [f64], row: usize, at: usize, part: &[f64], width: usize, factor: f64) {
    for (y, part) in y.chunks_mut(row).zip(part.chunks(width)) {
        y[at..at + width].iter_mut().zip(part).for_each(|(y, part)| *y += factor * part);
    }
}

#[track_caller]
fn agree<const D: usize>(found: &Tensor<D>, expected: &[f64]) {
    let found = values(found);
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    for (f, e) in found.iter().zip(expected) {
        assert!((f64::from(*f) - e).abs() <= 1e-5 * largest, "{f} {e}, of {largest} at most");
    }
}

const IN: usize = 13;
const OUT: usize = 21;

fn low_rank(rows: std::ops::Range<usize>, scale: f32, strength: &Strength) -> Branch {
    let change = Change::LowRank {
        down: stored(Format::F32, [2, IN], 0.9),
        mid: None,
        up: stored(Format::BF16, [rows.len(), 2], 0.4),
    };
    Branch { rows, change, scale, strength: strength.clone() }
}

#[test]
fn a_linear_layer_is_its_weight_and_its_branches_however_they_are_stored() {
    for format in [Format::F32, Format::BF16, Format::F16] {
        for residency in [Residency::Unpacked, Residency::Mapped] {
            // given a fused layer, with a branch on its middle third, one with a matrix between on all, and a whole difference
            let [first, second] = [Strength::of(0.7), Strength::of(-1.5)];
            let (weight, bias) = (stored(format, [OUT, IN], 0.7), stored(format, [OUT], 1.3));
            let (mid, difference) = (stored(Format::F32, [2, 2], 0.3), stored(format, [OUT, IN], 0.11));
            let between = Change::LowRank {
                down: stored(Format::F32, [2, IN], 0.5),
                mid: Some(mid.clone()),
                up: stored(Format::F32, [OUT, 2], 0.8),
            };
            let all = |change| Branch { rows: 0..OUT, change, scale: 0.25, strength: second.clone() };
            let source = Adapted::of([("l.weight", weight.clone()), ("l.bias", bias.clone())])
                .with("l.weight", low_rank(7..14, 0.5, &first))
                .with("l.weight", all(between))
                .with("l.weight", all(Change::Difference(difference.clone())))
                .with("l.bias", all(Change::Difference(stored(Format::F32, [OUT], 0.6))));
            let layout = || Layout::of(|l| l.linear("l", IN, OUT));
            let layer = Linear::load(&source.view(residency, layout()).at("l")).unwrap();
            let plain = Adapted::of([("l.weight", weight.clone()), ("l.bias", bias.clone())]);
            let plain = Linear::load(&plain.view(residency, layout()).at("l")).unwrap();
            let stacked = Layout::of(|l| l.stacked("l", IN, &[10, 11]));
            let [head, tail] = Linear::load_stacked(&source.view(residency, stacked).at("l")).unwrap();
            let (x, residual, gate) = (input([2, 3, IN], 0.17), input([2, 3, OUT], 0.3), input([2, 1, OUT], 0.9));
            for strengths in [[0.7, -1.5], [-2.0, 0.0], [0.0, 0.4], [0.0, 0.0]] {
                // when strengths change between two forwards
                [&first, &second].iter().zip(strengths).for_each(|(strength, now)| strength.set(now));
                let found = layer.forward(x.clone());
                // then the layer is W x + Σ strength · scale · up(mid(down x)), and what follows comes after
                let [first, second] = strengths.map(f64::from);
                let input: Vec<f64> = values(&x).into_iter().map(f64::from).collect();
                let mut y = product(&doubles(&weight), &input, IN);
                let down = product(&doubles(&stored(Format::F32, [2, IN], 0.9)), &input, IN);
                add(&mut y, OUT, 7, &product(&doubles(&stored(Format::BF16, [7, 2], 0.4)), &down, 2), 7, 0.5 * first);
                let down = product(&doubles(&stored(Format::F32, [2, IN], 0.5)), &input, IN);
                let up = product(&doubles(&stored(Format::F32, [OUT, 2], 0.8)), &product(&doubles(&mid), &down, 2), 2);
                add(&mut y, OUT, 0, &up, OUT, 0.25 * second);
                add(&mut y, OUT, 0, &product(&doubles(&difference), &input, IN), OUT, 0.25 * second);
                let mut biased = doubles(&bias);
                add(&mut biased, OUT, 0, &doubles(&stored(Format::F32, [OUT], 0.6)), OUT, 0.25 * second);
                y.chunks_mut(OUT).for_each(|y| y.iter_mut().zip(&biased).for_each(|(y, bias)| *y += bias));
                agree(&found, &y);
                let silu: Vec<f64> = y.iter().map(|y| y / (1.0 + (-y).exp())).collect();
                agree(&layer.forward_then(x.clone(), Activation::Silu), &silu);
                let onto: Vec<f64> = values(&residual).iter().zip(&y).map(|(r, y)| f64::from(*r) + y).collect();
                agree(&layer.forward_onto(x.clone(), residual.clone()), &onto);
                let gates = values(&gate);
                let gated = (y.iter().enumerate()).map(|(i, y)| {
                    f64::from(values(&residual)[i]) + f64::from(gates[i / (3 * OUT) * OUT + i % OUT]) * y
                });
                agree(&layer.forward_gated_onto(x.clone(), gate.clone(), residual.clone()), &gated.collect::<Vec<_>>());
                let parts = Tensor::cat(vec![head.forward(x.clone()), tail.forward(x.clone())], 2);
                agree(&parts, &y);
                // and without strength it is to the bit the layer without branches
                if strengths == [0.0, 0.0] {
                    assert_eq!(values(&found), values(&plain.forward(x.clone())));
                    let onto = plain.forward_onto(x.clone(), residual.clone());
                    assert_eq!(values(&layer.forward_onto(x.clone(), residual.clone())), values(&onto));
                }
            }
        }
    }
}

#[test]
fn a_convolution_is_its_weight_and_its_branches_however_they_are_stored() {
    const SIZE: [usize; 2] = [5, 6];
    let (c_in, c_out) = (3, 8);
    for (format, kernel) in [(Format::F32, 3), (Format::BF16, 3), (Format::F16, 1)] {
        for residency in [Residency::Unpacked, Residency::Mapped] {
            // given a convolution with a branch whose first factor has the kernel, and one whose middle has it
            let strength = Strength::of(0.7);
            let (weight, bias) = (stored(format, [c_out, c_in, kernel, kernel], 0.7), stored(format, [c_out], 1.3));
            let down = stored(Format::F32, [2, c_in, kernel, kernel], 0.9);
            let up = stored(Format::F32, [3, 2, 1, 1], 0.4);
            let (flat, mid) = (stored(Format::F32, [2, c_in], 0.5), stored(Format::F16, [2, 2, kernel, kernel], 0.3));
            let out = stored(Format::F32, [c_out, 2], 0.8);
            let part = Change::LowRank { down: down.clone(), mid: None, up: up.clone() };
            let whole = Change::LowRank { down: flat.clone(), mid: Some(mid.clone()), up: out.clone() };
            let branch = |rows, change, scale| Branch { rows, change, scale, strength: strength.clone() };
            let source = Adapted::of([("c.weight", weight.clone()), ("c.bias", bias.clone())])
                .with("c.weight", branch(4..7, part, 0.5))
                .with("c.weight", branch(0..c_out, whole, 2.0));
            let plain = Adapted::of([("c.weight", weight.clone()), ("c.bias", bias.clone())]);
            let layout = || Layout::of(|l| l.convolution("c", c_in, c_out, kernel));
            let layer = Conv2d::load(&source.view(residency, layout()).at("c")).unwrap();
            let plain = Conv2d::load(&plain.view(residency, layout()).at("c")).unwrap();
            let (x, residual) = (input([1, c_in, 5, 6], 0.17), input([1, c_out, 5, 6], 0.3));
            for now in [0.7, -2.0, 0.0] {
                // when it is asked at a strength
                strength.set(now);
                let found = layer.forward(x.clone());
                // then it is that of f64
                let (now, pixels) = (f64::from(now), 30);
                let picture: Vec<f64> = values(&x).into_iter().map(f64::from).collect();
                let mut y = convolved(&weight, &picture, SIZE);
                let added = convolved(&up, &convolved(&down, &picture, SIZE), SIZE);
                add(&mut y, c_out * pixels, 4 * pixels, &added, 3 * pixels, 0.5 * now);
                let inner =
                    convolved(&mid, &convolved(&flat.clone().reshape(vec![2, c_in, 1, 1]), &picture, SIZE), SIZE);
                let added = convolved(&out.clone().reshape(vec![c_out, 2, 1, 1]), &inner, SIZE);
                add(&mut y, c_out * pixels, 0, &added, c_out * pixels, 2.0 * now);
                let bias = doubles(&bias);
                y.iter_mut().enumerate().for_each(|(i, y)| *y += bias[i / pixels]);
                agree(&found, &y);
                let onto: Vec<f64> = values(&residual).iter().zip(&y).map(|(r, y)| f64::from(*r) + y).collect();
                agree(&layer.forward_onto(x.clone(), residual.clone()), &onto);
                if now == 0.0 {
                    assert_eq!(values(&found), values(&plain.forward(x.clone())));
                }
            }
        }
    }
}

#[test]
fn a_downsampling_convolution_takes_every_second_pixel_of_its_branches_too() {
    // given the same branch over every pixel and over every second one, without a border
    let strength = Strength::of(0.7);
    let change = Change::LowRank {
        down: stored(Format::F32, [2, 3, 3, 3], 0.9),
        mid: None,
        up: stored(Format::F32, [4, 2, 1, 1], 0.4),
    };
    let source =
        Adapted::of([("c.weight", stored(Format::F32, [4, 3, 3, 3], 0.7)), ("c.bias", stored(Format::F32, [4], 1.3))])
            .with("c.weight", Branch { rows: 0..4, change, scale: 0.5, strength });
    let w = source.view(Residency::Unpacked, Layout::of(|l| l.convolution("c", 3, 4, 3))).at("c");
    let x = input([1, 3, 8, 6], 0.17);
    let all = values(&Conv2d::load(&w).unwrap().forward(x.clone()));
    let halved = Downsample::load(&w).unwrap().forward(x);
    assert_eq!(halved.dims(), [1, 4, 4, 3]);
    // then a pixel is that of the same place, seen from one row and column further
    let expected: Vec<f64> = (0..4 * 3 * 2)
        .map(|i| (i / 6, i / 2 % 3, i % 2))
        .map(|(c, row, column)| f64::from(all[(c * 8 + 2 * row + 1) * 6 + 2 * column + 1]))
        .collect();
    agree(&halved.narrow(2, 0, 3).narrow(3, 0, 2), &expected);
}

#[test]
fn norms_and_tables_take_differences() {
    // given differences of a scale, of a bias' part and of a table's rows
    let strength = Strength::of(0.5);
    let branch = |rows: std::ops::Range<usize>, difference| Branch {
        rows,
        change: Change::Difference(difference),
        scale: 2.0,
        strength: strength.clone(),
    };
    let ones = |n: usize| Stored::of(&vec![1.0; n], vec![n]);
    let tensors =
        || [("n.weight", ones(4)), ("n.bias", ones(4)), ("words", stored(Format::BF16, [5, 3], 0.7)), ("at", ones(4))];
    let source = Adapted::of(tensors())
        .with("n.weight", branch(0..4, ones(4)))
        .with("n.bias", branch(1..3, ones(2)))
        .with("at", branch(3..4, ones(1)))
        .with("words", branch(2..4, stored(Format::F32, [2, 3], 0.2)));
    let layout = Layout::of(|l| {
        l.norm("n", 4);
        l.table("words", [5, 3]);
        l.parameter("at", &[4]);
    });
    let w = source.view(Residency::Unpacked, layout);
    let (norm, rms) = (LayerNorm::load(&w.at("n"), 1e-6).unwrap(), RmsNorm::load(&w.at("n"), "weight", 1e-6).unwrap());
    let (group, words) = (GroupNorm::load(&w.at("n"), 2, 1e-6).unwrap(), w.table("words").unwrap());
    let (x, picture) = (input([2, 4], 0.9), input([1, 4, 2, 2], 0.9));
    let (table, change) = (doubles(&stored(Format::BF16, [5, 3], 0.7)), doubles(&stored(Format::F32, [2, 3], 0.2)));
    for now in [0.5, -0.25, 0.0] {
        // when they are asked at a strength
        strength.set(now);
        let factor = 2.0 * f64::from(now);
        // then each is that of its tensor with the difference in it
        let (scale, bias) = ([1.0 + factor; 4], [1.0, 1.0 + factor, 1.0 + factor, 1.0]);
        let rows: Vec<f64> = values(&x).into_iter().map(f64::from).collect();
        let normed = |values: &[f64]| -> Vec<f64> {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            values.iter().map(|v| (v - mean) / (variance + 1e-6).sqrt()).collect()
        };
        let affine = |i: usize, v: f64| v * scale[i % 4] + bias[i % 4];
        let expected: Vec<f64> = rows.chunks(4).flat_map(&normed).enumerate().map(|(i, v)| affine(i, v)).collect();
        agree(&norm.forward(x.clone()), &expected);
        let root = |row: &[f64]| (row.iter().map(|v| v * v).sum::<f64>() / 4.0 + 1e-6).sqrt();
        let expected: Vec<f64> = rows.chunks(4).flat_map(|row| row.iter().map(|v| v / root(row) * scale[0])).collect();
        agree(&rms.forward(x.clone()), &expected);
        let pixels: Vec<f64> = values(&picture).into_iter().map(f64::from).collect();
        let expected: Vec<f64> =
            pixels.chunks(8).flat_map(&normed).enumerate().map(|(i, v)| affine(i / 4, v)).collect();
        agree(&group.forward(picture.clone()), &expected);
        let row = |id: usize| (0..3).map(move |i| (id, i));
        let changed = |(id, i): (usize, usize)| {
            table[3 * id + i] + if (2..4).contains(&id) { factor * change[3 * (id - 2) + i] } else { 0.0 }
        };
        agree(&words.rows(&[3, 0, 2, 4]), &[3, 0, 2, 4].into_iter().flat_map(row).map(changed).collect::<Vec<_>>());
        agree(&w.parameter::<1>("at").unwrap().value(), &[1.0, 1.0, 1.0, 1.0 + factor]);
    }
}

#[test]
fn a_branch_that_does_not_fit_is_an_error_that_names_the_tensor() {
    let f32s = |shape: [usize; 2]| stored(Format::F32, shape, 0.5);
    let low = |down, mid, up| Change::LowRank { down, mid, up };
    let cases = [
        (0..OUT, low(f32s([2, IN + 1]), None, f32s([OUT, 2]))),
        (0..OUT, low(f32s([2, IN]), None, f32s([OUT, 3]))),
        (0..OUT, low(f32s([2, IN]), Some(f32s([3, 2])), f32s([OUT, 2]))),
        (1..OUT + 1, low(f32s([2, IN]), None, f32s([OUT, 2]))),
        (0..4, low(f32s([2, IN]), None, f32s([5, 2]))),
        (0..OUT, Change::Difference(f32s([IN, OUT]))),
        (0..OUT, Change::Difference(stored(Format::F32, [OUT], 0.5))),
    ];
    for (rows, change) in cases {
        let told = format!("{change:?}");
        let branch = Branch { rows, change, scale: 1.0, strength: Strength::of(0.0) };
        let source = Adapted::of([("l.weight", f32s([OUT, IN]))]).with("l.weight", branch);
        let w = source.view(Residency::Unpacked, Layout::of(|l| l.unbiased("l", IN, OUT)));
        let error = Linear::load(&w.at("l")).err();
        assert!(matches!(&error, Some(Error::Branch { name, .. }) if name == "l.weight"), "{told}: {error:?}");
    }
}

#[test]
fn a_branch_of_integers_is_an_error_that_names_the_tensor() {
    let integers = |n: usize| Stored::of_bytes(Format::I8, vec![n], vec![1; n]).unwrap();
    let branch =
        Branch { rows: 0..4, change: Change::Difference(integers(4)), scale: 1.0, strength: Strength::of(1.0) };
    let source = Adapted::of([("at", Stored::of(&[0.0; 4], vec![4]))]).with("at", branch);
    let w = source.view(Residency::Unpacked, Layout::of(|l| l.parameter("at", &[4])));
    let error = w.parameter::<1>("at").err().unwrap().to_string();
    assert_eq!(error, "tensor `at` of a branch is stored as I8, expected F64, F32, F16 or BF16");
}

/// A change that is a wave, three times as high at half the strength, so that it is no multiple of it.
struct Waves([usize; 4]);

impl Rule for Waves {
    fn shape(&self) -> &[usize] {
        if self.0[2] == 1 { &self.0[..2] } else { &self.0 }
    }

    fn rows(&self, rows: std::ops::Range<usize>, strength: f32) -> Vec<f32> {
        let columns: usize = self.0[1..].iter().product();
        let height = if strength == 0.5 { 1.5 } else { strength };
        (rows.start * columns..rows.end * columns).map(|i| height * (i as f32 * 0.37).sin()).collect()
    }
}

#[test]
fn a_change_that_is_computed_is_added_as_one_that_is_stored() {
    // 600 rows are more than are computed at a time
    for shape in [[600, IN, 1, 1], [600, 3, 3, 3]] {
        let [out, d_in, kernel, _] = shape;
        let kept = Waves(shape).shape().to_vec();
        let layout = || {
            Layout::of(|l| {
                if kernel == 1 { l.stacked("l", d_in, &[200, 400]) } else { l.convolution("l", d_in, out, kernel) }
            })
        };
        let weight = Stored::of(&wave(kept.iter().product(), 0.7), kept.clone());
        let bias = stored(Format::F32, [out], 1.3);
        let under = |change: Change, rows: std::ops::Range<usize>, strength: &Strength| {
            let branch = Branch { rows, change, scale: 0.25, strength: strength.clone() };
            Adapted::of([("l.weight", weight.clone()), ("l.bias", bias.clone())]).with("l.weight", branch)
        };
        let run = |source: &Adapted, residency| -> Vec<f32> {
            let w = source.view(residency, layout());
            if kernel == 1 {
                let parts = Linear::load_stacked::<2>(&w.at("l")).unwrap();
                let x = tensor(wave(5 * d_in, 0.3), [5, d_in], &Device::flex());
                return parts.into_iter().flat_map(|part| values(&part.forward(x.clone()))).collect();
            }
            let x = tensor(wave(d_in * 20, 0.3), [1, d_in, 4, 5], &Device::flex());
            values(&Conv2d::load(&w.at("l")).unwrap().forward(x))
        };
        for residency in [Residency::Unpacked, Residency::Mapped] {
            for (strength, height) in [(0.5, 1.5), (-2.0, -2.0)] {
                let difference = Stored::of(&Waves(shape).rows(0..out, height), kept.clone());
                let one = Strength::of(1.0);
                let expected = run(&under(Change::Difference(difference), 0..out, &one), residency);
                let found = run(
                    &under(Change::Computed(Computed::by(Waves(shape))), 0..out, &Strength::of(strength)),
                    residency,
                );
                let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                for (f, e) in found.iter().zip(&expected) {
                    assert!((f - e).abs() <= 1e-5 * largest, "{f} {e}, {residency:?}");
                }
            }
            // without a strength it is not there, and of another height or width it is refused
            let zero = run(&under(Change::Computed(Computed::by(Waves(shape))), 0..out, &Strength::of(0.0)), residency);
            let alone = Adapted::of([("l.weight", weight.clone()), ("l.bias", bias.clone())]);
            assert!(zero == run(&alone, residency));
            let mut wider = shape;
            wider[1] += 1;
            for (rows, change) in [(0..out - 1, shape), (0..out, wider)] {
                let source = under(Change::Computed(Computed::by(Waves(change))), rows, &Strength::of(1.0));
                let w = source.view(residency, layout());
                let refused = match kernel {
                    1 => Linear::load_stacked::<2>(&w.at("l")).err(),
                    _ => Conv2d::load(&w.at("l")).err(),
                };
                assert!(matches!(refused, Some(Error::Branch { .. })));
            }
        }
    }
}
