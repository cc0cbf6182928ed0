/// A model that goes on where another has taken the first steps, as SDXL's refiner does: in the same noise levels, with the same latent, under
/// the same words, which it encodes itself.
///
/// Forge: modules/sd_samplers_common.py `apply_refiner`, dfdcbab.
#[derive(Clone, Debug, PartialEq)]
pub struct Refiner {
    /// What the model is called.
    pub name: String,
    /// The share of the steps behind which it takes over, 0 to 1: at 1 it never does.
    pub switch_at: f64,
    /// In which passes, where there are two.
    pub passes: RefinedPasses,
}

/// The passes in which a refiner takes over, of a picture that has two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefinedPasses {
    /// The first.
    First,
    /// The second.
    #[default]
    Second,
    /// Each of them.
    Both,
}

impl RefinedPasses {
    /// What configs call them.
    pub const IDS: [&str; 3] = ["first", "second", "both"];

    const ALL: [Self; 3] = [Self::First, Self::Second, Self::Both];

    /// What A1111 and infotexts call them, in the same order.
    const LABELS: [&str; 3] = ["first pass", "second pass", "both passes"];

    /// What a config calls it.
    pub fn id(self) -> &'static str {
        Self::IDS[self as usize]
    }

    /// What infotexts call it.
    pub fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }

    /// Whether a pass is one of them, from 0, of so many.
    pub(crate) fn hold(self, pass: usize, of: usize) -> bool {
        match self {
            _ if of == 1 => true,
            Self::First => pass == 0,
            Self::Second => pass == 1,
            Self::Both => true,
        }
    }
}

/// By what configs or infotexts call it, in any case.
impl std::str::FromStr for RefinedPasses {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let is_it = |passes: &Self| [passes.id(), passes.label()].iter().any(|id| id.eq_ignore_ascii_case(name.trim()));
        Self::ALL.into_iter().find(is_it).ok_or(())
    }
}
