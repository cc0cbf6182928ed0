//! Instructions that make a register's value of others'.

use crate::{
    floats::{Rounding, bf16_of, f16_of, f32_of, flushed, of_bf16, of_f16, of_f32, rounded, whole},
    instruction::{LANES, Lanes, One, Three, Two},
};

/// What a thread's value becomes, of as many as the instruction has.
pub(crate) enum Function {
    One(One),
    Two(Two),
    Three(Three),
}

fn one(f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Option<Function> {
    let all = move |a: &Lanes, to: &mut Lanes| (0..LANES).for_each(|i| to[i] = f(a[i]));
    Some(Function::One(Box::new(all)))
}

fn two(f: impl Fn(u64, u64) -> u64 + Send + Sync + 'static) -> Option<Function> {
    let all = move |[a, b]: [&Lanes; 2], to: &mut Lanes| (0..LANES).for_each(|i| to[i] = f(a[i], b[i]));
    Some(Function::Two(Box::new(all)))
}

fn three(f: impl Fn(u64, u64, u64) -> u64 + Send + Sync + 'static) -> Option<Function> {
    let all = move |[a, b, c]: [&Lanes; 3], to: &mut Lanes| (0..LANES).for_each(|i| to[i] = f(a[i], b[i], c[i]));
    Some(Function::Three(Box::new(all)))
}

/// A number format, by its name in an instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Type {
    Unsigned(u32),
    Signed(u32),
    F16,
    Bf16,
    F32,
    F64,
    Predicate,
}

impl Type {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Predicate,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => match (name.get(..1)?, name.get(1..)?.parse().ok()?) {
                ("s", bits @ (8 | 16 | 32 | 64)) => Self::Signed(bits),
                ("b" | "u", bits @ (8 | 16 | 32 | 64)) => Self::Unsigned(bits),
                _ => return None,
            },
        })
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Unsigned(bits) | Self::Signed(bits) => bits,
            Self::F16 | Self::Bf16 => 16,
            Self::F32 => 32,
            Self::F64 => 64,
            Self::Predicate => 1,
        }
    }
}

/// The lowest bits.
pub(crate) fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

fn signed(value: u64, bits: u32) -> i64 {
    ((value << (64 - bits)) as i64) >> (64 - bits)
}

/// Float functions of a format's numbers.
fn floats1(of: Type, f: impl Fn(f64) -> f64 + Send + Sync + Copy + 'static) -> Option<Function> {
    match of {
        Type::F32 => one(move |a| of_f32(f(f32_of(a).into()) as f32)),
        Type::F16 => one(move |a| of_f16(f(f16_of(a).into()) as f32)),
        Type::Bf16 => one(move |a| of_bf16(f(bf16_of(a).into()) as f32)),
        Type::F64 => one(move |a| f(f64::from_bits(a)).to_bits()),
        Type::Unsigned(_) | Type::Signed(_) | Type::Predicate => None,
    }
}

/// The same of two. What is made of two numbers of 32 bits in f64 is rounded to f32 as if it were made in f32, but for what is asked for by `way`.
fn floats2(of: Type, way: Rounding, f: impl Fn(f64, f64) -> f64 + Send + Sync + Copy + 'static) -> Option<Function> {
    match (of, way) {
        (Type::F32, Rounding::Nearest) => two(move |a, b| of_f32(f(f32_of(a).into(), f32_of(b).into()) as f32)),
        (Type::F32, _) => two(move |a, b| of_f32(rounded(f(f32_of(a).into(), f32_of(b).into()), way))),
        (Type::F16, _) => two(move |a, b| of_f16(f(f16_of(a).into(), f16_of(b).into()) as f32)),
        (Type::Bf16, _) => two(move |a, b| of_bf16(f(bf16_of(a).into(), bf16_of(b).into()) as f32)),
        (Type::F64, _) => two(move |a, b| f(f64::from_bits(a), f64::from_bits(b)).to_bits()),
        (Type::Unsigned(_) | Type::Signed(_) | Type::Predicate, _) => None,
    }
}

/// What else an instruction's name says.
const PARTS: [&str; 34] = [
    "rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi", "ftz", "approx", "full", "sat", "NaN", "lo", "hi",
    "wide", "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "ls", "hs",
    "tf32",
];

