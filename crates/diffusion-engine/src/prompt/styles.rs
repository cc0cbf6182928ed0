//! Styles: prompts with a name, as A1111's `styles.csv` has them.

use super::{PromptFault, comments};

/// Prompts that are put around others, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Styles(Vec<Style>);

/// A prompt with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// The name.
    pub name: String,
    /// What it adds to a prompt: around it where it says `{prompt}`, behind it if not.
    pub prompt: String,
    /// What it adds to a negative prompt.
    pub negative: String,
}

impl Styles {
    /// The styles of a table of comma-separated values: columns `name`, `prompt` (once called `text`) and `negative_prompt` in any
    /// order, values with commas or lines in quotes. A line whose name begins with `#` is a comment, and of two of a name the last
    /// counts.
    ///
    /// # Errors
    /// [`PromptFault::StyleTable`] without a column of names, or for a quote that does not end.
    pub fn of(table: &str) -> Result<Self, PromptFault> {
        let mut rows = rows(table.trim_start_matches('\u{feff}'))?.into_iter();
        let Some(head) = rows.next() else { return Ok(Self::default()) };
        let column = |names: &[&str]| head.iter().position(|title| names.contains(&title.trim()));
        let name = column(&["name"]).ok_or(PromptFault::StyleTable { line: 1 })?;
        let (prompt, negative) = (column(&["prompt"]).or(column(&["text"])), column(&["negative_prompt"]));
        let mut styles: Vec<Style> = Vec::new();
        for row in rows {
            let value = |column: Option<usize>| column.and_then(|column| row.get(column)).cloned().unwrap_or_default();
            let style = Style { name: value(Some(name)), prompt: value(prompt), negative: value(negative) };
            if style.name.is_empty() || style.name.starts_with('#') {
                continue;
            }
            match styles.iter_mut().find(|known| known.name == style.name) {
                Some(known) => *known = style,
                None => styles.push(style),
            }
        }
        Ok(Self(styles))
    }

    /// All of them, in the order of the table.
    pub fn all(&self) -> &[Style] {
        &self.0
    }

    /// A prompt and its negative one with some styles around them, in that order.
    ///
    /// # Errors
    /// [`PromptFault::NoStyle`].
    pub fn around(&self, prompt: &str, negative: &str, names: &[String]) -> Result<[String; 2], PromptFault> {
        let named = |name: &String| {
            let style = self.0.iter().find(|style| style.name == *name);
            style.ok_or_else(|| PromptFault::NoStyle { name: name.clone() })
        };
        let styles = names.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        Ok([
            around(prompt, styles.iter().map(|style| &style.prompt[..])),
            around(negative, styles.iter().map(|style| &style.negative[..])),
        ])
    }
}

/// As A1111 1.10 and Forge have it: modules/styles.py `apply_styles_to_prompt`.
fn around<'a>(prompt: &str, styles: impl Iterator<Item = &'a str>) -> String {
    styles.fold(comments::stripped(prompt).trim().to_owned(), |prompt, style| {
        let style = comments::stripped(style);
        match style.trim() {
            "" => prompt,
            style if style.contains("{prompt}") => style.replace("{prompt}", &prompt),
            style if prompt.is_empty() => style.to_owned(),
            style => format!("{prompt}, {style}"),
        }
    })
}

/// The rows of a table of comma-separated values, without empty ones.
fn rows(table: &str) -> Result<Vec<Vec<String>>, PromptFault> {
    let (mut rows, mut row, mut value) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut quoted_from, mut was_quoted) = (1, None, false);
    let mut chars = table.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match (c, quoted_from) {
            ('"', Some(_)) if chars.peek() == Some(&'"') => {
                chars.next();
                value.push('"');
            }
            ('"', Some(_)) => quoted_from = None,
            (c, Some(_)) => value.push(c),
            ('"', None) if value.is_empty() && !was_quoted => (quoted_from, was_quoted) = (Some(line), true),
            (',', None) => {
                row.push(std::mem::take(&mut value));
                was_quoted = false;
            }
            ('\r', None) if chars.peek() == Some(&'\n') => {}
            ('\n', None) => {
                row.push(std::mem::take(&mut value));
                rows.push(std::mem::take(&mut row));
                was_quoted = false;
            }
            // A space behind a comma does not count.
            (' ', None) if value.is_empty() && !was_quoted => {}
            (c, None) => value.push(c),
        }
    }
    if let Some(line) = quoted_from {
        return Err(PromptFault::StyleTable { line });
    }
    row.push(value);
    rows.push(row);
    rows.retain(|row| row.iter().any(|value| !value.is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\u{feff}name, prompt,negative_prompt\r\n\
        None,,\r\n\
        #old,\"x\",\"y\"\r\n\
        Film,\"film still of {prompt}, 35mm\",\"drawing, \"\"cartoon\"\"\"\r\n\
        \r\n\
        Two lines,\"best\nquality # the rest is a comment\",\r\n\
        Film,\"film still of {prompt}, {prompt} again\",\"drawing\"";

    #[test]
    fn styles_go_around_prompts_as_in_forge() {
        let styles = Styles::of(TABLE).unwrap();
        let names: Vec<_> = styles.all().iter().map(|style| &style.name[..]).collect();
        assert_eq!(names, ["None", "Film", "Two lines"]);
        let around = |prompt: &str, negative: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            styles.around(prompt, negative, &names).unwrap()
        };
        assert_eq!(around(" a cat ", "", &["Film"]), ["film still of a cat, a cat again", "drawing"]);
        assert_eq!(around("a cat", "dog", &["Two lines", "None"]), ["a cat, best\nquality", "dog"]);
        assert_eq!(
            around("", "dog", &["Two lines", "Film"]),
            ["film still of best\nquality, best\nquality again", "dog, drawing"]
        );
        assert_eq!(around("a # b", "", &[]), ["a", ""]);
        let missing = styles.around("a", "", &["film".to_owned()]).unwrap_err();
        assert_eq!(missing, PromptFault::NoStyle { name: "film".into() });
    }

    #[test]
    fn tables_are_read_as_they_are_written_or_refused() {
        let old = Styles::of("name,text\na,b\n").unwrap();
        assert_eq!(old.all(), [Style { name: "a".into(), prompt: "b".into(), negative: String::new() }]);
        assert_eq!(Styles::of("").unwrap(), Styles::default());
        assert_eq!(Styles::of("a,b\nc,d").unwrap_err(), PromptFault::StyleTable { line: 1 });
        assert_eq!(Styles::of("name,prompt\na,\"b\nc").unwrap_err(), PromptFault::StyleTable { line: 2 });
        let quotes = Styles::of("name,prompt\na,b \"c\" d\nb,\"c\"\"\",x\n").unwrap();
        assert_eq!([&quotes.all()[0].prompt, &quotes.all()[1].prompt], ["b \"c\" d", "c\""]);
    }
}
