//! What the command line may say.

use std::path::PathBuf;

use clap::{Arg, Args as ClapArgs, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use diffusion_engine::{Catalog, PictureFormat};
use forge::keys::find;

use super::flags::{self, Device, Flags, Of, Pictures, Surroundings};

/// Text to picture with Stable Diffusion and Flux, on your own machine.
#[derive(Debug, Parser)]
#[command(
    name = "forge",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 the run failed, 2 usage or config, 3 not enough memory, 4 model file rejected, \
                  5 a picture drawn again is another, 130 interrupted."
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Draw a picture from words
    Txt2img(Box<Txt2ImgArgs>),
    /// Draw a picture from another, or a part of it anew
    Img2img(Box<Img2ImgArgs>),
    /// Draw every picture of a folder anew, as img2img does with one
    Batch(Box<BatchArgs>),
    /// Draw pictures that differ in one, two or three keys, on a sheet
    Grid(Box<GridArgs>),
    /// Tell what a run would hold of memory, before anything is loaded
    Plan(Box<Txt2ImgArgs>),
    /// Draw a picture again from its text, and compare
    Replay(Box<ReplayArgs>),
    /// Make pictures larger by an upscaler's network
    Upscale(Box<UpscaleArgs>),
    /// List samplers: how steps are taken
    Samplers(ListArgs),
    /// List schedules: how noise levels are spaced
    Schedules(ListArgs),
    /// Tell what model files contain, from their headers
    Inspect(InspectArgs),
    /// Store a model's tensors in other formats
    Convert(ConvertArgs),
    /// List the formats of weights, and what is done with each
    Ops(OpsArgs),
    /// List the devices of this machine, and what keeps one from computing
    Devices(DevicesArgs),
    /// Print how a picture was made
    Info(InfoArgs),
    /// Make a config file, or tell editors about it
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Write a config with every key, its default and what it does
    Init(InitArgs),
    /// Print the JSON Schema of configs, for editors
    Schema,
}

#[derive(ClapArgs, Debug)]
pub(super) struct InitArgs {
    /// Config file, such as flux.toml; without it, or with `-`, the config is printed
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long, requires = "file")]
    pub force: bool,
}

impl Command {
    /// Whether it plans its memory.
    pub(super) fn is_planned(&self) -> bool {
        match self {
            Self::Txt2img(_) | Self::Img2img(_) | Self::Batch(_) | Self::Grid(_) | Self::Replay(_) => true,
            Self::Plan(_) | Self::Upscale(_) => true,
            Self::Samplers(_) | Self::Schedules(_) | Self::Inspect(_) | Self::Convert(_) | Self::Ops(_) => false,
            Self::Devices(_) | Self::Info(_) | Self::Config { .. } | Self::Completions { .. } => false,
        }
    }

