//! Model files changed at random, in the process itself: an error or a picture, never a panic.

mod tiny;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use forge::{Config, Forge, Txt2Img};

use crate::tiny::{Dice, Entry, ROLES, Tensors, Tiny, split};

/// One at a time: the hook that keeps panics quiet belongs to the whole process.
static QUIET: Mutex<()> = Mutex::new(());

#[test]
fn no_change_of_a_headers_bytes_makes_the_library_panic() {
    let mut counts = Vec::new();
    for (role, mutations) in [("transformer", 3000), ("clip", 500), ("t5", 500), ("vae", 500)] {
        // given a model file, without the half that is not read
        let tiny = Tiny::quick();
        let file = Tensors::of(&tiny.role(role)).without(|name| role == "vae" && name.starts_with("encoder."));
        let (header, data) = split(&file.bytes());
        let trial = Trial::of(tiny, role);
        let mut dice = Dice(1);
        let mut drawn = 0;
        for _ in 0..mutations {
            // when some bytes of its header are changed
            let mut mutated = header.clone().into_bytes();
            for _ in 0..1 + dice.roll(3) {
                let at = dice.roll(mutated.len());
                mutated[at] = match dice.roll(4) {
                    0 => dice.roll(256) as u8,
                    1 => b"0123456789,:[]{}\"\\ eE-."[dice.roll(23)],
                    2 => mutated[dice.roll(header.len())],
                    _ => b"0123456789"[dice.roll(10)],
                }
            }
            // then it draws a picture, or is refused
            drawn += usize::from(trial.draws(&mutated, data.len(), &String::from_utf8_lossy(&mutated)));
        }
        counts.push((role, drawn, mutations));
    }
    println!("files that drew a picture: {counts:?}");
    assert!(
        counts.iter().any(|(_, drawn, _)| *drawn > 0) && counts.iter().all(|(_, drawn, of)| drawn < of),
        "{counts:?}"
    );
}

#[test]
fn no_other_shape_of_a_tensor_makes_the_library_panic() {
    for role in ROLES {
        // given a model in which one tensor after the other has fewer rows, more rows, or is turned
        let tiny = Tiny::quick();
        let whole = Tensors::of(&tiny.role(role)).without(|name| role == "vae" && name.starts_with("encoder."));
        let trial = Trial::of(tiny, role);
        for Entry { name, dtype, shape, .. } in &whole.0 {
            let rows = |rows: u64| [&[rows], &shape[1..]].concat();
            let turned = shape.iter().rev().copied().collect();
            let others = [rows(shape[0] / 2), rows(shape[0] + 1), rows(1), turned];
            for shape in others.into_iter().filter(|other| other != shape) {
                let (header, data) = split(&whole.clone().zeros(name, dtype, &shape).bytes());
                // when it is loaded, then it draws a picture, or is refused
                trial.draws(header.as_bytes(), data.len(), &format!("{name} {shape:?}"));
            }
        }
    }
}

/// A model of which one file is on trial.
struct Trial {
    tiny: Tiny,
    config: Config,
}

impl Trial {
    fn of(tiny: Tiny, role: &str) -> Self {
        let tiny = tiny.set("device", "memory", "192 MiB").set("prompt", "t5_length", 2);
        let model = tiny.path("m.safetensors");
        let tiny = tiny.with(role, &model);
        Self { config: tiny.config(), tiny }
    }

    /// Whether a file of this header, and zeros, draws a picture; errors are welcome, panics and long waits are not.
    fn draws(&self, header: &[u8], data: usize, what: &str) -> bool {
        let _one = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
        let model = self.tiny.path("m.safetensors");
        // The zeros are a hole in the file, which costs no time to write.
        fs::write(&model, [&(header.len() as u64).to_le_bytes(), header].concat()).expect("files can be written here");
        let file = fs::OpenOptions::new().write(true).open(&model).expect("it was just written");
        file.set_len((8 + header.len() + data) as u64).expect("a hole takes no room");
        let request: Txt2Img = self.config.request(|| 0).expect("a good request");
        let start = Instant::now();
        let hook = take_hook();
        set_hook(Box::new(|_| {}));
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            if !forge::inspect(&model).is_ok_and(|found| found.missing.is_empty()) {
                return false;
            }
            let Ok(forge) = Forge::load(&self.config) else { return false };
            let Ok(mut run) = forge.txt2img(request) else { return false };
            run.all(|step| step.is_ok()) && run.images().is_ok()
        }));
        set_hook(hook);
        assert!(start.elapsed() < Duration::from_secs(10), "slow: {what}");
        drawn.unwrap_or_else(|_| panic!("panicked: {what}"))
    }
}
