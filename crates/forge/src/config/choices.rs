//! Keys that are one of a few names, of the pictures that a run starts from.

use diffusion_engine::{Fill, Kind, Resize, Value};

use super::setting::{Setting, text};

/// What of a picture is worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InpaintArea {
    /// All of it.
    #[default]
    Whole,
    /// The masked part with what is around it.
    Masked,
}

/// How what is drawn anew is mixed with the rest of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SoftInpainting {
    /// By the mask alone.
    #[default]
    Off,
    /// As A1111's soft inpainting does.
    Blended,
    /// As differential diffusion does.
    Differential,
}

impl InpaintArea {
    /// What configs call them.
    pub const IDS: [&str; 2] = ["whole", "masked"];

    const ALL: [Self; 2] = [Self::Whole, Self::Masked];
}

impl SoftInpainting {
    /// What configs call them.
    pub const IDS: [&str; 3] = ["off", "blended", "differential"];

    const ALL: [Self; 3] = [Self::Off, Self::Blended, Self::Differential];
}

/// What is on or off.
pub(super) const SWITCH: [&str; 2] = ["off", "on"];

/// The choice of this name, of those that names stand for in the same order.
fn chosen<T: Copy, const N: usize>(value: &Value, names: &'static [&'static str; N], all: [T; N]) -> Result<T, String> {
    let name = text(value)?;
    let at = names.iter().position(|known| known.eq_ignore_ascii_case(name));
    at.map(|at| all[at]).ok_or_else(|| Kind::Choice(names).range())
}

/// The name of a choice.
fn name<T: PartialEq, const N: usize>(choice: &T, names: &[&str; N], all: [T; N]) -> Option<Value> {
    let at = all.iter().position(|known| known == choice)?;
    Some(Value::Text(names[at].to_owned()))
}

impl Setting for bool {
    fn read(value: &Value) -> Result<Self, String> {
        chosen(value, &SWITCH, [false, true])
    }

    fn value(&self) -> Option<Value> {
        name(self, &SWITCH, [false, true])
    }
}

impl Setting for Resize {
    fn read(value: &Value) -> Result<Self, String> {
        chosen(value, &Self::IDS, Self::ALL)
    }

    fn value(&self) -> Option<Value> {
        name(self, &Self::IDS, Self::ALL)
    }
}

impl Setting for Fill {
    fn read(value: &Value) -> Result<Self, String> {
        chosen(value, &Self::IDS, Self::ALL)
    }

    fn value(&self) -> Option<Value> {
        name(self, &Self::IDS, Self::ALL)
    }
}

impl Setting for InpaintArea {
    fn read(value: &Value) -> Result<Self, String> {
        chosen(value, &Self::IDS, Self::ALL)
    }

    fn value(&self) -> Option<Value> {
        name(self, &Self::IDS, Self::ALL)
    }
}

impl Setting for SoftInpainting {
    fn read(value: &Value) -> Result<Self, String> {
        chosen(value, &Self::IDS, Self::ALL)
    }

    fn value(&self) -> Option<Value> {
        name(self, &Self::IDS, Self::ALL)
    }
}
