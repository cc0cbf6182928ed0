//! Faults of a card, one in each run: the run ends with an error that is the card's and comes with what to do, no panic is behind it, and
//! nothing is written; or it draws the picture that it draws without the fault.

use std::{collections::BTreeSet, error::Error, fs, path::Path};

use super::machine::{Machine, Ran};
use crate::Done;

/// Fewer faults than this say too little.
const LEAST: usize = 50;

/// How often in a run a function fails, from its first call to its last.
const SPREAD: u64 = 5;

/// What functions answer, by the beginnings of their names. `CUresult` of the driver's API:
/// 1 invalid value, 2 out of memory, 209 no binary for this card, 218 invalid PTX, 500 not found, 700 illegal address, 701 too many
/// resources, 709 the context is gone, 710 an assertion, 719 a launch that failed, 999 unknown, 46 the card is unavailable, 214 an
/// uncorrectable error of its memory. Behind 214, 700, 709, 710 and 719 all that follows fails.
const ANSWERS: [(&str, &[i32]); 9] = [
    ("cuMemAlloc", &[OUT_OF_MEMORY]),
    ("cuMemHostAlloc", &[OUT_OF_MEMORY]),
    ("cuModuleLoadData", &[209, 218, OUT_OF_MEMORY, 218, 700]),
    ("cuModuleGetFunction", &[500]),
    ("cuLaunchKernel", &[719, 1, 701, OUT_OF_MEMORY, 1]),
    ("cuMemcpy", &[1, 719, 214, 999, 1]),
    ("cuMemset", &[1]),
    ("cuStream", &[719, 1, 709, 46]),
    ("cu", &[710, 999, 700]),
];

pub(super) const OUT_OF_MEMORY: i32 = 2;

/// A run of the demo model that touches all of it.
const RUN: [&str; 15] = [
    "txt2img",
    "--config",
    "flux.toml",
    "--backend",
    "cuda:0",
    "--steps",
    "2",
    "--width",
    "64",
    "--height",
    "64",
    "--seed",
    "7",
    "--output",
    "{out}/picture.png",
];

/// A call that fails, counted from 1.
#[derive(Debug)]
struct Fault {
    function: String,
    call: u64,
    answer: i32,
}

/// How a run with a fault ended, as it may.
#[derive(Debug, PartialEq)]
enum Ended {
    /// With an error, and nothing written.
    Error,
    /// With the picture of a run without it.
    SamePicture,
    /// There were not as many calls: how often streams wait for each other depends on which threads were free.
    NeverCame,
}

/// How it ended, or what is wrong with that.
type Judgement = Result<Ended, String>;

