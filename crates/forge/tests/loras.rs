//! LoRAs of a Flux in miniature: asked for by prompts and configs, taken out again, and refused.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{fs, path::Path, sync::Arc};

use core_tensor::{WeightSource, safetensors::Safetensors, values};
use forge::{
    ComputeChoice, Config, Error, Fault, Forge, Job, LoraConfig, Run, Size, Txt2Img, lora,
    memory::{Bytes, Plan},
};
use tempfile::TempDir;

/// A folder with LoRAs of the tiny Flux and of the tiny Stable Diffusion.
fn loras() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("flux.lora", "style"), ("flux.dora", "more/dora"), ("sd1.lora", "other")] {
        let to = folder.path().join(format!("{to}.safetensors"));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(fixtures::path(&format!("golden/lora/{from}.safetensors")), to).unwrap();
    }
    folder
}

/// `tiny-dev`, which computes in f32 as its goldens do.
fn config(folder: &Path) -> Config {
    let mut config = Config::read(&fixtures::path("golden/tiny-dev/case.toml")).unwrap();
    config.device.compute = ComputeChoice::F32;
    config.prompt.loras = Some(folder.to_owned());
    config
}

fn request(config: &Config, prompt: &str) -> Txt2Img {
    let mut config = config.clone();
    config.prompt.positive = prompt.to_owned();
    let request = config.request(|| 0).unwrap().steps(2).size(Size { width: 32, height: 32 });
    Txt2Img { batch: 1, ..request }.with(|pass| pass.cfg = 1.0.into())
}

fn drawn(mut run: Run) -> (Vec<f32>, String) {
    run.by_ref().try_for_each(|event| event.map(drop)).unwrap();
    (values(&run.pixels().unwrap()), run.image().unwrap().infotext)
}

#[test]
fn a_lora_counts_while_a_prompt_names_it_and_leaves_no_trace() {
    let folder = loras();
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let draw = |prompt: &str| drawn(forge.txt2img(request(&config, prompt)).unwrap());
    // given a picture without, and with
    let (alone, text) = draw("a cat");
    assert!(!text.contains("Lora hashes"), "{text}");
    let (styled, text) = draw("a cat <lora:style:1>");
    assert_ne!(alone, styled);
    assert!(text.starts_with("a cat <lora:style:1>\n"), "{text}");
    let hashes = text.split("Lora hashes: ").nth(1).unwrap_or_else(|| panic!("{text}"));
    let digits = hashes.strip_prefix("\"style: ").and_then(|rest| rest.get(..12)).unwrap_or_else(|| panic!("{text}"));
    assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()), "{digits}");
    // then order does not matter, no strength is no LoRA, and another strength is another picture
    let both = draw("<lora:style:0.5> <lyco:dora:0.7> a cat").0;
    assert_eq!(draw("<lora:more/dora:0.7> a <lora:Style:0.5>cat").0, draw("<lyco:dora:0.7> a <lora:style:0.5>cat").0);
    assert_ne!(both, styled);
    assert_eq!(draw("a cat <lora:style:0>").0, alone);
    assert_ne!(draw("a cat <lora:style:-1>").0, styled);
    // and blocks and steps are a choice
    assert_eq!(draw("a cat <lora:style:1:lbw=NONE>").0, alone);
    assert_eq!(draw("a cat <lora:style:1:start=3>").0, alone);
    assert_eq!(draw("a cat <lora:style:1:step=1-2>").0, styled);
    let [first, last] = ["a cat <lora:style:1:stop=1>", "a cat <lora:style:1:start=2>"].map(|prompt| draw(prompt).0);
    assert!(first != styled && last != styled && first != last);
    assert_ne!(draw("a cat <lora:style:1:lbw=single_blocks=0>").0, styled);
    // and after all of that the pictures are what they were
    for _ in 0..5 {
        assert_eq!(draw("a cat").0, alone);
        assert_eq!(draw("a cat <lora:style:1>").0, styled);
    }
}

#[test]
fn a_hundred_changes_of_loras_leave_the_model_where_it_is_and_the_pictures_what_they_were() {
    let folder = loras();
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let stacks = [
        "a cat",
        "a cat <lora:style:1>",
        "a cat <lora:dora:-0.7>",
        "<lora:style:0.5> a cat <lora:dora:1>",
        "a cat <lora:dora:1:lbw=double_blocks=0> <lora:style:0.5>",
    ];
    let request = |prompt: &str| request(&config, prompt).steps(1);
    let model = |prompt: &str| forge.model(&Job::of(request(prompt)).unwrap()).unwrap();
    let draw = |prompt: &str| drawn(forge.txt2img(request(prompt)).unwrap()).0;
    let loaded = model("a cat");
    let first = stacks.map(draw);
    assert!((0..5).all(|i| (0..i).all(|j| first[i] != first[j])));
    for i in 0..100 {
        let at = i * 7 % 5 * (i % 3 + 1) % 5;
        assert!(draw(stacks[at]) == first[at], "{} in turn {i}", stacks[at]);
    }
    assert!(stacks.iter().all(|stack| Arc::ptr_eq(&loaded, &model(stack))));
}