/// What an instruction computes, by its name's parts; `None` where it is not known.
pub(crate) fn function(parts: &[&str]) -> Option<Function> {
    let (name, last) = (parts[0], *parts.last()?);
    let is_known = |part: &&str| Type::of(part).is_some() || part.ends_with("x2") || PARTS.contains(part);
    if !parts[1..].iter().all(is_known) {
        return None;
    }
    if name == "cvt" {
        return conversion(parts);
    }
    if let Some(half) = last.strip_suffix("x2") {
        let each = [&parts[..parts.len() - 1], &[half]].concat();
        return function(&each).map(of_both);
    }
    if let ["set", compared, to, from] = *parts {
        // A word of ones, or the float 1.
        let yes = if to == "f32" { of_f32(1.0) } else { mask(Type::of(to)?.bits()) };
        let Some(Function::Two(compare)) = function(&["setp", compared, from]) else { return None };
        return Some(Function::Two(Box::new(move |operands, to| {
            compare(operands, to);
            to.iter_mut().for_each(|lane| *lane *= yes);
        })));
    }
    let of = Type::of(last)?;
    let has = |part: &str| parts[1..].contains(&part);
    let way = if has("rm") {
        Rounding::Down
    } else if has("rp") {
        Rounding::Up
    } else if has("rz") {
        Rounding::Zero
    } else {
        Rounding::Nearest
    };
    match of {
        Type::F16 | Type::Bf16 | Type::F32 | Type::F64 => float(name, of, way, &has),
        Type::Unsigned(bits) => integer(name, bits, false, &has),
        Type::Signed(bits) => integer(name, bits, true, &has),
        Type::Predicate => predicate(name),
    }
}

/// A function of each half of a word.
fn of_both(each: Function) -> Function {
    let halves = |word: &Lanes| [0, 16].map(|at| word.map(|word| word >> at & 0xffff));
    let join = |[low, high]: [Lanes; 2], to: &mut Lanes| (0..LANES).for_each(|i| to[i] = low[i] | high[i] << 16);
    match each {
        Function::One(f) => Function::One(Box::new(move |a, to| {
            let mut parts = [[0; LANES]; 2];
            halves(a).iter().zip(&mut parts).for_each(|(a, part)| f(a, part));
            join(parts, to);
        })),
        Function::Two(f) => Function::Two(Box::new(move |[a, b], to| {
            let mut parts = [[0; LANES]; 2];
            halves(a).iter().zip(&halves(b)).zip(&mut parts).for_each(|((a, b), part)| f([a, b], part));
            join(parts, to);
        })),
        Function::Three(f) => Function::Three(Box::new(move |[a, b, c], to| {
            let (a, b, c, mut parts) = (halves(a), halves(b), halves(c), [[0; LANES]; 2]);
            (0..2).for_each(|i| f([&a[i], &b[i], &c[i]], &mut parts[i]));
            join(parts, to);
        })),
    }
}

fn float(name: &str, of: Type, way: Rounding, has: &dyn Fn(&str) -> bool) -> Option<Function> {
    let is_f32 = of == Type::F32;
    match name {
        "mov" => one(|a| a),
        "selp" => three(|a, b, p| if p != 0 { a } else { b }),
        "setp" => comparison(of, has),
        "add" if is_f32 && way == Rounding::Nearest && !has("sat") => two(|a, b| of_f32(f32_of(a) + f32_of(b))),
        "mul" if is_f32 && way == Rounding::Nearest && !has("sat") => two(|a, b| of_f32(f32_of(a) * f32_of(b))),
        "fma" | "mad" if is_f32 && way == Rounding::Nearest && !has("sat") => {
            // A product of two numbers of 24 bits has its place in 53; their sum is rounded to those, and then to 24.
            three(|a, b, c| of_f32((f64::from(f32_of(a)) * f64::from(f32_of(b)) + f64::from(f32_of(c))) as f32))
        }
        "fma" | "mad" if is_f32 && !has("sat") => three(move |a, b, c| {
            of_f32(rounded(f64::from(f32_of(a)) * f64::from(f32_of(b)) + f64::from(f32_of(c)), way))
        }),
        "fma" if of == Type::Bf16 => {
            three(|a, b, c| of_bf16((f64::from(bf16_of(a)) * f64::from(bf16_of(b)) + f64::from(bf16_of(c))) as f32))
        }
        "fma" if of == Type::F16 => {
            three(|a, b, c| of_f16((f64::from(f16_of(a)) * f64::from(f16_of(b)) + f64::from(f16_of(c))) as f32))
        }
        "fma" if of == Type::F64 => {
            three(|a, b, c| f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)).to_bits())
        }
        "add" if !has("sat") => floats2(of, way, |a, b| a + b),
        "sub" if !has("sat") => floats2(of, way, |a, b| a - b),
        "mul" if !has("sat") => floats2(of, way, |a, b| a * b),
        "div" => floats2(of, way, |a, b| a / b),
        "min" if has("NaN") => floats2(of, way, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }),
        "max" if has("NaN") => floats2(of, way, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }),
        "min" => floats2(of, way, f64::min),
        "max" => floats2(of, way, f64::max),
        // The sign is that of the first.
        "copysign" => floats2(of, way, |a, b| b.copysign(a)),
        "neg" => floats1(of, |a| -a),
        "abs" => floats1(of, f64::abs),
        "rcp" => floats1(of, f64::recip),
        "sqrt" => floats1(of, f64::sqrt),
        "rsqrt" => floats1(of, |a| a.sqrt().recip()),
        "sin" => floats1(of, f64::sin),
        "cos" => floats1(of, f64::cos),
        "lg2" => floats1(of, f64::log2),
        "tanh" => floats1(of, f64::tanh),
        "ex2" if is_f32 && has("ftz") => one(|a| of_f32(flushed(f64::from(flushed(f32_of(a))).exp2() as f32))),
        "ex2" => floats1(of, f64::exp2),
        _ => None,
    }
}

