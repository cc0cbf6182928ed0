//! UniPC: a multistep method that predicts the next latent and corrects it with the model's answer there, at no call of its own.
//!
//! References: Zhao et al. 2023 (UniPC, arXiv 2302.04867), algorithms 1 and 2 in their form for denoised latents; orders towards the
//! end as in diffusers `UniPCMultistepScheduler` 0.42 with `lower_order_final`. ComfyUI ends at sigma 0.001 instead of 0.

use std::collections::VecDeque;

use core_tensor::{Latent, Tensor};

use crate::{
    Denoiser, Error, Noise, Sampler, Setting, Start, Step, Stepper, exploding::exploding, interpolation::solved,
    options::whole,
};

pub(crate) fn sampler() -> Sampler {
    Sampler::new("unipc", "UniPC", |start| Ok(exploding(start, UniPc::of(start, Variant::Bh1))))
        .aliases(["uni_pc", "k_unipc", "UniPCMultistep", "UniPCMultistepScheduler"])
        .about("A multistep method that predicts the next latent and corrects it there, with B(h) = h. As in ComfyUI it \
            takes any schedule; with the profiles `forge` and `a1111` it takes none on Stable Diffusion, but even steps of time down to the \
            table's lowest level: a little noise stays.")
        .params([ORDER.param()])
}

/// A1111 1.10: uni_pc_order.
pub(super) static ORDER: Setting<usize> = whole("order", "UniPC order", [3, 1, 3], "How many steps count.");

/// What stands for the step's length where its error is of no account (Zhao et al. 2023, B(h)).
#[derive(Clone, Copy, Debug)]
pub(super) enum Variant {
    /// The length itself.
    Bh1,
    /// `e^h - 1`.
    Bh2,
}

#[derive(Clone)]
pub(super) struct UniPc {
    order: usize,
    variant: Variant,
    /// What was denoised, the newest first.
    denoised: VecDeque<Tensor<4>>,
    /// What the last prediction was made from, and its order.
    last: Option<(Tensor<4>, usize)>,
}

impl UniPc {
    pub(super) fn of(start: &Start, variant: Variant) -> Self {
        Self { order: start.get(&ORDER), variant, denoised: VecDeque::new(), last: None }
    }

    /// The latent at `to`, from `levels` with their denoised latents, the newest first, and, to correct it, what was denoised at
    /// `to`.
    fn moved(
        &self,
        x: Tensor<4>,
        levels: &[f32],
        denoised: &[&Tensor<4>],
        to: f32,
        there: Option<&Tensor<4>>,
    ) -> Tensor<4> {
        let time = |sigma: f32| -f64::from(sigma).ln();
        let now = time(levels[0]);
        let h = time(to) - now;
        let newest = denoised[0].clone();
        let grown = -(-h).exp_m1();
        let straight = x * (f64::from(to) / f64::from(levels[0])) as f32 + newest.clone() * grown as f32;
        let spread = match self.variant {
            Variant::Bh1 => -h,
            Variant::Bh2 => -grown,
        };
        // Where the other latents lie, in lengths of this step; the one to correct with lies at its end.
        let older = levels[1..].iter().map(|&level| (time(level) - now) / h);
        let places: Vec<f64> = older.chain(there.map(|_| 1.0)).collect();
        let changes = denoised[1..].iter().copied().chain(there);
        let weights = match (places.len(), there) {
            (0, _) => return straight,
            // Without these the first order would not be reached (Zhao et al. 2023, appendix on orders 1 and 2).
            (1, _) => vec![0.5],
            (n, _) => {
                let rows = (0..n).map(|power| places.iter().map(|r| r.powi(power as i32)).collect()).collect();
                let mut phi = -grown / -h - 1.0;
                let mut factorial = 1.0;
                let right = (0..n).map(|i| {
                    let moment = phi * factorial / spread;
                    factorial *= (i + 2) as f64;
                    phi = phi / -h - 1.0 / factorial;
                    moment
                });
                solved(rows, right.collect())
            }
        };
        let add = |sum, ((change, place), weight): ((&Tensor<4>, f64), f64)| {
            sum - (change.clone() - newest.clone()) * (spread * weight / place) as f32
        };
        changes.zip(places).zip(weights).fold(straight, add)
    }
}

impl Stepper for UniPc {
    fn step(&mut self, at: Step, x: Latent, model: &mut dyn Denoiser, _: &mut dyn Noise) -> Result<Latent, Error> {
        let there = model.denoise(&x, at.sigma())?.latent;
        let past: Vec<f32> = at.sigmas()[..=at.index()].iter().rev().copied().collect();
        let mut x = x.0;
        if let Some((from, order)) = self.last.take() {
            let denoised: Vec<_> = self.denoised.iter().take(order).collect();
            x = self.moved(from, &past[1..=order], &denoised, at.sigma(), Some(&there.0));
        }
        if at.sigma_next() == 0.0 {
            return Ok(there);
        }
        self.denoised.truncate(self.order - 1);
        self.denoised.push_front(there.0);
        let left = at.sigmas().len() - 1 - at.index();
        let order = self.order.min(self.denoised.len()).min(left);
        let denoised: Vec<_> = self.denoised.iter().take(order).collect();
        let next = self.moved(x.clone(), &past[..order], &denoised, at.sigma_next(), None);
        self.last = Some((x, order));
        Ok(Latent(next))
    }

    fn fork(&self) -> Box<dyn Stepper> {
        Box::new(self.clone())
    }
}