#[test]
fn a_plan_counts_the_words_that_are_encoded_also_where_a_lora_is_among_them() {
    let folder = loras();
    let mut config = config(folder.path());
    let job = |prompt: &str| Job::of(request(&config, prompt).steps(9)).unwrap();
    let (short, long) =
        ("a cat <lora:style:1>", "[a [cat|dog|fox|owl]:a house:0.5] in [red|blue|green] <lora:style:1>");
    let forge = Forge::load(&config).unwrap();
    let bytes = |plan: &Plan| plan.parts.iter().find(|(part, _)| part.name == "prompts").unwrap().0.mapped;
    let mut words = Vec::new();
    for prompt in [short, long] {
        // given a prompt with a LoRA, then its plan is its run's, and its words take what they take alone
        let plan = forge.plan(&job(prompt)).unwrap();
        assert_eq!(plan, *forge.start(job(prompt)).unwrap().memory().plan());
        let alone = forge.plan(&job(prompt.strip_suffix(" <lora:style:1>").unwrap())).unwrap();
        assert_eq!(bytes(&plan), bytes(&alone), "{prompt}");
        words.push(bytes(&plan));
    }
    assert!(words[1].0 > words[0].0, "{words:?}");
    // and of several jobs the one counts that takes the most, wherever it stands
    let needs = |config: &Config, jobs: &[Job]| match Forge::load(config).unwrap().plan_all(jobs) {
        Err(Error::Memory(forge::memory::Error::TooLittle { needed, .. })) => needed,
        other => panic!("{other:?}"),
    };
    let jobs = [job(short), job(long), job(short)];
    let largest = forge.plan(&jobs[1]).unwrap();
    assert_eq!(forge.plan_all(&jobs).unwrap()[0], largest);
    config.device.memory = Some(Bytes(1));
    assert_eq!(needs(&config, &jobs), needs(&config, &jobs[1..2]));
    assert_eq!(Forge::load(&config).unwrap().plan_all([]).unwrap(), []);
}

#[test]
fn a_lora_that_was_written_anew_is_read_anew() {
    let folder = loras();
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let draw = |prompt: &str| drawn(forge.txt2img(request(&config, prompt)).unwrap());
    let (dora, _) = draw("a cat <lora:dora:1>");
    let (style, text) = draw("a cat <lora:style:1>");
    assert_ne!(dora, style);
    fs::rename(folder.path().join("more/dora.safetensors"), folder.path().join("style.safetensors")).unwrap();
    let (again, new) = draw("a cat <lora:style:1>");
    assert_eq!(again, dora);
    let hashes = |text: &str| text.split("Lora hashes: ").nth(1).map(|hashes| hashes[..21].to_owned()).unwrap();
    assert_ne!(hashes(&new), hashes(&text));
}

/// Codes of `float8_e4m3fn` and what they stand for, as the paper of the format has it (Micikevicius et al. 2022).
const EIGHT_BITS: [(u8, f32); 5] =
    [(0x18, 0.0625), (0x28, 0.25), (0xa4, -0.1875), (0x01, 0.001953125), (0x9c, -0.09375)];

