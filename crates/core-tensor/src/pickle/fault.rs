//! Where in a file a fault was found.

pub(super) use crate::error::PickleFault as Fault;

/// A fault, and the byte at which it was found.
#[derive(Debug)]
pub(super) struct Placed {
    pub at: u64,
    pub fault: Fault,
}

impl Fault {
    pub(super) fn at(self, at: u64) -> Placed {
        Placed { at, fault: self }
    }
}

/// As much of a text from a file as an error repeats.
pub(super) fn beginning(text: &[u8]) -> String {
    const LENGTH: usize = 120;
    // A character has four bytes at most.
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * LENGTH + 4)]);
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}
