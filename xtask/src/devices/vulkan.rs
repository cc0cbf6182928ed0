//! `cargo xtask devices --vulkan`: what a build with `vulkan` computes on Mesa's software driver, and what it does where calls of the driver
//! fail, which a layer between it and the loader sees to (`bench/gpu/fault_layer.c`). It counts what the driver gives of memory, too: under
//! a ceiling that is no more than the ceiling and a twentieth.
//!
//! A run with a fault ends with an error that is the card's and comes with what to do, no panic is behind it, and nothing is written; or
//! it draws the picture that it draws without the fault. How far models on it are from the CPU is told by `crates/cli/tests/vulkan.rs`.

use std::{collections::BTreeMap, error::Error, fs, path::PathBuf, process::Command};

use serde::Deserialize;

use super::{
    faults::{OUT_OF_MEMORY, complaint, other_than_the_second_picture, positions},
    machine::{self, Asked, Ran},
    memory, zeros,
};
use crate::{Done, root};

/// Fewer faults than this say too little.
const LEAST: usize = 50;

/// VkResult's: out of the host's memory, out of the card's, a lost device, a driver that can't be set up.
const HOST: i32 = -1;
const CARD: i32 = -2;
const UNSET: i32 = -3;
const LOST: i32 = -4;

/// What functions answer, by the ends of their names, as Vulkan's specification has it.
const ANSWERS: [(&str, &[i32]); 12] = [
    ("CreateDevice", &[UNSET, CARD, LOST, HOST]),
    ("AllocateMemory", &[CARD]),
    ("CreateBuffer", &[CARD, HOST]),
    ("Memory", &[CARD, HOST]),
    ("Pipelines", &[CARD, HOST]),
    ("ShaderModule", &[HOST]),
    ("Submit", &[LOST, CARD, LOST, HOST]),
    ("Submit2", &[LOST, CARD, LOST, HOST]),
    ("Fences", &[LOST]),
    ("Semaphores", &[LOST]),
    ("CounterValue", &[LOST]),
    ("", &[CARD, HOST]),
];

/// A run that touches a whole model.
const RUN: [&str; 9] = [
    "txt2img",
    "--config",
    "fixtures/golden/tiny-dev/case.toml",
    "--backend",
    "vulkan:software",
    "--steps",
    "2",
    "--output",
    "{out}/picture.png",
];

/// The program, the layer, and a folder for what is written.
struct Layered {
    forge: PathBuf,
    folder: PathBuf,
}

