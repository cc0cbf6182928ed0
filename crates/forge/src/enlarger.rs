//! Pictures made larger by a network of a file.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Device, Tensor};
use diffusion_engine::{Cancel, Inside, Picture, family::work};
use memory::{Bytes, Held, Part, Plan, Stage};
use upscale::{Tiles, Upscaler, lanczos};

use crate::{
    Backend, Ceiling, Config, Error, Result, Threads, model_files::open_file, opened_device::opened_device, process,
    read_once::no_room,
};

/// An upscaler that was opened from a file, ready for any number of pictures.
#[derive(Debug)]
pub struct Enlarger {
    upscaler: Upscaler,
    device: Device,
    threads: Threads,
    ceiling: Ceiling,
    /// The host's, and what is held of that.
    host: (Ceiling, u64),
}

/// Told how much of a picture is done: blocks of the network, and how many there are in all.
pub type Further<'f> = &'f (dyn Fn(usize, usize) + Sync);

/// How often a network is called in a row to reach a scale.
const MOST_PASSES: usize = 3; // as A1111

/// Bytes of each pixel of a result beside the network's own: as it is resampled and as it is written.
const WRITTEN: u64 = 3 * (4 + 4 + 1) + 4;

/// Bytes of each pixel of what a pass is given: as it was read and as the network takes it.
const GIVEN: u64 = 4 + 3 * 4;

impl Enlarger {
    /// Opens a file on the device of a config, of which nothing else counts. Products are of f32 unless the config asks for another format.
    ///
    /// # Errors
    /// [`Error::Load`] for a file that is no upscaler, and a device that can't be used.
    pub fn open(path: &Path, config: &Config, threads: Threads) -> Result<Self> {
        let in_file = |source: Error| Error::Load { path: path.to_owned(), source: Box::new(source) };
        let (device, compute) = opened_device(&config.device.backend.to_string(), || config.upscaling_compute())?;
        let file = open_file(path).map_err(in_file)?;
        let upscaler = threads.compute(|| Upscaler::load(&file, &device, compute));
        let upscaler = upscaler.map_err(|error| in_file(error.into()))?;
        let weights = if config.device.backend == Backend::Cpu { upscaler.bytes() } else { 0 };
        let host = (config.host_ceiling(), weights.saturating_add(process::PROCESS));
        Ok(Self { upscaler, device, threads, ceiling: config.ceiling(), host })
    }

    /// What the file holds, for people.
    pub fn about(&self) -> String {
        format!("{}, {} times as wide and high", self.upscaler.about(), self.upscaler.factor())
    }

    /// How many times as wide and high the network makes a picture.
    pub fn factor(&self) -> usize {
        self.upscaler.factor()
    }

    /// The picture of a file, where there is room for it beside the network.
    ///
    /// # Errors
    /// [`Error::Run`] for one that can't be read, [`Error::PictureMemory`].
    pub fn read(&self, path: &Path) -> Result<Picture> {
        let (ceiling, held) = &self.host;
        let room = ceiling.bytes.0.saturating_sub(*held);
        Picture::read_within(path, room).map_err(|error| no_room(error, ceiling, *held))
    }

    /// A picture `scale` times as wide and high, or as the network has it: the network makes it at least so large, in up to three passes,
    /// and Lanczos' resampling brings it to size. Its opacity is made larger as a picture of greys is.
    ///
    /// # Errors
    /// [`Error::Value`] for a scale that leaves nothing or too much, [`Error::Memory`] where not even a tile fits, and
    /// [`diffusion_engine::Error::Cancelled`].
    pub fn enlarge(&self, picture: &Picture, scale: Option<f64>, cancel: &Cancel, further: Further) -> Result<Picture> {
        let target = self.target(picture, scale)?;
        let work = || {
            let larger = |picture: Tensor<4>| self.passes(picture, target, cancel, further);
            let colours = larger(picture.colours(&self.device))?;
            let opacity = match (picture.opacities(&self.device), &picture.opacity) {
                (Some(greys), _) => {
                    let greys = larger(greys)?.mean_dim(1).expand([1, 3, target[0], target[1]]);
                    Some(Picture::of(&greys, None)?.pixels.into_iter().step_by(3).collect())
                }
                (None, Some(all)) => Some(vec![all.first().copied().unwrap_or(u8::MAX); target[0] * target[1]]),
                (None, None) => None,
            };
            Ok(Picture::of(&colours, opacity)?)
        };
        self.threads.compute(work)
    }

