//! What a file holds, told by its tensors' names.

use core_tensor::{Manifest, WeightSource};

use crate::{Error, names::BasicSrNames};

/// An upscaler's file, under one set of names.
pub(crate) enum Architecture<'s> {
    /// ESRGAN's residual-in-residual dense blocks.
    Rrdb(BasicSrNames<'s>),
    /// Real-ESRGAN's compact network, whose names begin with this.
    Compact { prefix: String },
    /// SwinIR, whose names begin with this.
    SwinIr { prefix: String },
}

/// Tensors that tell ESRGAN's network, in the names of its three releases and of ESRGAN+.
const RRDB: [&str; 4] = [
    "body.0.rdb1.conv1.weight",
    "model.1.sub.0.RDB1.conv1.0.weight",
    "model.1.sub.0.RDB1.conv1x1.weight",
    "RRDB_trunk.0.RDB1.conv1.weight",
];

/// The tensor that tells SwinIR where none of the [`OTHERS`] is there.
const SWIN_IR: &str = "layers.0.residual_group.blocks.0.norm1.weight";

/// Tensors that tell other upscalers and restorers, of which the first that a file has says what it is.
const OTHERS: [(&str, &str); 30] = [
    ("an MM-RealSR network", "am_list.0.fc.0.weight"),
    ("a HAT transformer", "layers.0.residual_group.blocks.0.conv_block.cab.0.weight"),
    ("an ATD transformer", "layers.0.residual_group.td"),
    ("a CRAFT transformer", "layers.0.residual_group.hf_blocks.0.attn.temperature"),
    ("a Swin2SR transformer", "layers.0.residual_group.blocks.0.attn.logit_scale"),
    ("a SwinIR transformer that reads squares of pixels", "conv_first.1.weight"),
    ("a RGT transformer", "layers.0.blocks.0.gamma"),
    ("a DAT transformer", "layers.0.blocks.0.attn.attns.0.rpe_biases"),
    ("a DAT transformer", "layers.0.blocks.0.ffn.sg.norm.weight"),
    ("a GRL transformer", "layers.0.blocks.0.attn.window_attn.attn_transform.logit_scale"),
    ("a DRCT transformer", "layers.0.swin1.norm1.weight"),
    ("an FDAT transformer", "groups.0.blocks.0.inter.cg.1.weight"),
    ("an OmniSR network", "residual_layer.0.residual_layer.0.layer.0.fn.0.weight"),
    ("a SPAN network", "block_1.c1_r.sk.weight"),
    ("a SPAN network", "block_1.c1_r.eval_conv.weight"),
    ("a Real-CUGAN network", "unet1.conv1.conv.0.weight"),
    ("an SCUNet", "m_head.0.weight"),
    ("a PLKSR network", "feats.1.lk.conv.weight"),
    ("a PLKSR network", "feats.1.lk.convs.0.weight"),
    ("a PLKSR network", "feats.1.lk.mn_conv.weight"),
    ("a SAFMN network", "feats.0.safm.mfr.0.weight"),
    ("a MoSR network", "gblocks.1.fc1.weight"),
    ("a MoESR network", "blocks.0.blocks.0.conv.dwconv_hw.weight"),
    ("a Swift-SRGAN network", "initial.cnn.depthwise.weight"),
    ("an AuraSR network", "mid_attn.layers.0.0.to_out.weight"),
    ("a RCAN network", "body.0.body.0.body.3.conv_du.0.weight"),
    ("a DITN transformer", "UFONE.0.ITLs.0.attn.temperature"),
    ("a DCTLSA transformer", "B1.body.0.transformer_body.0.blocks.0.attn.qkv.weight"),
    ("a SeemoRe network", "body.0.local_block.norm_1.weight"),
    ("GFPGAN, which restores faces", "stylegan_decoder.style_mlp.1.weight"),
];

/// Where trainers put the weights that count, the first of them first: an average is what is meant to be used.
const PREFERRED: [&str; 2] = ["params_ema", "params-ema"];

/// The most of a tensor's name that a message repeats.
const QUOTED: usize = 80;

impl<'s> Architecture<'s> {
    /// What a file holds.
    ///
    /// # Errors
    /// [`Error::Architecture`] for an upscaler of another kind, [`Error::Unknown`] for anything else.
    pub(crate) fn of(source: &'s dyn WeightSource) -> Result<Self, Error> {
        let manifest = source.manifest();
        let other = OTHERS.iter().find_map(|&(architecture, mark)| Some((architecture, named(manifest, mark)?)));
        if let Some((architecture, tensor)) = other {
            let (source_name, tensor) = (source.label().to_owned(), abridged(tensor));
            return Err(Error::Architecture { source_name, architecture, tensor });
        }
        if let Some(prefix) = RRDB.iter().find_map(|mark| prefix(manifest, mark, |_| true)) {
            return Ok(Self::Rrdb(BasicSrNames::under(prefix, source)));
        }
        if let Some(prefix) = prefix(manifest, SWIN_IR, |_| true) {
            return Ok(Self::SwinIr { prefix: prefix.to_owned() });
        }
        // The rectifiers between its convolutions are lists of slopes.
        let is_compact = |prefix: &str| {
            let rank = |name: &str| manifest.get(&format!("{prefix}{name}")).map(|form| form.shape.len());
            rank("body.0.weight") == Some(4) && rank("body.1.weight") == Some(1)
        };
        match prefix(manifest, "body.0.weight", is_compact) {
            Some(prefix) => Ok(Self::Compact { prefix: prefix.to_owned() }),
            None => {
                let first = manifest.names().next().map(abridged);
                Err(Error::Unknown { source_name: source.label().to_owned(), first })
            }
        }
    }
}

/// What stands before a tensor's name, where that is one of these; an average goes before what it is of.
fn prefix<'m>(manifest: &'m Manifest, mark: &str, fits: impl Fn(&str) -> bool) -> Option<&'m str> {
    let prefixes = manifest.names().filter_map(|name| {
        let prefix = name.strip_suffix(mark)?;
        (prefix.is_empty() || prefix.ends_with('.')).then_some(prefix)
    });
    let is_preferred = |prefix: &str| prefix.split('.').any(|part| PREFERRED.contains(&part));
    prefixes.filter(|prefix| fits(prefix)).min_by_key(|prefix| (!is_preferred(prefix), prefix.len()))
}

/// The first tensor of this name behind any prefix.
fn named<'m>(manifest: &'m Manifest, mark: &str) -> Option<&'m str> {
    manifest
        .names()
        .find(|name| name.strip_suffix(mark).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.')))
}

fn abridged(name: &str) -> String {
    match name.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
