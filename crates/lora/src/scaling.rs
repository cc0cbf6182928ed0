//! What is said beside a file's tensors of how much its changes count.

use serde_json::Value;

/// How much the changes of some modules count, as PEFT's config says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scaling {
    /// How the names of the modules begin that it is about.
    prefix: String,
    alpha: Option<f32>,
    /// Alphas of modules, by how their names end.
    patterns: Vec<(String, f32)>,
    /// Whether it is `alpha / √rank` (Kalajdzievski 2023).
    of_root: bool,
}

const ALPHA: &str = "lora_alpha";

impl Scaling {
    /// Those of a PEFT config, `adapter_config.json`, or of several under the prefixes of their modules, as diffusers keeps them in the
    /// metadata of its files; none where it is neither.
    pub(crate) fn all(json: &str) -> Vec<Self> {
        let Ok(Value::Object(config)) = serde_json::from_str(json) else { return Vec::new() };
        let number = |value: &Value| value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        let prefixes = config.keys().filter_map(|key| key.strip_suffix(ALPHA));
        let of = |prefix: &str| {
            let get = |key: &str| config.get(&format!("{prefix}{key}"));
            let patterns = get("alpha_pattern").and_then(Value::as_object).into_iter().flatten();
            Self {
                prefix: prefix.to_owned(),
                alpha: get(ALPHA).and_then(number),
                patterns: patterns
                    .filter_map(|(end, alpha)| Some((end.trim_matches(['^', '$']).to_owned(), number(alpha)?)))
                    .collect(),
                of_root: get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
            }
        };
        prefixes.map(of).collect()
    }

    /// What stands for the alpha of a module's change of a rank; `None` where nothing is said of it.
    pub(crate) fn alpha(all: &[Self], module: &str, rank: usize) -> Option<f32> {
        let Self { alpha, patterns, of_root, .. } = all.iter().find(|one| module.starts_with(&one.prefix))?;
        let pattern = patterns.iter().find(|(end, _)| ends_with(module, end)).map(|(_, alpha)| *alpha);
        // `alpha / √rank` is `(alpha · √rank) / rank`.
        let root = if *of_root { (rank as f32).sqrt() } else { 1.0 };
        pattern.or(*alpha).map(|alpha| alpha * root)
    }
}

/// Whether a module's name ends with whole steps of another.
fn ends_with(module: &str, end: &str) -> bool {
    module.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphas_are_those_of_the_prefix_and_the_pattern() {
        let json = r#"{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn.to_k": 1, "x": "y"}, "transformer.r": 4,
                       "text_encoder.lora_alpha": 2, "text_encoder.use_rslora": true}"#;
        let all = Scaling::all(json);
        assert_eq!(Scaling::alpha(&all, "transformer.a.attn.to_q", 4), Some(8.0));
        assert_eq!(Scaling::alpha(&all, "transformer.a.attn.to_k", 4), Some(1.0));
        assert_eq!(Scaling::alpha(&all, "text_encoder.a", 4), Some(4.0));
        assert_eq!(Scaling::alpha(&all, "unet.a", 4), None);
        assert_eq!(Scaling::alpha(&Scaling::all(r#"{"lora_alpha": 3, "r": 1}"#), "base_model.model.x", 1), Some(3.0));
        for nothing in ["", "[]", "{", r#"{"lora_alpha": "x"}"#] {
            assert_eq!(Scaling::alpha(&Scaling::all(nothing), "x", 1), None, "{nothing}");
        }
    }
}
