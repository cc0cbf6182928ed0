//! `forge img2img`: a picture drawn from another, or a part of it drawn anew, by the same run as one from words.

use diffusion_engine::Catalog;

use super::{args::Img2ImgArgs, txt2img};
use crate::{error::Result, signals::Interrupt};

pub(super) fn run(registry: &Catalog, args: &Img2ImgArgs) -> Result<()> {
    let interrupt = Interrupt::awaited();
    let run = args.as_txt2img();
    let mut config = run.config()?;
    let notes = run.override_keys(&mut config, registry)?;
    if config.img2img.image.is_none() {
        let (expected, found) = ("a picture to start from".into(), "nothing".into());
        return Err(forge::Error::Value { key: "img2img.image".into(), expected, found }.into());
    }
    txt2img::draw_one(registry, &run, config, notes, &interrupt)
}
