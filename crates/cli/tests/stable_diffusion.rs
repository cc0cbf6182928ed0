//! Tiny Stable Diffusion models through the command, from a config of one file to a picture.

mod tiny;

use core_tensor::{WeightSource, safetensors::Safetensors};
use fixtures::{Golden, deviation, psnr, std};
use tiny::{Tensors, Tiny, golden};

/// Largest difference of a latent after eight steps, as a share of its standard deviation.
const LATENT: f64 = 1e-3;
/// Least peak signal-to-noise ratio of a picture, in decibels.
const PICTURE_DB: f64 = 45.0;

#[test]
fn a_config_that_names_one_file_draws_what_the_references_draw() {
    for case in ["sd-1", "sd-2", "sd-xl", "sd-refiner", "sd-inpainting"] {
        // given the case's own config
        let config = golden(case).join("case.toml").display().to_string();
        let tiny = Tiny::quick();
        // when the picture is drawn
        let files = ["--output", "picture.png", "--dump", "dump.safetensors"];
        let ran = tiny.forge(&[&["txt2img", "--config", &config, "--compute", "f32"][..], &files].concat()).done();
        assert!(!ran.err.contains("nothing reads"), "{ran:?}");
        // then its latent and its pixels are the reference's
        let (dump, expected) =
            (Safetensors::open(&tiny.path("dump.safetensors")).expect("the run wrote it"), reference(case));
        let found = |name: &str| dump.read(name).expect("a dump has it").to_f32().expect("floats");
        let latent = expected.floats("latent.007");
        let worst = deviation(&found("latent.007"), &latent) / std(&latent);
        assert!(
            worst <= LATENT,
            "{case}: the latent is {worst:.2e} of its standard deviation off, allowed {LATENT:.0e}"
        );
        let db = psnr(&found("image"), &expected.floats("image"));
        assert!(db >= PICTURE_DB, "{case}: the picture is {db:.1} dB from the reference's, allowed {PICTURE_DB}");
    }
}

#[test]
fn a_single_file_is_told_part_by_part() {
    let file = golden("sd-xl/model.safetensors").display().to_string();
    let ran = Tiny::quick().forge(&["inspect", &file]).done();
    for part in ["an SDXL UNet", "a CLIP text encoder", "OpenCLIP", "the autoencoder of Stable Diffusion"] {
        assert!(ran.out.contains(part), "no `{part}` in {ran:?}");
    }
    assert!(!ran.out.contains("nothing reads"), "{ran:?}");
}

#[test]
fn a_prompt_may_name_the_textual_inversions_of_a_folder() {
    let width = Safetensors::open(&golden("sd-1/model.safetensors")).expect("the file is there");
    let norm = width.manifest().iter().find(|(name, _)| name.ends_with("text_model.final_layer_norm.weight"));
    let width = norm.expect("an encoder has one").1.shape[0] as u64;
    let config = golden("sd-1/case.toml").display().to_string();
    let tiny = Tiny::quick();
    std::fs::create_dir_all(tiny.path("words/more")).expect("files can be written here");
    let vectors =
        |width: u64| Tensors(Vec::new()).zeros("emb_params", "F32", &[2, width]).poisoned("emb_params", 1.0).bytes();
    tiny.write("words/qualm.safetensors", vectors(width));
    tiny.write("words/more/narrow.safetensors", vectors(width + 1));
    tiny.write(
        "words/table.safetensors",
        Tensors(Vec::new()).zeros("a.weight", "F32", &[2]).zeros("b.weight", "F32", &[2]).bytes(),
    );
    tiny.write("words/qualm.preview.png", "no picture");
    let draw = |prompt: &str, more: &[&str]| {
        let flags = ["txt2img", "--config", &config, "--steps", "1", "--prompt", prompt, "--output", "a.png"];
        tiny.forge(&[&flags[..], more].concat())
    };
    let drawn = |prompt: &str, more: &[&str]| {
        let ran = draw(prompt, &[more, &["--dump", "a.safetensors"]].concat()).done();
        let dump = Safetensors::open(&tiny.path("a.safetensors")).expect("the run wrote it");
        (dump.read("image").expect("a dump has it").to_f32().expect("floats").to_vec(), ran.err)
    };
    let folder = ["--embeddings", "words"];
    // a name stands for its vectors, by itself and behind ComfyUI's mark
    let (word, _) = drawn("a cat, qualm", &[]);
    let (named, err) = drawn("a cat, qualm", &folder);
    assert!(err.contains("table.safetensors") && err.contains("no textual inversion"), "{err}");
    assert!(!err.contains("preview") && !err.contains("narrow"), "{err}");
    assert!(word != named);
    assert!(drawn("a cat, embedding:qualm", &folder).0 == named);
    // and one of another width is an error by its name, where a prompt has it
    draw("a cat, narrow", &folder).refused(2, &["narrow"]);
    // and a family that takes none says so
    tiny.txt2img(&folder).refused(2, &["prompt.embeddings", "Flux takes no textual inversions"]);
}

fn reference(case: &str) -> Golden {
    Golden::open(&format!("{case}/expected.safetensors"))
}
