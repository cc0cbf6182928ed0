//! Instructions, from their text.

use std::collections::HashMap;

use crate::{
    arithmetic::{Function, Type, function, inserted, mask},
    instruction::{Element, Instruction, Layout, Operation, Place, Register, Rows, Shuffle, Special, Vote},
    memory::{PARAMETERS, SHARED, Space},
    statements::{constant, operands, parts, size_of_type},
};

/// What names stand for.
pub(crate) struct Names<'n> {
    /// Addresses of the module's variables.
    variables: &'n HashMap<String, u64>,
    /// Addresses of a kernel's.
    own: HashMap<String, u64>,
    /// Registers, or the first of a family of them, of each pair of braces that is open.
    registers: Vec<HashMap<String, Register>>,
    /// Bits of each register.
    bits: Vec<u32>,
    /// Registers of constants.
    constants: HashMap<u64, Register>,
}

impl<'n> Names<'n> {
    pub(crate) fn of(variables: &'n HashMap<String, u64>) -> Self {
        Self {
            variables,
            own: HashMap::new(),
            registers: vec![HashMap::new()],
            bits: Vec::new(),
            constants: HashMap::new(),
        }
    }

    pub(crate) fn parameter(&mut self, name: &str, at: u64) {
        self.own.insert(name.to_owned(), at);
    }

    pub(crate) fn shared(&mut self, name: &str, at: u64) {
        self.own.insert(name.to_owned(), at);
    }

    pub(crate) fn open(&mut self) {
        self.registers.push(HashMap::new());
    }

    pub(crate) fn close(&mut self) {
        self.registers.pop();
    }

    /// How many registers there are, and those of them that are constants.
    pub(crate) fn counted(self) -> (usize, HashMap<u64, Register>) {
        (self.bits.len(), self.constants)
    }

    fn constant(&mut self, value: u64) -> Register {
        *self.constants.entry(value).or_insert_with(|| {
            self.bits.push(64);
            self.bits.len() - 1
        })
    }

    pub(crate) fn special(&mut self) -> Special {
        let kinds = ["%tid", "%ntid", "%ctaid", "%nctaid"];
        let places = kinds.map(|kind| ["x", "y", "z"].map(|side| self.register(&format!("{kind}.{side}"), 32)));
        Special { places, lane: self.register("%laneid", 32), warp: self.register("%warpid", 32) }
    }

    fn register(&mut self, name: &str, bits: u32) -> Register {
        let register = self.bits.len();
        if let Some(names) = self.registers.last_mut() {
            names.insert(name.to_owned(), register);
        }
        self.bits.push(bits);
        register
    }

    /// `.reg .b32 %r<12>` or `.reg .b16 l, h`.
    pub(crate) fn registers(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("`{text}` declares no registers");
        let rest = text.strip_prefix(".reg").ok_or_else(wrong)?.trim();
        let (of, names) = rest.split_once(char::is_whitespace).ok_or_else(wrong)?;
        let bits = of.strip_prefix('.').and_then(Type::of).ok_or_else(wrong)?.bits();
        for name in operands(names) {
            match name.split_once('<') {
                None => {
                    self.register(name, bits);
                }
                Some((family, count)) => {
                    let count = count.trim_end_matches('>').parse().map_err(|_| wrong())?;
                    self.register(&format!("{family}<"), bits);
                    self.bits.extend(std::iter::repeat_n(bits, count));
                }
            }
        }
        Ok(())
    }

    fn found(&self, name: &str) -> Option<Register> {
        let family = name.trim_end_matches(|c: char| c.is_ascii_digit());
        self.registers.iter().rev().find_map(|names| {
            let alone = || names.get(name).copied();
            let of_family = || Some(names.get(&format!("{family}<"))? + name[family.len()..].parse::<usize>().ok()?);
            alone().or_else(of_family)
        })
    }

    fn address(&self, name: &str) -> Option<u64> {
        self.own.get(name).or_else(|| self.variables.get(name)).copied()
    }

    fn to(&self, text: &str) -> Result<Register, String> {
        self.found(text).ok_or_else(|| format!("`{text}` is no register"))
    }

