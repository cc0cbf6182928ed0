//! Comments: from `#` to the end of the line.

/// A prompt without its comments, as A1111 1.10 and Forge leave it: modules/processing_scripts/comments.py.
pub(super) fn stripped(prompt: &str) -> String {
    let mut text = String::new();
    let mut rest = prompt;
    // Lines that are comments alone go with the line's end before them.
    let mut at_start = true;
    loop {
        let found = if at_start && rest.starts_with('#') { Some((0, 1)) } else { rest.find("\n#").map(|at| (at, 2)) };
        at_start = false;
        let Some((at, length)) = found else { break };
        text += &rest[..at];
        text.push('\n');
        rest = behind_line(&rest[at + length..]);
    }
    text += rest;
    let (mut stripped, mut rest) = (String::new(), &text[..]);
    while let Some(at) = rest.find('#') {
        stripped += &rest[..at];
        stripped.push('\n');
        rest = behind_line(&rest[at + 1..]);
    }
    stripped + rest
}

/// What is behind the end of the first line.
fn behind_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, behind)| behind)
}
