//! What makes a picture larger between two passes.

use std::{fmt, str::FromStr, sync::Arc};

use core_tensor::Tensor;

use crate::{Error, Filter, Inside, Interpolation, Size};

/// Makes a picture larger by a factor of its own, as networks for super-resolution do.
pub trait PixelUpscaler: Send + Sync {
    /// What infotexts call it.
    fn name(&self) -> &str;

    /// How many pixels a pixel becomes, in each direction.
    fn factor(&self) -> usize;

    /// Bytes that it holds itself, once it was called.
    fn bytes(&self) -> u64;

    /// Bytes that a picture of this size takes at most, beside what the upscaler itself holds.
    fn working_bytes(&self, from: Size) -> u64;

    /// One picture, `[1, 3, h, w]`, 0 to 1, with [`PixelUpscaler::factor`] times as many pixels in each direction. What it makes may
    /// leave 0 to 1 a little.
    ///
    /// # Errors
    /// What [`Inside`] ends the call with, or the upscaler's own.
    fn upscale(&self, picture: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error>;
}

/// What a pass of another size than the one before starts from.
#[derive(Clone)]
pub enum Upscaler {
    /// The latent itself, resized.
    Latent(Interpolation),
    /// The picture, decoded, resized and encoded.
    Picture(Filter),
    /// The picture, decoded, made larger by a network as often as it takes, resized by [`Filter::Lanczos`] and encoded.
    Network(Arc<dyn PixelUpscaler>),
}

/// A name that no upscaler has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownUpscaler;

/// Those that need no file: what configs call them, and what A1111 and infotexts do.
static PLAIN: [(&str, &str, Upscaler); 8] = [
    ("latent", "Latent", Upscaler::Latent(Interpolation::Bilinear)),
    ("latent-antialiased", "Latent (antialiased)", Upscaler::Latent(Interpolation::BilinearAntialiased)),
    ("latent-bicubic", "Latent (bicubic)", Upscaler::Latent(Interpolation::Bicubic)),
    ("latent-bicubic-antialiased", "Latent (bicubic antialiased)", Upscaler::Latent(Interpolation::BicubicAntialiased)),
    ("latent-nearest", "Latent (nearest)", Upscaler::Latent(Interpolation::Nearest)),
    ("latent-nearest-exact", "Latent (nearest-exact)", Upscaler::Latent(Interpolation::NearestExact)),
    ("lanczos", "Lanczos", Upscaler::Picture(Filter::Lanczos)),
    ("nearest", "Nearest", Upscaler::Picture(Filter::Nearest)),
];

impl Upscaler {
    /// What configs call those that need no file.
    pub const IDS: [&str; PLAIN.len()] = [
        "latent",
        "latent-antialiased",
        "latent-bicubic",
        "latent-bicubic-antialiased",
        "latent-nearest",
        "latent-nearest-exact",
        "lanczos",
        "nearest",
    ];

    /// What a config calls it; a network, what that calls itself.
    pub fn id(&self) -> &str {
        self.names().map_or_else(|network| network.name(), |(id, _)| id)
    }

    /// What infotexts call it.
    pub fn label(&self) -> &str {
        self.names().map_or_else(|network| network.name(), |(_, label)| label)
    }

    /// Whether the first pass's picture is decoded, and what becomes of it encoded.
    pub fn takes_pixels(&self) -> bool {
        match self {
            Self::Latent(_) => false,
            Self::Picture(_) | Self::Network(_) => true,
        }
    }

    /// How often a network makes a picture larger at most, as in Forge: modules/upscaler.py, dfdcbab.
    pub(crate) const MOST: usize = 3;

    /// Bytes that its network holds; none of what needs no file.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Latent(_) | Self::Picture(_) => 0,
            Self::Network(network) => network.bytes(),
        }
    }

    /// Bytes that its network takes at most, from a picture of one size to one of another.
    pub(crate) fn working_bytes(&self, from: Size, to: Size) -> u64 {
        let Self::Network(network) = self else { return 0 };
        let larger = |size: &Size| {
            let times = |side: usize| side.saturating_mul(network.factor());
            Some(Size { width: times(size.width), height: times(size.height) })
        };
        let given = std::iter::successors(Some(from), larger).take(Self::MOST);
        let given = given.enumerate().filter(|(i, size)| *i == 0 || size.width < to.width || size.height < to.height);
        given.map(|(_, size)| network.working_bytes(size)).max().unwrap_or(0)
    }

    fn names(&self) -> Result<(&'static str, &'static str), &dyn PixelUpscaler> {
        let is_it = |(_, _, plain): &&(_, _, Self)| match (plain, self) {
            (Self::Latent(plain), Self::Latent(own)) => plain == own,
            (Self::Picture(plain), Self::Picture(own)) => plain == own,
            (Self::Latent(_) | Self::Picture(_) | Self::Network(_), _) => false,
        };
        match (self, PLAIN.iter().find(is_it)) {
            (Self::Network(network), _) => Err(&**network),
            (_, found) => {
                let (id, label, _) = found.expect("every upscaler without a network is in the list");
                Ok((id, label))
            }
        }
    }
}

impl Default for Upscaler {
    fn default() -> Self {
        Self::Latent(Interpolation::default())
    }
}

/// By what configs or infotexts call it, in any case.
impl FromStr for Upscaler {
    type Err = UnknownUpscaler;

    fn from_str(name: &str) -> Result<Self, UnknownUpscaler> {
        let is_it = |(id, label, _): &&(&str, &str, Self)| {
            [id, label].iter().any(|known| known.eq_ignore_ascii_case(name.trim()))
        };
        let (_, _, found) = PLAIN.iter().find(is_it).ok_or(UnknownUpscaler)?;
        Ok(found.clone())
    }
}

impl PartialEq for Upscaler {
    fn eq(&self, other: &Self) -> bool {
        self.label() == other.label()
    }
}

impl fmt::Debug for Upscaler {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.label())
    }
}
