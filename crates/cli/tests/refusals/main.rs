//! Files, configs and flags that are wrong: one error, its exit code, and no picture.

mod bytes;
mod config;
mod folders;
mod model_configs;
mod models;
mod outputs;
mod pictures;
#[path = "../tiny/mod.rs"]
mod tiny;
mod values;

use std::path::PathBuf;

use crate::tiny::{Ran, Tiny};

/// Runs `forge txt2img` on what must be refused.
fn refuse(tiny: &Tiny, args: &[&str], code: i32, words: &[&str]) -> Ran {
    let ran = tiny.txt2img(args).refused(code, words);
    assert_eq!(tiny.drawn(), Vec::<PathBuf>::new(), "{ran:?}");
    ran
}

#[test]
fn the_error_of_every_kind_has_its_documented_exit_code() {
    let tiny = Tiny::quick();
    let codes = [
        (tiny.txt2img(&[]).code, 0),
        (tiny.txt2img(&["--output", "/dev/null/a.png"]).code, 1),
        (tiny.txt2img(&["--steps", "0"]).code, 2),
        (tiny.txt2img(&["--memory", "0"]).code, 3),
        (tiny.txt2img(&["--vae", "/dev/null"]).code, 4),
    ];
    for (found, expected) in codes {
        assert_eq!(found, Some(expected));
    }
    // and help names them
    let help = tiny.forge(&["--help"]).done().out;
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let documented = "Exit codes: 0 done, 1 the run failed, 2 usage or config, 3 not enough memory, 4 model file rejected, \
                      5 a picture drawn again is another, 130 interrupted.";
    assert!(words.contains(documented), "{words}");
}
