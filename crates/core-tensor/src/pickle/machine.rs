//! The pickle machine, of which only what builds data is there: no function is called, no class is made.
//!
//! Reference: CPython's `pickletools` for the opcodes, `torch.serialization` for what is built with them.

use super::{
    fault::{Fault, Placed, beginning},
    globals::{self, GLOBALS, Meaning},
    opcodes as op,
    values::{Built, Span, Value},
};

/// How many entries of a module's state are looked at; PyTorch's own have less than 20.
const MODULE_STATE: usize = 64;

/// Reads the pickle that begins at `start`: its value, and where it ends.
pub(super) fn run(pickle: &[u8], start: usize, built: &mut Built) -> Result<(Value, usize), Placed> {
    let mut machine = Machine { pickle, at: start, opcode: "", stack: vec![], marks: vec![], memo: vec![], built };
    loop {
        let at = machine.at;
        match machine.step(at) {
            Ok(Some(value)) => return Ok((value, machine.at)),
            Ok(None) => {}
            Err(fault) => return Err(fault.at(at as u64)),
        }
    }
}

struct Machine<'p, 'b> {
    pickle: &'p [u8],
    at: usize,
    /// The name of the opcode in work.
    opcode: &'static str,
    stack: Vec<Value>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    built: &'b mut Built,
}