    fn all_to(&self, text: &str) -> Result<Vec<Register>, String> {
        parts(text).into_iter().map(|part| self.to(part)).collect()
    }

    /// What is read, of so many bits.
    fn from(&mut self, text: &str, bits: u32) -> Result<Register, String> {
        if let Some(register) = self.found(text) {
            return Ok(register);
        }
        let value = constant(text).map(|value| value & mask(bits)).or_else(|| self.address(text));
        value.map(|value| self.constant(value)).ok_or_else(|| format!("`{text}` is nothing that can be read"))
    }

    fn all_from<const N: usize>(&mut self, texts: &[&str], bits: u32) -> Result<[Register; N], String> {
        let all = texts.iter().map(|text| self.from(text, bits)).collect::<Result<Vec<_>, _>>()?;
        all.try_into().map_err(|_| format!("there are not {N} of {texts:?}"))
    }

    /// `[base+offset]`.
    fn place(&mut self, text: &str) -> Result<Place, String> {
        let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let inside = inside.ok_or_else(|| format!("`{text}` is no address"))?;
        let (base, offset) = inside.split_once('+').unwrap_or((inside, "0"));
        let offset = constant(offset).ok_or_else(|| format!("`{offset}` is no distance"))?;
        Ok(Place { base: self.from(base, 64)?, offset })
    }
}

/// An instruction, without its semicolon.
pub(crate) fn decoded(text: &str, names: &mut Names, labels: &HashMap<&str, usize>) -> Result<Instruction, String> {
    let (guard, rest) = match text.strip_prefix('@') {
        None => (None, text),
        Some(rest) => {
            let (guard, rest) = rest.split_once(char::is_whitespace).ok_or("nothing follows the guard")?;
            let (name, wanted) = guard.strip_prefix('!').map_or((guard, true), |name| (name, false));
            (Some((names.to(name)?, wanted)), rest.trim())
        }
    };
    let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (name, given): (Vec<_>, _) = (name.split('.').collect(), operands(rest));
    let operation = operation(&name, &given, names, labels)?;
    Ok(Instruction { guard, operation, text: text.to_owned() })
}

