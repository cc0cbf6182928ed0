//! A machine whose card is the fake driver's, and commands that run on it.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::root;

/// Longer than any run takes that compiles every kernel on two slow cores; whatever takes longer waits for something that never comes.
const LONGEST: Duration = Duration::from_secs(900);

/// The toolkit, the driver and the program.
pub(super) struct Machine {
    forge: PathBuf,
    toolkit: PathBuf,
    /// Where the driver is, and what the commands write.
    folder: PathBuf,
    /// Where the loader looks for libraries.
    libraries: String,
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Ran {
    /// Its exit code; `None` where it was ended by a signal, or took too long.
    pub(super) code: Option<i32>,
    /// What it wrote to both outputs.
    pub(super) told: String,
    /// What it asked of the driver; all zero where it asked for nothing.
    pub(super) asked: Asked,
    /// The files that it left where pictures go.
    pub(super) files: Vec<PathBuf>,
}

/// What was asked of the driver.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    pub(super) modules: u64,
    pub(super) launches: u64,
    pub(super) uploads: u64,
    pub(super) uploaded: u64,
    pub(super) downloads: u64,
    pub(super) downloaded: u64,
    /// The most bytes of its memory that the card had given at a time.
    #[serde(default)]
    pub(super) peak: u64,
    /// Blocks of threads in all launches.
    #[serde(default)]
    pub(super) blocks: u64,
    /// When a card would be done, and how long it would compute and copy to its memory, in picoseconds; 0 without the driver's settings
    /// for its speed.
    #[serde(default)]
    pub(super) elapsed: u64,
    #[serde(default)]
    pub(super) computing: u64,
    #[serde(default)]
    pub(super) copying: u64,
    /// Downloads of one byte: whether all values of a tensor are finite.
    pub(super) answers: u64,
    /// How often each function was called that can fail.
    pub(super) of: BTreeMap<String, u64>,
    /// How often each kernel was launched, by its name in the source.
    pub(super) kernels: BTreeMap<String, u64>,
}

impl Machine {
    /// Compiles the driver into `folder`, and looks for the rest.
    pub(super) fn built(forge: PathBuf, toolkit: &Path, folder: &Path) -> Result<Self, Box<dyn Error>> {
        if !forge.is_file() {
            let build = "cargo build --release --package forge-cli --features cuda";
            return Err(
                format!("`{}` is not there; `{build}` makes it, `--forge` names another", forge.display()).into()
            );
        }
        let toolkit = toolkit.canonicalize().map_err(|error| format!("`{}`: {error}", toolkit.display()))?;
        fs::create_dir_all(folder)?;
        let driver = folder.join("libcuda.so.1");
        let source = root().join("bench/gpu/fake_driver.c");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&driver).arg(source);
        let status = cc.status().map_err(|error| format!("cannot start `cc`: {error}"))?;
        if !status.success() {
            return Err("`cc` can't compile the driver".into());
        }
        let libraries = format!("{}:{}", folder.display(), libraries_of(&toolkit)?.display());
        Ok(Self { forge, toolkit, folder: folder.to_owned(), libraries })
    }

    /// Where compiled kernels are kept between the commands of this name.
    pub(super) fn cache(&self, name: &str) -> PathBuf {
        self.folder.join("caches").join(name)
    }

    /// Where commands put their files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs the program with a cache, a setting of the driver for each of `settings`, and a folder for pictures that is empty before:
    /// `{out}` in `args`.
    pub(super) fn run(&self, cache: &Path, settings: &[(&str, String)], args: &[&str]) -> Result<Ran, Box<dyn Error>> {
        let asked = |counts: &str| serde_json::from_str(counts);
        ran(&self.forge, &self.folder, args, asked, |command, counts| {
            command.env("LD_LIBRARY_PATH", &self.libraries).env("CUDA_PATH", &self.toolkit);
            command.env("XDG_CACHE_HOME", cache).env("FAKE_CUDA_COUNTS", counts);
            command.envs(settings.iter().map(|(name, value)| (name, value)));
        })
    }

    /// [`Self::run`] of what has to succeed.
    pub(super) fn done(&self, cache: &Path, settings: &[(&str, String)], args: &[&str]) -> Result<Ran, Box<dyn Error>> {
        let ran = self.run(cache, settings, args)?;
        match ran.code {
            Some(0) => Ok(ran),
            code => Err(format!("`forge {}` ended with {code:?}:\n{}", args.join(" "), ran.told).into()),
        }
    }
}

/// Where the toolkit has NVRTC.
fn libraries_of(toolkit: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let is_compiler = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libnvrtc.so");
    let mut folders = ["lib64", "lib"].map(|name| toolkit.join(name)).into_iter();
    let found = folders.find(|folder| fs::read_dir(folder).is_ok_and(|files| files.flatten().any(is_compiler)));
    found.ok_or_else(|| format!("`{}` has no libnvrtc.so in `lib64` or `lib`", toolkit.display()).into())
}

/// Runs a program whose card `set` chooses, which is told the file for what is asked of it, to be read by `asked`; with a folder for
/// pictures that is empty before: `{out}` in `args`. What it writes is kept in `folder`.
pub(super) fn ran(
    forge: &Path,
    folder: &Path,
    args: &[&str],
    asked: impl FnOnce(&str) -> serde_json::Result<Asked>,
    set: impl FnOnce(&mut Command, &Path),
) -> Result<Ran, Box<dyn Error>> {
    let [out, counts, told] = ["out", "counts.json", "told.txt"].map(|name| folder.join(name));
    let _ = fs::remove_file(&counts);
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    let log = fs::File::create(&told)?;
    let mut command = Command::new(forge);
    command.args(args.iter().map(|arg| arg.replace("{out}", &out.display().to_string())));
    command.current_dir(root()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    set(&mut command, &counts);
    let code = ended(command.spawn()?)?;
    let asked = fs::read_to_string(&counts).ok().map(|text| asked(&text)).transpose()?;
    let files = fs::read_dir(&out)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    let told = String::from_utf8_lossy(&fs::read(&told)?).into_owned();
    Ok(Ran { code, told, asked: asked.unwrap_or_default(), files })
}

/// The exit code of a command that ends in time and by itself.
fn ended(mut child: Child) -> Result<Option<i32>, Box<dyn Error>> {
    let start = Instant::now();
    while start.elapsed() < LONGEST {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