    /// Height and width of a picture that is made larger.
    fn target(&self, picture: &Picture, scale: Option<f64>) -> Result<[usize; 2]> {
        let scale = scale.unwrap_or(self.factor() as f64);
        let sides = [picture.height, picture.width].map(|side| (side as f64 * scale).round());
        let is_possible = scale.is_finite() && sides.iter().all(|side| *side >= 1.0);
        let [height, width] = sides;
        if !is_possible || height * width > MOST_PIXELS {
            let expected =
                format!("a number that makes 1 to {MOST_PIXELS} pixels of {}x{}", picture.width, picture.height);
            return Err(Error::Value { key: "--scale".into(), expected, found: scale.to_string() });
        }
        Ok([height as usize, width as usize])
    }

    /// The network's passes over `[1, 3, h, w]`, and what brings it to size.
    fn passes(&self, mut x: Tensor<4>, target: [usize; 2], cancel: &Cancel, further: Further) -> Result<Tensor<4>> {
        for pass in 0..MOST_PASSES {
            let [_, _, height, width] = x.dims();
            let is_enough = height >= target[0] && width >= target[1] || self.factor() == 1;
            if pass > 0 && is_enough {
                break;
            }
            let tiles = self.tiles([height, width], target)?;
            let (done, all) = (AtomicUsize::new(0), self.upscaler.blocks(&tiles));
            let next = || further(done.fetch_add(1, Ordering::Relaxed) + 1, all);
            x = self.upscaler.upscale(x, &tiles, &Inside::until(cancel), &next)?;
        }
        let [_, _, height, width] = x.dims();
        Ok(if [height, width] == target { x } else { lanczos(&x, target) })
    }

    /// What making a picture larger holds, in the pass that holds the most; see [`Enlarger::enlarge`].
    ///
    /// # Errors
    /// As [`Enlarger::enlarge`].
    pub fn plan(&self, picture: &Picture, scale: Option<f64>) -> Result<Plan> {
        let target = self.target(picture, scale)?;
        let larger = |&[height, width]: &[usize; 2]| {
            let is_enough = height >= target[0] && width >= target[1] || self.factor() == 1;
            let times = |side: usize| side.saturating_mul(self.factor());
            (!is_enough).then(|| [times(height), times(width)])
        };
        let first = [picture.height, picture.width];
        let (_, plan) = self.planned(first, target)?;
        let further = std::iter::successors(larger(&first), larger).take(MOST_PASSES - 1);
        let further = further.filter(|size| larger(size).is_some()).map(|size| Ok(self.planned(size, target)?.1));
        let all = further.collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().fold(plan, |most, plan| if plan.total() > most.total() { plan } else { most }))
    }

    /// The tiles of a pass over a picture of this height and width, on its way to that.
    fn tiles(&self, from: [usize; 2], target: [usize; 2]) -> Result<Tiles> {
        let (tiles, plan) = self.planned(from, target)?;
        process::limit_kept(plan.left_of(self.ceiling.bytes));
        Ok(tiles)
    }

    /// The same, with what they hold.
    fn planned(&self, from: [usize; 2], target: [usize; 2]) -> Result<(Tiles, Plan)> {
        let area = |[height, width]: [usize; 2]| (height as u64).saturating_mul(width as u64);
        let [given, result] = [area(from).saturating_mul(GIVEN), area(target).saturating_mul(WRITTEN)].map(Bytes);
        let weights = Bytes(self.upscaler.bytes());
        let network = Part { weights, ..Part::fixed("network", weights) };
        let parts = || process::parts(&self.threads).into_iter().chain([network.clone()]).collect();
        let stage = |maps: u64| {
            let held = |name: &str, bytes| Held::fixed(name, bytes);
            let holds = vec![held("a tile", Bytes(maps)), held("the picture", given), held("the result", result)];
            vec![Stage { name: work::ENLARGE.to_owned(), holds }]
        };
        // What is left where a tile takes nothing.
        let least = Plan { parts: Vec::new(), stages: stage(0) }.total().0;
        let held = Plan::under(Bytes(u64::MAX), parts(), Vec::new())?.total().0;
        let budget = self.ceiling.bytes.0.saturating_sub(held.saturating_add(least));
        let tiles = self.upscaler.tiles(from, budget.min(core_tensor::largest_tensor(&self.device)));
        let plan = Plan::under(self.ceiling.bytes, parts(), stage(tiles.bytes(self.upscaler.cost())));
        let plan = plan.map_err(|error| self.ceiling.told(error))?;
        Ok((tiles, plan))
    }
}

/// The most pixels of a result: 32,768 in each direction.
const MOST_PIXELS: f64 = (1u64 << 30) as f64;