fn operation(
    name: &[&str],
    given: &[&str],
    names: &mut Names,
    labels: &HashMap<&str, usize>,
) -> Result<Operation, String> {
    let has = |part: &str| name[1..].contains(&part);
    let known = |count: usize| {
        if given.len() == count { Ok(()) } else { Err(format!("{count} operands are expected")) }
    };
    let members = |names: &mut Names, at: usize| names.from(given.get(at).copied().unwrap_or("-1"), 32);
    Ok(match name[0] {
        "ret" | "exit" => Operation::Exit,
        "bra" => {
            known(1)?;
            Operation::Branch(*labels.get(given[0]).ok_or("there is no such label")?)
        }
        "bar" | "barrier" if has("warp") => Operation::WarpBarrier { members: members(names, 0)? },
        "bar" | "barrier" if has("sync") => {
            let number = names.from(given.first().ok_or("a number is missing")?, 32)?;
            let threads = given.get(1).map(|text| names.from(text, 32)).transpose()?;
            Operation::Barrier { number, threads }
        }
        "shfl" => {
            known(5)?;
            let mode = match name.get(2) {
                Some(&"bfly") => Shuffle::Butterfly,
                Some(&"down") => Shuffle::Down,
                Some(&"up") => Shuffle::Up,
                Some(&"idx") => Shuffle::Index,
                _ => return Err("this shuffle is not known".to_owned()),
            };
            let (to, is_there) = given[0].split_once('|').map_or((given[0], None), |(to, there)| (to, Some(there)));
            let is_there = is_there.map(|there| names.to(there)).transpose()?;
            let [value, lane, clamp, members] = names.all_from(&given[1..], 32)?;
            Operation::Shuffle { mode, to: names.to(to)?, is_there, value, lane, clamp, members }
        }
        "vote" => {
            known(3)?;
            let kind = match name.get(2) {
                Some(&"any") => Vote::Any,
                Some(&"all") => Vote::All,
                Some(&"ballot") => Vote::Ballot,
                _ => return Err("this vote is not known".to_owned()),
            };
            let (value, is_negated) = given[1].strip_prefix('!').map_or((given[1], false), |value| (value, true));
            let value = names.from(value, 1)?;
            Operation::Vote { kind, to: names.to(given[0])?, value, is_negated, members: members(names, 2)? }
        }
        "ld" | "st" => transfer(name, given, names)?,
        "atom" | "red" => atomic(name, given, names)?,
        "cp" if has("commit_group") || has("wait_group") || has("wait_all") => Operation::Nothing,
        "cp" if has("async") && has("shared") && has("global") => {
            let [to, from] = [0, 1].map(|at| given.get(at).ok_or("an address is missing"));
            let bytes = given.get(2).and_then(|text| constant(text)).ok_or("how many bytes is not said")? as usize;
            let read = given.get(3).map(|text| names.from(text, 32)).transpose()?;
            Operation::CopyAsync { to: names.place(to?)?, from: names.place(from?)?, bytes, read }
        }
        "fence" | "membar" | "prefetch" | "discard" => Operation::Nothing,
        "wgmma" if has("fence") || has("commit_group") || has("wait_group") => Operation::Nothing,
        "wgmma" => group_product(name, given, names)?,
        "wmma" => fragment(name, given, names)?,
        "mma" => product(name, given, names)?,
        "ldmatrix" if has("b16") && has("m8n8") => {
            known(2)?;
            let (to, place) = (names.all_to(given[0])?, names.place(given[1])?);
            Operation::LoadMatrices { to, place, is_turned: has("trans") }
        }
        "mov" if given.len() == 2 && given[0].starts_with('{') => {
            let (to, bits) = (names.all_to(given[0])?, bits_of(name)?);
            let bits_each = bits / to.len() as u32;
            Operation::Split { to, from: names.from(given[1], bits)?, bits: bits_each }
        }
        "mov" if given.len() == 2 && given[1].starts_with('{') => {
            let (parts, bits) = (parts(given[1]), bits_of(name)?);
            let bits_each = bits / parts.len() as u32;
            let from = parts.iter().map(|part| names.from(part, bits_each)).collect::<Result<_, _>>()?;
            Operation::Join { to: names.to(given[0])?, from, bits: bits_each }
        }
        "cvta" => {
            known(2)?;
            let base = if has("shared") {
                SHARED
            } else if has("param") {
                PARAMETERS
            } else {
                0
            };
            let base = names.constant(if has("to") { base.wrapping_neg() } else { base });
            let moved = function(&["add", "u64"]).ok_or("u64")?;
            computed(moved, &[given[0], given[1]], Some(base), names, 64)?
        }
        "bfi" => {
            known(5)?;
            let [position, length] = [3, 4].map(|at| constant(given[at]).ok_or("only a constant place is known"));
            let bits = bits_of(name)?;
            let inserted = inserted(bits, position?, length?).ok_or("it can't be inserted")?;
            computed(inserted, &given[..3], None, names, bits)?
        }
        _ if given.iter().any(|text| text.starts_with('[')) => return Err("it is not known".to_owned()),
        _ => {
            let function = function(name).ok_or("it is not known")?;
            computed(function, given, None, names, bits_of(name)?)?
        }
    })
}

/// Bits of what an instruction reads, by its last part.
fn bits_of(name: &[&str]) -> Result<u32, String> {
    let last = name.last().copied().unwrap_or_default();
    let paired = last.strip_suffix("x2").map(|_| 32);
    paired.or_else(|| Some(Type::of(last)?.bits())).ok_or_else(|| format!("`{last}` is no number format"))
}

