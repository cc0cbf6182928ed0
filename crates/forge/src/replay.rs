//! A picture drawn again from its text: what is asked for, and what may keep it from being the same.

use std::{fmt, path::Path};

use diffusion_engine::{Catalog, Ingredient, Provenance, Reading, Txt2Img, Writer, parse, read_infotext};

use crate::{Config, Error, Forge, ModelHash, Result, drawn_from::DrawnFrom};

/// What a picture's text asks for, as one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The request.
    pub request: Txt2Img,
    /// What the picture was made with.
    pub made_with: Provenance,
    /// Whether it started from noise that its seed does not give.
    pub given_noise: bool,
    /// What is said of another picture that it was drawn from.
    drawn_from: Option<DrawnFrom>,
    from: Writer,
    unread: Vec<String>,
    defaults: Vec<&'static str>,
}

/// What may make a picture that is drawn again another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Another model.
    Model {
        /// What the text says.
        said: Ingredient,
        /// What is opened.
        found: Ingredient,
    },
    /// Another model that took over.
    Refiner {
        /// What the text says.
        said: Ingredient,
        /// What is opened.
        found: Ingredient,
    },
    /// Another autoencoder.
    Vae {
        /// What the text says.
        said: Ingredient,
        /// What is opened; empty for the model's own.
        found: Ingredient,
    },
    /// Another version of this engine, or another program.
    Version {
        /// As the text says; `None` where it does not.
        said: Option<String>,
    },
    /// Settings of the text that this engine makes no use of.
    Unread(Vec<String>),
    /// What the text leaves open, such as the profile.
    Open(Vec<&'static str>),
    /// Noise that its seed does not give.
    GivenNoise,
}

impl Replay {
    /// Reads the text of a picture.
    ///
    /// # Errors
    /// [`Error::Run`](crate::Error::Run) with those of [`read_infotext`] and [`Infotext::reading`](diffusion_engine::Infotext::reading).
    pub fn of(picture: &Path, catalog: &Catalog) -> Result<Self> {
        let infotext = parse(&read_infotext(picture)?, catalog.knobs());
        let Reading { request, unread, defaults } = infotext.reading(catalog)?;
        let (noise, unread): (Vec<_>, Vec<_>) = unread.into_iter().partition(|key| *key == "Noise");
        let drawn_from = DrawnFrom::said_by(&infotext);
        let is_read = |key: &String| drawn_from.as_ref().is_some_and(|drawn_from| drawn_from.read.contains(key));
        let unread = unread.into_iter().filter(|key| !is_read(key) && !Provenance::is_named_by(key)).collect();
        Ok(Self {
            request: request.picture(0),
            made_with: infotext.provenance(),
            given_noise: infotext.from == Writer::Forge && !noise.is_empty(),
            from: infotext.from,
            unread,
            defaults,
            drawn_from,
        })
    }

    /// The same from the picture and the mask that a config names, where the text says that there were such; else they do not count.
    ///
    /// # Errors
    /// [`Error::Value`] where the config names none, or for what the text says of them out of its range; [`Error::Run`] for a picture that
    /// can't be read.
    pub fn with_pictures_of(mut self, config: &Config) -> Result<Self> {
        self.request.pass.control = config.control_picture()?;
        let Some(drawn_from) = &self.drawn_from else { return Ok(self) };
        let missing = |key: &str, what: &str| {
            let (key, expected, found) =
                (key.into(), format!("the {what} that this picture was drawn with"), "nothing");
            Err(Error::Value { key, expected, found: found.into() })
        };
        if config.img2img.image.is_none() {
            return missing("img2img.image", "picture");
        }
        if drawn_from.is_masked && config.inpaint.mask.is_none() {
            return missing("inpaint.mask", "mask");
        }
        self.request.pass.start = drawn_from.config(config)?.request(|| 0)?.pass.start;
        self.request = self.request.checked()?;
        Ok(self)
    }

