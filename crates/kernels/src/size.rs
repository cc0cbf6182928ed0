//! Sizes that follow from a caller's numbers.
//!
//! A product that wrapped would pass for the size of a small shape, and loops over the large one would leave its memory. So whatever
//! is computed of numbers that no slice's length bounds is computed here, once in a call; inside of loops, indices are below a size
//! that was.

/// The product of `shape`, of which there are `what`.
///
/// # Panics
/// If it is more than a `usize` holds.
#[track_caller]
pub(crate) fn product<const N: usize>(what: &str, shape: [usize; N]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    let all = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    all.unwrap_or_else(|| panic!("more {what} than can be counted: {shape:?}"))
}

/// The sum of `parts`, of which there are `what`.
///
/// # Panics
/// If it is more than a `usize` holds.
#[track_caller]
pub(crate) fn sum<const N: usize>(what: &str, parts: [usize; N]) -> usize {
    let all = parts.iter().try_fold(0usize, |n, &part| n.checked_add(part));
    all.unwrap_or_else(|| panic!("more {what} than can be counted: {parts:?}"))
}

/// `n` filled up to a multiple of `step`, which is not 0.
///
/// # Panics
/// If it is more than a `usize` holds.
#[track_caller]
pub(crate) fn filled_up(what: &str, n: usize, step: usize) -> usize {
    n.checked_next_multiple_of(step).unwrap_or_else(|| panic!("more {what} than can be counted: {n}"))
}
