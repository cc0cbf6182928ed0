//! A model without weights: it draws the grey that its prompt's length stands for, in the space of pixels.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use core_tensor::{Device, Latent, Tensor, tensor};
use diffusion_engine::{
    Autoencoder, Card, Encoded, Error, Inside, Model, Pass, Piece, Predictor, Prompt, Site, Stream, Txt2Img,
};
use samplers::{Options, SigmaSpace};

/// What was asked of it, and what it is.
pub(crate) struct Toy {
    card: Card,
    device: Device,
    pub encoded: AtomicUsize,
    _network: Arc<()>,
    pub painter: Arc<Painter>,
}

/// Its autoencoder.
pub(crate) struct Painter {
    network: Weak<()>,
    pub decoded: AtomicUsize,
    /// How many of them while the model was still held.
    pub beside: AtomicUsize,
}

/// Blocks of its network.
pub(crate) const BLOCKS: usize = 3;

impl Toy {
    pub(crate) fn new() -> Arc<Self> {
        let card = Card { name: "toy".into(), channels: 3, factor: 1, size_multiple: 4, preview: None };
        let network = Arc::new(());
        let painter = Painter { network: Arc::downgrade(&network), decoded: 0.into(), beside: 0.into() };
        Arc::new(Self {
            card,
            device: Device::flex(),
            encoded: 0.into(),
            _network: network,
            painter: Arc::new(painter),
        })
    }
}

impl Model for Toy {
    fn card(&self) -> &Card {
        &self.card
    }

    fn sigma_space(&self, pass: &Pass) -> SigmaSpace {
        SigmaSpace::Flow { shift: None, tokens: pass.size.width * pass.size.height }
    }

    fn prompt(&self, pieces: Vec<Piece>, _: &Pass) -> Prompt {
        Prompt { pieces, settings: Options::default() }
    }

    fn encode(&self, prompt: &Prompt, inside: &Inside) -> Result<Encoded, Error> {
        self.encoded.fetch_add(1, Ordering::Relaxed);
        let length = prompt.text().len();
        let tokens = tensor(vec![length as f32 / 100.0], [1, 1, 1], &self.device);
        let tokens = inside.after(Site::layer("encoder", "out"), tokens)?;
        let (ids, cut) = (vec![("toy", vec![length])], Vec::new());
        Ok(Encoded { streams: vec![Stream { encoder: "toy", tokens }], pooled: None, ids, cut })
    }

    fn prepare(self: Arc<Self>, _: &Pass, under: Vec<Arc<Encoded>>, _: &Inside) -> Result<Box<dyn Predictor>, Error> {
        Ok(Box::new(Grey(under)))
    }

    fn vae(self: Arc<Self>) -> Arc<dyn Autoencoder> {
        self.painter.clone()
    }

    fn device(&self) -> &Device {
        &self.device
    }
}

impl Autoencoder for Painter {
    fn decode(&self, latent: Tensor<4>, inside: &Inside) -> Result<Tensor<4>, Error> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        self.beside.fetch_add(self.network.strong_count(), Ordering::Relaxed);
        inside.after_map(Site::layer("decoder", "out"), latent)
    }

    fn encode(&self, pixels: Tensor<4>, _: Option<Tensor<4>>, _: &Inside) -> Result<Tensor<4>, Error> {
        Ok(pixels)
    }
}

struct Grey(Vec<Arc<Encoded>>);

impl Predictor for Grey {
    fn predict(&mut self, x: &Latent, sigma: f32, which: &[usize], inside: &Inside) -> Result<Vec<Latent>, Error> {
        let [b, c, h, w] = x.0.dims();
        let of_prompt = |&prompt: &usize| {
            let inside = inside.of_call(sigma, prompt);
            let grey: Tensor<4> = self.0[prompt].streams[0].tokens.clone().reshape([1, 1, 1, 1]);
            let clean = grey.expand([b, c, h, w]) + x.0.clone() * (0.1 * sigma);
            let blocks = (0..BLOCKS)
                .try_fold(clean.reshape([b, c, h * w]), |x, i| inside.after(Site::block("network", "blocks", i), x))?;
            Ok(Latent(blocks.reshape([b, c, h, w])))
        };
        which.iter().map(of_prompt).collect()
    }
}

/// A small request.
pub(crate) fn request(prompt: &str) -> Txt2Img {
    Txt2Img::of(prompt).size(diffusion_engine::Size { width: 8, height: 4 }).steps(5).seed(3)
}