/// The operation of a function, whose last operand is `last` where there is one.
fn computed(
    function: Function,
    given: &[&str],
    last: Option<Register>,
    names: &mut Names,
    bits: u32,
) -> Result<Operation, String> {
    let (to, from) = given.split_first().ok_or("it has no operands")?;
    let from = from.iter().map(|text| names.from(text, bits)).chain(last.map(Ok)).collect::<Result<Vec<_>, _>>()?;
    let to = names.to(to)?;
    match (function, &*from) {
        (Function::One(f), &[a]) => Ok(Operation::One(f, to, a)),
        (Function::Two(f), &[a, b]) => Ok(Operation::Two(f, to, [a, b])),
        (Function::Three(f), &[a, b, c]) => Ok(Operation::Three(f, to, [a, b, c])),
        _ => Err(format!("{} operands are not its", from.len())),
    }
}

fn transfer(name: &[&str], given: &[&str], names: &mut Names) -> Result<Operation, String> {
    let has = |part: &str| name[1..].contains(&part);
    let &[first, second] = given else { return Err("two operands are expected".to_owned()) };
    let space = if has("global") || has("const") {
        Space::Global
    } else if has("param") {
        Space::Parameters
    } else if name[1..].iter().any(|part| part.starts_with("shared")) {
        Space::Shared
    } else if has("local") {
        return Err("memory of a thread is not known".to_owned());
    } else {
        Space::Generic
    };
    let of = name.last().copied().unwrap_or_default();
    let bytes = size_of_type(of).ok_or_else(|| format!("`{of}` is no number format"))?;
    if name[0] == "st" {
        let from =
            parts(second).into_iter().map(|part| names.from(part, 8 * bytes as u32)).collect::<Result<_, _>>()?;
        return Ok(Operation::Store { space, bytes, from, place: names.place(first)? });
    }
    let (to, place) = (names.all_to(first)?, names.place(second)?);
    // The sign goes on into the rest of a register that is wider.
    let is_wider = to.iter().any(|&to| names.bits[to] > 8 * bytes as u32);
    if is_wider && of.starts_with('s') && to.iter().any(|&to| names.bits[to] != 64) {
        return Err("a sign in a part of a register is not known".to_owned());
    }
    Ok(Operation::Load { space, bytes, is_signed: is_wider && of.starts_with('s'), to, place })
}

fn atomic(name: &[&str], given: &[&str], names: &mut Names) -> Result<Operation, String> {
    let has = |part: &str| name[1..].contains(&part);
    let space = if has("global") {
        Space::Global
    } else if has("shared") {
        Space::Shared
    } else {
        Space::Generic
    };
    let combine: fn(u32, u32) -> u32 = match (["add", "min", "max"].map(has), name.last().copied()) {
        ([true, ..], Some("f32")) => |a, b| (f32::from_bits(a) + f32::from_bits(b)).to_bits(),
        ([true, ..], Some("u32" | "s32")) => u32::wrapping_add,
        ([_, true, _], Some("u32")) => u32::min,
        ([_, true, _], Some("s32")) => |a, b| (a as i32).min(b as i32) as u32,
        ([.., true], Some("u32")) => u32::max,
        ([.., true], Some("s32")) => |a, b| (a as i32).max(b as i32) as u32,
        _ => return Err("it is not known".to_owned()),
    };
    let (to, rest) = if name[0] == "atom" { given.split_at(1) } else { given.split_at(0) };
    let to = to.first().map(|to| names.to(to)).transpose()?;
    let &[place, value] = rest else { return Err("these operands are not known".to_owned()) };
    Ok(Operation::Atomic { space, combine, to, place: names.place(place)?, value: names.from(value, 32)? })
}

fn factors_of(name: &[&str]) -> Result<Element, String> {
    match name[1..].iter().find(|part| ["bf16", "f16", "tf32"].contains(part)) {
        Some(&"bf16") => Ok(Element::Bf16),
        Some(&"f16") => Ok(Element::F16),
        Some(_) => Ok(Element::Float),
        None => Err("these factors are not known".to_owned()),
    }
}

