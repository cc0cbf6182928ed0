use diffusion_engine::Error;

/// What the tensors of a UNet don't tell; from its `config.json`, where there is one. Names are those of diffusers and, for what it has no
/// key for, of the configs of latent-diffusion.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct UnetConfig {
    /// How many heads attention has.
    pub num_attention_heads: Option<PerLevel>,
    /// The same in most configs: diffusers reads the number of heads from here, whatever the name says.
    pub attention_head_dim: Option<PerLevel>,
    /// How wide a head is, where no number of heads is given. Without either there are 8 heads where pixels come into transformers
    /// through convolutions, as in Stable Diffusion 1, and heads 64 wide where they come through matrices, as in all later ones.
    pub num_head_channels: Option<usize>,
    /// Groups of the group norms; 32 where not given.
    pub norm_num_groups: Option<usize>,
    /// What lies in the middle. `null` where nothing does, as in BK-SDM's small and tiny ones; a config without the key means the usual block,
    /// and without a config the tensors say it.
    #[serde(default = "usual_middle")]
    pub mid_block_type: Option<String>,
}

fn usual_middle() -> Option<String> {
    Some("UNetMidBlock2DCrossAttn".to_owned()) // diffusers/models/unets/unet_2d_condition.py
}

/// A number for all levels of a UNet, or one for each from the finest.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum PerLevel {
    /// The same everywhere.
    All(usize),
    /// One for each level.
    Each(Vec<usize>),
}

const GROUPS: usize = 32; // latent-diffusion: normalization() and Normalize()
const HEADS: usize = 8; // configs/stable-diffusion/v1-inference.yaml: num_heads
const HEAD: usize = 64; // v2-inference.yaml and sd_xl_base.yaml: num_head_channels

impl UnetConfig {
    /// Groups of every group norm.
    pub(crate) fn groups(&self) -> usize {
        self.norm_num_groups.unwrap_or(GROUPS)
    }

    /// How many heads attention over so many channels has on a level, of a transformer that pixels come into through `convolutions`.
    pub(crate) fn heads(&self, level: usize, channels: usize, convolutions: bool) -> Result<usize, Error> {
        let heads =
            match (self.num_attention_heads.as_ref().or(self.attention_head_dim.as_ref()), self.num_head_channels) {
                (Some(PerLevel::All(heads)), _) => *heads,
                (Some(PerLevel::Each(heads)), _) => *heads.get(level).ok_or_else(|| Error::Model {
                    what: "the number of levels that a UNet's config gives heads for",
                    expected: format!("{} at least", level + 1),
                    found: heads.len().to_string(),
                })?,
                (None, Some(width)) => parted(channels, width)?,
                (None, None) if convolutions => HEADS,
                (None, None) => parted(channels, HEAD)?,
            };
        parted(channels, heads).map(|_| heads)
    }
}

/// `channels / by`, where there is no rest.
fn parted(channels: usize, by: usize) -> Result<usize, Error> {
    if by == 0 || !channels.is_multiple_of(by) {
        return Err(Error::Model {
            what: "the width of a UNet's attention",
            expected: format!("a multiple of {by}, by which its heads divide it"),
            found: channels.to_string(),
        });
    }
    Ok(channels / by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> UnetConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_config_of_diffusers_gives_the_number_of_heads_under_the_name_of_their_width() {
        // as in the folders of Stable Diffusion 1.5, 2.1 and XL
        let heads = |json, levels: &[usize]| -> Vec<usize> {
            let config = config(json);
            levels.iter().enumerate().map(|(level, &c)| config.heads(level, c, false).unwrap()).collect()
        };
        assert_eq!(heads(r#"{"attention_head_dim": 8}"#, &[320, 640, 1280, 1280]), [8; 4]);
        let v2 = r#"{"attention_head_dim": [5, 10, 20, 20], "num_attention_heads": null}"#;
        assert_eq!(heads(v2, &[320, 640, 1280, 1280]), [5, 10, 20, 20]);
        assert_eq!(heads(r#"{"num_attention_heads": 4, "attention_head_dim": 8}"#, &[320, 640]), [4, 4]);
    }

    #[test]
    fn without_a_config_the_way_into_a_transformer_says_how_many_heads_there_are() {
        let silent = UnetConfig::default();
        for (channels, convolutions, heads) in
            [(320, true, 8), (1280, true, 8), (320, false, 5), (1280, false, 20), (1536, false, 24)]
        {
            assert_eq!(silent.heads(0, channels, convolutions).unwrap(), heads, "{channels} {convolutions}");
        }
        assert_eq!(config(r#"{"num_head_channels": 16}"#).heads(2, 64, true).unwrap(), 4);
    }

    #[test]
    fn heads_that_do_not_divide_the_channels_are_an_error() {
        for json in [
            r#"{"attention_head_dim": 0}"#,
            r#"{"attention_head_dim": 7}"#,
            r#"{"num_head_channels": 0}"#,
            r#"{"num_head_channels": 65}"#,
            r#"{"attention_head_dim": [5]}"#,
            "{}",
        ] {
            let heads = config(json).heads(1, 96, false);
            assert!(matches!(heads, Err(Error::Model { .. })), "{json}: {heads:?}");
        }
    }
}