fn comparison(of: Type, has: &dyn Fn(&str) -> bool) -> Option<Function> {
    let names = ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];
    let which = names.iter().position(|name| has(name))?;
    if has("and") || has("or") || has("xor") {
        return None;
    }
    let compared = move |a: f64, b: f64| {
        let is_none = a.is_nan() || b.is_nan();
        u64::from(match which {
            0 => a == b,
            1 => a != b && !is_none,
            2 => a < b,
            3 => a <= b,
            4 => a > b,
            5 => a >= b,
            6 => a == b || is_none,
            7 => a != b || is_none,
            8 => a < b || is_none,
            9 => a <= b || is_none,
            10 => a > b || is_none,
            11 => a >= b || is_none,
            12 => !is_none,
            _ => is_none,
        })
    };
    match of {
        Type::F32 => two(move |a, b| compared(f32_of(a).into(), f32_of(b).into())),
        Type::F16 => two(move |a, b| compared(f16_of(a).into(), f16_of(b).into())),
        Type::Bf16 => two(move |a, b| compared(bf16_of(a).into(), bf16_of(b).into())),
        Type::F64 => two(move |a, b| compared(f64::from_bits(a), f64::from_bits(b))),
        Type::Unsigned(_) | Type::Signed(_) | Type::Predicate => None,
    }
}

fn predicate(name: &str) -> Option<Function> {
    match name {
        "mov" => one(|a| a & 1),
        "not" => one(|a| a ^ 1),
        "and" => two(|a, b| a & b),
        "or" => two(|a, b| a | b),
        "xor" => two(|a, b| a ^ b),
        _ => None,
    }
}

fn integer(name: &str, bits: u32, is_signed: bool, has: &dyn Fn(&str) -> bool) -> Option<Function> {
    if has("sat") {
        return None;
    }
    let all = mask(bits);
    let number = move |value: u64| if is_signed { i128::from(signed(value, bits)) } else { i128::from(value & all) };
    let narrow = move |value: i128| value as u64 & all;
    let is_wide = has("wide");
    let product = move |a: u64, b: u64| {
        let product = number(a) * number(b);
        if is_wide { product as u64 & mask((2 * bits).min(64)) } else { narrow(product) }
    };
    match name {
        "mov" | "cvta" => one(move |a| a & all),
        "selp" => three(|a, b, p| if p != 0 { a } else { b }),
        "add" => two(move |a, b| a.wrapping_add(b) & all),
        "sub" => two(move |a, b| a.wrapping_sub(b) & all),
        "neg" => one(move |a| a.wrapping_neg() & all),
        "abs" => one(move |a| narrow(number(a).abs())),
        "mul" if has("hi") => two(move |a, b| narrow((number(a) * number(b)) >> bits)),
        "mul" => two(product),
        "mad" if has("lo") => three(move |a, b, c| a.wrapping_mul(b).wrapping_add(c) & all),
        "mad" if is_wide => three(move |a, b, c| product(a, b).wrapping_add(c) & mask((2 * bits).min(64))),
        // What is divided by 0 is not said.
        "div" => two(move |a, b| number(a).checked_div(number(b)).map_or(all, narrow)),
        "rem" => two(move |a, b| number(a).checked_rem(number(b)).map_or(a, narrow)),
        "min" => two(move |a, b| narrow(number(a).min(number(b)))),
        "max" => two(move |a, b| narrow(number(a).max(number(b)))),
        "and" => two(|a, b| a & b),
        "or" => two(|a, b| a | b),
        "xor" => two(|a, b| a ^ b),
        "not" => one(move |a| !a & all),
        "shl" => two(move |a, b| if b >= u64::from(bits) { 0 } else { a << b & all }),
        "shr" => two(move |a, b| narrow(number(a) >> b.min(u64::from(bits)))),
        "clz" => one(move |a| u64::from((a & all).leading_zeros() - (64 - bits))),
        "popc" => one(move |a| u64::from((a & all).count_ones())),
        "prmt" => three(permuted),
        "setp" => {
            let names = ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
            let which = names.iter().position(|name| has(name))?;
            if has("and") || has("or") || has("xor") {
                return None;
            }
            two(move |a, b| {
                let (a, b) = (number(a), number(b));
                u64::from(match which {
                    0 => a == b,
                    1 => a != b,
                    2 | 6 => a < b,
                    3 | 7 => a <= b,
                    4 | 8 => a > b,
                    _ => a >= b,
                })
            })
        }
        _ => None,
    }
}

