//! Which tensors are stored in what: the rules of whoever converts, and those that hold without any.

use std::str::FromStr;

use core_tensor::{Form, Format};
use quant::formats as f;

use super::Target;
use crate::convert_fault::ConvertFault;

/// What tensors of some names are stored in.
///
/// The pattern is a part of a name, or several with `|` between them; `*` in it stands for anything, `^` at its beginning for that of
/// the name and `$` at its end for the name's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    text: String,
    patterns: Vec<Pattern>,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// What follows each other in a name, with anything between.
    parts: Vec<String>,
    begins: bool,
    ends: bool,
}

impl Rule {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says that tensors are stored in.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether it speaks of a tensor.
    pub fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }
}

impl FromStr for Rule {
    type Err = ConvertFault;

    fn from_str(text: &str) -> Result<Self, ConvertFault> {
        let wrong = || ConvertFault::Rule { rule: text.to_owned() };
        let (patterns, target) = text.rsplit_once('=').ok_or_else(wrong)?;
        let patterns: Vec<Pattern> = patterns.split('|').map(Pattern::of).collect();
        if patterns.iter().any(|pattern| pattern.parts.iter().all(String::is_empty) && pattern.parts.len() == 1) {
            return Err(wrong());
        }
        Ok(Self { text: text.to_owned(), patterns, target: target.parse()? })
    }
}

impl Pattern {
    fn of(text: &str) -> Self {
        let (begins, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
        let (ends, text) = text.strip_suffix('$').map_or((false, text), |rest| (true, rest));
        Self { parts: text.split('*').map(str::to_owned).collect(), begins, ends }
    }

    fn matches(&self, name: &str) -> bool {
        let mut rest = name;
        let last = self.parts.len() - 1;
        for (i, part) in self.parts.iter().enumerate() {
            let found = match (i == 0 && self.begins, i == last && self.ends) {
                (true, true) => (rest == part).then_some(rest.len()),
                (true, false) => rest.starts_with(&**part).then_some(part.len()),
                (false, true) => rest.ends_with(&**part).then_some(rest.len()),
                (false, false) => rest.find(&**part).map(|at| at + part.len()),
            };
            let Some(end) = found else { return false };
            rest = &rest[end..];
        }
        true
    }
}

/// What a model's tensor is, as far as it counts for how it is stored.
pub(super) struct Place<'a> {
    /// Its name, without the prefix of its model.
    pub(super) name: &'a str,
    pub(super) form: Form<'a>,
    /// Whether it belongs to a network that makes pictures of latents, or to none.
    pub(super) is_kept: bool,
}

/// How names of matrices begin that are small or stand where an error goes into everything: they stay in floats of 16 bits.
const KEPT: [&str; 20] = [
    "img_in.",
    "txt_in.",
    "time_in.",
    "vector_in.",
    "guidance_in.",
    "final_layer.",
    "x_embedder.",
    "context_embedder.",
    "time_text_embed.",
    "norm_out.",
    "time_embed.",
    "label_emb.",
    "input_blocks.0.",
    "out.",
    "time_embedding.",
    "add_embedding.",
    "conv_in.",
    "conv_out.",
    "text_projection",
    "visual_projection.",
];

/// Parts of the names of tables that are added to what is computed, likewise.
const ADDED: [&str; 4] = ["relative_attention_bias", "attn_rel_b", "position_embedding", "positional_embedding"];

/// Parts of the names of tables whose rows are looked up, which neither bitsandbytes nor converters to floats of eight bits touch.
const TABLES: [&str; 4] = ["token_embedding", "shared.weight", "embed_tokens", "token_embd"];

/// Tensors of fewer weights are not worth it.
const FEW: usize = 1024;

