//! Kernels and what they have in common, from the text of a module.

use std::{collections::HashMap, iter};

use crate::{
    allotment::allotted,
    decode::{Names, decoded},
    instruction::{Instruction, Register, Special},
    memory,
    statements::{Outer, Statement, cleaned, constant, outer, size_of_type},
};

/// Kernels by their names.
pub(crate) struct Module {
    pub(crate) kernels: HashMap<String, Kernel>,
    /// Variables of the module, by whose addresses the kernels read.
    variables: Vec<Box<[u64]>>,
}

impl Drop for Module {
    fn drop(&mut self) {
        self.variables.iter().for_each(|variable| memory::tell(variable.as_ptr().expose_provenance() as u64, None));
    }
}

pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) registers: usize,
    /// Registers of constants, and their values.
    pub(crate) constants: Vec<(Register, u64)>,
    /// Bytes of each parameter, and where they begin.
    pub(crate) parameters: Vec<(usize, usize)>,
    /// Bytes of a block's memory, without those that a launch adds.
    pub(crate) shared: usize,
    pub(crate) special: Special,
}

/// A variable's name, its alignment and its size in bytes; `None` where it has as many as a launch gives.
pub(crate) struct Variable<'t> {
    pub(crate) name: &'t str,
    pub(crate) align: usize,
    pub(crate) bytes: Option<usize>,
    element: usize,
    values: Vec<u64>,
}

impl<'t> Variable<'t> {
    /// `.global .align 4 .b8 name[12] = {1, 2, 3}`.
    pub(crate) fn of(text: &'t str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no variable");
        let (head, values) = text.split_once('=').map_or((text, ""), |(head, values)| (head.trim(), values));
        let words: Vec<_> = head.split_whitespace().collect();
        let name = *words.last().ok_or_else(wrong)?;
        let align = words.iter().position(|word| *word == ".align").and_then(|at| words.get(at + 1)?.parse().ok());
        let element = words.iter().find_map(|word| size_of_type(word.strip_prefix('.')?)).ok_or_else(wrong)?;
        let (name, count) = match name.split_once('[') {
            None => (name, Some(1)),
            Some((name, "]")) => (name, None),
            Some((name, count)) => (name, Some(count.trim_end_matches(']').parse().map_err(|_| wrong())?)),
        };
        let values = values.trim().trim_start_matches('{').trim_end_matches('}').split(',').map(str::trim);
        let values = values.filter(|value| !value.is_empty()).map(|value| constant(value).ok_or_else(wrong));
        let bytes = count.map(|count: usize| count * element);
        Ok(Self { name, align: align.unwrap_or(element), bytes, element, values: values.collect::<Result<_, _>>()? })
    }

    /// Its memory, in words of eight bytes.
    fn words(&self) -> Box<[u64]> {
        let bytes = self.values.iter().flat_map(|value| value.to_le_bytes()[..self.element].to_vec());
        let bytes: Vec<u8> = bytes.chain(iter::repeat(0)).take(self.bytes.unwrap_or(0).next_multiple_of(16)).collect();
        bytes.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word)).collect()
    }
}

impl Module {
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        let text = cleaned(text);
        let (mut kernels, mut names, mut variables) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut shared = None;
        for part in outer(&text)? {
            match part {
                Outer::Variable(text) if text.contains(".shared") => shared = Some(Variable::of(text)?.name),
                Outer::Variable(text) if text.contains(".global") || text.contains(".const") => {
                    let variable = Variable::of(text)?;
                    let words = variable.words();
                    let address = words.as_ptr().expose_provenance() as u64;
                    memory::tell(address, Some(8 * words.len() as u64));
                    names.insert(variable.name.to_owned(), address);
                    variables.push(words);
                }
                Outer::Variable(text) => return Err(format!("`{text}` is not known")),
                Outer::Function { head, body } => {
                    let kernel = Kernel::of(head, &body, &names, shared)?;
                    kernels.insert(kernel.name.clone(), kernel);
                }
            }
        }
        Ok(Self { kernels, variables })
    }
}

impl Kernel {
    /// Of its head, as `.visible .entry name(.param .u64 a, …) .maxntid …`, and what it does; `shared` is the name of as much of a block's memory
    /// as a launch gives.
    fn of(
        head: &str,
        body: &[Statement],
        variables: &HashMap<String, u64>,
        shared: Option<&str>,
    ) -> Result<Self, String> {
        let (name, rest) = head.split_once('(').ok_or_else(|| format!("`{head}` has no parameters"))?;
        let name = name.split_whitespace().last().unwrap_or_default().to_owned();
        let declared = rest.split(')').next().unwrap_or_default();
        let mut names = Names::of(variables);
        let (mut parameters, mut end) = (Vec::new(), 0usize);
        for parameter in declared.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let Variable { name, align, bytes, .. } = Variable::of(parameter)?;
            let (start, bytes) = (end.next_multiple_of(align), bytes.unwrap_or(0));
            names.parameter(name, start as u64);
            parameters.push((start, bytes));
            end = start + bytes;
        }
        let special = names.special();
        // What names mean is told before they are used, but for labels.
        let labels = labels(body);
        let (mut instructions, mut block) = (Vec::new(), 0usize);
        let dynamic = |names: &mut Names, block: usize| shared.map(|name| names.shared(name, block as u64));
        for statement in body {
            match statement {
                Statement::Label(_) => {}
                Statement::Open => names.open(),
                Statement::Close => names.close(),
                Statement::Text(text) if text.starts_with(".reg") => names.registers(text)?,
                Statement::Text(text) if text.starts_with(".shared") => {
                    let Variable { name, align, bytes, .. } = Variable::of(text)?;
                    let start = block.next_multiple_of(align);
                    names.shared(name, start as u64);
                    block = start + bytes.unwrap_or(0);
                }
                Statement::Text(text) if text.starts_with(".pragma") => {}
                Statement::Text(text) => {
                    dynamic(&mut names, block.next_multiple_of(16));
                    let wrong = |error| format!("{name}: `{text}`: {error}");
                    instructions.push(decoded(text, &mut names, &labels).map_err(wrong)?);
                }
            }
        }
        instructions.push(decoded("ret", &mut names, &labels)?);
        let (count, constants) = names.counted();
        let mut lasting = special.places.concat();
        lasting.extend([special.lane, special.warp]);
        lasting.extend(constants.values());
        let (registers, places) = allotted(&mut instructions, count, &lasting);
        let constants = constants.into_iter().map(|(value, register)| (places[register], value)).collect();
        let special = special.at(&places);
        Ok(Self { name, instructions, registers, constants, parameters, shared: block.next_multiple_of(16), special })
    }
}

/// The number of the instruction that follows each label.
fn labels<'t>(body: &[Statement<'t>]) -> HashMap<&'t str, usize> {
    let (mut labels, mut count) = (HashMap::new(), 0);
    for statement in body {
        match statement {
            Statement::Label(name) => {
                labels.insert(*name, count);
            }
            Statement::Text(text) if text.starts_with('.') => {}
            Statement::Text(_) => count += 1,
            Statement::Open | Statement::Close => {}
        }
    }
    labels
}
