//! Places in a stack of blocks, as people write them.

use crate::Value;

/// Deeper than any network's stack.
const MOST: usize = 1000;

impl Value {
    /// The places that a text such as `2, 7-9` or a number names, in its order; `None` for what names none.
    pub fn places(&self) -> Option<Vec<usize>> {
        match self {
            Self::Text(text) => places(text),
            Self::Whole(_) | Self::Number(_) => self.number().and_then(|number| places(&number.to_string())),
            Self::List(_) | Self::Table(_) | Self::Other(_) => None,
        }
    }
}

/// The places that a text such as `2, 7-9` names, in its order, from 0; none where it is empty.
fn places(text: &str) -> Option<Vec<usize>> {
    let place = |text: &str| text.trim().parse().ok().filter(|place: &usize| *place < MOST);
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => Some(place(from)?..=place(to)?),
        None => place(part).map(|place| place..=place),
    };
    match text.trim() {
        "" => Some(Vec::new()),
        text => text.split(',').map(range).collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_places_and_all_else_is_none() {
        assert_eq!(places("2, 7-9"), Some(vec![2, 7, 8, 9]));
        assert_eq!(places(" 0 "), Some(vec![0]));
        assert_eq!(places(""), Some(Vec::new()));
        for text in ["a", "1.5", "-1", "1,", "7-", "1000", "0-99999999999999999999"] {
            assert_eq!(places(text), None, "{text}");
        }
    }
}