/// Each byte of a word is one of eight of two words, by the lower bits of a half byte; its upper bit takes the byte's sign alone.
fn permuted(a: u64, b: u64, choice: u64) -> u64 {
    let bytes = (a & mask(32)) | b << 32;
    (0..4).fold(0, |word, i| {
        let which = choice >> (4 * i);
        let byte = bytes >> (8 * (which & 7)) & 255;
        let byte = if which & 8 == 0 { byte } else { 255 * (byte >> 7) };
        word | byte << (8 * i)
    })
}

/// `bfi.b32 d, a, b, position, length`: so many of the lowest bits of `a` put into `b`.
pub(crate) fn inserted(bits: u32, position: u64, length: u64) -> Option<Function> {
    let field = if length == 0 { 0 } else { mask(length.min(64) as u32) };
    two(move |a, b| ((b & !(field << position)) | (a & field) << position) & mask(bits))
}

/// `cvt.rounding.to.from`, and of two numbers to a word.
fn conversion(parts: &[&str]) -> Option<Function> {
    let [.., to, from] = *parts else { return None };
    let has = |part: &str| parts[1..].contains(&part);
    match to {
        "bf16x2" => return two(|a, b| of_bf16(f32_of(a)) << 16 | of_bf16(f32_of(b))),
        // To ten bits behind the point, away from zero where it is between two.
        "tf32" => return one(|a| (a & mask(32)).wrapping_add(0x1000) & !0x1fff & mask(32)),
        "f16x2" => return two(|a, b| of_f16(f32_of(a)) << 16 | of_f16(f32_of(b))),
        _ => {}
    }
    let way = match ["rz", "rzi", "rm", "rmi", "rp", "rpi"].iter().position(|way| has(way)) {
        Some(0 | 1) => Rounding::Zero,
        Some(2 | 3) => Rounding::Down,
        Some(_) => Rounding::Up,
        None => Rounding::Nearest,
    };
    let is_whole = ["rni", "rzi", "rmi", "rpi"].iter().any(|way| has(way));
    let (to, from, is_sat) = (Type::of(to)?, Type::of(from)?, has("sat"));
    let number = move |value: u64| match from {
        Type::F16 => f16_of(value).into(),
        Type::Bf16 => bf16_of(value).into(),
        Type::F32 => f32_of(value).into(),
        Type::F64 => f64::from_bits(value),
        Type::Signed(bits) => signed(value, bits) as f64,
        Type::Unsigned(bits) => (value & mask(bits)) as f64,
        Type::Predicate => value as f64,
    };
    let number = move |value| {
        let number = number(value);
        let number = if is_whole { whole(number, way) } else { number };
        // What is no number becomes 0 where it is cut off.
        match is_sat {
            true if number.is_nan() => 0.0,
            true => number.clamp(0.0, 1.0),
            false => number,
        }
    };
    match (to, from) {
        (Type::Signed(bits) | Type::Unsigned(bits), Type::Signed(_) | Type::Unsigned(_)) if !is_sat => {
            one(move |a| match from {
                Type::Signed(from) => signed(a, from) as u64 & mask(bits),
                _ => a & mask(from.bits()) & mask(bits),
            })
        }
        (Type::Signed(bits), _) if !is_sat => one(move |a| {
            let most = mask(bits - 1) as f64;
            number(a).clamp(-most - 1.0, most) as i64 as u64 & mask(bits)
        }),
        (Type::Unsigned(bits), _) if !is_sat => one(move |a| number(a).clamp(0.0, mask(bits) as f64) as u64),
        (Type::F16, _) => one(move |a| of_f16(number(a) as f32)),
        (Type::Bf16, _) => one(move |a| of_bf16(number(a) as f32)),
        (Type::F32, _) => one(move |a| of_f32(rounded(number(a), if is_whole { Rounding::Nearest } else { way }))),
        (Type::F64, _) => one(move |a| number(a).to_bits()),
        (Type::Signed(_) | Type::Unsigned(_) | Type::Predicate, _) => None,
    }
}