impl Place<'_> {
    /// What it is stored in where rules say so.
    pub(super) fn ruled(&self, target: Target) -> Target {
        match target {
            float if float.is_float() => float,
            packed if self.form.shape.len() == 2 => self.fitting(packed),
            // Blocks are for matrices, whose biases bear their names.
            _ => self.high(),
        }
    }

    /// What it is stored in where nobody says anything else.
    pub(super) fn usual(&self, target: Target) -> Target {
        let few = self.form.shape.iter().product::<usize>() < FEW;
        let is_table = TABLES.iter().any(|part| self.name.contains(part));
        let is_high = self.is_kept
            || KEPT.iter().any(|start| self.name.starts_with(start))
            || ADDED.iter().any(|part| self.name.contains(part));
        match target {
            Target::Plain(format) if target.is_float() => match self.form.shape {
                [] | [_] if format == Format::F16 || format == Format::BF16 => Target::Plain(Format::F32),
                _ => target,
            },
            Target::FourBits(_) | Target::EightBits(_) if is_table => self.high(),
            packed if self.form.shape.len() == 2 && !few && !is_high => self.fitting(packed),
            _ => self.high(),
        }
    }

    /// Vectors stay in F32; matrices and convolutions in 16 bits, of the kind that the file has.
    fn high(&self) -> Target {
        let is_bf16 = self.form.format == Format::BF16;
        Target::Plain(match self.form.shape {
            [] | [_] => Format::F32,
            _ if is_bf16 => Format::BF16,
            _ => Format::F16,
        })
    }

    /// The target, or the smallest format that loses no more, where rows are no whole number of its blocks; as llama.cpp has it.
    fn fitting(&self, target: Target) -> Target {
        let width = self.form.shape.last().copied().unwrap_or(1);
        let fits = |format: Format| width.is_multiple_of(format.weights());
        match target {
            Target::Plain(format) if !fits(format) => {
                let instead = [
                    (f::Q2_K, f::IQ4_NL),
                    (f::Q3_K, f::IQ4_NL),
                    (f::IQ4_XS, f::IQ4_NL),
                    (f::Q4_K, f::Q5_0),
                    (f::Q5_K, f::Q5_1),
                    (f::Q6_K, f::Q8_0),
                    (f::TQ1_0, f::IQ4_NL),
                    (f::TQ2_0, f::IQ4_NL),
                ];
                let instead = instead.into_iter().find(|(known, _)| *known == format).map(|(_, instead)| instead);
                instead.filter(|instead| fits(*instead)).map_or_else(|| self.high(), Target::Plain)
            }
            // An odd number of weights, of which readers expect two for each byte.
            Target::FourBits(_) if self.form.shape.iter().all(|dim| dim % 2 == 1) => self.high(),
            target => target,
        }
    }
}

#[cfg(test)]
mod tests {
    use quant::encode::FourBits;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        format!("{pattern}=f32").parse::<Rule>().unwrap().matches(name)
    }

    #[test]
    fn a_pattern_is_a_part_of_a_name_or_several_in_order() {
        let name = "double_blocks.10.img_attn.norm.query_norm.scale";
        for pattern in
            ["norm", "bias|norm", "^double", "scale$", "img*scale", "^double*query*$", "*", "^*$", "blocks.*0."]
        {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["bias", "^img", "query$", "scale*img", "^double$", "blocks.*1.img", "norm*norm*norm"] {
            assert!(!matches(pattern, name), "{pattern}");
        }
        assert!(matches("^a$", "a") && !matches("^a$", "aa") && !matches("a*a", "a") && matches("=", "a=b"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for rule in ["", "norm", "=f32", "|a=f32", "^=f32"] {
            assert!(matches!(rule.parse::<Rule>(), Err(ConvertFault::Rule { .. })), "{rule}");
        }
        assert!(matches!("norm=f31".parse::<Rule>(), Err(ConvertFault::Type { .. })));
    }

    #[test]
    fn what_is_small_or_odd_stays_high_and_rows_that_do_not_fit_get_the_next_format() {
        let usual = |name: &str, format: Format, shape: &[usize], target: Format| {
            let form = Form { format, shape, bytes: 0 };
            Place { name, form, is_kept: false }.usual(Target::Plain(target)).name()
        };
        let cases = [
            ("double_blocks.0.img_mlp.0.weight", Format::BF16, &[12288, 3072][..], "Q4_K"),
            ("double_blocks.0.img_mlp.0.bias", Format::BF16, &[12288], "F32"),
            ("img_in.weight", Format::BF16, &[3072, 64], "BF16"),
            ("final_layer.linear.weight", Format::F32, &[64, 3072], "F16"),
            ("input_blocks.1.1.proj_in.weight", Format::F16, &[320, 320, 1, 1], "F16"),
            ("input_blocks.1.1.proj_in.weight", Format::F16, &[320, 320], "Q5_0"),
            ("small.weight", Format::F16, &[2, 256], "F16"),
            ("odd.weight", Format::F16, &[1024, 30], "F16"),
            ("shared.weight", Format::F16, &[32128, 4096], "Q4_K"),
            ("logit_scale", Format::F16, &[], "F32"),
        ];
        for (name, format, shape, expected) in cases {
            assert_eq!(usual(name, format, shape, f::Q4_K), expected, "{name} {shape:?}");
        }
        let four = |shape: &[usize]| {
            let form = Form { format: Format::F16, shape, bytes: 0 };
            Place { name: "a.weight", form, is_kept: false }.usual(Target::FourBits(FourBits::Nf4)).name()
        };
        assert_eq!([four(&[37, 31]), four(&[37, 32]), four(&[38, 31])], ["F16", "NF4", "NF4"]);
        assert_eq!(usual("norm.weight", Format::F32, &[64], Format::F16), "F32");
        assert_eq!(usual("conv.weight", Format::F32, &[64, 4, 3, 3], Format::F16), "F16");
    }
}