#[test]
fn a_lora_in_floats_of_eight_bits_draws_what_its_values_do() {
    let folder = loras();
    let style = Safetensors::open(&folder.path().join("style.safetensors")).unwrap();
    let write = |name: &str, format: &str, bytes: &dyn Fn(usize) -> Vec<u8>| {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (tensor, form) in style.manifest().iter() {
            let start = data.len();
            data.extend((0..form.shape.iter().product()).flat_map(bytes));
            let entry = serde_json::json!({"dtype": format, "shape": form.shape, "data_offsets": [start, data.len()]});
            header.insert(tensor.to_owned(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        fs::write(folder.path().join(name), file).unwrap();
    };
    write("eight.safetensors", "F8_E4M3", &|i| vec![EIGHT_BITS[i % 5].0]);
    write("whole.safetensors", "F32", &|i| EIGHT_BITS[i % 5].1.to_le_bytes().to_vec());
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let draw = |prompt: &str| drawn(forge.txt2img(request(&config, prompt)).unwrap()).0;
    let eight = draw("a cat <lora:eight:1>");
    assert!(eight == draw("a cat <lora:whole:1>") && eight != draw("a cat"));
}

/// A file of tensors with all that another has, under names that are made of its own, and no metadata.
fn renamed(from: &Path, to: &Path, named: impl Fn(&str) -> String) {
    let from = Safetensors::open(from).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (tensor, form) in from.manifest().iter() {
        let (start, stored) = (data.len(), from.read(tensor).unwrap());
        data.extend_from_slice(&stored.bytes_of(0..stored.byte_len()));
        let (format, end) = (stored.format().name(), data.len());
        let entry = serde_json::json!({"dtype": format, "shape": form.shape, "data_offsets": [start, end]});
        header.insert(named(tensor), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(to, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

/// The config that PEFT would write beside `style`.
fn config_of_style(folder: &Path) -> String {
    let metadata = forge::lora_metadata(&folder.join("style.safetensors")).unwrap();
    metadata["lora_adapter_metadata"].replace("transformer.", "")
}

#[test]
fn pefts_config_counts_beside_pefts_files_alone() {
    let folder = loras();
    let style = folder.path().join("style.safetensors");
    let json = config_of_style(folder.path());
    let pefts = |name: &str| name.replace("transformer.", "base_model.model.");
    // given files of PEFT's beside a config: by their names, also one that says another format than it has, and by those of the tensors
    for (name, json) in [
        ("safe/adapter_model.safetensors", Some(&json)),
        ("torch/adapter_model.bin", Some(&json)),
        ("mine/mine.safetensors", Some(&json)),
        // and such as have none, or lie beside another's
        ("lone/lone.safetensors", None),
        ("odd/odd.safetensors", Some(&json.replace("\"proj_mlp\": 5", "\"proj_mlp\": 6"))),
        // and such as lie beside one that can't be read, is of another method, or is longer than any is
        ("torn/torn.safetensors", Some(&json[1..].to_owned())),
        ("oft/oft.safetensors", Some(&r#"{"peft_type": "OFT", "r": 0}"#.to_owned())),
        ("long/long.safetensors", Some(&(json.clone() + &" ".repeat(1 << 20)))),
    ] {
        let path = folder.path().join(name);
        renamed(&style, &path, pefts);
        json.iter().for_each(|json| fs::write(path.with_file_name("adapter_config.json"), json).unwrap());
    }
    // and files of another program, without a config and beside PEFT's
    renamed(&style, &folder.path().join("bare/bare.safetensors"), str::to_owned);
    renamed(&style, &folder.path().join("mine/theirs.safetensors"), str::to_owned);
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let draw = |name: &str| drawn(forge.txt2img(request(&config, &format!("a cat <lora:{name}:1>"))).unwrap()).0;
    // then PEFT's are what the same LoRA is with the config in its metadata, and the others are what they are alone
    let (styled, bare) = (draw("style"), draw("bare"));
    assert_ne!(styled, bare);
    for name in ["safe/adapter_model", "torch/adapter_model", "mine"] {
        assert!(draw(name) == styled, "{name}");
    }
    for name in ["lone", "odd", "torn", "oft", "long", "theirs"] {
        assert!(draw(name) == bare, "{name}");
    }
    // and a config that was written anew is read anew
    let stronger = json.replace("\"lora_alpha\": 6", "\"lora_alpha\": 12.5");
    assert_ne!(stronger, json);
    fs::write(folder.path().join("safe/adapter_config.json"), stronger).unwrap();
    assert_ne!(draw("safe/adapter_model"), styled);
}

#[test]
fn what_can_not_be_read_of_pefts_is_refused_by_its_name() {
    let folder = loras();
    let style = folder.path().join("style.safetensors");
    let path = folder.path().join("pefts/adapter_model.safetensors");
    renamed(&style, &path, |name| name.replace("transformer.", "base_model.model."));
    renamed(&style, &folder.path().join("ia3.safetensors"), |name| {
        format!("base_model.model.{}.ia3_l", name.replace('.', "_"))
    });
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let refused = |name: &str| {
        let error = forge.txt2img(request(&config, &format!("a cat <lora:{name}:1>"))).err().unwrap();
        assert_eq!(error.fault(), Fault::Model, "{error}");
        match error {
            Error::Load { source, .. } => match *source {
                Error::Lora(error) => error,
                other => panic!("{other}"),
            },
            other => panic!("{other}"),
        }
    };
    let configured = |json: &str| {
        fs::write(path.with_file_name("adapter_config.json"), json).unwrap();
        refused("pefts/adapter_model")
    };
    let error = configured(r#"{"r": 3, "lora_alpha": 6, "alpha_pattern": {"(?<!add_)to_k": 1}}"#);
    assert!(
        matches!(&error, lora::Error::Pattern { key: "alpha_pattern", pattern, fault: lora::PatternFault::Unreadable { .. }, .. } if pattern == "(?<!add_)to_k"),
        "{error}"
    );
    assert!(matches!(configured(r#"{"r": 3, "lora_alpha": "six"}"#), lora::Error::Config { .. }));
    let adaptive = r#"{"peft_type": "ADALORA", "r": 3, "lora_alpha": 6, "rank_pattern": {"to_k": [true]}}"#;
    let error = configured(adaptive);
    assert!(matches!(&error, lora::Error::OtherMethod { method, .. } if method == "ADALORA"), "{error}");
    // and a look into the file tells the same
    let told = forge::inspect(&path).unwrap();
    assert!(told.lora.is_none() && told.missing == [error.to_string()], "{told:?}");
    configured("{");
    let told = forge::inspect(&path).unwrap().missing;
    assert!(matches!(&told[..], [why] if why.contains("adapter_config.json` can't be read: EOF")), "{told:?}");
    assert!(matches!(refused("ia3"), lora::Error::NotRead { method: "IA3", .. }));
}

#[test]
fn runs_that_take_turns_have_their_own_strengths() {
    let folder = loras();
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let prompts = ["a cat <lora:style:1>", "a cat", "a cat <lora:style:0.5>"];
    let alone = prompts.map(|prompt| drawn(forge.txt2img(request(&config, prompt)).unwrap()).0);
    let mut runs = prompts.map(|prompt| forge.txt2img(request(&config, prompt)).unwrap());
    // Each of the runs takes a step, until none has one left.
    while runs.iter_mut().map(|run| run.next().map(Result::unwrap)).filter(Option::is_some).count() > 0 {}
    let turned = runs.map(|mut run| values(&run.pixels().unwrap()));
    assert!(turned == alone);
}

#[test]
fn a_config_asks_for_loras_by_tags_of_its_prompt() {
    let folder = loras();
    let mut config = config(Path::new("none"));
    config.prompt.loras = None;
    let style = folder.path().join("style.safetensors");
    config.loras = vec![LoraConfig::of_flag(&format!("{}:0.5", style.display())).unwrap()];
    let (pixels, text) = drawn(Forge::load(&config).unwrap().txt2img(request(&config, "a cat")).unwrap());
    assert!(text.starts_with("a cat <lora:style:0.5>\n"), "{text}");
    let by_tag = self::config(folder.path());
    let tagged = drawn(Forge::load(&by_tag).unwrap().txt2img(request(&by_tag, "a cat <lora:style:0.5>")).unwrap());
    assert_eq!((pixels, text), tagged);
    // as a file has it
    let read: Config = "[[lora]]\npath = \"style\"\nstrength = 0.8\ntext = 0\nblocks = \"OUTALL\"\nsteps = [2, 9]\n[[lora]]\npath = \"b\"".parse().unwrap();
    let prompt = request(&read, "a cat").pass.prompt;
    assert_eq!(prompt, "a cat <lora:style:0:0.8:lbw=OUTALL:step=2-9> <lora:b:1>");
    assert!("[[lora]]\nstrength = 1".parse::<Config>().is_err());
    assert!("[[lora]]\npath = \"a\"\nweight = 1".parse::<Config>().is_err());
}

#[test]
fn a_lora_that_does_not_apply_is_never_ignored() {
    let folder = loras();
    let config = config(folder.path());
    let forge = Forge::load(&config).unwrap();
    let refused = |prompt: &str| forge.txt2img(request(&config, prompt)).err().unwrap();
    let Error::NoLora { name, known, .. } = refused("a cat <lora:stile:1>") else { panic!("it was found") };
    assert!(name == "stile" && known.contains(&"style".to_owned()));
    let other = refused("a cat <lora:other:1>");
    assert!(matches!(&other, Error::Lora(lora::Error::NothingFits { report }) if report.matched == 0), "{other}");
    assert_eq!(other.fault(), Fault::Model);
    assert_eq!(refused("a cat <lora:style:much>").fault(), Fault::Usage);
    assert_eq!(refused("a cat <hypernet:style:1>").fault(), Fault::Usage);
    // One of whose modules the model lacks fits in part, which has to be allowed.
    let bytes = fs::read(folder.path().join("style.safetensors")).unwrap();
    let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
    assert!(text.contains("single_transformer_blocks.1.proj_mlp"));
    let renamed = bytes.windows(36).position(|w| w == b"single_transformer_blocks.1.proj_mlp").unwrap();
    let mut part = bytes;
    part[renamed + 26] = b'9';
    fs::write(folder.path().join("part.safetensors"), part).unwrap();
    let forge = Forge::load(&config).unwrap();
    let partial = forge.txt2img(request(&config, "a cat <lora:part:1>")).err().unwrap();
    assert!(matches!(partial, Error::Lora(lora::Error::Partial { .. })), "{partial}");
    let mut config = config.clone();
    config.allow_partial_lora = true;
    let forge = Forge::load(&config).unwrap();
    drawn(forge.txt2img(request(&config, "a cat <lora:part:1>")).unwrap());
}