    pub(super) fn json(&self) -> bool {
        match self {
            Self::Txt2img(args) | Self::Plan(args) => args.json,
            Self::Img2img(args) => args.run.json,
            Self::Batch(args) => args.run.json,
            Self::Grid(args) => args.run.json,
            Self::Replay(args) => args.json,
            Self::Upscale(args) => args.json,
            Self::Samplers(args) | Self::Schedules(args) => args.json,
            Self::Devices(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Convert(args) => args.json,
            Self::Ops(args) => args.json,
            Self::Info(args) => args.json,
            Self::Config { .. } | Self::Completions { .. } => false,
        }
    }
}

/// A flag that sets a key of the config wins over it.
#[derive(ClapArgs, Clone, Debug)]
pub(super) struct Txt2ImgArgs {
    /// Config file, such as flux.toml; `-` is standard input
    #[arg(long, value_name = "FILE", value_parser = flags::path(), allow_hyphen_values = true)]
    pub config: Option<PathBuf>,
    /// Also write every stage of the run as a safetensors file
    #[arg(long, value_name = "FILE", value_parser = flags::path(), allow_hyphen_values = true)]
    pub dump: Option<PathBuf>,
    /// LoRA by name or file, and how much it counts; again for more
    #[arg(long, value_name = "NAME[:X[:TEXT]]", allow_hyphen_values = true)]
    pub lora: Vec<String>,
    /// Apply LoRAs that fit the model in part
    #[arg(long)]
    pub allow_partial_lora: bool,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub flags: Flags,
}

/// A flag that sets a key of the config wins over it.
#[derive(ClapArgs, Debug)]
pub(super) struct Img2ImgArgs {
    /// Picture to start from: PNG, JPEG or WebP
    #[arg(value_name = "IMAGE", conflicts_with = "image")]
    pub picture: Option<String>,
    #[command(flatten)]
    pub pictures: Of<Pictures>,
    #[command(flatten)]
    pub run: Txt2ImgArgs,
}

/// Pictures are drawn in the order of their names, and keep these; one that can't be drawn is passed over. A flag that sets a key of the
/// config wins over it.
#[derive(ClapArgs, Debug)]
pub(super) struct BatchArgs {
    /// Folder of pictures: PNG, JPEG or WebP
    #[arg(value_name = "FOLDER")]
    pub input: PathBuf,
    /// Draw those again whose pictures are there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub pictures: Of<Pictures>,
    #[command(flatten)]
    pub run: Txt2ImgArgs,
}

/// Values stand between commas, in quotes where they have some; numbers may be ranges: `1-5`, `10-30 (+5)`, `0-1 [5]`. The key `words` puts
/// each value in the place of the first one in the prompts. All pictures have one seed, and are also written alone: `grid-2-1.png` is the second of
/// the first row of `grid.png`.
#[derive(ClapArgs, Debug)]
pub(super) struct GridArgs {
    /// What differs from column to column: a flag or a key, and its values, as `steps=10,20`
    #[arg(long, value_name = "KEY=VALUES")]
    pub x: String,
    /// What differs from row to row
    #[arg(long, value_name = "KEY=VALUES")]
    pub y: Option<String>,
    /// What differs from table to table, which stand below each other
    #[arg(long, value_name = "KEY=VALUES")]
    pub z: Option<String>,
    #[command(flatten)]
    pub pictures: Of<Pictures>,
    #[command(flatten)]
    pub run: Txt2ImgArgs,
}

impl Img2ImgArgs {
    /// The same as for a run from words, with what is said of the picture.
    pub(super) fn as_txt2img(&self) -> Txt2ImgArgs {
        let given = self.picture.iter().flat_map(|path| Some((find("img2img", "image")?, vec![path.clone()])));
        let picture = Flags { given: given.collect(), files: Vec::new() };
        let Txt2ImgArgs { flags, .. } = &self.run;
        Txt2ImgArgs { flags: flags.with(&self.pictures.0).with(&picture), ..self.run.clone() }
    }
}

impl BatchArgs {
    /// The same as for a run from words, with what is said of the pictures.
    pub(super) fn as_txt2img(&self) -> Txt2ImgArgs {
        Txt2ImgArgs { flags: self.run.flags.with(&self.pictures.0), ..self.run.clone() }
    }
}

impl GridArgs {
    /// The same as for a run from words, with what is said of a picture.
    pub(super) fn as_txt2img(&self) -> Txt2ImgArgs {
        Txt2ImgArgs { flags: self.run.flags.with(&self.pictures.0), ..self.run.clone() }
    }
}

/// The picture says what is drawn; config and flags say with which model, and where.
#[derive(ClapArgs, Debug)]
pub(super) struct ReplayArgs {
    /// Picture
    #[arg(value_name = "IMAGE")]
    pub picture: PathBuf,
    /// Config file, such as flux.toml, of which the model and the device count; `-` is standard input
    #[arg(long, value_name = "FILE", value_parser = flags::path(), allow_hyphen_values = true)]
    pub config: Option<PathBuf>,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub flags: Of<Surroundings>,
}

impl ReplayArgs {
    /// The same as for a run from words.
    pub(super) fn as_txt2img(&self) -> Txt2ImgArgs {
        Txt2ImgArgs {
            config: self.config.clone(),
            dump: None,
            lora: Vec::new(),
            allow_partial_lora: false,
            json: self.json,
            flags: self.flags.0.clone(),
        }
    }

