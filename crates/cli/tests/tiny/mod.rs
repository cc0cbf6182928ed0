//! The tiny golden models, files made from them, and the built command run in a folder of its own.

#![allow(dead_code, reason = "each test file uses its own part of this one")]

pub(crate) mod gguf;
mod pickled;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// The files of a model, by their flags and config keys.
pub(crate) const ROLES: [&str; 4] = ["transformer", "clip", "t5", "vae"];

/// A golden model's config in a folder of its own, where the command runs.
pub(crate) struct Tiny {
    folder: TempDir,
    config: toml::Table,
}

impl Tiny {
    /// `tiny-dev` or `tiny-schnell`, as its `case.toml` asks for it.
    pub(crate) fn of(case: &str) -> Self {
        let golden = fixtures::path("golden").join(case);
        let text = fs::read_to_string(golden.join("case.toml")).expect("every case has a config");
        let mut config: toml::Table = text.parse().expect("a golden config is TOML");
        for role in ROLES {
            let file = golden.join(config["model"][role].as_str().expect("a path"));
            config["model"][role] = file.display().to_string().into();
        }
        let tiny = Self { folder: tempfile::tempdir().expect("a folder for temporary files"), config };
        // What a golden model is compared with was computed in f32.
        tiny.set("device", "compute", "f32")
    }

    /// The smallest run there is: one step of tiny-schnell, of one picture of 16 × 16 pixels.
    pub(crate) fn quick() -> Self {
        Self::of("tiny-schnell")
            .set("sampling", "steps", 1)
            .set("image", "width", 16)
            .set("image", "height", 16)
            .set("image", "batch", 1)
    }

    /// The same model with another value in its config.
    pub(crate) fn set(mut self, table: &str, key: &str, value: impl Into<toml::Value>) -> Self {
        let table = self.config.entry(table).or_insert_with(|| toml::Table::new().into());
        table.as_table_mut().expect("a table").insert(key.into(), value.into());
        self.save_config();
        self
    }

    /// The same model with another file in one role.
    pub(crate) fn with(self, role: &str, file: &Path) -> Self {
        self.set("model", role, file.display().to_string())
    }

    fn save_config(&self) {
        self.write("flux.toml", self.config.to_string());
    }

    /// The library's view of the config.
    pub(crate) fn config(&self) -> forge::Config {
        forge::Config::read(&self.path("flux.toml")).expect("the config was written here")
    }

    /// The file that the config names for a role.
    pub(crate) fn role(&self, role: &str) -> PathBuf {
        self.config["model"][role].as_str().expect("a path").into()
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder, in folders that are made for it.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("folders can be made here");
        fs::write(&path, bytes).expect("files can be written here");
        path
    }

    /// `forge txt2img --config flux.toml …` in the folder.
    pub(crate) fn txt2img(&self, args: &[&str]) -> Ran {
        self.forge(&[&["txt2img", "--config", "flux.toml"], args].concat())
    }

    /// `forge …` in the folder.
    pub(crate) fn forge(&self, args: &[&str]) -> Ran {
        self.program(env!("CARGO_BIN_EXE_forge"), args)
    }

    /// Another program in the folder.
    pub(crate) fn program(&self, program: impl AsRef<Path>, args: &[&str]) -> Ran {
        let (out, err) = (self.path(".stdout"), self.path(".stderr"));
        let pipe = |path: &Path| Stdio::from(File::create(path).expect("files can be written here"));
        let mut child =
            self.started(program, args).stdout(pipe(&out)).stderr(pipe(&err)).spawn().expect("the command starts");
        let code = wait(&mut child).code();
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).expect("it was just written")).into_owned();
        Ran { code, out: text(&out), err: text(&err), args: args.join(" ") }
    }

    /// The command, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.started(env!("CARGO_BIN_EXE_forge"), args)
    }

    fn started(&self, program: impl AsRef<Path>, args: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        // No caches: pictures of the same model in other files are the same, and nothing is written beside them.
        command.env("XDG_CACHE_HOME", "");
        command
    }

    /// tiny-dev, of which only the smallest picture is asked.
    pub(crate) fn quick_dev() -> Self {
        Self::of("tiny-dev").set("sampling", "steps", 1).set("image", "width", 16).set("image", "height", 16)
    }

    /// Runs `forge txt2img` on what must be refused for a model.
    pub(crate) fn refuse(&self, args: &[&str], words: &[&str]) -> Ran {
        let ran = self.txt2img(args).refused(4, words);
        assert_eq!(self.drawn(), Vec::<PathBuf>::new(), "{ran:?}");
        ran
    }

    /// A copy of the parts of the golden folder in diffusers' layout, `w`, with whole encoders.
    pub(crate) fn whole_folder(&self) {
        for part in ["transformer", "text_encoder", "text_encoder_2", "vae"] {
            copy(&golden("tiny-diffusers").join(part), &self.path("w").join(part));
        }
        for (role, part) in [("clip", "text_encoder"), ("t5", "text_encoder_2")] {
            self.write(&format!("w/{part}/model.safetensors"), fs::read(self.role(role)).expect("a golden file"));
        }
    }

    /// Pictures and unfinished files anywhere in the folder.
    pub(crate) fn drawn(&self) -> Vec<PathBuf> {
        let drawn = |file: &PathBuf| file.extension().is_some_and(|e| e == "png" || e == "tmp");
        files(self.folder.path()).into_iter().filter(drawn).collect()
    }

    /// The only picture.
    pub(crate) fn picture(&self) -> PathBuf {
        let [picture] = <[PathBuf; 1]>::try_from(self.drawn()).expect("exactly one picture");
        picture
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// Waits for a command that has a minute; one that hangs is a failure and not a test run without end.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return status;
        }
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().expect("the child is ours");
            panic!("the command did not end within a minute");
        }
        sleep(Duration::from_millis(1));
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    args: String,
}

