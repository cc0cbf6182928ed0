//! What is said among a file's tensors and beside them of how much its changes count.

use std::{collections::BTreeMap, fmt, marker::PhantomData, num::NonZeroU32};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Unexpected, Visitor},
};

use crate::{
    Algorithm, ConfigPlace, Error,
    patterns::{Budget, PatternFault, Patterns},
};

/// PEFT's configs, by how the names of the modules begin that each is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scaling(BTreeMap<String, Config>);

/// What one of them says of scales.
#[derive(Clone, Debug, Default)]
struct Config {
    /// LoRA's alpha.
    lora_alpha: Option<f64>,
    /// LoHa's and LoKr's.
    alpha: Option<f64>,
    rank: Option<NonZeroU32>,
    alphas: Patterns<f64>,
    ranks: Patterns<NonZeroU32>,
    /// Whether LoRA's scale is `alpha / √rank` (Kalajdzievski 2023).
    of_root: bool,
}

/// How PEFT calls the model before its modules' names, which patterns leave out.
pub(crate) const PEFTS: &str = "base_model.model.";

impl Scaling {
    /// A PEFT config, `adapter_config.json`, or several under the prefixes of their modules, as diffusers keeps them in the metadata of its
    /// files. Without `ranks`, what it says of them is not read, and so nothing can be wrong with it.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::OtherMethod`] and [`Error::Pattern`].
    pub(crate) fn of(place: &ConfigPlace, json: &str, ranks: bool) -> Result<Self, Error> {
        let unread = |source| Error::Config { config: place.clone(), source };
        // Other methods' configs have other things under the same keys, so the method is read before these.
        if let Some(method) = serde_json::from_str::<Methods>(json).map_err(unread)?.0 {
            return Err(Error::OtherMethod { config: place.clone(), method: method.chars().take(MOST_TOLD).collect() });
        }
        let mut reader = serde_json::Deserializer::from_str(json);
        let written = Configs { ranks }.deserialize(&mut reader).map_err(unread)?;
        let bad = |key: &'static str| {
            move |(pattern, fault): (String, PatternFault)| Error::Pattern {
                config: place.clone(),
                key,
                pattern: pattern.chars().take(MOST_TOLD).collect(),
                fault,
            }
        };
        let mut budget = Budget::default();
        let config = |(prefix, one): (String, WrittenConfig)| {
            let config = Config {
                lora_alpha: one.lora_alpha,
                alpha: one.alpha,
                rank: one.r,
                alphas: Patterns::of(one.alpha_pattern, &mut budget).map_err(bad("alpha_pattern"))?,
                ranks: Patterns::of(one.rank_pattern, &mut budget).map_err(bad("rank_pattern"))?,
                of_root: one.use_rslora,
            };
            Ok((prefix, config))
        };
        written.into_iter().map(config).collect::<Result<_, _>>().map(Self)
    }

    /// These, and others for modules of which these say nothing.
    pub(crate) fn or(mut self, others: Self) -> Self {
        for (prefix, config) in others.0 {
            self.0.entry(prefix).or_insert(config);
        }
        self
    }

    /// The scale of a module's change of a rank; `None` where nothing is said of it.
    pub(crate) fn scale(&self, module: &str, algorithm: Algorithm, rank: Option<usize>) -> Option<f32> {
        let (config, name) = self.find(module)?;
        let (alpha, is_root) = match algorithm {
            Algorithm::Lora => (config.lora_alpha?, config.of_root),
            Algorithm::Loha | Algorithm::Lokr => (config.alpha?, false),
            Algorithm::Glora | Algorithm::Oft | Algorithm::Boft | Algorithm::Full => return None,
        };
        let alpha = config.alphas.get(name).unwrap_or(alpha);
        // LoKr's matrices have no rank where PEFT left them whole, and are scaled by the config's even so.
        let rank = rank.map(|rank| rank as f64).or_else(|| Some(f64::from(config.rank(name)?.get())))?;
        Some((alpha / if is_root { rank.sqrt() } else { rank }) as f32)
    }

    /// Whether what is said of a module's change is about one of its algorithm and its rank, as PEFT demands of a file that it reads.
    pub(crate) fn fits(&self, module: &str, algorithm: Algorithm, rank: Option<usize>) -> bool {
        let same = |(config, name): (&Config, &str)| {
            let said = config.rank(name).and_then(|rank| usize::try_from(rank.get()).ok());
            rank.is_none() || said == rank
        };
        self.scale(module, algorithm, rank).is_some() && self.find(module).is_some_and(same)
    }

    /// The config that a module is under, and what it calls the module.
    fn find<'m>(&self, module: &'m str) -> Option<(&Config, &'m str)> {
        let starts = module.match_indices('.').map(|(at, _)| at + 1).rev().chain([0]);
        let (config, name) =
            starts.map(|at| module.split_at(at)).find_map(|(prefix, name)| Some((self.0.get(prefix)?, name)))?;
        Some((config, name.strip_prefix(PEFTS).unwrap_or(name)))
    }
}

