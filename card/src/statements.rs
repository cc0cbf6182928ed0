//! The text of a module, cut up.

/// What a function is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement<'t> {
    Label(&'t str),
    /// Names that are declared from here on are gone at the [`Statement::Close`] that belongs to it.
    Open,
    Close,
    /// A declaration or an instruction, with neither blanks around it nor a semicolon.
    Text(&'t str),
}

/// Without comments, and what is for debuggers.
pub(crate) fn cleaned(text: &str) -> String {
    let mut is_section = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let start = line.trim_start();
        if start.starts_with(".section") {
            is_section = true;
        }
        if !is_section && ![".loc", ".file"].iter().any(|name| start.starts_with(name)) {
            kept.push_str(line);
            kept.push('\n');
        }
        is_section &= !start.starts_with('}');
    }
    kept
}

/// What stands outside of functions: a head up to its semicolon, or a function's head and what is between its braces.
pub(crate) enum Outer<'t> {
    Variable(&'t str),
    Function { head: &'t str, body: Vec<Statement<'t>> },
}

/// All of a text that [`cleaned`] made.
pub(crate) fn outer(mut text: &str) -> Result<Vec<Outer<'_>>, String> {
    let mut all = Vec::new();
    while let Some(end) = text.find([';', '{']) {
        let head = text[..end].trim();
        // Three directives have no semicolon.
        let head =
            head.lines().filter(|line| ![".version", ".target", ".address_size"].iter().any(|d| line.starts_with(d)));
        let head_at = head.clone().next().map_or(end, |line| line.as_ptr() as usize - text.as_ptr() as usize);
        let whole = text[head_at..end].trim();
        let is_function = [".entry", ".func"].iter().any(|name| whole.contains(name));
        if text.as_bytes()[end] == b'{' && is_function {
            let (body, rest) = body(&text[end + 1..])?;
            all.push(Outer::Function { head: whole, body });
            text = rest;
        } else {
            let end = text.find(';').ok_or_else(|| format!("`{whole}` has no end"))?;
            all.push(Outer::Variable(text[head_at..end].trim()));
            text = &text[end + 1..];
        }
    }
    Ok(all)
}

/// The statements up to the brace that ends a function, and what follows it.
fn body(mut text: &str) -> Result<(Vec<Statement<'_>>, &str), String> {
    let (mut all, mut depth) = (Vec::new(), 0);
    loop {
        text = text.trim_start();
        match text.bytes().next() {
            None => return Err("a function has no end".to_owned()),
            Some(b'{') => {
                depth += 1;
                all.push(Statement::Open);
                text = &text[1..];
            }
            Some(b'}') if depth == 0 => return Ok((all, &text[1..])),
            Some(b'}') => {
                depth -= 1;
                all.push(Statement::Close);
                text = &text[1..];
            }
            Some(b';') => text = &text[1..],
            Some(_) => {
                let is_of_name = |c: char| c.is_alphanumeric() || c == '$' || c == '_';
                let name = text.find(|c| !is_of_name(c)).unwrap_or(text.len());
                if name > 0 && text[name..].starts_with(':') {
                    all.push(Statement::Label(&text[..name]));
                    text = &text[name + 1..];
                } else {
                    let end = text.find(';').ok_or("a statement has no end")?;
                    all.push(Statement::Text(text[..end].trim()));
                    text = &text[end + 1..];
                }
            }
        }
    }
}

/// Operands, which commas part where no braces are around them.
pub(crate) fn operands(text: &str) -> Vec<&str> {
    let (mut all, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    all.push(text[start..].trim());
    all.retain(|operand| !operand.is_empty());
    all
}

/// The parts of an operand in braces, or the one that it is.
pub(crate) fn parts(operand: &str) -> Vec<&str> {
    match operand.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(inside) => inside.split(',').map(str::trim).collect(),
        None => vec![operand],
    }
}

/// Bytes of a type, by its name without the dot.
pub(crate) fn size_of_type(name: &str) -> Option<usize> {
    Some(match name {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        _ => return None,
    })
}

/// A number as it is written: decimal, hexadecimal, or a float's bits.
pub(crate) fn constant(text: &str) -> Option<u64> {
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let hexadecimal = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let digits = digits.trim_end_matches('U');
    let value = match digits.get(..2) {
        Some("0f" | "0F" | "0d" | "0D" | "0x" | "0X") => hexadecimal(&digits[2..])?,
        _ => digits.parse().ok()?,
    };
    Some(if is_negative { value.wrapping_neg() } else { value })
}