pub(super) fn run(machine: &Machine) -> Done {
    let cache = machine.cache("90");
    // Once more than the cache needs: what is counted is a run that compiles nothing.
    machine.done(&cache, &[], &RUN)?;
    let whole = machine.done(&cache, &[], &RUN)?;
    if whole.files.len() != 1 {
        return Err(format!("a run without a fault left {:?}", whole.files).into());
    }
    let drawn = machine.folder().join("drawn.png");
    fs::copy(&whole.files[0], &drawn)?;
    let picture = fs::read(&drawn)?;
    let again = machine.done(&cache, &[], &RUN)?;
    if fs::read(&again.files[0])? != picture {
        return Err("two runs without a fault draw two pictures, so that none can be told from one with a fault".into());
    }
    let faults: Vec<Fault> = whole.asked.of.iter().flat_map(|(function, &calls)| spread(function, calls)).collect();
    let (mut wrong, mut came) = (Vec::new(), 0);
    for fault in &faults {
        let ended = ended(machine, &cache, fault, &picture)?;
        let Fault { function, call, answer } = fault;
        came += usize::from(ended != Ok(Ended::NeverCame));
        let told = match &ended {
            Ok(Ended::Error) => "an error",
            Ok(Ended::SamePicture) => "the same picture",
            Ok(Ended::NeverCame) => "it never came",
            Err(complaint) => complaint,
        };
        println!("{function}, call {call} of {}, answers {answer}: {told}", whole.asked.of[function]);
        wrong.extend(ended.err().map(|complaint| format!("{function}, call {call}, answers {answer}: {complaint}")));
    }
    if came < LEAST {
        return Err(format!("{came} faults are too few: {LEAST} are asked for").into());
    }
    for answer in positions(whole.asked.answers) {
        let ran = machine.run(&cache, &[("FAKE_CUDA_NAN", answer.to_string())], &RUN)?;
        println!("no number at answer {answer} of {}: exit code {:?}", whole.asked.answers, ran.code);
        let is_right = ran.code == Some(1) && ran.files.is_empty() && ran.told.contains("not a number");
        wrong.extend(
            (!is_right)
                .then(|| format!("no number at answer {answer}: {:?}, left {:?}: {}", ran.code, ran.files, ran.told)),
        );
    }
    wrong.extend(checked(machine)?);
    wrong.extend(broken_headers(machine)?);
    wrong.extend(goes_on(machine, &drawn)?);
    println!("{came} faults of the driver, {} of them told wrongly", wrong.len());
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// How a run with a fault ended, or what is wrong with that.
fn ended(machine: &Machine, cache: &Path, fault: &Fault, picture: &[u8]) -> Result<Judgement, Box<dyn Error>> {
    let Fault { function, call, answer } = fault;
    let once = of_call(function, *call, *answer);
    let for_good = [&once[..], &for_good()].concat();
    let run = |settings: &[_]| judged(&machine.run(cache, settings, &RUN)?, *answer, picture);
    Ok(match function.as_str() {
        // Memory that the system pages does as well.
        "cuMemAllocHost_v2" | "cuMemHostAlloc" => run(&for_good)?,
        // CubeCL frees what nobody uses, and asks again.
        "cuMemAlloc_v2" | "cuMemAllocAsync" => match run(&once)? {
            Ok(Ended::Error) => Err("it did not go on, though it got memory when it asked again".to_owned()),
            Ok(Ended::SamePicture) => match run(&for_good)? {
                Ok(Ended::SamePicture) => Err("it drew a picture without memory".to_owned()),
                ended => ended,
            },
            ended => ended,
        },
        _ => run(&once)?,
    })
}

/// What is to be said of a run with a fault, whose picture without it is known.
fn judged(ran: &Ran, answer: i32, picture: &[u8]) -> Result<Judgement, Box<dyn Error>> {
    let is_right = match &ran.files[..] {
        [file] if ran.code == Some(0) => fs::read(file)? == picture,
        _ => false,
    };
    Ok(match (ran.told.contains("fake driver: "), is_right) {
        (true, true) => Ok(Ended::SamePicture),
        (false, true) => Ok(Ended::NeverCame),
        (_, false) => complaint(ran, answer).map_or(Ok(Ended::Error), Err),
    })
}

/// Calls of a function from the first to the last, each with an answer of its own.
fn spread(function: &str, calls: u64) -> Vec<Fault> {
    let (_, answers) = ANSWERS.iter().find(|(start, _)| function.starts_with(start)).expect("`cu` begins every name");
    let pairs = positions(calls).into_iter().zip(answers.iter().cycle());
    pairs.map(|(call, &answer)| Fault { function: function.to_owned(), call, answer }).collect()
}

/// The first of so many, the last and some between.
pub(super) fn positions(of: u64) -> BTreeSet<u64> {
    (0..SPREAD).map(|i| 1 + i * of.saturating_sub(1) / (SPREAD - 1)).collect()
}

/// `forge devices --check` on a card that fails: it says so, and does not call the card's results wrong.
fn checked(machine: &Machine) -> Result<Vec<String>, Box<dyn Error>> {
    let (cache, check) = (machine.cache("90"), ["devices", "--check"]);
    let launches = machine.run(&cache, &[], &check)?.asked.of.get("cuLaunchKernel").copied().unwrap_or_default();
    let mut wrong = Vec::new();
    for (call, answer) in positions(launches).into_iter().zip([719, 700, OUT_OF_MEMORY].into_iter().cycle()) {
        let settings = of_call("cuLaunchKernel", call, answer);
        let ran = machine.run(&cache, &settings, &check)?;
        println!("`forge devices --check`, launch {call} of {launches}: {answer}: exit code {:?}", ran.code);
        let complaint = complaint(&ran, answer);
        let complaint = complaint.or_else(|| ran.told.contains("computed wrongly").then(|| ran.told.clone()));
        wrong.extend(complaint.map(|complaint| format!("`forge devices --check`, launch {call}: {complaint}")));
    }
    Ok(wrong)
}

/// The settings of a fault.
fn of_call(function: &str, call: u64, answer: i32) -> [(&'static str, String); 3] {
    [
        ("FAKE_CUDA_ONLY", function.to_owned()),
        ("FAKE_CUDA_FAIL", call.to_string()),
        ("FAKE_CUDA_CODE", answer.to_string()),
    ]
}

/// All calls from the first that fails on.
fn for_good() -> [(&'static str, String); 1] {
    [("FAKE_CUDA_TIMES", u32::MAX.to_string())]
}

/// What is wrong with how a run told of a fault.
pub(super) fn complaint(ran: &Ran, answer: i32) -> Option<String> {
    let expected = if answer == OUT_OF_MEMORY { 3 } else { 1 };
    let told = &ran.told;
    if told.contains("bug in forge") || told.contains("panicked") {
        return Some(format!("a panic: {told}"));
    }
    if !ran.files.is_empty() {
        return Some(format!("it left {:?}, exit code {:?}: {told}", ran.files, ran.code));
    }
    if ran.code != Some(expected) {
        return Some(format!("the exit code is {:?} and not {expected}: {told}", ran.code));
    }
    (!told.contains("hint: ")).then(|| format!("there is no hint: {told}"))
}

/// A toolkit whose headers don't compile.
fn broken_headers(machine: &Machine) -> Result<Option<String>, Box<dyn Error>> {
    let folder = machine.folder().join("broken");
    fs::create_dir_all(folder.join("include"))?;
    for header in ["cuda_fp16.h", "cuda_bf16.h", "cuda_runtime.h"] {
        fs::write(folder.join("include").join(header), "#error broken\n")?;
    }
    let cache = machine.cache("broken");
    let _ = fs::remove_dir_all(&cache);
    let ran = machine.run(&cache, &[("CUDA_PATH", folder.display().to_string())], &RUN)?;
    println!("headers that don't compile: exit code {:?}", ran.code);
    Ok(complaint(&ran, 0).map(|complaint| format!("headers that don't compile: {complaint}")))
}

/// After a picture that a card's memory does not hold, the same process draws the next one.
fn goes_on(machine: &Machine, drawn: &Path) -> Result<Option<String>, Box<dyn Error>> {
    let pictures = machine.folder().join("pictures");
    let _ = fs::remove_dir_all(&pictures);
    fs::create_dir_all(&pictures)?;
    for name in ["a.png", "b.png"] {
        fs::copy(drawn, pictures.join(name))?;
    }
    let pictures = pictures.display().to_string();
    let batch =
        ["batch", &pictures, "--config", "flux.toml", "--backend", "cuda:0", "--steps", "3", "--output", "{out}"];
    let cache = machine.cache("90");
    let whole = machine.done(&cache, &[], &batch)?;
    let calls = whole.asked.of.get("cuLaunchKernel").copied().unwrap_or_default();
    // In the first of the two pictures, behind what is loaded.
    let ran = machine.run(&cache, &of_call("cuLaunchKernel", calls / 3, OUT_OF_MEMORY), &batch)?;
    Ok(other_than_the_second_picture("out of memory in the first of two pictures", &ran))
}

/// Tells of a batch whose first of two pictures got no memory, and what is wrong with it: the second has to be drawn, and it alone.
pub(super) fn other_than_the_second_picture(fault: &str, ran: &Ran) -> Option<String> {
    let names: Vec<_> = ran.files.iter().filter_map(|file| file.file_name()).collect();
    println!("{fault}: exit code {:?}, left {names:?}", ran.code);
    let is_right = ran.code == Some(1) && names == ["b.png"] && !ran.told.contains("bug in forge");
    (!is_right).then(|| {
        format!("after a picture without memory, {names:?} were drawn, exit code {:?}: {}", ran.code, ran.told)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_and_the_last_fail_and_some_between() {
        let at = |calls| spread("cuLaunchKernel", calls).iter().map(|fault| fault.call).collect::<Vec<_>>();
        assert_eq!(at(1), [1]);
        assert_eq!(at(2), [1, 2]);
        assert_eq!(at(1000), [1, 250, 500, 750, 1000]);
    }

    #[test]
    fn a_picture_is_right_where_it_is_the_one_without_a_fault() {
        let folder = std::env::temp_dir().join(format!("forge-faults-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("picture.png");
        fs::write(&file, "right").unwrap();
        let ran = |code, told: &str| Ran {
            code: Some(code),
            told: told.to_owned(),
            asked: super::super::machine::Asked::default(),
            files: vec![file.clone()],
        };
        let judged = |code, told, picture: &str| judged(&ran(code, told), 700, picture.as_bytes()).unwrap();
        assert_eq!(judged(0, "fake driver: cuX answers 700", "right"), Ok(Ended::SamePicture));
        assert_eq!(judged(0, "", "right"), Ok(Ended::NeverCame));
        assert!(judged(0, "fake driver: cuX answers 700", "another").is_err());
        assert!(judged(1, "fake driver: cuX answers 700", "right").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_panic_a_file_another_code_and_a_missing_hint_are_complaints() {
        let ran = |code, told: &str, files: &[&str]| Ran {
            code: Some(code),
            told: told.to_owned(),
            asked: super::super::machine::Asked::default(),
            files: files.iter().map(Into::into).collect(),
        };
        assert_eq!(complaint(&ran(1, "error: lost\n  hint: again", &[]), 719), None);
        assert_eq!(complaint(&ran(3, "error: full\n  hint: less", &[]), OUT_OF_MEMORY), None);
        for (ran, answer) in [
            (ran(1, "error: this is a bug in forge: x\n  hint: report it", &[]), 719),
            (ran(1, "error: lost\n  hint: again", &["picture.png"]), 719),
            (ran(0, "hint: none", &[]), 719),
            (ran(1, "error: full\n  hint: less", &[]), OUT_OF_MEMORY),
            (ran(1, "error: lost", &[]), 719),
        ] {
            assert!(complaint(&ran, answer).is_some(), "{ran:?}");
        }
    }
}