impl Machine<'_, '_> {
    /// Takes one opcode; the value of the pickle at its end.
    fn step(&mut self, at: usize) -> Result<Option<Value>, Fault> {
        let [code] = self.array()?;
        self.opcode = op::name(code).unwrap_or("an unknown opcode");
        match code {
            op::PROTO => match self.array()? {
                [2..=5] => {}
                [found] => return Err(Fault::Protocol { found }),
            },
            op::FRAME => {
                let length = u64::from_le_bytes(self.array()?);
                self.check(length)?;
            }
            op::STOP => {
                let value = self.pop()?;
                let found = self.stack.len() + 1;
                return if found == 1 { Ok(Some(value)) } else { Err(Fault::Unfinished { found }) };
            }
            op::MARK => {
                let height = self.stack.len();
                self.built.room.push(&mut self.marks, height)?;
            }
            op::NONE => self.push(Value::None)?,
            op::NEWTRUE => self.push(Value::Bool(true))?,
            op::NEWFALSE => self.push(Value::Bool(false))?,
            op::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))?;
            }
            op::BININT1 => {
                let [number] = self.array()?;
                self.push(Value::Int(number.into()))?;
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))?;
            }
            op::LONG1 => {
                let [length] = self.array()?;
                self.long(length.into())?;
            }
            op::LONG4 => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length.into())?;
            }
            op::BINFLOAT => {
                let _: [u8; 8] = self.array()?;
                self.push(Value::Inert)?;
            }
            op::SHORT_BINUNICODE => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            op::BINUNICODE => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?;
            }
            op::BINUNICODE8 => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(length)?;
            }
            op::SHORT_BINSTRING => {
                let [length] = self.array()?;
                self.string(length.into())?;
            }
            op::BINSTRING => {
                let length = u32::from_le_bytes(self.array()?);
                self.string(length.into())?;
            }
            op::SHORT_BINBYTES => {
                let [length] = self.array()?;
                self.bytes(length.into())?;
            }
            op::BINBYTES => {
                let length = u32::from_le_bytes(self.array()?);
                self.bytes(length.into())?;
            }
            op::BINBYTES8 => {
                let length = u64::from_le_bytes(self.array()?);
                self.bytes(length)?;
            }
            op::EMPTY_TUPLE => self.tuple(self.stack.len())?,
            op::EMPTY_LIST => {
                let list = self.built.list()?;
                self.push(Value::List(list))?;
            }
            op::EMPTY_DICT => {
                let dict = self.built.list()?;
                self.push(Value::Dict(dict))?;
            }
            op::EMPTY_SET => self.push(Value::Inert)?,
            op::TUPLE1 => self.tuple(self.below(1)?)?,
            op::TUPLE2 => self.tuple(self.below(2)?)?,
            op::TUPLE3 => self.tuple(self.below(3)?)?,
            op::TUPLE => {
                let start = self.marked()?;
                self.tuple(start)?;
            }
            op::APPEND => self.append(self.below(1)?)?,
            op::APPENDS | op::ADDITEMS => {
                let start = self.marked()?;
                self.append(start)?;
            }
            op::SETITEM => self.set(self.below(2)?)?,
            op::SETITEMS => {
                let start = self.marked()?;
                self.set(start)?;
            }
            op::BINGET => {
                let [index] = self.array()?;
                self.recall(index.into())?;
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }
            op::BINPUT => {
                let [index] = self.array()?;
                self.remember(index.into())?;
            }
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)?;
            }
            op::MEMOIZE => self.remember(self.memo.len() as u32)?,
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            op::STACK_GLOBAL => {
                let name = self.pop_text()?;
                let module = self.pop_text()?;
                self.global(module, name)?;
            }
            op::REDUCE | op::NEWOBJ => {
                let arguments = self.pop()?;
                let callee = self.pop()?;
                let made = self.made(callee, arguments, at)?;
                self.push(made)?;
            }
            op::BUILD => self.build()?,
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = self.built.storage(self.pickle, id, at)?;
                self.push(storage)?;
            }
            byte => return Err(Fault::Opcode { byte, name: op::name(byte) }),
        }
        Ok(None)
    }

    /// Fails unless so many bytes are left.
    fn check(&self, needed: u64) -> Result<usize, Fault> {
        let left = (self.pickle.len() - self.at) as u64;
        let count = usize::try_from(needed).ok().filter(|_| needed <= left);
        count.ok_or(Fault::Truncated { needed, left })
    }

    fn take(&mut self, length: u64) -> Result<Span, Fault> {
        let length = self.check(length)?;
        let start = self.at;
        self.at += length;
        Ok(Span { start: start as u32, length: length as u32 })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let span = self.take(N as u64)?;
        Ok(*self.pickle[span.range()].first_chunk().expect("so many bytes were just taken"))
    }

    /// A line without its end.
    fn line(&mut self) -> Result<Span, Fault> {
        let rest = &self.pickle[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or(Fault::Truncated { needed: rest.len() as u64 + 1, left: rest.len() as u64 })?;
        let line = self.take(length as u64)?;
        self.at += 1;
        Ok(line)
    }

    fn long(&mut self, length: u64) -> Result<(), Fault> {
        let span = self.take(length)?;
        if length > 8 {
            return Err(Fault::LongNumber { bytes: length });
        }
        let bytes = &self.pickle[span.range()];
        let sign = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut number = [if sign { 0xff } else { 0 }; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(number)))
    }

    fn text(&mut self, length: u64) -> Result<(), Fault> {
        let span = self.take(length)?;
        std::str::from_utf8(&self.pickle[span.range()]).map_err(|_| Fault::Text)?;
        self.push(Value::Text(span))
    }

    /// A string of Python 2, which was for texts and for bytes.
    fn string(&mut self, length: u64) -> Result<(), Fault> {
        let span = self.take(length)?;
        let text = std::str::from_utf8(&self.pickle[span.range()]).is_ok();
        self.push(if text { Value::Text(span) } else { Value::Inert })
    }

    fn bytes(&mut self, length: u64) -> Result<(), Fault> {
        self.take(length)?;
        self.push(Value::Inert)
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        self.built.room.push(&mut self.stack, value).map(drop)
    }

    /// How high the stack is below so many values, which were pushed since the last mark.
    fn below(&self, count: usize) -> Result<usize, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let height = self.stack.len().checked_sub(count).filter(|height| *height >= floor);
        height.ok_or(Fault::Stack { opcode: self.opcode })
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        let height = self.below(1)?;
        let value = self.stack[height];
        self.stack.truncate(height);
        Ok(value)
    }

    fn pop_text(&mut self) -> Result<Span, Fault> {
        match self.pop()? {
            Value::Text(span) => Ok(span),
            other => Err(self.operand("the texts of a name", other)),
        }
    }

    /// Takes the last mark: how high the stack was there.
    fn marked(&mut self) -> Result<usize, Fault> {
        self.marks.pop().ok_or(Fault::Mark { opcode: self.opcode })
    }

    fn operand(&self, expected: &'static str, found: Value) -> Fault {
        Fault::Operand { opcode: self.opcode, expected, found: found.kind() }
    }

    fn tuple(&mut self, start: usize) -> Result<(), Fault> {
        let tuple = self.built.tuple(&self.stack[start..])?;
        self.stack.truncate(start);
        self.push(tuple)
    }

    /// The value under those from `start` on.
    fn under(&self, start: usize) -> Result<Value, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        start
            .checked_sub(1)
            .filter(|at| *at >= floor)
            .map(|at| self.stack[at])
            .ok_or(Fault::Stack { opcode: self.opcode })
    }

    fn append(&mut self, start: usize) -> Result<(), Fault> {
        match self.under(start)? {
            Value::List(list) => self.built.extend(list, &self.stack[start..])?,
            Value::Inert => {}
            other => return Err(self.operand("a list", other)),
        }
        self.stack.truncate(start);
        Ok(())
    }

    fn set(&mut self, start: usize) -> Result<(), Fault> {
        let entries = &self.stack[start..];
        if !entries.len().is_multiple_of(2) {
            return Err(Fault::Stack { opcode: self.opcode });
        }
        match self.under(start)? {
            Value::Dict(dict) => self.built.extend(dict, entries)?,
            Value::Inert => {}
            other => return Err(self.operand("a dictionary", other)),
        }
        self.stack.truncate(start);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), Fault> {
        let value = self.memo.get(index as usize).copied().flatten();
        self.push(value.ok_or(Fault::Memo { index })?)
    }

    fn remember(&mut self, index: u32) -> Result<(), Fault> {
        let value = self.stack[self.below(1)?];
        let place = index as usize;
        // Writers count from 0 or 1 on, and each of these opcodes takes a byte at least.
        if place > self.at {
            return Err(Fault::Memo { index });
        }
        while self.memo.len() <= place {
            self.built.room.push(&mut self.memo, None)?;
        }
        self.memo[place] = Some(value);
        Ok(())
    }

    fn global(&mut self, module: Span, name: Span) -> Result<(), Fault> {
        let [module, name] = [module, name].map(|span| &self.pickle[span.range()]);
        let number = globals::find(module, name);
        let number = number.ok_or_else(|| Fault::Global { module: beginning(module), name: beginning(name) })?;
        self.push(Value::Global(number))
    }

    /// What stands for the value that a call would make.
    fn made(&mut self, callee: Value, arguments: Value, at: usize) -> Result<Value, Fault> {
        let (Value::Global(number), Value::Tuple(span)) = (callee, arguments) else {
            let found = if matches!(callee, Value::Global(_)) { arguments } else { callee };
            return Err(self.operand("a function and a tuple", found));
        };
        let global = &GLOBALS[usize::from(number)];
        match global.meaning {
            Meaning::Dict => self.dictionary(span),
            Meaning::Parameters => self.built.list().map(Value::Parameters),
            Meaning::Tensor { typed } => self.built.tensor(global.name, span, typed, at),
            Meaning::Parameter => match self.built.items[span.range()] {
                [tensor @ Value::Tensor(_), ..] => Ok(tensor),
                _ => Err(Fault::Operand { opcode: global.name, expected: "a tensor", found: "something else" }),
            },
            Meaning::Inert => Ok(Value::Inert),
            Meaning::Storage(_) | Meaning::Dtype(_) | Meaning::Key => Err(Fault::Called { name: global.name }),
        }
    }

    /// A dictionary of no entries, or of a list of pairs as Python 2 wrote them.
    fn dictionary(&mut self, arguments: Span) -> Result<Value, Fault> {
        let entries = match self.built.items[arguments.range()] {
            [] => None,
            [Value::List(list)] => Some(list),
            [other, ..] => {
                return Err(Fault::Operand { opcode: "OrderedDict", expected: "pairs", found: other.kind() });
            }
        };
        let dict = self.built.list()?;
        for i in 0..entries.map_or(0, |list| self.built.items_of(list).len()) {
            let pair = entries.map(|list| self.built.items_of(list)[i]);
            let pair = match pair {
                Some(Value::Tuple(span)) => <[Value; 2]>::try_from(&self.built.items[span.range()]).ok(),
                Some(Value::List(pair)) => <[Value; 2]>::try_from(self.built.items_of(pair)).ok(),
                _ => None,
            };
            let unpaired = Fault::Operand { opcode: "OrderedDict", expected: "pairs", found: "something else" };
            self.built.extend(dict, &pair.ok_or(unpaired)?)?;
        }
        Ok(Value::Dict(dict))
    }

    /// Gives a value its state, which matters only where parameters are in it.
    fn build(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        match self.stack[self.below(1)?] {
            Value::Parameters(parameters) => {
                if let Value::Dict(state) = state
                    && let Some(Value::Dict(entries)) =
                        self.built.entry(self.pickle, state, "_parameters", MODULE_STATE)
                    && entries != parameters
                {
                    let entries = std::mem::take(&mut self.built.lists[entries as usize]);
                    self.built.lists[parameters as usize] = entries;
                }
            }
            Value::Dict(_) | Value::Inert => {}
            other => return Err(self.operand("a value with a state", other)),
        }
        Ok(())
    }
}