impl Ran {
    /// What a finished command did.
    pub(crate) fn of(output: Output, args: &[&str]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr), args: args.join(" ") }
    }

    /// The run, which was refused with this exit code by an event, and these words in it.
    pub(crate) fn refused_in_json(self, code: i32, words: &str) -> Self {
        let event = self.json().pop().expect("an event");
        assert_eq!((self.code, event["code"].as_i64()), (Some(code), Some(code.into())), "{self:?}");
        assert!(event["error"].as_str().is_some_and(|error| error.contains(words)), "{self:?}");
        self
    }

    /// The run, which succeeded.
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The run, which was refused with this exit code, one error and these words in it.
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in {self:?}");
        }
        for word in ["panicked", "RUST_BACKTRACE", "Some(", "Err("] {
            assert!(!self.err.contains(word), "`{word}` in {self:?}");
        }
        self
    }

    /// Standard output as JSON lines.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }
}

/// A safetensors file taken apart, to be changed and put together again.
#[derive(Clone)]
pub(crate) struct Tensors(pub Vec<Entry>);

/// One tensor of a file.
#[derive(Clone)]
pub(crate) struct Entry {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

impl Tensors {
    /// The tensors of a file, in the order of their bytes.
    pub(crate) fn of(path: &Path) -> Self {
        let (header, data) = split(&fs::read(path).expect("the file is there"));
        let header: Map<String, Value> = serde_json::from_str(&header).expect("a valid header");
        let number = |value: &Value| value.as_u64().expect("a number");
        let mut entries: Vec<(u64, Entry)> = header
            .into_iter()
            .filter(|(name, _)| name != "__metadata__")
            .map(|(name, form)| {
                let [start, end] = [0, 1].map(|i| number(&form["data_offsets"][i]));
                let shape = form["shape"].as_array().expect("a shape").iter().map(number).collect();
                let dtype = form["dtype"].as_str().expect("a format").to_owned();
                (start, Entry { name, dtype, shape, bytes: data[start as usize..end as usize].to_vec() })
            })
            .collect();
        entries.sort_by_key(|(start, _)| *start);
        Self(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The file, whose header is true of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        let mut data = Vec::new();
        for Entry { name, dtype, shape, bytes } in &self.0 {
            let offsets = [data.len(), data.len() + bytes.len()];
            header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
            data.extend(bytes);
        }
        raw(&Value::Object(header).to_string(), &data)
    }

    /// A tensor.
    pub(crate) fn get(&mut self, name: &str) -> &mut Entry {
        self.0.iter_mut().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no tensor `{name}`"))
    }

    /// The file with one tensor of another shape, all zeros, or with one more.
    pub(crate) fn zeros(mut self, name: &str, dtype: &str, shape: &[u64]) -> Self {
        let width = match dtype {
            "F32" => 4,
            "F16" | "BF16" => 2,
            "I64" => 8,
            _ => 1,
        };
        let bytes = vec![0; (shape.iter().product::<u64>() * width) as usize];
        self.0.retain(|entry| entry.name != name);
        self.0.push(Entry { name: name.into(), dtype: dtype.into(), shape: shape.into(), bytes });
        self
    }

    /// The file without some of its tensors.
    pub(crate) fn without(mut self, unwanted: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|entry| !unwanted(&entry.name));
        self
    }

    /// The file with other names.
    pub(crate) fn renamed(mut self, rename: impl Fn(&str) -> String) -> Self {
        self.0.iter_mut().for_each(|entry| entry.name = rename(&entry.name));
        self
    }

    /// The file with a value in place of a tensor's first one.
    pub(crate) fn poisoned(mut self, name: &str, value: f32) -> Self {
        let entry = self.get(name);
        let bytes = match entry.dtype.as_str() {
            "F32" => value.to_le_bytes().to_vec(),
            "BF16" => value.to_le_bytes()[2..].to_vec(),
            // Infinity and NaN are all that is asked for.
            "F16" if value.is_infinite() => 0x7c00u16.to_le_bytes().to_vec(),
            "F16" if value.is_nan() => 0x7e00u16.to_le_bytes().to_vec(),
            other => panic!("{other}"),
        };
        entry.bytes[..bytes.len()].copy_from_slice(&bytes);
        self
    }
}

/// A file of this header, whatever it says, and these bytes.
pub(crate) fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A file's header and the bytes behind it.
pub(crate) fn split(file: &[u8]) -> (String, Vec<u8>) {
    let (length, rest) = file.split_first_chunk::<8>().expect("a whole file");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (String::from_utf8(header.to_vec()).expect("a header is text"), data.to_vec())
}

/// Changes a JSON object in a file.
pub(crate) fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(file).expect("the file is there")).expect("JSON");
    change(&mut json);
    fs::write(file, json.to_string()).expect("files can be written here");
}

/// Copies a folder and all in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folders can be made here");
    for entry in from.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let to = to.join(entry.file_name().expect("an entry has a name"));
        match entry.is_dir() {
            true => copy(&entry, &to),
            false => drop(fs::copy(&entry, &to).expect("files can be written here")),
        }
    }
}

/// A golden model file.
pub(crate) fn golden(name: &str) -> PathBuf {
    fixtures::path("golden").join(name)
}

/// Numbers that are the same in every run: Knuth's linear congruential generator.
pub(crate) struct Dice(pub u64);

impl Dice {
    /// One of `0..sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}
