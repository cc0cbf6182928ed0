use core_tensor::{Dtype, Stored, WeightSource};

/// An autoencoder in diffusers' layout under the original (latent-diffusion) names.
///
/// The same modules in another order: `up_blocks` count from the coarsest level, `up` from the finest, and the middle
/// block's attention is made of matrices there and of 1 × 1 convolutions here. Reference: diffusers
/// `convert_ldm_vae_checkpoint`, 0.42.
pub struct LdmNames<S> {
    source: S,
    levels: usize,
}

impl<S: WeightSource> LdmNames<S> {
    /// Whether a source has diffusers' names.
    pub fn apply_to(source: &S) -> bool {
        source.form("decoder.mid_block.resnets.0.conv1.weight").is_some()
    }

    /// Wraps a source in diffusers' layout.
    pub fn over(source: S) -> Self {
        let level = |name: &str| name.strip_prefix("decoder.up_blocks.")?.split('.').next()?.parse::<usize>().ok();
        let levels = source.names().iter().filter_map(|n| level(n)).max().map_or(0, |last| last.saturating_add(1));
        Self { source, levels }
    }

    /// The name in the file of a tensor's original name.
    fn theirs(&self, name: &str) -> String {
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
            [half, "mid", "attn_1", part, leaf] => format!("{half}.mid_block.attentions.0.{}.{leaf}", attention(part)),
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

fn attention(part: &str) -> &str {
    match part {
        "norm" => "group_norm",
        "q" => "to_q",
        "k" => "to_k",
        "v" => "to_v",
        "proj_out" => "to_out.0",
        other => other,
    }
}

impl<S: WeightSource> WeightSource for LdmNames<S> {
    fn label(&self) -> String {
        self.source.label()
    }

    fn names(&self) -> Vec<String> {
        self.source.names().iter().map(|name| self.ours(name)).collect()
    }

    fn form(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        let (dtype, shape) = self.source.form(&self.theirs(name))?;
        Some((dtype, convolution(name, shape)))
    }

    fn read(&self, name: &str) -> Option<Stored> {
        let stored = self.source.read(&self.theirs(name))?;
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
