//! Ways of guiding a model and of sparing its calls, each of which is a [`Wrap`] that keys of the config ask for.
//!
//! A method is one file, and a line of [`all`]; what only the networks of one family have room for lives in that family's crate.

mod apg;
mod asks;
mod first_block;
mod freeu;
mod interval;
mod ngms;
mod pag;
mod rescale;
mod sag;
mod shrink;
mod skip_early;
mod slg;
mod span;
mod teacache;
mod threshold;
mod tiles;

use std::sync::Arc;

use core_tensor::{Latent, Tensor};

use crate::{Error, Holds, Key, Model, Pass, Place, Wrap};

use span::Span;

pub use crate::method::{Method, SHARE, SWITCH, Settings, TABLE, key};

/// Those that any model can be guided by, from the innermost outwards.
pub fn all() -> &'static [Method] {
    const ALL: &[Method] = &[
        interval::METHOD,
        skip_early::METHOD,
        ngms::METHOD,
        apg::METHOD,
        threshold::METHOD,
        rescale::METHOD,
        freeu::METHOD,
        shrink::METHOD,
        pag::METHOD,
        sag::METHOD,
        slg::METHOD,
        first_block::METHOD,
        teacache::METHOD,
        tiles::METHOD,
    ];
    ALL
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
        if !method.networks.is_empty() && !method.networks.contains(&model.network()) {
            let networks: Vec<&str> = method.networks.iter().map(|network| called(network)).collect();
            let expected = format!("{}, whose inside it is about", networks.join(" or "));
            let found = format!("asked of `{}`, {}", model.card().name, called(model.network()));
            return Err(Error::Request { what: method.id, expected, found });
        }
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

/// What stands around a model in a pass holds of memory: what methods put there, those of its family (`own`) among them, and the pass's
/// own.
pub fn held(pass: &Pass, own: &[Method]) -> Holds {
    let settings = Settings::of(pass);
    let asked = all().iter().chain(own).filter(|method| method.is_asked(pass));
    let wraps = asked.flat_map(|method| (method.wraps)(&settings)).chain(pass.wraps.iter().cloned());
    wraps.fold(Holds::default(), |held, wrap| held.and(Holds { looks: wrap.hooks().is_some(), ..wrap.holds() }))
}

/// What a network is called in messages.
fn called(network: &str) -> &str {
    match network {
        "unet" => "a UNet of Stable Diffusion",
        "transformer" => "a Flux transformer",
        _ => "another network",
    }
}

/// What becomes of each picture of a batch, of which there are so many latents, by itself.
///
/// # Errors
/// The first of `of_picture`'s.
fn each<const N: usize, E>(
    latents: [&Latent; N],
    of_picture: impl Fn([Tensor<4>; N]) -> Result<Tensor<4>, E>,
) -> Result<Latent, E> {
    latents[0].one_by_one(|i, _| of_picture(latents.map(|latent| latent.0.clone().narrow(0, i, 1))))
}

/// The sum of the products of all values, `[1, 1, 1, 1]`.
fn dot(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    (x * y).sum().reshape([1, 1, 1, 1])
}
