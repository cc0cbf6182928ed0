use crate::{Area, FromPictures, Inpaint, Resize, Soft, SoftSettings};

/// What A1111 and Forge say of pictures that a picture was drawn from.
pub(super) fn pairs(from: &FromPictures) -> Vec<(&'static str, String)> {
    let yes = |label, is_so: bool| is_so.then(|| (label, "True".to_owned()));
    let mut pairs = vec![("Denoising strength", from.strength.to_string())];
    pairs.extend(yes("Exact steps", from.exact_steps));
    // A1111 leaves it out; its words are those of its page.
    let resize = match from.resize {
        Resize::Just => None,
        Resize::Crop => Some("Crop and resize"),
        Resize::Fill => Some("Resize and fill"),
        Resize::Latent => Some("Just resize (latent upscale)"),
    };
    pairs.extend(resize.map(|label| ("Resize mode", label.to_owned())));
    pairs.extend(yes("Sampled latent", from.sampled));
    pairs.extend(yes("Color correction", from.recoloured));
    if let Some(Inpaint { mask: _, blur, round, invert, fill, area, hidden, soft }) = &from.inpaint {
        if *hidden != 1.0 {
            pairs.push(("Conditional mask weight", hidden.to_string()));
        }
        if *invert {
            pairs.push(("Mask mode", "Inpaint not masked".to_owned()));
        }
        // A1111 leaves out 0; here it says that there is a mask.
        pairs.push(("Mask blur", blur.to_string()));
        if !round {
            pairs.push(("Mask round", "False".to_owned()));
        }
        if let Area::Masked { padding } = area {
            pairs.extend([("Inpaint area", "Only masked".to_owned()), ("Masked area padding", padding.to_string())]);
        }
        pairs.extend(fill.label().map(|label| ("Masked content", label.to_owned())));
        pairs.extend(soft.iter().flat_map(of_soft));
    }
    if from.noise_multiplier != 1.0 {
        pairs.push(("Noise multiplier", from.noise_multiplier.to_string()));
    }
    pairs
}

fn of_soft(soft: &Soft) -> Vec<(&'static str, String)> {
    let settings = match soft {
        Soft::Differential => return vec![("Differential diffusion", "True".to_owned())],
        Soft::Blended(settings) => settings,
    };
    let SoftSettings { schedule_bias, preservation, contrast, mask_influence, threshold, threshold_contrast } =
        settings;
    let numbers = [
        ("Soft inpainting schedule bias", schedule_bias),
        ("Soft inpainting preservation strength", preservation),
        ("Soft inpainting transition contrast boost", contrast),
        ("Soft inpainting mask influence", mask_influence),
        ("Soft inpainting difference threshold", threshold),
        ("Soft inpainting difference contrast", threshold_contrast),
    ];
    let numbers = numbers.map(|(label, number)| (label, number.to_string()));
    [("Soft inpainting enabled", "True".to_owned())].into_iter().chain(numbers).collect()
}
