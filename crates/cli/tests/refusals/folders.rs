//! Folders of shards.

use std::fs;

use crate::{
    refuse,
    tiny::{Tensors, Tiny, golden},
};

#[test]
fn a_folder_with_a_shard_missing_or_twice_is_rejected() {
    let tiny = Tiny::of("tiny-dev");
    let part = golden("tiny-diffusers/transformer");
    let copy = |name: &str, to: &str| {
        tiny.write(&format!("t/{to}"), fs::read(part.join(name)).unwrap());
    };
    let [first, second] = ["1", "2"].map(|i| format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors"));
    for (present, absent) in [(&first, &second), (&second, &first)] {
        copy(present, present);
        let _ = fs::remove_file(tiny.path("t").join(absent));
        refuse(&tiny, &["--transformer", "t"], 4, &["cannot load `t`"]);
    }
    copy(&first, &first);
    copy("config.json", "config.json");
    copy(&first, "diffusion_pytorch_model-00001-of-00001.safetensors");
    refuse(&tiny, &["--transformer", "t"], 4, &["cannot load `t`"]);
}

#[test]
fn a_folder_whose_config_counts_other_blocks_is_rejected() {
    // given a folder in which the last block's tensors are in no shard
    let tiny = Tiny::of("tiny-dev");
    let part = golden("tiny-diffusers/transformer");
    for i in ["1", "2"] {
        let name = format!("diffusion_pytorch_model-0000{i}-of-00002.safetensors");
        let shard = Tensors::of(&part.join(&name)).without(|n| n.starts_with("single_transformer_blocks.1."));
        tiny.write(&format!("t/{name}"), shard.bytes());
    }
    tiny.write("t/config.json", fs::read(part.join("config.json")).unwrap());
    // when it is drawn with, then it is rejected
    refuse(&tiny, &["--transformer", "t"], 4, &["cannot load `t`"]);
}