/// Checks the program `forge`; what it needs is made in `folder`.
pub(super) fn run(forge: PathBuf, folder: PathBuf) -> Done {
    let machine = Layered::built(forge, folder)?;
    let checked = machine.ran(&[], &["devices", "--check"])?;
    println!("{}", checked.told.trim_end());
    if checked.code != Some(0) || !checked.told.contains("vulkan:software") {
        return Err(format!("`forge devices --check` ended with {:?}", checked.code).into());
    }
    let whole = machine.ran(&[], &RUN)?;
    let (Some(0), [drawn]) = (whole.code, &whole.files[..]) else {
        return Err(format!("a run without a fault ended with {:?}:\n{}", whole.code, whole.told).into());
    };
    let picture = fs::read(drawn)?;
    let (mut wrong, mut came) = (Vec::new(), 0);
    for (function, &calls) in &whole.asked.of {
        let (_, answers) = ANSWERS.iter().find(|(end, _)| function.ends_with(end)).expect("every name ends in nothing");
        for (call, &answer) in positions(calls).into_iter().zip(answers.iter().cycle()) {
            let ran = machine.ran(&of_call(function, call, answer), &RUN)?;
            let judgement = judged(&ran, answer, &picture)?;
            came += usize::from(ran.told.contains(TOLD));
            let told = judgement.as_ref().unwrap_or_else(|told| told);
            println!("{function}, call {call} of {calls}, answers {answer}: {told}");
            wrong.extend(judgement.err().map(|told| format!("{function}, call {call}, answers {answer}: {told}")));
        }
    }
    if came < LEAST {
        return Err(format!("{came} faults are too few: {LEAST} are asked for").into());
    }
    wrong.extend(goes_on(&machine, &picture)?);
    println!("{came} faults of the driver, {} of them told wrongly", wrong.len());
    wrong.extend(under_ceilings(&machine)?);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// What the layer writes when it lets a call fail.
const TOLD: &str = "fault layer: ";

impl Layered {
    /// Compiles the layer, and describes it to the loader.
    fn built(forge: PathBuf, folder: PathBuf) -> Result<Self, Box<dyn Error>> {
        if !forge.is_file() {
            let build = "cargo build --release --package forge-cli --features vulkan";
            return Err(
                format!("`{}` is not there; `{build}` makes it, `--forge` names another", forge.display()).into()
            );
        }
        fs::create_dir_all(&folder)?;
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]);
        cc.arg(folder.join("libfault_layer.so")).arg(root().join("bench/gpu/fault_layer.c"));
        let status = cc.status().map_err(|error| format!("cannot start `cc`: {error}"))?;
        if !status.success() {
            return Err(
                "`cc` can't compile the layer; it takes Khronos's headers, which Debian has in libvulkan-dev".into()
            );
        }
        let layer = serde_json::json!({
            "file_format_version": "1.2.0",
            "layer": {
                "name": "VK_LAYER_FORGE_fault", "type": "GLOBAL", "library_path": "./libfault_layer.so",
                "api_version": "1.3.0", "implementation_version": "1", "description": "lets calls fail",
            },
        });
        fs::write(folder.join("fault_layer.json"), layer.to_string())?;
        Ok(Self { forge, folder })
    }

    /// Runs the program under the layer with its settings, on a machine whose only adapter is Mesa's, with a folder for pictures that is
    /// empty before: `{out}` in `args`.
    fn ran(&self, settings: &[(&str, String)], args: &[&str]) -> Result<Ran, Box<dyn Error>> {
        let of = |counts: &str| {
            let Counted { of, peak } = serde_json::from_str(counts)?;
            Ok(Asked { of, peak, ..Asked::default() })
        };
        machine::ran(&self.forge, &self.folder, args, of, |command, counts| {
            command.env("VK_LOADER_DRIVERS_SELECT", "*lvp*").env("XDG_CACHE_HOME", "");
            command.env("VK_LAYER_PATH", &self.folder).env("VK_INSTANCE_LAYERS", "VK_LAYER_FORGE_fault");
            command.env("FAULT_LAYER_COUNTS", counts).envs(settings.iter().map(|(name, value)| (name, value)));
        })
    }
}

/// What the layer counts.
#[derive(Deserialize)]
struct Counted {
    of: BTreeMap<String, u64>,
    peak: u64,
}

