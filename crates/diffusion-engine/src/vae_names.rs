use core_tensor::{Dtype, Stored, WeightSource};

/// An autoencoder in diffusers' layout under the original (latent-diffusion) names.
///
/// The same modules in another order: `up_blocks` count from the coarsest level, `up` from the finest, and the middle
/// block's attention is made of matrices there and of 1 × 1 convolutions here. Reference: diffusers
/// `convert_ldm_vae_checkpoint`, 0.42.
pub struct LdmNames<S> {
    source: S,
    prefix: String,
    levels: usize,
    attention: &'static [(&'static str, &'static str)],
}

/// The attention's modules here and in diffusers.
const ATTENTION: &[(&str, &str)] =
    &[("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")];

/// The same as diffusers called them before 0.17.
const OLD_ATTENTION: &[(&str, &str)] =
    &[("norm", "group_norm"), ("q", "query"), ("k", "key"), ("v", "value"), ("proj_out", "proj_attn")];

impl<S: WeightSource> LdmNames<S> {
    /// Wraps a source in diffusers' layout whose names have no prefix.
    pub fn over(source: S) -> Self {
        Self::under("", source)
    }

    /// Wraps the part of a source in diffusers' layout whose names begin with `prefix`, such as `vae.`; the prefix stays, and the
    /// source's other tensors are not there.
    pub fn under(prefix: impl Into<String>, source: S) -> Self {
        let prefix = prefix.into();
        let mut levels = 0;
        source.each_name(&mut |name| {
            let level =
                name.strip_prefix(&prefix).and_then(|n| n.strip_prefix("decoder.up_blocks.")?.split('.').next());
            let level = level.and_then(|level| level.parse::<usize>().ok());
            levels = levels.max(level.map_or(0, |level| level.saturating_add(1)));
        });
        let old = source.form(&format!("{prefix}decoder.mid_block.attentions.0.query.weight")).is_some();
        Self { source, prefix, levels, attention: if old { OLD_ATTENTION } else { ATTENTION } }
    }

    /// The name in the file of a tensor's original name; `None` for one without the prefix.
    fn theirs(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, self.theirs_bare(name.strip_prefix(&self.prefix)?)))
    }

    fn theirs_bare(&self, name: &str) -> String {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
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
            [half, "mid", "attn_1", part, leaf] => {
                let theirs = self.attention.iter().find(|(ours, _)| *ours == part).map_or(part, |(_, theirs)| theirs);
                format!("{half}.mid_block.attentions.0.{theirs}.{leaf}")
            }
            [half, "norm_out", leaf] => format!("{half}.conv_norm_out.{leaf}"),
            _ => name.to_owned(),
        }
    }

    /// The original name of a tensor in the file.
    fn ours(&self, name: &str) -> String {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            ["decoder", "up_blocks", level, "resnets", block, ref rest @ ..] => match self.flip(level) {
                Some(level) => format!(
                    "decoder.up.{level}.block.{block}.{}",
                    rest.join(".").replace("conv_shortcut", "nin_shortcut")
                ),
                None => name.to_owned(),
            },
            ["encoder", "down_blocks", level, "resnets", block, ref rest @ ..] => {
                format!(
                    "encoder.down.{level}.block.{block}.{}",
                    rest.join(".").replace("conv_shortcut", "nin_shortcut")
                )
            }
            _ => name.to_owned(),
        }
    }

    fn flip(&self, level: &str) -> Option<usize> {
        self.levels.checked_sub(1)?.checked_sub(level.parse().ok()?)
    }
}

fn resnet(rest: &[&str]) -> String {
    rest.join(".").replace("nin_shortcut", "conv_shortcut")
}

impl<S: WeightSource> WeightSource for LdmNames<S> {
    fn label(&self) -> String {
        self.source.label()
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.each_name(&mut |name| names.push(name.to_owned()));
        names
    }

    fn each_name(&self, see: &mut dyn FnMut(&str)) {
        self.source.each_name(&mut |name| {
            if let Some(name) = name.strip_prefix(&self.prefix) {
                see(&format!("{}{}", self.prefix, self.ours(name)));
            }
        });
    }

    fn form(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        let (dtype, shape) = self.source.form(&self.theirs(name)?)?;
        Some((dtype, convolution(name, shape)))
    }

    fn read(&self, name: &str) -> Option<Stored> {
        let stored = self.source.read(&self.theirs(name)?)?;
        let shape = convolution(name, stored.shape().to_vec());
        Some(stored.reshape(shape))
    }
}

/// The attention's matrices as 1 × 1 convolutions.
fn convolution(name: &str, mut shape: Vec<usize>) -> Vec<usize> {
    if name.contains(".attn_1.") && shape.len() == 2 {
        shape.extend([1, 1]);
    }
    shape
}
