//! Ways of guiding a model and of sparing its calls, each of which is a [`Wrap`] that keys of the config ask for.
//!
//! A method is one file, and a line of [`all`]; what only the networks of one family have room for lives in that family's crate.

mod apg;
mod interval;
mod ngms;
mod rescale;
mod skip_early;
mod threshold;

use std::sync::Arc;

use core_tensor::{Latent, Tensor};
use samplers::{Options, Value};

use crate::{Error, Fallback, Key, Kind, Model, Pass, Place, Wrap};

/// The table of the config that their keys stand in.
pub const TABLE: &str = "guidance";

/// Those that any model can be guided by, from the innermost outwards.
pub fn all() -> &'static [Method] {
    const ALL: &[Method] =
        &[interval::METHOD, skip_early::METHOD, ngms::METHOD, apg::METHOD, threshold::METHOD, rescale::METHOD];
    ALL
}

/// A way of guiding a model.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name in messages.
    pub id: &'static str,
    /// What it is set by. Without its first key it is off, and where that is 0 or `off`.
    pub keys: &'static [Key],
    /// What it puts around the model where its first key is set, from the innermost outwards.
    pub wraps: fn(&Settings) -> Vec<Arc<dyn Wrap>>,
}

impl Method {
    /// Whether a pass asks for it.
    pub fn is_asked(&self, pass: &Pass) -> bool {
        match self.keys.first().and_then(|key| pass.knobs.value(key.name)) {
            Some(Value::Number(number)) => *number != 0.0,
            Some(Value::Name(name)) => name != OFF,
            None => false,
        }
    }
}

/// A key of a method, which is as `means` says where nothing sets it; `example` is what it might be set to, in TOML.
pub const fn key(name: &'static str, kind: Kind, means: &'static str, example: &'static str) -> Key {
    Key::of(kind, Fallback::Open { means, example }).at(TABLE, name, "")
}

/// A switch.
pub const SWITCH: Kind = Kind::Choice(&[OFF, "on"]);

const OFF: &str = "off";

/// A share of something.
pub const SHARE: Kind = Kind::Number { min: 0.0, max: 1.0 };

/// What a pass sets of a method's keys.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    knobs: &'a Options,
    /// The pass that is drawn.
    pub pass: &'a Pass,
}

impl<'a> Settings<'a> {
    /// What a pass sets.
    pub fn of(pass: &'a Pass) -> Self {
        Self { knobs: &pass.knobs, pass }
    }

    /// The number that a key is set to.
    pub fn number(&self, key: &Key) -> Option<f32> {
        self.knobs.number(key.name).map(|number| number as f32)
    }

    /// The name that a key is set to.
    pub fn name(&self, key: &Key) -> Option<&str> {
        self.knobs.name(key.name)
    }

    /// Whether a [`SWITCH`] is on.
    pub fn is_on(&self, key: &Key) -> bool {
        self.name(key).is_some_and(|name| name != OFF)
    }
}

/// All that can be set of a model: what its family has, and what its methods are set by.
pub(crate) fn keys_of(model: &dyn Model) -> Vec<Key> {
    let methods = all().iter().chain(model.methods()).flat_map(|method| method.keys);
    model.knobs().iter().chain(methods).copied().collect()
}

/// What stands around a model in a pass, from the innermost outwards: what methods put there, and then the pass's own.
///
/// # Errors
/// [`Error::Request`] where two methods would be in guidance's place.
pub(crate) fn wraps(model: &dyn Model, pass: &Pass) -> Result<Vec<Arc<dyn Wrap>>, Error> {
    let settings = Settings::of(pass);
    let mut guiding: Option<&Method> = None;
    let mut wraps = Vec::new();
    for method in all().iter().chain(model.methods()).filter(|method| method.is_asked(pass)) {
        let own = (method.wraps)(&settings);
        if own.iter().any(|wrap| wrap.place() == Place::Guidance)
            && let Some(other) = guiding.replace(method)
        {
            let (expected, found) =
                ("one method in guidance's place".into(), format!("`{}` and `{}`", other.id, method.id));
            return Err(Error::Request { what: "guidance", expected, found });
        }
        wraps.extend(own);
    }
    wraps.extend(pass.wraps.iter().map(|wrap| wrap.fork().unwrap_or_else(|| wrap.clone())));
    Ok(wraps)
}

/// What becomes of each picture of a batch, of which there are so many latents, by itself.
fn each<const N: usize>(latents: [&Latent; N], of_picture: impl Fn([Tensor<4>; N]) -> Tensor<4>) -> Latent {
    let [batch, ..] = latents[0].0.dims();
    let picture = |i| of_picture(latents.map(|latent| latent.0.clone().narrow(0, i, 1)));
    Latent(Tensor::cat((0..batch).map(picture).collect(), 0))
}

/// The sum of the products of all values, `[1, 1, 1, 1]`.
fn dot(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    (x * y).sum().reshape([1, 1, 1, 1])
}
