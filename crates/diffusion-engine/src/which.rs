use std::fmt;

/// Which of a job's models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// The one that the job is of.
    #[default]
    First,
    /// That of a second pass, where it has one of its own.
    Hires,
    /// That which takes over within a pass.
    Refiner,
}

impl Which {
    /// What messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "the model",
            Self::Hires => "the second pass's model",
            Self::Refiner => "the refiner",
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
