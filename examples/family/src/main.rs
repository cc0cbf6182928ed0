//! A family of models that the engine does not know. Its latents are pixels, and its one network remembers pictures: what it sees in noise
//! is their mean, each weighted by how likely it is to lie under that noise, which is what an ideal denoiser of just these answers.

use std::{error::Error as _, sync::Arc};

use forge::{
    Config, Error, Families, Family, Forge, Job, Pass, Size, Txt2Img,
    core_tensor::{
        Device, Latent, Layout, Residency, Tensor, WeightSource,
        safetensors::{Safetensors, Values, write},
        values,
    },
    diffusion_engine::{
        self, Autoencoder, Card, Encoded, Inside, Model, OpenedModel, Piece, Predictor, Prompt,
        family::{Duty, Kind, Network, Part, PartBytes, Parts, Placement, Role, Work, work},
        write_whole,
    },
    samplers::SigmaSpace,
};

/// What the engine's traits return.
type Result<T> = std::result::Result<T, diffusion_engine::Error>;

const PICTURES: &str = "remembered.pictures"; // [pictures, 3, height, width]

struct Memories;

impl Family for Memories {
    fn id(&self) -> &str {
        "memories"
    }
    fn name(&self) -> &str {
        "Memories"
    }
    fn roles(&self) -> Vec<Role> {
        let network = Network::of(Duty::DENOISER, PICTURES, |w, _| Ok(layout(w.dims(PICTURES)?)));
        vec![Role::of("unet", "remembered pictures", network).takes(["memories"])]
    }
    fn kinds(&self) -> Vec<Kind> {
        let pictures = Kind::of(Duty::DENOISER, "remembered pictures", [PICTURES]).id("memories");
        vec![pictures.shaped(|shapes| shapes.of(PICTURES, 1) == Some(3))]
    }
    fn open(&self, mut parts: Parts) -> Result<Box<dyn OpenedModel>> {
        let card = Card { name: parts.name().into(), channels: 3, factor: 1, size_multiple: 1, preview: None };
        Ok(Box::new(Opened(card, parts.take("unet")?)))
    }
}

fn layout(shape: [usize; 4]) -> Layout {
    Layout::of(|layer| layer.parameter(PICTURES, &shape))
}

struct Opened(Card, Part);

impl OpenedModel for Opened {
    fn card(&self) -> &Card {
        &self.0
    }
    fn bytes(&self) -> Vec<PartBytes> {
        vec![PartBytes::unpacked(&self.1)]
    }
    fn work(&self, job: &Job) -> Work {
        Work::of(job, &self.0).then(work::DECODE, [("the pictures", self.1.bytes().unpacked)])
    }
    fn load(&self, at: &Placement) -> Result<Arc<dyn Model>> {
        let pictures = self.1.load(at, Residency::Unpacked, |w| {
            Ok(w.laid_out(layout(w.dims(PICTURES)?)).parameter(PICTURES)?.value())
        })?;
        Ok(Arc::new(Remembering { card: self.0.clone(), device: at.device.clone(), pictures }))
    }
}

struct Remembering {
    card: Card,
    device: Device,
    pictures: Tensor<4>,
}

impl Model for Remembering {
    fn card(&self) -> &Card {
        &self.card
    }
    fn sigma_space(&self, _: &Pass) -> SigmaSpace {
        SigmaSpace::Flow { shift: None, tokens: 1 }
    }
    fn prompt(&self, pieces: Vec<Piece>, _: &Pass) -> Prompt {
        Prompt { pieces, settings: Default::default() }
    }
    fn encode(&self, _: &Prompt, _: &Inside) -> Result<Encoded> {
        Ok(Encoded { streams: vec![], pooled: None, ids: vec![], cut: vec![] })
    }
    fn prepare(self: Arc<Self>, _: &Pass, _: Vec<Arc<Encoded>>, _: &Inside) -> Result<Box<dyn Predictor>> {
        Ok(Box::new(Predicting(self)))
    }
    fn vae(self: Arc<Self>) -> Arc<dyn Autoencoder> {
        self
    }
    fn device(&self) -> &Device {
        &self.device
    }
}

impl Autoencoder for Remembering {
    fn decode(&self, latent: Tensor<4>, _: &Inside) -> Result<Tensor<4>> {
        Ok(latent)
    }
}

struct Predicting(Arc<Remembering>);

impl Predictor for Predicting {
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], _: &Inside) -> Result<Vec<Latent>> {
        let pictures = self.0.pictures.clone();
        let [n, ..] = pictures.dims();
        // On a flow, x = (1 - sigma) · picture + sigma · noise.
        let off = (x.0.clone() - pictures.clone() * (1.0 - sigma)).powi_scalar(2).reshape([n as i32, -1]).sum_dim(1);
        let likely = (off.clone() - off.min_dim(0)) * (-0.5 / (sigma * sigma));
        let likely = likely.clone().exp() / likely.exp().sum_dim(0);
        let seen = (pictures * likely.reshape([n, 1, 1, 1])).sum_dim(0);
        Ok(vec![Latent(seen); which.len()])
    }
}

fn main() -> forge::Result<()> {
    // given a file of two pictures, which are a test's of the engine, and a config that names it
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/tiny-schnell/expected.safetensors");
    let stored = Safetensors::open(golden.as_ref())?.read("image")?;
    let (shape, pixels) = (stored.shape().to_vec(), stored.to_f32().expect("pictures are floats"));
    let path = std::env::temp_dir().join(format!("memories-{}.safetensors", std::process::id()));
    write_whole(&path, |out| write(out, &[(PICTURES.into(), shape.clone(), Values::F32(pixels.clone()))]))?;
    let mut config = Config::default();
    config.model.checkpoint = Some(path.clone());
    // when no family claims it, then it is refused; and where one does, then it draws what it remembers
    let unknown = Forge::load(&config).expect_err("no family has such tensors");
    println!("{unknown}: {}", unknown.source().expect("what is wrong with the file"));
    let forge = Forge::load_with(&Families::builtin().with(Memories), &config)?;
    for seed in 0..4 {
        let size = Size { width: shape[3], height: shape[2] };
        let mut run = forge.txt2img(Txt2Img::of("").seed(seed).steps(8).size(size))?;
        run.by_ref().try_for_each(|event| event.map(drop))?;
        let drawn = values(&run.pixels()?);
        let is_drawn = |picture: &&[f32]| picture.iter().zip(&drawn).all(|(a, b)| (a - b).abs() < 1e-3);
        let which = pixels.chunks(drawn.len()).position(|picture| is_drawn(&picture)).expect("one was drawn");
        println!("picture {which}: {}", run.image()?.infotext.lines().last().unwrap_or_default());
    }
    std::fs::remove_file(&path).map_err(|source| Error::Read { path, source })
}