/// The settings of a fault. Of a loss at every other place the driver tells that one time.
fn of_call(function: &str, call: u64, answer: i32) -> [(&'static str, String); 4] {
    [
        ("FAULT_LAYER_ONLY", function.to_owned()),
        ("FAULT_LAYER_FAIL", call.to_string()),
        ("FAULT_LAYER_CODE", answer.to_string()),
        ("FAULT_LAYER_ONCE", (call % 2).to_string()),
    ]
}

/// How a run ended as it may, or what is wrong with that.
fn judged(ran: &Ran, answer: i32, picture: &[u8]) -> Result<Result<String, String>, Box<dyn Error>> {
    let is_right = match &ran.files[..] {
        [file] if ran.code == Some(0) => fs::read(file)? == picture,
        _ => false,
    };
    Ok(match (ran.told.contains(TOLD), is_right) {
        (true, true) => Ok("the same picture".to_owned()),
        (false, true) => Ok("it never came".to_owned()),
        // A driver that can't be set up for lack of memory is one that can't be used.
        (_, false) if ran.told.contains("vkCreateDevice") => {
            complaint(ran, LOST).map_or(Ok("an error".to_owned()), Err)
        }
        // Where it is not a buffer that gets no memory, wgpu gives the device up as lost.
        (_, false) if [HOST, CARD].contains(&answer) && complaint(ran, LOST).is_none() => Ok("an error".to_owned()),
        (_, false) => {
            let answer = if [HOST, CARD].contains(&answer) { OUT_OF_MEMORY } else { answer };
            complaint(ran, answer).map_or(Ok("an error".to_owned()), Err)
        }
    })
}

/// After a picture that a card's memory does not hold, the same process draws the next one.
fn goes_on(machine: &Layered, drawn: &[u8]) -> Result<Option<String>, Box<dyn Error>> {
    let pictures = machine.folder.join("pictures");
    let _ = fs::remove_dir_all(&pictures);
    fs::create_dir_all(&pictures)?;
    for name in ["a.png", "b.png"] {
        fs::write(pictures.join(name), drawn)?;
    }
    let pictures = pictures.display().to_string();
    let own = ["batch", &pictures, "--output", "{out}"];
    let batch: Vec<_> = own.into_iter().chain(RUN[1..7].iter().copied()).collect();
    let whole = machine.ran(&[], &batch)?;
    let calls = whole.asked.of.get("vkAllocateMemory").copied().unwrap_or_default();
    // The first that work asks for behind what is loaded.
    let call = positions(calls).into_iter().nth(2).unwrap_or(1);
    let ran = machine.ran(&of_call("vkAllocateMemory", call, CARD), &batch)?;
    let fault = format!("out of memory in the first of two pictures, allocation {call} of {calls}");
    Ok(other_than_the_second_picture(&fault, &ran))
}

/// Ceilings that are passed, where a Flux of the real width has the card to itself and where most of it has no room there. Its picture is
/// small, as a processor plays the card.
fn under_ceilings(machine: &Layered) -> Result<Vec<String>, Box<dyn Error>> {
    let file = machine.folder.join(memory::Stored::Bf16.name());
    zeros::write(&memory::shapes()?, &file)?;
    let wide = file.display().to_string();
    let run = ["--config", "flux.toml", "--transformer", &wide, "--backend", "vulkan:software", "--compute", "f16"];
    let run = [&run[..], &["--width", "64", "--height", "64"]].concat();
    let planned = machine.ran(&[], &[&["plan", "--json"], &run[..]].concat())?;
    let all = memory::planned_bytes(&memory::read_plan(&planned.told)?)?;
    let mut wrong = Vec::new();
    for share in SHARES {
        let ceiling = all / 100 * share;
        let of_card = format!("{} MiB", ceiling.div_ceil(1 << 20));
        let ceilinged = ["--memory", &of_card, "--steps", "1", "--output", "{out}/x.png"];
        let ran = machine.ran(&[], &[&["txt2img"], &run[..], &ceilinged].concat())?;
        let told = format!("{share} % of what it takes, {of_card}: {} MiB taken", ran.asked.peak >> 20);
        println!("{told}");
        match ran.code {
            Some(0) if (ceiling / 2..=ceiling / 100 * (100 + memory::ABOVE)).contains(&ran.asked.peak) => {}
            Some(0) => wrong.push(told),
            code => wrong.push(format!("{told}, ended with {code:?}: {}", ran.told)),
        }
    }
    Ok(wrong)
}

/// Ceilings as shares of what a run takes with all of the model on the card, in hundredths.
const SHARES: [u64; 3] = [100, 50, 25];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_about_memory_has_the_code_of_memory_or_of_a_failure_and_a_panic_is_a_complaint() {
        let ran = |code, told: &str| Ran {
            code: Some(code),
            told: told.to_owned(),
            asked: Asked::default(),
            files: Vec::new(),
        };
        let judged = |code, told, answer| judged(&ran(code, told), answer, b"").unwrap();
        let said = "fault layer: x\nerror: full\n  hint: less";
        assert!(judged(3, said, CARD).is_ok() && judged(3, said, HOST).is_ok() && judged(1, said, LOST).is_ok());
        assert!(judged(1, said, CARD).is_ok() && judged(3, said, LOST).is_err() && judged(2, said, CARD).is_err());
        assert!(judged(1, "fault layer: x\nerror: this is a bug in forge\n  hint: report it", LOST).is_err());
        assert!(judged(1, "fault layer: x\nerror: lost", LOST).is_err());
        // without a device there is nothing whose memory could be full
        assert!(judged(1, "fault layer: vkCreateDevice, call 1\nerror: no\n  hint: look", CARD).is_ok());
    }
}
