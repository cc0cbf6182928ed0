//! Texts that are JSON: whose they are, and their settings as pairs.

use serde_json::{Map, Value};

use super::{
    Infotext, TextFault, Writer, comfy, flat,
    keys::{Meaning, meaning, plain},
    lines,
};
use crate::Key;

/// More values than any program writes; the largest graphs have a thousand nodes of ten.
const MAX_VALUES: usize = 32_768;

/// Reads a text that is one JSON object; none if it is none, or no program's that is known. A fault says whose the text would have been.
pub(super) fn read(text: &str, knobs: &[Key]) -> Option<Result<Infotext, (Writer, TextFault)>> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\0' | '\u{feff}'));
    if !text.starts_with('{') {
        return None;
    }
    match object(text) {
        Ok(object) => of_object(object, knobs).map(Ok),
        Err(fault) => named_in(text).map(|writer| Err((writer, fault))),
    }
}

/// NovelAI's settings behind the prompt, which its first versions wrote apart from them.
pub(super) fn behind_a_prompt(text: &str, knobs: &[Key]) -> Option<Infotext> {
    let (prompt, settings) = text.split_at(text.find("\n{")?);
    let infotext = read(settings, knobs)?.ok()?;
    infotext.prompt.is_empty().then(|| Infotext { prompt: prompt.to_owned(), ..infotext })
}

/// Whether a text is JSON or Python's form of it, also if its end is missing, and not a prompt in brackets.
pub(super) fn is_json(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\0' | '\u{feff}'));
    if text == "null" || text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return true;
    }
    let inner = text.trim_start_matches(|c: char| c == '[' || c.is_whitespace());
    let key = inner.strip_prefix('{').map(str::trim_start).and_then(|inner| {
        let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        inner[1..].split_once(quote)
    });
    key.is_some_and(|(_, behind)| behind.trim_start().starts_with(':'))
}

