//! JSON objects of settings: SwarmUI, Fooocus, NovelAI, InvokeAI, Draw Things, Easy Diffusion.

use serde_json::{Map, Value};

use super::{Infotext, Writer, keys::plain};

/// Where programs have the prompt, and where the negative one.
const PROMPTS: [&str; 3] = ["prompt", "positiveprompt", "c"];
const NEGATIVES: [&str; 3] = ["negativeprompt", "negative", "uc"];

/// An object whose settings are its keys.
pub(super) fn read(object: Map<String, Value>, from: Writer) -> Infotext {
    let mut infotext = Infotext { from, ..Infotext::default() };
    for (key, value) in object {
        let name = plain(&key);
        match value {
            Value::String(text) if PROMPTS.contains(&name.as_str()) && infotext.prompt.is_empty() => {
                infotext.prompt = text
            }
            Value::String(text) if NEGATIVES.contains(&name.as_str()) && infotext.negative.is_empty() => {
                infotext.negative = text;
            }
            Value::Null => {}
            Value::String(text) => infotext.pairs.push((key, text)),
            value => infotext.pairs.push((key, value.to_string())),
        }
    }
    infotext
}

/// InvokeAI: `invokeai_metadata` is flat; `sd-metadata`, of its versions before 3, has the settings in `image`, the prompt in a list, and the
/// negative one in brackets within it.
pub(super) fn invoke(mut object: Map<String, Value>) -> Infotext {
    let Some(Value::Object(mut image)) = object.remove("image") else {
        return Infotext { from: Writer::InvokeAi, ..read(object, Writer::InvokeAi) };
    };
    let prompt = match image.remove("prompt") {
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("prompt")?.as_str()));
            texts.collect::<Vec<_>>().join(" ")
        }
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (prompt, negative) = split_brackets(&prompt);
    let mut infotext = Infotext { prompt, negative, ..read(image, Writer::InvokeAi) };
    infotext.rest = object.into_iter().map(|(key, _)| key).filter(|key| key != "app_version").collect();
    infotext
}

/// A prompt and the negative one that ends it in brackets.
pub(super) fn split_brackets(prompt: &str) -> (String, String) {
    match prompt.trim_end().strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
        Some((prompt, negative)) => (prompt.trim_end().to_owned(), negative.to_owned()),
        None => (prompt.to_owned(), String::new()),
    }
}

/// The Stable Horde, whose prompts stand in one text, and where `karras` says how levels are spaced.
pub(super) fn horde(mut object: Map<String, Value>) -> Infotext {
    let is_karras = object.remove("karras") == Some(Value::Bool(true));
    let mut infotext = read(object, Writer::Horde);
    if let Some((prompt, negative)) = infotext.prompt.split_once("###").filter(|_| infotext.negative.is_empty()) {
        (infotext.prompt, infotext.negative) = (prompt.trim_end().to_owned(), negative.trim_start().to_owned());
    }
    if is_karras {
        infotext.pairs.push(("scheduler".to_owned(), "karras".to_owned()));
    }
    infotext
}

/// NovelAI, whose prompt is in `v4_prompt` where it is nowhere else.
pub(super) fn novel(object: Map<String, Value>) -> Infotext {
    let caption = |key: &str| Some(object.get(key)?.get("caption")?.get("base_caption")?.as_str()?.to_owned());
    let (prompt, negative) = (caption("v4_prompt"), caption("v4_negative_prompt"));
    let mut infotext = read(object, Writer::NovelAi);
    if infotext.prompt.is_empty() {
        infotext.prompt = prompt.unwrap_or_default();
    }
    if infotext.negative.is_empty() {
        infotext.negative = negative.unwrap_or_default();
    }
    infotext
}