fn product(name: &[&str], given: &[&str], names: &mut Names) -> Result<Operation, String> {
    let element = factors_of(name)?;
    let shape = if element == Element::Float { "m16n8k8" } else { "m16n8k16" };
    if !name.contains(&shape) || !name.ends_with(&["f32"]) || given.len() != 4 {
        return Err("this shape is not known".to_owned());
    }
    let d = names.all_to(given[0])?.try_into().map_err(|_| "four sums are expected")?;
    let [a, c] = [1, 3].map(|at| names.all_from(&parts(given[at]), 32));
    Ok(Operation::Multiply { element, d, a: a?, b: names.all_from(&parts(given[2]), 32)?, c: c? })
}

fn fragment(name: &[&str], given: &[&str], names: &mut Names) -> Result<Operation, String> {
    let has = |part: &str| name[1..].contains(&part);
    let element = if has("bf16") {
        Element::Bf16
    } else if has("tf32") {
        Element::Float
    } else {
        Element::F16
    };
    let shape = match name.iter().find(|part| part.starts_with('m') && part.contains('n') && part.contains('k')) {
        Some(&"m16n16k16") => [16, 16, 16],
        Some(&"m32n8k16") => [32, 8, 16],
        Some(&"m8n32k16") => [8, 32, 16],
        Some(&"m16n16k8") => [16, 16, 8],
        _ => return Err("this shape is not known".to_owned()),
    };
    let [m, n, k] = shape;
    let (&[first, second, third], rest) = given.split_first_chunk().ok_or("operands are missing")?;
    if name.get(1) == Some(&"mma") {
        let &[c] = rest else { return Err("four operands are expected".to_owned()) };
        let all = [first, second, third, c].map(|text| names.all_to(text));
        let [d, a, b, c] = all;
        return Ok(Operation::MultiplyFragments { shape, element, d: d?, a: a?, b: b?, c: c? });
    }
    let space = if has("shared") {
        Space::Shared
    } else if has("global") {
        Space::Global
    } else {
        Space::Generic
    };
    let layout = |[rows, columns]: [usize; 2]| Layout { space, rows, columns, is_turned: has("col") };
    let stride = names.from(third, 32)?;
    if has("store") && has("f32") {
        let (place, from) = (names.place(first)?, names.all_to(second)?);
        return Ok(Operation::StoreFragment { layout: layout([m, n]), from, place, stride });
    }
    let (layout, element) = match name.get(2) {
        Some(&"a") => (layout([m, k]), element),
        Some(&"b") => (layout([k, n]), element),
        Some(&"c") if has("f32") => (layout([m, n]), Element::Float),
        _ => return Err("it is not known".to_owned()),
    };
    Ok(Operation::LoadFragment { layout, element, to: names.all_to(first)?, place: names.place(second)?, stride })
}

fn group_product(name: &[&str], given: &[&str], names: &mut Names) -> Result<Operation, String> {
    let element = factors_of(name)?;
    let depth = if element == Element::Float { "k8" } else { "k16" };
    let shape = name.iter().find_map(|part| part.strip_prefix("m64n")?.strip_suffix(depth));
    let columns: usize = shape.and_then(|n| n.parse().ok()).ok_or("this shape is not known")?;
    let d = names.all_to(given.first().ok_or("it has no sums")?)?;
    let (&[_, a, b, adds, one, other, ..], rest) = (given, given.get(6..).unwrap_or_default()) else {
        return Err("operands are missing".to_owned());
    };
    let is_held = a.starts_with('{');
    // Only factors of 16 bits may be turned.
    let turns = match (element, is_held) {
        (Element::Float, _) => 0,
        (_, true) => 1,
        (_, false) => 2,
    };
    if d.len() * 2 != columns || [one, other] != ["1", "1"] || rest.len() != turns {
        return Err("these operands are not known".to_owned());
    }
    let a = match is_held {
        true => Rows::Held(names.all_from(&parts(a), 32)?),
        false if rest.first().is_none_or(|turn| *turn == "0") => Rows::Described(names.from(a, 64)?),
        false => return Err("rows that are turned are not known".to_owned()),
    };
    let is_turned = rest.last() == Some(&"1");
    let (b, adds) = (names.from(b, 64)?, names.from(adds, 1)?);
    Ok(Operation::MultiplyGroup { element, d, a, b, adds, is_turned })
}
