use core_tensor::{Branch, Error, Manifest, Stored, WeightSource};

/// An autoencoder in diffusers' layout under the original (latent-diffusion) names.
///
/// The same modules in another order: `up_blocks` count from the coarsest level, `up` from the finest, and the middle
/// block's attention is made of matrices there and of 1 × 1 convolutions here. Reference: diffusers
/// `convert_ldm_vae_checkpoint`, 0.42. Files that were converted to the original layout and kept diffusers' attention, its matrices
/// or its names, are read too, and so are those in the original layout.
#[derive(Debug)]
pub struct LdmNames<S> {
    source: S,
    names: Names,
    manifest: Manifest,
}

/// How an autoencoder's names are translated.
#[derive(Debug)]
struct Names {
    prefix: String,
    levels: usize,
    /// Whether the file's modules have their original names, but perhaps for those of the attention.
    original: bool,
    attention: &'static Attention,
}

/// The attention's modules here and in a file.
type Attention = [(&'static str, &'static str); 4];

/// How files call the attention's modules: by their original names, as diffusers does, and as it did before 0.17.
const ATTENTIONS: [Attention; 3] = [
    [("q", "q"), ("k", "k"), ("v", "v"), ("proj_out", "proj_out")],
    [("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")],
    [("q", "query"), ("k", "key"), ("v", "value"), ("proj_out", "proj_attn")],
];

impl<S: WeightSource> LdmNames<S> {
    /// Wraps a source in diffusers' layout whose names have no prefix.
    pub fn over(source: S) -> Self {
        Self::under("", source)
    }

    /// Wraps the part of a source in diffusers' layout whose names begin with `prefix`, such as `vae.`; the prefix stays, and the
    /// source's other tensors are not there.
    pub fn under(prefix: impl Into<String>, source: S) -> Self {
        let prefix = prefix.into();
        let file = source.manifest();
        let level = |(name, _): (&str, _)| name.split('.').next().and_then(|level| level.parse::<usize>().ok());
        let blocks = format!("{prefix}decoder.up_blocks.");
        let levels = file.under(&blocks).filter_map(level).max().map_or(0, |level| level.saturating_add(1));
        let original = file.contains(&format!("{prefix}decoder.mid.block_1.conv1.weight"));
        let attn = if original { "attn_1" } else { "attentions.0" };
        let mid = if original { "mid" } else { "mid_block" };
        let called =
            |attention: &&Attention| file.contains(&format!("{prefix}decoder.{mid}.{attn}.{}.weight", attention[0].1));
        let attention = ATTENTIONS.iter().find(called).unwrap_or(&ATTENTIONS[0]);
        let names = Names { prefix, levels, original, attention };
        let renamed = file.under(&names.prefix).filter_map(|(theirs, form)| {
            let name = names.ours(theirs);
            let shape = convolution(&name, form.shape.to_vec());
            // What stands under another tensor's original name is not that tensor.
            (names.theirs_bare(&name) == theirs).then(|| (format!("{}{name}", names.prefix), form.format, shape))
        });
        Self { manifest: renamed.collect(), source, names }
    }
}