    /// Whether the picture is written, and not only compared.
    pub(super) fn writes(&self) -> bool {
        self.flags.0.text("image.output").is_some()
    }
}

/// Pictures keep the text that says how they were made, and their opacity.
#[derive(ClapArgs, Debug)]
pub(super) struct UpscaleArgs {
    /// Pictures: PNG, JPEG or WebP
    #[arg(required = true, value_name = "IN")]
    pub inputs: Vec<PathBuf>,
    /// Upscaler's file: ESRGAN, Real-ESRGAN or compact
    #[arg(long, value_name = "FILE", value_parser = flags::path(), allow_hyphen_values = true)]
    pub model: PathBuf,
    /// How many times as wide and high, such as 2 or 1.5; without it as the network has it
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// Name of the picture; {name} and {index} are filled in
    #[arg(long, value_name = "FILE", value_parser = flags::path(), allow_hyphen_values = true)]
    pub output: PathBuf,
    /// Quality of a JPEG, 1 to 100
    #[arg(long, value_name = "N", default_value_t = PictureFormat::QUALITY, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub flags: Of<Device>,
}

#[derive(ClapArgs, Debug)]
pub(super) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub(super) struct DevicesArgs {
    /// Compute every operation on each device, and hold it against the same in f64 on the CPU
    #[arg(long)]
    pub check: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub(super) struct InspectArgs {
    /// Model files, or folders in diffusers' layout
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub(super) struct ConvertArgs {
    /// Model file, or the folder of one part of a model in diffusers' layout
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// File to write, which ends in .gguf or .safetensors
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// What matrices are stored in, such as q4_k, q8_0, f16 or nf4; what is small or odd stays in floats
    #[arg(long = "type", value_name = "TYPE")]
    pub target: String,
    /// What tensors of some names are stored in, such as `norm|bias=f32`; the first rule that speaks of a tensor counts
    #[arg(long = "rule", value_name = "PATTERN=TYPE")]
    pub rules: Vec<String>,
    /// LoRA to merge, and how much it counts in what denoises and in the text encoders; again for more
    #[arg(long, value_name = "FILE[:X[:TEXT]]", allow_hyphen_values = true)]
    pub lora: Vec<String>,
    /// Merge LoRAs that fit the model in part
    #[arg(long)]
    pub allow_partial_lora: bool,
    /// Print how far each tensor is off
    #[arg(long)]
    pub report: bool,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub(super) struct OpsArgs {
    /// Print instead how fast this machine multiplies matrices of each format, and how far products
    /// are off
    #[arg(long)]
    pub measure: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs, Debug)]
pub(super) struct InfoArgs {
    /// Picture
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Print the parsed request as JSON
    #[arg(long)]
    pub json: bool,
}

/// The command line, whose help and completions offer what is in a registry.
pub(super) fn command(registry: &Catalog) -> clap::Command {
    let drawing = ["txt2img", "img2img", "batch", "grid", "plan"].into_iter();
    let command = drawing.fold(Args::command(), |command, name| {
        command.mut_subcommand(name, |drawing| flags::offering(drawing, registry))
    });
    let folder = |output: Arg| output.help("Folder that the pictures are written to").value_name("DIR").required(true);
    command.mut_subcommand("batch", |batch| {
        let one_alone = |batch: clap::Command, name| batch.mut_arg(name, |arg| arg.hide(true));
        ["image", "dump"].into_iter().fold(batch.mut_arg("output", folder), one_alone)
    })
}
