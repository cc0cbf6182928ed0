//! The words of a pass, encoded by a model that is made ready for its steps; and the change of models within a pass.

use std::sync::Arc;

use core_tensor::Latent;
use samplers::Denoised;

use crate::{
    Clock, Conditioned, Conditions, Cut, Encoded, Encodings, Error, Hooks, Inside, Model, Models, Pass, Piece, Prompt,
    Resize, Shown, Stage, Which, Wrap,
    again::{Answers, Whose},
    canvas::as_tensor,
    conditions::Editions,
    encoded::of_one_length,
    finite::finite,
    models::Current,
    prepared::Asking,
    raster::resized,
    scripts::Scripts,
    start_pictures::StartPictures,
};

/// What is said in a pass, for any model.
#[derive(Clone)]
pub(crate) struct Conditioning {
    pub(crate) pass: Pass,
    pub(crate) wraps: Vec<Arc<dyn Wrap>>,
    pub(crate) scripts: Scripts,
    pub(crate) clock: Clock,
    pub(crate) inside: Inside,
    /// The pictures that the pass started from.
    pub(crate) pictures: Option<StartPictures>,
}

/// A model under the words of a pass.
pub(crate) struct Ready {
    pub(crate) conditioned: Conditioned,
    /// The encoded prompts, the positive ones first.
    pub(crate) under: Vec<Arc<Encoded>>,
    /// Where prompts were too long.
    pub(crate) cut: Vec<Cut>,
}

impl Conditioning {
    /// Encodes the words, and makes the model ready for the steps.
    pub(crate) fn ready(&self, model: &Arc<dyn Model>, encodings: &Encodings) -> Result<Ready, Error> {
        let Self { pass, wraps, scripts, clock, inside, pictures } = self;
        let (conditions, prompts) = Conditions::of(&scripts.positive, scripts.negative.as_ref());
        let encode = |(part, editions): (usize, &Editions)| {
            let negative = part >= scripts.positive.parts.len();
            let stage = if negative { Stage::NegativePrompt } else { Stage::Prompt };
            let prompt = |&(pieces, times): &(&[Piece], usize)| {
                let prompt = model.prompt(pieces.to_vec(), pass);
                (if negative { prompt.negative() } else { prompt }, times)
            };
            let editions: Vec<(Prompt, usize)> = editions.iter().map(prompt).collect();
            let encode = || model.encode_all(&editions, inside);
            let encoded = encodings.get_or_encode(&editions, prompts.len(), encode)?;
            same_number("the number of prompts that a model encodes", editions.len(), encoded.len())?;
            for encoded in &encoded {
                encoded.streams.iter().try_for_each(|stream| finite(stage, &stream.tokens))?;
                encoded.pooled.iter().try_for_each(|pooled| finite(stage, pooled))?;
            }
            Ok(encoded)
        };
        let under = prompts.iter().enumerate().map(encode).collect::<Result<Vec<_>, Error>>()?.concat();
        let (positives, count) = (conditions.positives(), under.len());
        let cut = longest(&under[..positives]);
        let under = if scripts.positive.parts.len() > 1 { of_one_length(under, positives) } else { under };
        let under = wraps.iter().try_fold(under, |under, wrap| wrap.conditioning(under))?;
        same_number("the number of prompts that a wrap leaves", count, under.len())?;
        let shown = match pictures {
            Some(pictures) if model.is_shown_pictures() => Some(pictures.shown(model.card().factor, model.device())?),
            Some(_) | None => None,
        };
        let control = pass.control.as_deref().map(|control| resized(control, pass.size, Resize::Just));
        let control = control.map(|control| as_tensor(&control, model.device()));
        let unseen = inside.unseen();
        let predictor = match (shown, control) {
            (None, None) => model.clone().prepare(pass, under.clone(), &unseen)?,
            (shown, control) => {
                let nothing = Shown { pictures: Vec::new(), mask: None, hidden: 1.0, control: None };
                let shown = Shown { control, ..shown.unwrap_or(nothing) };
                model.clone().prepare_shown(pass, under.clone(), &shown, &unseen)?
            }
        };
        let predictor = wraps.iter().fold(predictor, |predictor, wrap| wrap.predicting(predictor));
        let asking = Asking::of(pass, wraps);
        let conditioned = Conditioned::new(predictor, conditions, inside.clone());
        let conditioned = conditioned.timed(clock.clone(), move |at| asking.wants_negative(&at));
        Ok(Ready { conditioned, under, cut })
    }
}

/// What the refiner needs to go on.
pub(crate) struct Next {
    /// The first call that is its own.
    pub(crate) from: usize,
    pub(crate) index: usize,
    pub(crate) conditioning: Conditioning,
    pub(crate) models: Arc<dyn Models>,
    pub(crate) current: Current,
}

impl Next {
    /// The refiner in the last model's place, which whoever held it has let go.
    fn taken_over(self) -> Result<Conditioned, Error> {
        let Self { index, conditioning, models, current, .. } = self;
        let model = current.become_one(Which::Refiner, index, &*models)?;
        Ok(conditioning.ready(&model, &models.encodings(Which::Refiner, index))?.conditioned)
    }
}

/// A model that answers until another takes over.
pub(crate) struct Turns {
    /// None where the model that was to take over could not.
    now: Option<Conditioned>,
    next: Option<Next>,
}

impl Turns {
    pub(crate) fn of(now: Conditioned, next: Option<Next>) -> Self {
        Self { now: Some(now), next }
    }

    /// The model whose turn it is.
    fn at(&mut self, sigma: f32) -> Result<&mut Conditioned, Error> {
        let call = self.now.as_ref().map(|now| now.call(sigma));
        if let Some(next) = self.next.take_if(|next| call.is_some_and(|call| call >= next.from)) {
            // There may be room for one network alone.
            self.now = None;
            self.now = Some(next.taken_over()?);
        }
        // What stopped the other from taking over has stopped the run.
        self.now.as_mut().ok_or(Error::Cancelled)
    }
}

impl Answers for Turns {
    fn answer(&mut self, x: &Latent, sigma: f32) -> Result<Denoised, Error> {
        self.at(sigma)?.answer(x, sigma)
    }

    fn again(&mut self, x: &Latent, sigma: f32, whose: Whose, hooks: &[Arc<dyn Hooks>]) -> Result<Latent, Error> {
        self.at(sigma)?.again(x, sigma, whose, hooks)
    }
}

/// That there are as many as there have to be.
fn same_number(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Request { what, expected: expected.to_string(), found: found.to_string() })
}

/// Where prompts were too long, by each encoder the longest.
fn longest(prompts: &[Arc<Encoded>]) -> Vec<Cut> {
    let mut longest: Vec<Cut> = Vec::new();
    for cut in prompts.iter().flat_map(|encoded| &encoded.cut) {
        match longest.iter_mut().find(|known| known.encoder == cut.encoder) {
            Some(known) if known.tokens >= cut.tokens => {}
            Some(known) => *known = *cut,
            None => longest.push(*cut),
        }
    }
    longest
}