impl Config {
    fn rank(&self, module: &str) -> Option<NonZeroU32> {
        self.ranks.get(module).or(self.rank)
    }
}

/// How much of a pattern a message tells.
const MOST_TOLD: usize = 80;

/// Configs as they are written, by their prefixes.
type Written = BTreeMap<String, WrittenConfig>;

#[derive(Default)]
struct WrittenConfig {
    lora_alpha: Option<f64>,
    alpha: Option<f64>,
    r: Option<NonZeroU32>,
    alpha_pattern: Vec<(String, f64)>,
    rank_pattern: Vec<(String, NonZeroU32)>,
    use_rslora: bool,
}

/// The first `peft_type` that is not read, of whatever prefix.
struct Methods(Option<String>);

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(OtherMethods).map(Self)
    }
}

struct OtherMethods;

impl<'de> Visitor<'de> for OtherMethods {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        Configs { ranks: false }.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut other = None;
        while let Some(key) = map.next_key::<String>()? {
            match split(&key).1 {
                "peft_type" => {
                    let method = map.next_value::<Option<String>>()?;
                    other = other.or(method.filter(|method| !["LORA", "LOHA", "LOKR"].contains(&method.as_str())));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(other)
    }
}

/// The prefix of a config's key, and what it is a key of.
fn split(key: &str) -> (&str, &str) {
    key.split_at(key.rfind('.').map_or(0, |at| at + 1))
}

/// Reads configs, with what they say of ranks or without it.
struct Configs {
    ranks: bool,
}

impl<'de> DeserializeSeed<'de> for Configs {
    type Value = Written;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Written, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Configs {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a PEFT config, an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        let mut all = Written::new();
        while let Some(key) = map.next_key::<String>()? {
            let (prefix, name) = split(&key);
            match name {
                "lora_alpha" => {
                    under(&mut all, prefix).lora_alpha = map.next_value::<Option<Number>>()?.map(|number| number.0)
                }
                "alpha" => under(&mut all, prefix).alpha = map.next_value::<Option<Number>>()?.map(|number| number.0),
                "r" if self.ranks => under(&mut all, prefix).r = map.next_value()?,
                "use_rslora" => under(&mut all, prefix).use_rslora = map.next_value::<Option<bool>>()?.unwrap_or(false),
                "alpha_pattern" => {
                    let patterns = map.next_value::<Option<InOrder<Number>>>()?.map_or_else(Vec::new, |all| all.0);
                    under(&mut all, prefix).alpha_pattern =
                        patterns.into_iter().map(|(text, number)| (text, number.0)).collect();
                }
                "rank_pattern" if self.ranks => {
                    under(&mut all, prefix).rank_pattern =
                        map.next_value::<Option<InOrder<_>>>()?.map_or_else(Vec::new, |all| all.0);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(all)
    }
}

fn under<'a>(all: &'a mut Written, prefix: &str) -> &'a mut WrittenConfig {
    all.entry(prefix.to_owned()).or_default()
}

/// A number that can be computed with.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?;
        match (number as f32).is_finite() {
            true => Ok(Self(number)),
            false => Err(de::Error::invalid_value(Unexpected::Float(number), &"a number that 32 bits hold")),
        }
    }
}

/// The entries of an object in the file's order, on which it depends which pattern of several counts.
struct InOrder<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Entries(PhantomData)).map(Self)
    }
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("numbers by patterns of modules' names, an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, ranks: bool) -> Result<Scaling, Error> {
        Scaling::of(&ConfigPlace::Metadata("`a.safetensors`".into()), json, ranks)
    }

    fn of(json: &str) -> Scaling {
        read(json, true).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn scales_are_those_of_the_prefix_and_the_pattern() {
        let json = r#"{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn.to_k": 1, "x": 2.5}, "transformer.r": 4,
                       "text_encoder.lora_alpha": 2, "text_encoder.use_rslora": true, "transformer.lora_dropout": {"a": [1]}}"#;
        let all = of(json);
        let scale = |module: &str| all.scale(module, Algorithm::Lora, Some(4));
        assert_eq!(scale("transformer.a.attn.to_q"), Some(2.0));
        assert_eq!(scale("transformer.a.attn.to_k"), Some(0.25));
        assert_eq!(scale("text_encoder.a"), Some(1.0));
        assert_eq!(scale("text_encoder_2.a"), None);
        assert_eq!(scale("unet.a"), None);
        let whole = of(r#"{"lora_alpha": 3, "r": 1, "alpha_pattern": null}"#);
        assert_eq!(whole.scale("base_model.model.x", Algorithm::Lora, Some(1)), Some(3.0));
        for nothing in ["{}", r#"{"lora_alpha": null}"#, r#"{"alpha": 8}"#, r#"{"r": 4}"#] {
            assert_eq!(of(nothing).scale("x", Algorithm::Lora, Some(1)), None, "{nothing}");
        }
    }

    #[test]
    fn loha_and_lokr_have_an_alpha_of_another_name_and_whole_matrices_the_rank_of_the_config() {
        let all = of(
            r#"{"alpha": 16, "r": 4, "rank_pattern": {"to_k": 2}, "alpha_pattern": {"to_v": 6}, "use_rslora": true}"#,
        );
        let scale = |name: &str, algorithm, rank| all.scale(&format!("base_model.model.{name}"), algorithm, rank);
        assert_eq!(scale("to_q", Algorithm::Loha, Some(4)), Some(4.0));
        assert_eq!(scale("to_v", Algorithm::Loha, Some(4)), Some(1.5));
        assert_eq!(scale("to_q", Algorithm::Lokr, None), Some(4.0));
        assert_eq!(scale("to_k", Algorithm::Lokr, None), Some(8.0));
        for other in [Algorithm::Lora, Algorithm::Glora, Algorithm::Oft, Algorithm::Full] {
            assert_eq!(scale("to_q", other, Some(4)), None);
        }
        assert!(all.fits("base_model.model.to_q", Algorithm::Lokr, Some(4)));
        assert!(all.fits("base_model.model.to_k", Algorithm::Lokr, Some(2)));
        assert!(!all.fits("base_model.model.to_k", Algorithm::Lokr, Some(4)));
        assert!(!all.fits("base_model.model.to_q", Algorithm::Lora, Some(4)));
    }

    #[test]
    fn scales_are_what_pefts_layers_have() {
        // given configs as texts, and what PEFT makes of each
        let text = std::fs::read_to_string(fixtures::path("golden/lora/peft.patterns.json")).unwrap();
        let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = cases.as_array().unwrap();
        assert_eq!(cases.len(), 17);
        for case in cases {
            let config = case["config"].as_str().unwrap();
            let algorithm = match case["type"].as_str().unwrap() {
                "LORA" => Algorithm::Lora,
                "LOHA" => Algorithm::Loha,
                "LOKR" => Algorithm::Lokr,
                other => panic!("{other}"),
            };
            let all = of(config);
            let scales = case["scales"].as_object().unwrap();
            assert_eq!(scales.len(), 10);
            // then each module's scale is that, by the rank of the config alone
            for (module, expected) in scales {
                let found = all.scale(&format!("base_model.model.{module}"), algorithm, None).unwrap();
                assert_eq!(found, expected.as_f64().unwrap() as f32, "{module} under {config}");
            }
        }
    }

    #[test]
    fn a_config_that_can_not_be_read_is_an_error() {
        for bad in [
            "",
            "{",
            "[]",
            r#"{"lora_alpha": "x"}"#,
            r#"{"lora_alpha": 1e39}"#,
            r#"{"r": 0}"#,
            r#"{"alpha_pattern": []}"#,
            r#"{"rank_pattern": {"a": -1}}"#,
        ] {
            assert!(matches!(read(bad, true), Err(Error::Config { .. })), "{bad}");
        }
        let error = read(r#"{"unet.alpha_pattern": {"(?!a)b": 1}}"#, true).unwrap_err().to_string();
        let start = "`alpha_pattern` of the PEFT config in the metadata of `a.safetensors`: `(?!a)b`: expected";
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn what_is_said_of_ranks_is_not_read_where_the_tensors_have_them() {
        for json in [
            r#"{"lora_alpha": 8, "r": 0}"#,
            r#"{"lora_alpha": 8, "rank_pattern": {"(?!a)b": 1}}"#,
            r#"{"lora_alpha": 8, "rank_pattern": {"a": [true, false]}}"#,
            r#"{"lora_alpha": 8, "rank_pattern": []}"#,
        ] {
            assert!(read(json, true).is_err(), "{json}");
            assert_eq!(read(json, false).unwrap().scale("x", Algorithm::Lora, Some(4)), Some(2.0), "{json}");
        }
    }

    #[test]
    fn expressions_of_all_prefixes_and_keys_together_are_bounded() {
        let patterns =
            |count: usize| -> serde_json::Map<_, _> { (0..count).map(|i| (format!("a{i}.*"), 1.into())).collect() };
        let under = |prefixes: usize, key: &str, count: usize| -> serde_json::Map<_, _> {
            (0..prefixes).map(|i| (format!("p{i}.{key}"), patterns(count).into())).collect()
        };
        let told =
            |json: serde_json::Map<String, serde_json::Value>| read(&serde_json::Value::from(json).to_string(), true);
        let is_refused = |json| {
            let error = told(json).unwrap_err();
            assert!(matches!(error, Error::Pattern { fault: PatternFault::TooMany { most: 64 }, .. }), "{error}");
        };
        is_refused(under(40, "alpha_pattern", 64));
        is_refused(under(40, "alpha_pattern", 2));
        is_refused(under(1, "alpha_pattern", 33).into_iter().chain(under(1, "rank_pattern", 32)).collect());
        told(under(32, "alpha_pattern", 2)).unwrap();
    }

    #[test]
    fn a_config_of_another_method_is_told_by_that() {
        for (json, expected) in [
            (r#"{"alpha_pattern": [1], "peft_type": "ADALORA", "rank_pattern": {"a": [true]}}"#, "ADALORA"),
            (r#"{"r": 0, "peft_type": "OFT"}"#, "OFT"),
            (r#"{"unet.peft_type": "LORA", "text_encoder.peft_type": "IA3"}"#, "IA3"),
        ] {
            let error = read(json, true).unwrap_err();
            assert!(matches!(&error, Error::OtherMethod { method, .. } if method == expected), "{error}");
        }
        for method in [r#""LORA""#, r#""LOHA""#, r#""LOKR""#, "null"] {
            of(&format!(r#"{{"peft_type": {method}}}"#));
        }
    }
}
