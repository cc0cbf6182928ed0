use std::{ffi::OsStr, path::PathBuf};

use clap::{
    Arg, Args as ClapArgs, CommandFactory, Parser, Subcommand,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};
use clap_complete::Shell;
use samplers::{Profile, Registry};

use crate::{Config, Error, ModelConfig, Noise, Result, Seed};

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
    /// Config file, such as flux.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What the picture shows
    #[arg(long, alias = "positive", value_name = "TEXT", help_heading = "Prompt")]
    prompt: Option<String>,
    /// What it should not show; counts where --cfg is above 1
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    negative: Option<String>,
    /// T5 tokens that the prompt is padded to
    #[arg(long, value_name = "N", help_heading = "Prompt")]
    t5_length: Option<usize>,
    /// Number, or `random`
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
    /// Name of the picture; {seed} and {index} are filled in
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
    pub dump: Option<PathBuf>,
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
struct Names(Vec<&'static str>);

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
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// The command line, whose help and completions offer what is in a registry.
pub fn command(registry: &Registry) -> clap::Command {
    let names = [
        ("sampler", registry.samplers().iter().map(|s| s.id).collect()),
        ("schedule", registry.schedules().iter().map(|s| s.id).collect()),
        ("profile", Profile::ALL.into_iter().map(Profile::id).collect()),
    ];
    Args::command().mut_subcommand("txt2img", |txt2img| {
        names
            .into_iter()
            .fold(txt2img, |command, (flag, names)| command.mut_arg(flag, |arg| arg.value_parser(Names(names))))
    })
}

impl Txt2ImgArgs {
    /// Puts every given flag in the place of its key.
    pub fn override_keys(&self, config: &mut Config) -> Result<()> {
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
        let Config { model, device, sampling, prompt, image } = config;
        if self.folder.is_some() {
            // A folder on the command line stands for the whole model.
            *model = ModelConfig::default();
        }
        set_optional(&mut model.folder, &self.folder);
        set_optional(&mut model.transformer, &self.transformer);
        set_optional(&mut model.clip, &self.clip);
        set_optional(&mut model.t5, &self.t5);
        set_optional(&mut model.vae, &self.vae);
        set(&mut device.backend, &self.backend);
        set(&mut device.compute, &self.compute);
        set_optional(&mut device.memory, &self.memory);
        set(&mut device.threads, &self.threads);
        set(&mut sampling.profile, &self.profile);
        set(&mut sampling.sampler, &self.sampler);
        set_optional(&mut sampling.schedule, &self.schedule);
        for option in &self.options {
            let Some((name, value)) = option.split_once('=') else {
                let (expected, found) = ("NAME=VALUE".to_owned(), format!("`{option}`"));
                return Err(Error::Value { key: "sampling.options", expected, found });
            };
            let Ok(value) = value.parse();
            sampling.options.set(name.trim(), value);
        }
        set(&mut sampling.steps, &self.steps);
        set(&mut sampling.guidance, &self.guidance);
        set(&mut sampling.cfg, &self.cfg);
        set_optional(&mut sampling.noise, &self.noise.as_deref().map(str::parse::<Noise>).transpose()?);
        set(&mut sampling.seed, &self.seed.as_deref().map(str::parse::<Seed>).transpose()?);
        set(&mut prompt.positive, &self.prompt);
        set(&mut prompt.negative, &self.negative);
        set_optional(&mut prompt.t5_length, &self.t5_length);
        set(&mut image.width, &self.width);
        set(&mut image.height, &self.height);
        set(&mut image.batch, &self.batch);
        set(&mut image.output, &self.output);
        Ok(())
    }
}
