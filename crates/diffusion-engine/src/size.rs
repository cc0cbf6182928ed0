use std::fmt;

use crate::Error;

/// A picture's size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

impl Size {
    /// The largest side that is accepted.
    pub const MAX: usize = 16_384;

    /// A size whose sides are both multiples of `multiple`.
    ///
    /// # Errors
    /// [`Error::Request`] with the nearest sides that would do.
    pub fn checked(self, multiple: usize) -> Result<Self, Error> {
        for (what, found) in [("width", self.width), ("height", self.height)] {
            let request = |expected| Err(Error::Request { what, expected, found: found.to_string() });
            if !(multiple..=Self::MAX).contains(&found) {
                return request(format!("{multiple} to {}", Self::MAX));
            }
            if found % multiple != 0 {
                let below = found / multiple * multiple;
                return request(format!("a multiple of {multiple}, nearest are {below} and {}", below + multiple));
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}
