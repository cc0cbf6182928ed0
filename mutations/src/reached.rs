/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Turned away for its form.
    Form,
    /// Understood, and refused for what it says.
    Meaning,
    /// Taken.
    Accepted,
}