    /// What in the text itself may make it another picture.
    pub fn of_text(&self) -> Vec<Difference> {
        let version = self.made_with.version.clone();
        let is_own = version.as_deref() == Some(Difference::VERSION);
        [
            (!is_own).then_some(Difference::Version { said: version }),
            (!self.unread.is_empty()).then(|| Difference::Unread(self.unread.clone())),
            // This engine says all that its model takes; of others it is not known what theirs do.
            (self.from != Writer::Forge && !self.defaults.is_empty()).then(|| Difference::Open(self.defaults.clone())),
            self.given_noise.then_some(Difference::GivenNoise),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What of an opened model is another than the text says, by the hashes of its files where they are known: the model's, its
    /// autoencoder's, and that of the model that takes over.
    pub fn of_model(&self, forge: &Forge, [model, vae, refiner]: [Option<&ModelHash>; 3]) -> Vec<Difference> {
        let ingredient = |name: Option<&str>, hash: Option<&ModelHash>| Ingredient {
            name: name.map(str::to_owned),
            hash: hash.map(ToString::to_string),
        };
        let differs = |said: &Ingredient, found: &Ingredient| {
            said.is(found.name.as_deref(), found.hash.as_deref()) == Some(false)
        };
        let model = ingredient(Some(forge.name()), model);
        let file = forge.vae().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let vae = ingredient(file.as_deref(), vae);
        let file = forge.refiner().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let refiner = ingredient(file.as_deref(), refiner);
        let said = &self.made_with;
        // This engine names an autoencoder only where it is not the model's own; of other programs nobody knows.
        let other_vae = match (said.vae.is_said(), vae.is_said()) {
            (true, true) => differs(&said.vae, &vae),
            (true, false) => true,
            (false, true) => self.from == Writer::Forge,
            (false, false) => false,
        };
        let other_model = differs(&said.model, &model);
        let other_refiner = differs(&said.refiner, &refiner);
        [
            other_model.then(|| Difference::Model { said: said.model.clone(), found: model }),
            other_refiner.then(|| Difference::Refiner { said: said.refiner.clone(), found: refiner }),
            other_vae.then(|| Difference::Vae { said: said.vae.clone(), found: vae }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Difference {
    /// How this version calls itself in texts.
    const VERSION: &str = concat!("forge ", env!("CARGO_PKG_VERSION"));
}

/// As a note says it.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Model { said, found } => {
                write!(f, "the picture was made with the model {}, this one is {}", shown(said), shown(found))
            }
            Self::Refiner { said, found } => {
                write!(f, "the picture was made with the refiner {}, this one is {}", shown(said), shown(found))
            }
            Self::Vae { said, found } => match (said.is_said(), found.is_said()) {
                (true, true) => {
                    write!(f, "the picture was made with the autoencoder {}, this one is {}", shown(said), shown(found))
                }
                (true, false) => {
                    write!(
                        f,
                        "the picture was made with the autoencoder {}, and here the model's own is used",
                        shown(said)
                    )
                }
                (false, _) => {
                    write!(
                        f,
                        "the picture was made with the model's own autoencoder, and here {} is used",
                        shown(found)
                    )
                }
            },
            Self::Version { said: Some(said) } => {
                write!(f, "the picture was made by version `{said}`, this is `{}`", Self::VERSION)
            }
            Self::Version { said: None } => f.write_str("the picture does not say which program made it"),
            Self::Unread(keys) => write!(f, "no use is made of {}", quoted(keys)),
            Self::Open(fields) => write!(f, "the picture does not say its {}: defaults are taken", quoted(fields)),
            Self::GivenNoise => f.write_str("the picture started from given noise, which its seed does not make"),
        }
    }
}

fn shown(Ingredient { name, hash }: &Ingredient) -> String {
    /// As many digits of a hash as pictures have.
    const DIGITS: usize = 10;
    let hash = hash.as_ref().map(|hash| hash.get(..DIGITS).unwrap_or(hash));
    match (name, hash) {
        (Some(name), Some(hash)) => format!("`{name}` ({hash})"),
        (Some(name), None) => format!("`{name}`"),
        (None, hash) => hash.unwrap_or("that is not named").to_owned(),
    }
}

fn quoted(names: &[impl fmt::Display]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
