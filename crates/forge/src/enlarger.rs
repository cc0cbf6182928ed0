//! Pictures made larger by a network of a file.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Device, Tensor};
use diffusion_engine::{Cancel, Inside, Picture, family::work};
use memory::{Bytes, Held, Part, Plan, Stage};
use upscale::{Tiles, Upscaler, lanczos, lanczos_bytes};

use crate::{
    Ceiling, Config, Error, Result, Threads, model_files::open_file, opened_device::opened_device, process,
    read_once::no_room,
};

/// An upscaler that was opened from a file, ready for any number of pictures.
#[derive(Debug)]
pub struct Enlarger {
    upscaler: Upscaler,
    device: Device,
    threads: Threads,
    ceiling: Ceiling,
    host_ceiling: Ceiling,
}

/// Told how much of a picture is done: blocks of the network, and how many there are in all.
pub type Further<'f> = &'f (dyn Fn(usize, usize) + Sync);

/// How often a network is called in a row to reach a scale.
const MOST_PASSES: usize = 3; // as A1111

/// Bytes of each pixel of a result: its tensor, its copy on the host, and the picture of eight bits.
const WRITTEN: u64 = COLOURS + COLOURS + 3 + 4;

/// Bytes of each pixel of a result as it is made.
const COLOURS: u64 = 3 * 4;

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
        let (ceiling, host_ceiling) = (config.ceiling(), config.host_ceiling());
        Ok(Self { upscaler, device, threads, ceiling, host_ceiling })
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
        let _nothing = process::NothingKept::from_here();
        let left = process::left(&self.host_ceiling, self.upscaler.bytes());
        Picture::read_within(path, left.bytes).map_err(|error| no_room(error, self.host_ceiling.clone(), left))
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
            let has_opacity = picture.is_mixed();
            let larger = |picture: Tensor<4>| self.passes(picture, (target, has_opacity), cancel, further);
            let colours = larger(picture.colours(&self.device))?;
            let opacity = match (picture.opacities(&self.device), &picture.opacity) {
                (Some(greys), _) => Some(Picture::opacity_of(&larger(greys)?.mean_dim(1))?),
                (None, Some(all)) => Some(vec![all.first().copied().unwrap_or(u8::MAX); target[0] * target[1]]),
                (None, None) => None,
            };
            Ok(Picture::of(&colours, opacity)?)
        };
        self.threads.compute(work)
    }

    /// Width and height of a picture that is made larger.
    ///
    /// # Errors
    /// [`Error::Value`] as [`Enlarger::enlarge`].
    pub fn size(&self, picture: &Picture, scale: Option<f64>) -> Result<[usize; 2]> {
        self.target(picture, scale).map(|[height, width]| [width, height])
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
    fn passes(
        &self,
        mut x: Tensor<4>,
        (target, has_opacity): ([usize; 2], bool),
        cancel: &Cancel,
        further: Further,
    ) -> Result<Tensor<4>> {
        for pass in 0..MOST_PASSES {
            let [_, _, height, width] = x.dims();
            let is_enough = height >= target[0] && width >= target[1] || self.factor() == 1;
            if pass > 0 && is_enough {
                break;
            }
            let tiles = self.tiles([height, width], target, has_opacity)?;
            let (done, all) = (AtomicUsize::new(0), self.upscaler.blocks(&tiles));
            let next = || further(done.fetch_add(1, Ordering::Relaxed) + 1, all);
            x = self.upscaler.upscale(x, &tiles, &Inside::until(cancel), &next)?;
        }
        let [_, _, height, width] = x.dims();
        if [height, width] == target { Ok(x) } else { Ok(lanczos(x, target)?) }
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
        let has_opacity = picture.is_mixed();
        let (_, plan) = self.planned(first, target, has_opacity)?;
        let further = std::iter::successors(larger(&first), larger).take(MOST_PASSES - 1);
        let further =
            further.filter(|size| larger(size).is_some()).map(|size| Ok(self.planned(size, target, has_opacity)?.1));
        let all = further.collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().fold(plan, |most, plan| if plan.total() > most.total() { plan } else { most }))
    }

    /// The tiles of a pass over a picture of this height and width, on its way to that.
    fn tiles(&self, from: [usize; 2], target: [usize; 2], has_opacity: bool) -> Result<Tiles> {
        let (tiles, plan) = self.planned(from, target, has_opacity)?;
        process::limit_kept(plan.left_of(self.ceiling.bytes));
        Ok(tiles)
    }

    /// The same, with what they hold.
    fn planned(&self, from: [usize; 2], target: [usize; 2], has_opacity: bool) -> Result<(Tiles, Plan)> {
        let area = |[height, width]: [usize; 2]| (height as u64).saturating_mul(width as u64);
        let held = |name: &str, bytes: u64| Held::fixed(name, Bytes(bytes));
        let given = held("the picture", area(from).saturating_mul(GIVEN));
        // While an opacity is made, the colours are there.
        let colours = held("its colours", if has_opacity { area(target).saturating_mul(COLOURS) } else { 0 });
        let made = from.map(|side| side.saturating_mul(self.factor()));
        let resampled = lanczos_bytes(3, made.map(|side| side as u64), target.map(|side| side as u64));
        let resampled = held("what is resampled", if made == target { 0 } else { resampled });
        let written = area(target).saturating_mul(WRITTEN).saturating_add(colours.bytes.0);
        let written = held("the result", written);
        let weights = Bytes(self.upscaler.bytes());
        let network = Part { weights, ..Part::fixed("network", weights) };
        let parts: Vec<_> = process::parts(&self.threads).into_iter().chain([network]).collect();
        let beside = Plan::under(Bytes(u64::MAX), parts.clone(), Vec::new())?.total().0;
        let beside = beside.saturating_add(given.bytes.0).saturating_add(colours.bytes.0);
        let stages = |maps: u64| {
            let works = [
                vec![held("a tile", maps), given.clone(), colours.clone()],
                vec![resampled, given, colours],
                vec![written],
            ];
            works.map(|holds| Stage { name: work::ENLARGE.to_owned(), holds }).to_vec()
        };
        let budget = self.ceiling.bytes.0.saturating_sub(beside);
        let tiles = self.upscaler.tiles(from, budget.min(core_tensor::largest_tensor(&self.device)));
        let plan = Plan::under(self.ceiling.bytes, parts, stages(tiles.bytes(self.upscaler.cost())));
        let plan = plan.map_err(|error| self.ceiling.told(error))?;
        Ok((tiles, plan))
    }
}

/// The most pixels of a result: 32,768 in each direction.
const MOST_PIXELS: f64 = (1u64 << 30) as f64;
