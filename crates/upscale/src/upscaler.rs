//! A file's network, whichever it is.

use core_tensor::{
    Compute, Device, Place, Residency, Tensor, WeightSource, Weights, computes_by_itself, is_finite, packed_channels,
};
use diffusion_engine::{Error as RunError, Inside, Stage};

use crate::{
    Cost, Error, Tiles,
    architecture::Architecture,
    compact::{Compact, CompactDimensions},
    network::Said,
    rrdb::{Rrdb, RrdbDimensions},
    swin_ir::{SwinIr, SwinIrDimensions},
};

/// What a file's headers say of its network.
#[derive(Clone, Debug)]
pub struct Outline {
    dimensions: Dimensions,
    bytes: u64,
    /// Whether convolutions pack what they are given beside it.
    packs: bool,
}

#[derive(Clone, Debug)]
enum Dimensions {
    Rrdb(RrdbDimensions),
    Compact(CompactDimensions),
    SwinIr(SwinIrDimensions),
}

/// A network that makes pictures larger, loaded.
#[derive(Debug)]
pub struct Upscaler {
    outline: Outline,
    network: Network,
    device: Device,
}

#[derive(Debug)]
enum Network {
    Rrdb(Box<Rrdb>),
    Compact(Box<Compact>),
    SwinIr(Box<SwinIr>),
}

impl Outline {
    /// Looks at a file's headers, of which nothing is wrong then. Its weights would be on `device`, and products in `compute` where that is
    /// the CPU's choice.
    ///
    /// # Errors
    /// [`Error::Architecture`] for an upscaler that is not run, [`Error::Unknown`] for another file, [`Error::Channels`] and
    /// [`Error::Factor`] for a network of another kind of pictures, [`Error::Windows`] for one that contradicts itself, and [`Error::Weights`] for a tensor that does not fit.
    pub fn of(source: &dyn WeightSource, device: &Device, compute: Compute) -> Result<Self, Error> {
        let at = Place::of(device, compute);
        let taken = |w: &Weights, layout| {
            let w = w.laid_out(layout);
            match w.faults().next() {
                Some(fault) => Err(fault),
                None => Ok(w.bytes(at).unpacked),
            }
        };
        let (dimensions, bytes) = match Architecture::of(source)? {
            Architecture::Rrdb(names) => {
                let w = view(&names, device, compute);
                let dimensions = RrdbDimensions::of(&w)?;
                let bytes = taken(&w, dimensions.layout())?;
                (Dimensions::Rrdb(dimensions), bytes)
            }
            Architecture::Compact { prefix } => {
                let w = behind(&prefix, view(source, device, compute));
                let dimensions = CompactDimensions::of(&w)?;
                let bytes = taken(&w, dimensions.layout())?;
                (Dimensions::Compact(dimensions), bytes)
            }
            Architecture::SwinIr { prefix } => {
                let w = behind(&prefix, view(source, device, compute));
                let dimensions = SwinIrDimensions::of(&w)?;
                let bytes = taken(&w, dimensions.layout())?.saturating_add(dimensions.kept());
                (Dimensions::SwinIr(dimensions), bytes)
            }
        };
        let packs = compute != Compute::F32 && !computes_by_itself(device);
        Ok(Self { dimensions, bytes, packs })
    }

    /// What its weights take in memory, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many times as wide and high a picture becomes.
    pub fn factor(&self) -> usize {
        self.dimensions.said().factor()
    }

    /// What it is, for people: `ESRGAN, 23 groups of 64 channels`.
    pub fn about(&self) -> String {
        self.dimensions.said().about()
    }

    /// What it takes for each pixel of a picture; its weights are not counted.
    pub fn cost(&self) -> Cost {
        self.dimensions.said().cost(if self.packs { packed_channels } else { |_| 0 })
    }

    /// The tiles of a picture of this height and width under `budget` bytes, as [`Tiles::of`].
    pub fn tiles(&self, size: [usize; 2], budget: u64) -> Tiles {
        Tiles::of(size, self.dimensions.said().lie(), budget, self.cost())
    }

    /// How many blocks all tiles have together: as often [`Upscaler::upscale`] says that it is further.
    pub fn blocks(&self, tiles: &Tiles) -> usize {
        self.dimensions.said().blocks().saturating_mul(tiles.count())
    }
}