fn object(text: &str) -> Result<Map<String, Value>, TextFault> {
    let bytes = text.as_bytes();
    let (mut at, mut count, mut copied, mut clean) = (0, 1, 0, String::new());
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b',' | b'[' | b'{' => count += 1,
            // Python writes these, and ComfyUI has them in its graphs; JSON knows none of them.
            b'N' | b'I' => {
                let word = ["NaN", "Infinity"].into_iter().find(|word| bytes[at..].starts_with(word.as_bytes()));
                if let Some(word) = word {
                    let minus = usize::from(at > copied && bytes[at - 1] == b'-');
                    // as text, so that a setting of this value is an error and not silent
                    clean += &text[copied..at - minus];
                    clean += if minus == 1 { "\"-" } else { "\"" };
                    clean += word;
                    clean += "\"";
                    copied = at + word.len();
                    at = copied - 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if count > MAX_VALUES {
        return Err(TextFault::TooManyValues { max: MAX_VALUES });
    }
    clean += &text[copied..];
    serde_json::from_str(&clean).map_err(|e| TextFault::Json { line: e.line(), column: e.column() })
}

/// Whose a text is that is not whole: as a key says that one program alone writes.
fn named_in(text: &str) -> Option<Writer> {
    let marks = [
        ("\"sui_image_params\"", Writer::SwarmUi),
        ("\"class_type\"", Writer::ComfyGraph),
        ("\"generation_mode\"", Writer::InvokeAi),
        ("\"metadata_scheme\"", Writer::Fooocus),
        ("\"base_model\"", Writer::Fooocus),
        ("\"seed_mode\"", Writer::DrawThings),
        ("\"uncond_scale\"", Writer::NovelAi),
        ("\"use_stable_diffusion_model\"", Writer::EasyDiffusion),
    ];
    marks.into_iter().find(|(mark, _)| text.contains(mark)).map(|(_, writer)| writer)
}

fn of_object(mut object: Map<String, Value>, knobs: &[Key]) -> Option<Infotext> {
    if let Some(Value::Object(settings)) = object.remove("sui_image_params") {
        let mut infotext = flat::read(settings, Writer::SwarmUi);
        infotext.rest.extend(object.into_iter().map(|(key, _)| key));
        return Some(infotext);
    }
    if object.values().any(|node| node.get("class_type").is_some_and(Value::is_string)) {
        return Some(comfy::read(&object));
    }
    if object.get("nodes").is_some_and(Value::is_array)
        && object.keys().any(|key| key == "links" || key == "last_node_id")
    {
        return Some(Infotext::faulty(Writer::ComfyGraph, TextFault::WorkflowOnly));
    }
    // Graph and workflow in one object, as nodes that save JPEGs and WebPs write them.
    for key in ["prompt", "workflow", "extraMetadata"] {
        let inner = match object.get(key) {
            Some(Value::Object(inner)) => of_object(inner.clone(), knobs),
            Some(Value::String(text)) if text.trim_start().starts_with('{') => read(text, knobs).and_then(Result::ok),
            _ => None,
        };
        if let Some(infotext) = inner.filter(|inner| inner.from == Writer::ComfyGraph) {
            return Some(infotext);
        }
    }
    if let Some(Value::String(comment)) = object.get("Comment") {
        // NovelAI's WebPs hold what its PNGs have in several texts.
        let mut infotext = read(comment, knobs)?.ok()?;
        if let Some(Value::String(description)) = object.get("Description").filter(|_| infotext.prompt.is_empty()) {
            infotext.prompt.clone_from(description);
        }
        return Some(infotext);
    }
    if let Some(Value::String(text)) = object.get("parameters") {
        return lines::read(text, knobs).ok().filter(|lines| !lines.pairs.is_empty());
    }
    let from = whose(&object, knobs)?;
    Some(match from {
        Writer::InvokeAi => flat::invoke(object),
        Writer::NovelAi => flat::novel(object),
        Writer::Horde => flat::horde(object),
        from => flat::read(object, from),
    })
}

/// Whose a flat object is; none if it is no request.
fn whose(object: &Map<String, Value>, knobs: &[Key]) -> Option<Writer> {
    let keys: Vec<_> = object.keys().map(|key| plain(key)).collect();
    let any = |names: &[&str]| keys.iter().any(|key| names.contains(&key.as_str()));
    let all = |names: &[&str]| names.iter().all(|name| keys.iter().any(|key| key == name));
    let version = object.get("version").or_else(|| object.get("Version")).and_then(Value::as_str);
    let is_inner =
        object.get("image").is_some_and(|image| image.get("sampler").is_some() || image.get("seed").is_some());
    let known = keys.iter().filter(|key| {
        meaning(key, Writer::Unknown, knobs).is_some_and(|m| !matches!(m, Meaning::Prompt | Meaning::Version))
    });
    match () {
        () if is_inner || any(&["generationmode", "appversion", "positiveprompt", "coremetadata"]) => {
            Some(Writer::InvokeAi)
        }
        () if all(&["c"]) && any(&["uc", "seedmode", "v2"]) || all(&["seedmode", "guidancescale"]) => {
            Some(Writer::DrawThings)
        }
        () if any(&["uc", "uncondscale", "requesttype", "v4prompt"]) => Some(Writer::NovelAi),
        () if any(&["basemodel", "metadatascheme", "admguidance", "fullprompt", "refinerswapmethod"]) => {
            Some(Writer::Fooocus)
        }
        () if any(&["workername", "workerid"]) && all(&["samplername"]) => Some(Writer::Horde),
        () if any(&["usestablediffusionmodel", "stablediffusionmodel"]) || all(&["numinferencesteps", "seed"]) => {
            Some(Writer::EasyDiffusion)
        }
        () if known.count() >= 3 => Some(version.and_then(Writer::of_version).unwrap_or_default()),
        () => None,
    }
}
