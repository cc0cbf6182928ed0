//! What is a word in a prompt.

/// Whether no letter, digit or underscore stands beside a part of a text.
pub(super) fn is_word(text: &str, at: usize, length: usize) -> bool {
    let (before, after) = (text[..at].chars().next_back(), text[at + length..].chars().next());
    !before.is_some_and(is_of_word) && !after.is_some_and(is_of_word)
}

/// A letter, a digit or an underscore.
pub(super) fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