impl Dimensions {
    fn said(&self) -> &dyn Said {
        match self {
            Self::Rrdb(dimensions) => dimensions,
            Self::Compact(dimensions) => dimensions,
            Self::SwinIr(dimensions) => dimensions,
        }
    }
}

fn view<'s>(source: &'s dyn WeightSource, device: &Device, compute: Compute) -> Weights<'s> {
    Weights::of(source, device, Residency::Unpacked).computed_in(compute)
}

/// The tensors whose names begin with a prefix, which is empty or ends in a dot.
fn behind<'s>(prefix: &str, w: Weights<'s>) -> Weights<'s> {
    match prefix.strip_suffix('.') {
        Some(prefix) => w.at(prefix),
        None => w,
    }
}

impl Upscaler {
    /// Loads the network that a file holds; products are computed in `compute` where that is the CPU's choice.
    ///
    /// # Errors
    /// As [`Outline::of`], and values that can't be read.
    pub fn load(source: &dyn WeightSource, device: &Device, compute: Compute) -> Result<Self, Error> {
        let outline = Outline::of(source, device, compute)?;
        let network = match (&outline.dimensions, Architecture::of(source)?) {
            (Dimensions::Rrdb(dimensions), Architecture::Rrdb(names)) => {
                Network::Rrdb(Box::new(Rrdb::load(&view(&names, device, compute), dimensions)?))
            }
            (Dimensions::Compact(dimensions), Architecture::Compact { prefix }) => {
                let w = behind(&prefix, view(source, device, compute));
                Network::Compact(Box::new(Compact::load(&w, dimensions)?))
            }
            (Dimensions::SwinIr(dimensions), Architecture::SwinIr { prefix }) => {
                let w = behind(&prefix, view(source, device, compute));
                Network::SwinIr(Box::new(SwinIr::load(&w, dimensions)?))
            }
            (Dimensions::Rrdb(_) | Dimensions::Compact(_) | Dimensions::SwinIr(_), _) => {
                let (source_name, first) = (source.label().to_owned(), None);
                return Err(Error::Unknown { source_name, first });
            }
        };
        Ok(Self { outline, network, device: device.clone() })
    }

    /// What its file says of it.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// As [`Outline::bytes`].
    pub fn bytes(&self) -> u64 {
        self.outline.bytes()
    }

    /// As [`Outline::factor`].
    pub fn factor(&self) -> usize {
        self.outline.factor()
    }

    /// As [`Outline::about`].
    pub fn about(&self) -> String {
        self.outline.about()
    }

    /// As [`Outline::cost`].
    pub fn cost(&self) -> Cost {
        self.outline.cost()
    }

    /// As [`Outline::tiles`].
    pub fn tiles(&self, size: [usize; 2], budget: u64) -> Tiles {
        self.outline.tiles(size, budget)
    }

    /// As [`Outline::blocks`].
    pub fn blocks(&self, tiles: &Tiles) -> usize {
        self.outline.blocks(tiles)
    }

    /// `[1, 3, h, w]`, 0 to 1, to `[1, 3, h · factor, w · factor]`, about as far; `further` is called after each block.
    ///
    /// # Errors
    /// What [`Inside`] ends the call with, and [`RunError::NotFinite`] where the network makes what is no number.
    ///
    /// # Panics
    /// If the tiles are those of a picture of another size, or there are several pictures.
    pub fn upscale(
        &self,
        pixels: Tensor<4>,
        tiles: &Tiles,
        inside: &Inside,
        further: &dyn Fn(),
    ) -> Result<Tensor<4>, RunError> {
        let [b, _, height, width] = pixels.dims();
        assert_eq!((b, [height, width]), (1, tiles.size()), "one picture of the tiles' size");
        let tile = |x: Tensor<4>| {
            inside.go_on()?;
            let y = match &self.network {
                Network::Rrdb(network) => network.forward(x, inside, further)?,
                Network::Compact(network) => network.forward(x, inside, further)?,
                Network::SwinIr(network) => network.forward(x, inside, further)?,
            };
            let y = core_tensor::in_f32(y);
            if is_finite(&y)? { Ok(y) } else { Err(RunError::NotFinite { stage: Stage::Image }) }
        };
        tiles.assemble(&pixels.to_device(&self.device), self.factor(), tile)
    }
}
