use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use clap::{
    Arg, Args as ClapArgs, CommandFactory, Parser, Subcommand,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
    error::ErrorKind,
};
use clap_complete::Shell;
use diffusion_engine::{Catalog, Size, Txt2Img};
use samplers::{Options, Schedule};

use forge::{
    Config, ModelConfig, Noise, STANDARD_OUTPUT, Sampling, Seed, Threads, paths,
    text_file::{self, STANDARD_INPUT},
};

use crate::error::{Error, Result};

/// Text to picture with Flux, on your own machine.
#[derive(Debug, Parser)]
#[command(
    name = "forge",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 the run failed, 2 usage or config, 3 not enough memory, 4 model file rejected, \
                  130 interrupted."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw a picture from words
    Txt2img(Box<Txt2ImgArgs>),
    /// List samplers: how steps are taken
    Samplers(ListArgs),
    /// List schedules: how noise levels are spaced
    Schedules(ListArgs),
    /// Tell what model files contain, from their headers
    Inspect(InspectArgs),
    /// Print how a picture was made
    Info(InfoArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    pub fn json(&self) -> bool {
        match self {
            Self::Txt2img(args) => args.json,
            Self::Samplers(args) | Self::Schedules(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Info(args) => args.json,
            Self::Completions { .. } => false,
        }
    }
}

/// Each flag is the config key of the same name and wins over it.
#[derive(ClapArgs, Debug)]
pub struct Txt2ImgArgs {
    /// Config file, such as flux.toml; `-` is standard input
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the picture shows
    #[arg(long, alias = "positive", value_name = "TEXT", help_heading = "Prompt")]
    prompt: Option<String>,
    /// File with the prompt; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", help_heading = "Prompt")]
    prompt_file: Option<PathBuf>,
    /// What it should not show; counts where --cfg is above 1
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    negative: Option<String>,
    /// File with the negative prompt; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "negative", help_heading = "Prompt")]
    negative_file: Option<PathBuf>,
    /// T5 tokens that the prompt is padded to
    #[arg(long, value_name = "N", help_heading = "Prompt")]
    t5_length: Option<usize>,
    /// Number, or `random`, which -1 stands for too
    #[arg(long, value_name = "SEED", help_heading = "Sampling")]
    seed: Option<String>,
    /// Steps from noise to picture
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    steps: Option<usize>,
    /// How steps are taken; `forge samplers` says more
    #[arg(long, value_name = "NAME", help_heading = "Sampling")]
    sampler: Option<String>,
    /// How noise levels are spaced; `forge schedules` says more
    #[arg(long, value_name = "NAME", help_heading = "Sampling")]
    schedule: Option<String>,
    /// Set an option of the sampler or the schedule, such as `eta=0.5`; again for more
    #[arg(long = "option", value_name = "NAME=VALUE", help_heading = "Sampling")]
    options: Vec<String>,
    /// Distilled guidance, for Flux dev
    #[arg(long, value_name = "X", help_heading = "Sampling")]
    guidance: Option<f32>,
    /// Classifier-free guidance, from 1
    #[arg(long, value_name = "X", help_heading = "Sampling")]
    cfg: Option<f32>,
    /// `cpu`, `nv`, or a safetensors file with a tensor `noise`
    #[arg(long, value_name = "SOURCE", help_heading = "Sampling")]
    noise: Option<String>,
    /// Engine whose habits to follow
    #[arg(long, value_name = "NAME", help_heading = "Sampling")]
    profile: Option<String>,
    /// Pixels across
    #[arg(long, value_name = "N", help_heading = "Image")]
    width: Option<usize>,
    /// Pixels down
    #[arg(long, value_name = "N", help_heading = "Image")]
    height: Option<usize>,
    /// How many pictures
    #[arg(long, value_name = "N", help_heading = "Image")]
    batch: Option<usize>,
    /// Name of the picture; {seed} and {index} are filled in; `-` is standard output
    #[arg(long, value_name = "FILE", help_heading = "Image")]
    output: Option<PathBuf>,
    /// Folder in diffusers' layout
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    folder: Option<PathBuf>,
    /// Flux transformer
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    transformer: Option<PathBuf>,
    /// CLIP-L text encoder
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    clip: Option<PathBuf>,
    /// T5 v1.1 text encoder
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    t5: Option<PathBuf>,
    /// Autoencoder
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    vae: Option<PathBuf>,
    /// cpu, cuda:N or vulkan:N
    #[arg(long, value_name = "NAME", help_heading = "Device")]
    backend: Option<String>,
    /// auto, f32 or bf16
    #[arg(long, value_name = "NAME", help_heading = "Device")]
    compute: Option<String>,
    /// Ceiling for the run, such as `16 GiB`
    #[arg(long, value_name = "SIZE", help_heading = "Device")]
    memory: Option<String>,
    /// Threads, 0 for all cores
    #[arg(long, value_name = "N", help_heading = "Device")]
    threads: Option<usize>,
    /// Also write every stage of the run as a safetensors file
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub struct InspectArgs {
    /// Model files, or folders in diffusers' layout
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub struct InfoArgs {
    /// Picture
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Print the parsed request as JSON
    #[arg(long)]
    pub json: bool,
}

/// Names of a registry: offered in help and completions, but not enforced, since the registry accepts more spellings and
/// says better what is wrong.
#[derive(Clone)]
struct Names(Vec<String>);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(
        &self,
        cmd: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> std::result::Result<String, clap::Error> {
        StringValueParser::new().parse_ref(cmd, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().cloned().map(PossibleValue::new)))
    }
}

/// A prompt: any text, also one that begins with a dash, but not a flag whose neighbour is missing.
#[derive(Clone)]
struct Words(Vec<String>);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        cmd: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> std::result::Result<String, clap::Error> {
        let text = StringValueParser::new().parse_ref(cmd, arg, value)?;
        if !self.0.contains(&text) {
            return Ok(text);
        }
        let flag = arg.map_or_else(String::new, ToString::to_string);
        let message = format!("a value is required for '{flag}', and '{text}' is a flag");
        Err(clap::Error::raw(ErrorKind::InvalidValue, message).with_cmd(cmd))
    }
}

/// Flags that are any text, also one that begins with a dash.
const TEXTS: [&str; 4] = ["backend", "compute", "noise", "options"];

/// Flags that are paths, which may begin with a dash too.
const PLACES: [&str; 10] =
    ["config", "prompt_file", "negative_file", "output", "folder", "transformer", "clip", "t5", "vae", "dump"];

/// Flags that are whole numbers, with their ranges.
const WHOLE: [(&str, usize, usize); 6] = [
    ("steps", 1, Schedule::MAX_STEPS),
    ("t5_length", 1, Txt2Img::MAX_TEXT_LENGTH),
    ("width", 16, Size::MAX),
    ("height", 16, Size::MAX),
    ("batch", 1, Txt2Img::MAX_BATCH),
    ("threads", 0, Threads::MAX),
];

/// A whole number. Whether it is in the range is looked at together with the config's; here it is only named.
fn whole(text: &str, least: usize, most: usize) -> std::result::Result<usize, String> {
    text.parse().map_err(|_| format!("expected a whole number from {least} to {most}"))
}

/// The command line, whose help and completions offer what is in a registry.
pub fn command(registry: &Catalog) -> clap::Command {
    let names = [
        ("sampler", registry.samplers().iter().map(|s| s.id.clone()).collect()),
        ("schedule", registry.schedules().iter().map(|s| s.id.clone()).collect()),
        ("profile", registry.profiles().iter().map(|p| p.id.clone()).collect()),
    ];
    Args::command().mut_subcommand("txt2img", |txt2img| {
        let flags = Words(txt2img.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect());
        let txt2img = names.into_iter().fold(txt2img, |command, (flag, names)| {
            command.mut_arg(flag, |arg| arg.value_parser(Names(names)).allow_hyphen_values(true))
        });
        let txt2img = TEXTS.into_iter().fold(txt2img, |command, flag| {
            command.mut_arg(flag, |arg| arg.value_parser(flags.clone()).allow_hyphen_values(true))
        });
        let txt2img = PLACES.into_iter().fold(txt2img, |command, flag| {
            let place = flags.clone().map(PathBuf::from);
            command.mut_arg(flag, |arg| arg.value_parser(place).allow_hyphen_values(true))
        });
        let prompts = ["prompt", "negative"].into_iter().fold(txt2img, |command, flag| {
            command.mut_arg(flag, |arg| arg.value_parser(flags.clone()).allow_hyphen_values(true))
        });
        // What is wrong with a number below 0 is said of the number.
        let numbers =
            ["seed", "steps", "cfg", "guidance", "t5_length", "width", "height", "batch", "memory", "threads"];
        let numbers = numbers
            .into_iter()
            .fold(prompts, |command, flag| command.mut_arg(flag, |arg| arg.allow_negative_numbers(true)));
        WHOLE.into_iter().fold(numbers, |command, (flag, least, most)| {
            command.mut_arg(flag, |arg| arg.value_parser(move |text: &str| whole(text, least, most)))
        })
    })
}

impl Txt2ImgArgs {
    /// The config that the command line names, or the default one.
    ///
    /// # Errors
    /// Those of [`Config::read`], and [`Error::StandardInputTwice`].
    pub fn config(&self) -> Result<Config> {
        let streams = self.texts().filter(|(_, path)| *path == Path::new(STANDARD_INPUT)).map(|(flag, _)| flag);
        let streams: Vec<_> = streams.collect();
        if streams.len() > 1 {
            return Err(Error::StandardInputTwice { flags: streams.join(" and ") });
        }
        self.config.as_deref().map_or_else(|| Ok(Config::default()), |path| Ok(Config::read(&file("--config", path)?)?))
    }

    /// Where the dump goes.
    pub fn dump_file(&self) -> Result<Option<PathBuf>> {
        if self.dump.as_deref() == Some(Path::new(STANDARD_OUTPUT)) {
            return Err(forge::Error::Value { key: "--dump", expected: "a file".into(), found: "`-`".into() }.into());
        }
        Ok(self.dump.as_deref().map(|path| paths::to_write("--dump", path, Path::new(""))).transpose()?)
    }

    /// The files that are read beside those that the config names.
    pub fn other_files(&self) -> Result<Vec<PathBuf>> {
        self.texts().map(|(flag, path)| file(flag, path)).collect()
    }

    /// The texts that flags name, each a file, a pipe or standard input.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [("--config", &self.config), ("--prompt-file", &self.prompt_file), ("--negative-file", &self.negative_file)]
            .into_iter()
            .filter_map(|(flag, path)| Some((flag, path.as_deref()?)))
    }

    /// Puts every given flag in the place of its key, and says which keys of the file it sets aside beside that.
    pub fn override_keys(&self, config: &mut Config, registry: &Catalog) -> Result<Vec<String>> {
        fn set<T: Clone>(key: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                key.clone_from(value);
            }
        }
        fn set_optional<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        let notes = self.override_sampling(config, registry)?;
        let Config { model, device, prompt, image, .. } = config;
        if self.folder.is_some() {
            // A folder on the command line stands for the whole model.
            *model = ModelConfig::default();
        }
        for (name, key, flag) in [
            ("--folder", &mut model.folder, &self.folder),
            ("--transformer", &mut model.transformer, &self.transformer),
            ("--clip", &mut model.clip, &self.clip),
            ("--t5", &mut model.t5, &self.t5),
            ("--vae", &mut model.vae, &self.vae),
        ] {
            if let Some(path) = flag {
                *key = Some(file(name, path)?);
            }
        }
        set(&mut device.backend, &self.backend);
        set(&mut device.compute, &self.compute);
        set_optional(&mut device.memory, &self.memory);
        set(&mut device.threads, &self.threads);
        set(&mut prompt.positive, &self.prompt);
        set(&mut prompt.negative, &self.negative);
        for (flag, path, key) in [
            ("--prompt-file", &self.prompt_file, &mut prompt.positive),
            ("--negative-file", &self.negative_file, &mut prompt.negative),
        ] {
            if let Some(path) = path {
                *key = prompt_text(flag, path)?;
            }
        }
        set_optional(&mut prompt.t5_length, &self.t5_length);
        set(&mut image.width, &self.width);
        set(&mut image.height, &self.height);
        set(&mut image.batch, &self.batch);
        if let Some(path) = &self.output {
            let is_stream = path == Path::new(STANDARD_OUTPUT);
            image.output = if is_stream { path.clone() } else { paths::to_write("--output", path, Path::new(""))? };
        }
        Ok(notes)
    }

    /// A name on the command line may stand for several keys of the file, and wins over all of them.
    fn override_sampling(&self, config: &mut Config, registry: &Catalog) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let sampling = &mut config.sampling;
        if let Some(name) = &self.sampler {
            let (_, schedule) = registry.sampler_and_schedule(name)?;
            if schedule.is_some() {
                sampling.schedule = None;
            }
            sampling.sampler.clone_from(name);
        }
        if let Some(name) = &self.schedule {
            if self.sampler.is_none()
                && let Ok((sampler, Some(_))) = registry.sampler_and_schedule(&sampling.sampler)
            {
                sampling.sampler = sampler.id.clone();
            }
            sampling.schedule = Some(name.clone());
        }
        if sampling.sigmas.is_some() && (self.schedule.is_some() || self.steps.is_some()) {
            sampling.sigmas = None;
            let flag = if self.schedule.is_some() { "schedule" } else { "steps" };
            notes.push(format!("the config's `sigmas` are set aside, as `--{flag}` is given"));
        }
        if let Some(steps) = self.steps {
            sampling.steps = steps;
        }
        if let Some(profile) = &self.profile {
            sampling.profile.clone_from(profile);
        }
        sampling.guidance = self.guidance.unwrap_or(sampling.guidance);
        sampling.cfg = self.cfg.unwrap_or(sampling.cfg);
        if let Some(noise) = &self.noise {
            sampling.noise = Some(match noise.parse()? {
                Noise::File(path) => Noise::File(file("--noise", &path)?),
                source => source,
            });
        }
        if let Some(seed) = &self.seed {
            sampling.seed = seed.parse::<Seed>()?;
        }
        if self.sampler.is_some() || self.schedule.is_some() {
            notes.extend(self.drop_options(config, registry)?);
        }
        for option in &self.options {
            let Some((name, value)) = option.split_once('=') else {
                let (expected, found) = ("NAME=VALUE".to_owned(), format!("`{option}`"));
                return Err(forge::Error::Value { key: "sampling.options", expected, found }.into());
            };
            let Ok(value) = value.parse();
            config.sampling.options.set(name.trim(), value);
        }
        Ok(notes)
    }

    /// Sets options of the file aside that the sampler and the schedule of the command line don't have.
    fn drop_options(&self, config: &mut Config, registry: &Catalog) -> Result<Vec<String>> {
        let params = config.request_with(registry, || 0)?.params();
        let Sampling { options, .. } = &mut config.sampling;
        let mut kept = Options::default();
        let mut notes = Vec::new();
        for (name, value) in options.iter() {
            if params.iter().any(|param| param.name == name) {
                kept.set(name, value.clone());
            } else {
                let flag = if self.sampler.is_some() { "sampler" } else { "schedule" };
                notes.push(format!(
                    "the config's option `{name}` is set aside: the `--{flag}` given has none of that name"
                ));
            }
        }
        *options = kept;
        Ok(notes)
    }
}

/// A file that a flag names.
fn file(flag: &'static str, path: &Path) -> Result<PathBuf> {
    Ok(if path == Path::new(STANDARD_INPUT) { path.to_owned() } else { paths::to_read(flag, path, Path::new(""))? })
}

/// A prompt's file, without the line's end that editors put behind it.
fn prompt_text(flag: &'static str, path: &Path) -> Result<String> {
    let path = file(flag, path)?;
    let text = text_file::read(&path, Txt2Img::MAX_PROMPT as u64);
    let text = text.map_err(|source| Error::ReadPrompt { path, source })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = text.strip_suffix('\n').unwrap_or(text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
