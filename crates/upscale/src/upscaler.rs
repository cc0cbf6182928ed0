//! A file's network, whichever it is.

use core_tensor::{Compute, Device, Place, Residency, Tensor, WeightSource, Weights, is_finite};
use diffusion_engine::{Error as RunError, Inside, PixelUpscaler, Size, Stage};

use crate::{
    Cost, Error, Tiles,
    architecture::Architecture,
    compact::{Compact, CompactDimensions},
    rrdb::{Rrdb, RrdbDimensions},
};

/// A network that makes pictures larger, loaded.
#[derive(Debug)]
pub struct Upscaler {
    network: Network,
    device: Device,
    /// What its weights take.
    bytes: u64,
}

#[derive(Debug)]
enum Network {
    Rrdb(RrdbDimensions, Box<Rrdb>),
    Compact(CompactDimensions, Box<Compact>),
}

impl Upscaler {
    /// Loads the network that a file holds; products are computed in `compute` where that is the CPU's choice.
    ///
    /// # Errors
    /// [`Error::Architecture`] for an upscaler that is not run, [`Error::Unknown`] for another file, [`Error::Channels`] and
    /// [`Error::Factor`] for a network of another kind of pictures, and [`Error::Weights`] for a tensor that does not fit.
    pub fn load(source: &dyn WeightSource, device: &Device, compute: Compute) -> Result<Self, Error> {
        let view = |source| Weights::of(source, device, Residency::Unpacked).computed_in(compute);
        let at = if *device == Device::flex() { Place::Cpu(compute) } else { Place::Device(compute) };
        let taken = |w: &Weights, layout| w.laid_out(layout).bytes(at)[0];
        let (network, bytes) = match Architecture::of(source)? {
            Architecture::Rrdb(names) => {
                let w = view(&names);
                let dimensions = RrdbDimensions::of(&w)?;
                let network = Box::new(Rrdb::load(&w, &dimensions)?);
                let bytes = taken(&w, dimensions.layout());
                (Network::Rrdb(dimensions, network), bytes)
            }
            Architecture::Compact { prefix } => {
                let w = match prefix.strip_suffix('.') {
                    Some(prefix) => view(source).at(prefix),
                    None => view(source),
                };
                let dimensions = CompactDimensions::of(&w)?;
                let network = Box::new(Compact::load(&w, &dimensions)?);
                let bytes = taken(&w, dimensions.layout());
                (Network::Compact(dimensions, network), bytes)
            }
        };
        Ok(Self { network, device: device.clone(), bytes })
    }

    /// What its weights take in memory, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many times as wide and high a picture becomes.
    pub fn factor(&self) -> usize {
        match &self.network {
            Network::Rrdb(dimensions, _) => dimensions.factor(),
            Network::Compact(dimensions, _) => dimensions.factor(),
        }
    }

    /// What it is, for people: `ESRGAN, 23 groups of 64 channels`.
    pub fn about(&self) -> String {
        match &self.network {
            Network::Rrdb(dimensions, _) => dimensions.about(),
            Network::Compact(dimensions, _) => dimensions.about(),
        }
    }

    /// What it takes for each pixel of a picture; its weights are not counted.
    pub fn cost(&self) -> Cost {
        match &self.network {
            Network::Rrdb(dimensions, _) => dimensions.cost(),
            Network::Compact(dimensions, _) => dimensions.cost(),
        }
    }

    /// The tiles of a picture of this height and width under `budget` bytes, as [`Tiles::of`].
    pub fn tiles(&self, size: [usize; 2], budget: u64) -> Tiles {
        let lie = match &self.network {
            Network::Rrdb(dimensions, _) => dimensions.lie(),
            Network::Compact(dimensions, _) => dimensions.lie(),
        };
        Tiles::of(size, lie, budget, self.cost())
    }

    /// How many blocks all tiles have together: as often [`Upscaler::upscale`] says that it is further.
    pub fn blocks(&self, tiles: &Tiles) -> usize {
        let blocks = match &self.network {
            Network::Rrdb(dimensions, _) => dimensions.groups(),
            Network::Compact(dimensions, _) => dimensions.layers(),
        };
        blocks.saturating_mul(tiles.count())
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
                Network::Rrdb(_, network) => network.forward(x, inside, further)?,
                Network::Compact(_, network) => network.forward(x, inside, further)?,
            };
            let y = core_tensor::in_f32(y);
            if is_finite(&y)? { Ok(y) } else { Err(RunError::NotFinite { stage: Stage::Image }) }
        };
        tiles.assemble(&pixels.to_device(&self.device), self.factor(), tile)
    }
}

/// An upscaler that stays under a number of bytes, as it stands between two passes.
#[derive(Debug)]
pub struct Budgeted {
    /// The network.
    pub upscaler: Upscaler,
    /// What infotexts call it.
    pub name: String,
    /// The most that it takes beside its weights, where any tile fits.
    pub budget: u64,
}

impl PixelUpscaler for Budgeted {
    fn name(&self) -> &str {
        &self.name
    }

    fn factor(&self) -> usize {
        self.upscaler.factor()
    }

    fn working_bytes(&self, from: Size) -> u64 {
        self.upscaler.tiles([from.height, from.width], self.budget).bytes(self.upscaler.cost())
    }

    fn upscale(&self, picture: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, RunError> {
        let [_, _, height, width] = picture.dims();
        self.upscaler.upscale(picture, &self.upscaler.tiles([height, width], self.budget), inside, &|| {})
    }
}