impl Names {
    /// The name in the file of a tensor's original name; `None` for one without the prefix.
    fn theirs(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, self.theirs_bare(name.strip_prefix(&self.prefix)?)))
    }

    fn theirs_bare(&self, name: &str) -> String {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            [half, "mid", "attn_1", part, leaf] if self.original => {
                format!("{half}.mid.attn_1.{}.{leaf}", self.their_attention(part))
            }
            _ if self.original => name.to_owned(),
            ["decoder", "up", level, "block", block, ref rest @ ..] => match self.flip(level) {
                Some(level) => format!("decoder.up_blocks.{level}.resnets.{block}.{}", resnet(rest)),
                None => name.to_owned(),
            },
            ["decoder", "up", level, "upsample", "conv", leaf] => match self.flip(level) {
                Some(level) => format!("decoder.up_blocks.{level}.upsamplers.0.conv.{leaf}"),
                None => name.to_owned(),
            },
            ["encoder", "down", level, "block", block, ref rest @ ..] => {
                format!("encoder.down_blocks.{level}.resnets.{block}.{}", resnet(rest))
            }
            ["encoder", "down", level, "downsample", "conv", leaf] => {
                format!("encoder.down_blocks.{level}.downsamplers.0.conv.{leaf}")
            }
            [half, "mid", "block_1", ref rest @ ..] => format!("{half}.mid_block.resnets.0.{}", resnet(rest)),
            [half, "mid", "block_2", ref rest @ ..] => format!("{half}.mid_block.resnets.1.{}", resnet(rest)),
            [half, "mid", "attn_1", "norm", leaf] => format!("{half}.mid_block.attentions.0.group_norm.{leaf}"),
            [half, "mid", "attn_1", part, leaf] => {
                format!("{half}.mid_block.attentions.0.{}.{leaf}", self.their_attention(part))
            }
            [half, "norm_out", leaf] => format!("{half}.conv_norm_out.{leaf}"),
            _ => name.to_owned(),
        }
    }

    /// The original name of a tensor in the file, whose name has no prefix.
    fn ours(&self, name: &str) -> String {
        let parts: Vec<&str> = name.split('.').collect();
        let original = |rest: &[&str]| rest.join(".").replace("conv_shortcut", "nin_shortcut");
        match parts[..] {
            [half, "mid", "attn_1", ref part @ .., leaf] if self.original => {
                format!("{half}.mid.attn_1.{}.{leaf}", self.our_attention(part.join(".")))
            }
            _ if self.original => name.to_owned(),
            ["decoder", "up_blocks", level, "resnets", block, ref rest @ ..] => match self.flip(level) {
                Some(level) => format!("decoder.up.{level}.block.{block}.{}", original(rest)),
                None => name.to_owned(),
            },
            ["decoder", "up_blocks", level, "upsamplers", "0", "conv", leaf] => match self.flip(level) {
                Some(level) => format!("decoder.up.{level}.upsample.conv.{leaf}"),
                None => name.to_owned(),
            },
            ["encoder", "down_blocks", level, "resnets", block, ref rest @ ..] => {
                format!("encoder.down.{level}.block.{block}.{}", original(rest))
            }
            ["encoder", "down_blocks", level, "downsamplers", "0", "conv", leaf] => {
                format!("encoder.down.{level}.downsample.conv.{leaf}")
            }
            [half, "mid_block", "resnets", "0", ref rest @ ..] => format!("{half}.mid.block_1.{}", original(rest)),
            [half, "mid_block", "resnets", "1", ref rest @ ..] => format!("{half}.mid.block_2.{}", original(rest)),
            [half, "mid_block", "attentions", "0", "group_norm", leaf] => format!("{half}.mid.attn_1.norm.{leaf}"),
            [half, "mid_block", "attentions", "0", ref part @ .., leaf] => {
                format!("{half}.mid.attn_1.{}.{leaf}", self.our_attention(part.join(".")))
            }
            [half, "conv_norm_out", leaf] => format!("{half}.norm_out.{leaf}"),
            _ => name.to_owned(),
        }
    }

    fn their_attention<'n>(&self, part: &'n str) -> &'n str {
        self.attention.iter().find(|(ours, _)| *ours == part).map_or(part, |(_, theirs)| theirs)
    }

    fn our_attention(&self, part: String) -> String {
        self.attention.iter().find(|(_, theirs)| *theirs == part).map_or(part, |(ours, _)| (*ours).to_owned())
    }

    fn flip(&self, level: &str) -> Option<usize> {
        self.levels.checked_sub(1)?.checked_sub(level.parse().ok()?)
    }
}

fn resnet(rest: &[&str]) -> String {
    rest.join(".").replace("nin_shortcut", "conv_shortcut")
}

impl<S: WeightSource> WeightSource for LdmNames<S> {
    fn label(&self) -> &str {
        self.source.label()
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, name: &str) -> Result<Stored, Error> {
        let missing = || Error::Missing { name: name.to_owned(), source_name: self.label().to_owned() };
        let stored = self.source.read(&self.names.theirs(name).ok_or_else(missing)?)?;
        let shape = convolution(name, stored.shape().to_vec());
        Ok(stored.reshape(shape))
    }

    fn branches(&self, name: &str) -> Vec<Branch> {
        self.names.theirs(name).map_or_else(Vec::new, |theirs| self.source.branches(&theirs))
    }
}

/// The attention's matrices as 1 × 1 convolutions.
fn convolution(name: &str, mut shape: Vec<usize>) -> Vec<usize> {
    if name.contains(".attn_1.") && shape.len() == 2 {
        shape.extend([1, 1]);
    }
    shape
}
