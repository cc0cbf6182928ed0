use core_tensor::{Branch, Error, Manifest, Stored, WeightSource};

/// A tiny autoencoder under diffusers' names, `decoder.layers.0`, `encoder.layers.0`.
///
/// Read are those names, and those of TAESD's own files: the decoder's layers count from 1 there, as what bends latents is one too, and
/// a file that holds one half has nothing before its numbers. ComfyUI's files have `taesd_decoder` and `taesd_encoder` there.
#[derive(Debug)]
pub struct TinyNames<S> {
    source: S,
    manifest: Manifest,
    /// What stands before all names, in the file and outside.
    prefix: String,
    halves: Vec<Half>,
}

/// Where a half's layers are in a file.
#[derive(Debug)]
struct Half {
    /// What stands before their numbers.
    theirs: String,
    ours: String,
    /// What diffusers counts less.
    ahead: usize,
}

const DECODER: &str = "decoder.layers.";
const ENCODER: &str = "encoder.layers.";

impl<S: WeightSource> TinyNames<S> {
    /// Wraps a source.
    pub fn over(source: S) -> Self {
        Self::under("", source)
    }

    /// The same of a file in which `prefix`, empty or with a point at its end, stands before all names; it stays there.
    pub fn under(prefix: &str, source: S) -> Self {
        let halves = Half::all(source.manifest(), prefix);
        let renamed = halves.iter().flat_map(|half| {
            let named = source
                .manifest()
                .under(&half.theirs)
                .filter_map(move |(rest, form)| Some((half.renumbered(rest)?, form.format, form.shape.to_vec())));
            named.collect::<Vec<_>>()
        });
        Self { manifest: renamed.collect(), prefix: prefix.to_owned(), halves, source }
    }

    /// Whether a file holds a tiny decoder.
    pub fn has_decoder(&self) -> bool {
        self.manifest.contains(&format!("{}decoder.layers.0.weight", self.prefix))
    }

    /// Whether a file holds a tiny encoder.
    pub fn has_encoder(&self) -> bool {
        self.manifest.contains(&format!("{}encoder.layers.0.weight", self.prefix))
    }

    fn theirs(&self, name: &str) -> Option<String> {
        self.halves.iter().find_map(|half| {
            let (number, rest) = name.strip_prefix(&half.ours)?.split_once('.')?;
            let number = number.parse::<usize>().ok()?.checked_add(half.ahead)?;
            Some(format!("{}{number}.{rest}", half.theirs))
        })
    }
}

impl Half {
    /// The halves that a file holds.
    fn all(file: &Manifest, prefix: &str) -> Vec<Self> {
        // The last block of a decoder's coarsest resolution, as its own files and diffusers count, and the first of an encoder.
        let half = |theirs: &str, ours: &str, ahead, mark: &str| {
            let [theirs, ours] = [theirs, ours].map(|name| format!("{prefix}{name}"));
            file.contains(&format!("{theirs}{mark}")).then_some(Self { theirs, ours, ahead })
        };
        let decoders = ["decoder.layers.", "taesd_decoder.", "decoder.", ""];
        let decoder = decoders.iter().find_map(|theirs| match *theirs {
            DECODER => half(theirs, DECODER, 0, "2.conv.0.weight"),
            theirs => {
                let decoder = half(theirs, DECODER, 1, "3.conv.0.weight");
                decoder.filter(|_| file.contains(&format!("{prefix}{theirs}1.weight")))
            }
        });
        let encoders = ["encoder.layers.", "taesd_encoder.", "encoder.", ""];
        let encoder = encoders.iter().find_map(|theirs| half(theirs, ENCODER, 0, "1.conv.0.weight"));
        decoder.into_iter().chain(encoder).collect()
    }

    /// Diffusers' name of a tensor, of which `rest` stands behind what is before the numbers.
    fn renumbered(&self, rest: &str) -> Option<String> {
        let (number, rest) = rest.split_once('.')?;
        let number = number.parse::<usize>().ok()?.checked_sub(self.ahead)?;
        Some(format!("{}{number}.{rest}", self.ours))
    }
}

impl<S: WeightSource> WeightSource for TinyNames<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        self.source.read(&self.theirs(name).ok_or_else(missing)?)
    }

    fn note(&self, key: &str) -> Option<&str> {
        self.source.note(key)
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.theirs(name).map_or_else(Vec::new, |name| self.source.branches(&name))
    }
}
