use core_tensor::{Dtype, Stored, WeightSource};

/// A transformer in diffusers' layout under BFL's names.
///
/// What BFL fuses is split there: `qkv` into three matrices and `linear1` into four. The halves of the last modulation stand
/// the other way round. Reference: diffusers `convert_flux_transformer_checkpoint_to_diffusers`, 0.42.
pub struct BflNames<S>(S);

/// How a BFL tensor is made of diffusers' tensors.
enum Parts {
    /// One, as it is.
    One(String),
    /// Several, one below the other.
    Stacked(Vec<String>),
    /// One whose halves change places.
    Swapped(String),
}

impl<S: WeightSource> BflNames<S> {
    /// Whether a source has diffusers' names.
    pub fn apply_to(source: &S) -> bool {
        source.form("transformer_blocks.0.attn.to_q.weight").is_some()
    }

    /// Wraps a source in diffusers' layout.
    pub fn over(source: S) -> Self {
        Self(source)
    }

    fn concatenated(&self, names: &[String]) -> Option<Stored> {
        let parts: Vec<Stored> = names.iter().map(|n| self.0.read(n)).collect::<Option<_>>()?;
        Stored::stacked(&parts)
    }
}

fn parts(name: &str) -> Parts {
    let one = |n: String| Parts::One(n);
    let p: Vec<&str> = name.split('.').collect();
    match p[..] {
        ["img_in", leaf] => one(format!("x_embedder.{leaf}")),
        ["txt_in", leaf] => one(format!("context_embedder.{leaf}")),
        ["final_layer", "linear", leaf] => one(format!("proj_out.{leaf}")),
        ["final_layer", "adaLN_modulation", "1", leaf] => Parts::Swapped(format!("norm_out.linear.{leaf}")),
        [embedder, layer @ ("in_layer" | "out_layer"), leaf] => {
            let embedder = match embedder {
                "time_in" => "timestep_embedder",
                "vector_in" => "text_embedder",
                "guidance_in" => "guidance_embedder",
                other => other,
            };
            let layer = if layer == "in_layer" { "linear_1" } else { "linear_2" };
            one(format!("time_text_embed.{embedder}.{layer}.{leaf}"))
        }
        ["double_blocks", i, part, ref rest @ ..] => double(&format!("transformer_blocks.{i}"), part, rest),
        ["single_blocks", i, ref rest @ ..] => single(&format!("single_transformer_blocks.{i}"), rest),
        _ => one(name.to_owned()),
    }
}

fn double(block: &str, part: &str, rest: &[&str]) -> Parts {
    let one = |n: String| Parts::One(format!("{block}.{n}"));
    let stacked = |names: [&str; 3], leaf: &str| {
        Parts::Stacked(names.iter().map(|n| format!("{block}.attn.{n}.{leaf}")).collect())
    };
    match (part, rest) {
        ("img_mod", ["lin", leaf]) => one(format!("norm1.linear.{leaf}")),
        ("txt_mod", ["lin", leaf]) => one(format!("norm1_context.linear.{leaf}")),
        ("img_attn", ["qkv", leaf]) => stacked(["to_q", "to_k", "to_v"], leaf),
        ("txt_attn", ["qkv", leaf]) => stacked(["add_q_proj", "add_k_proj", "add_v_proj"], leaf),
        ("img_attn", ["norm", "query_norm", "scale"]) => one("attn.norm_q.weight".into()),
        ("img_attn", ["norm", "key_norm", "scale"]) => one("attn.norm_k.weight".into()),
        ("txt_attn", ["norm", "query_norm", "scale"]) => one("attn.norm_added_q.weight".into()),
        ("txt_attn", ["norm", "key_norm", "scale"]) => one("attn.norm_added_k.weight".into()),
        ("img_attn", ["proj", leaf]) => one(format!("attn.to_out.0.{leaf}")),
        ("txt_attn", ["proj", leaf]) => one(format!("attn.to_add_out.{leaf}")),
        ("img_mlp", ["0", leaf]) => one(format!("ff.net.0.proj.{leaf}")),
        ("img_mlp", ["2", leaf]) => one(format!("ff.net.2.{leaf}")),
        ("txt_mlp", ["0", leaf]) => one(format!("ff_context.net.0.proj.{leaf}")),
        ("txt_mlp", ["2", leaf]) => one(format!("ff_context.net.2.{leaf}")),
        _ => one(format!("{part}.{}", rest.join("."))),
    }
}

fn single(block: &str, rest: &[&str]) -> Parts {
    let one = |n: String| Parts::One(format!("{block}.{n}"));
    match rest {
        ["modulation", "lin", leaf] => one(format!("norm.linear.{leaf}")),
        ["linear1", leaf] => {
            let names = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"];
            Parts::Stacked(names.iter().map(|n| format!("{block}.{n}.{leaf}")).collect())
        }
        ["linear2", leaf] => one(format!("proj_out.{leaf}")),
        ["norm", "query_norm", "scale"] => one("attn.norm_q.weight".into()),
        ["norm", "key_norm", "scale"] => one("attn.norm_k.weight".into()),
        _ => one(rest.join(".")),
    }
}

/// BFL's name for the numbered blocks; enough to count them by.
fn ours(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("single_transformer_blocks.") {
        return format!("single_blocks.{rest}");
    }
    name.strip_prefix("transformer_blocks.")
        .map_or_else(|| name.to_owned(), |rest| format!("double_blocks.{rest}"))
}

impl<S: WeightSource> WeightSource for BflNames<S> {
    fn label(&self) -> String {
        self.0.label()
    }

    fn names(&self) -> Vec<String> {
        self.0.names().iter().map(|name| ours(name)).collect()
    }

    fn form(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        match parts(name) {
            Parts::One(theirs) | Parts::Swapped(theirs) => self.0.form(&theirs),
            Parts::Stacked(names) => {
                let mut forms = names.iter().map(|n| self.0.form(n));
                let (dtype, mut shape) = forms.next()??;
                for form in forms {
                    *shape.first_mut()? = shape.first()?.checked_add(*form?.1.first()?)?;
                }
                Some((dtype, shape))
            }
        }
    }

    fn read(&self, name: &str) -> Option<Stored> {
        match parts(name) {
            Parts::One(theirs) => self.0.read(&theirs),
            Parts::Stacked(names) => self.concatenated(&names),
            Parts::Swapped(theirs) => {
                let whole = self.0.read(&theirs)?;
                let half = whole.shape().first()? / 2;
                Stored::stacked(&[whole.rows(half..2 * half), whole.rows(0..half)])
            }
        }
    }
}
