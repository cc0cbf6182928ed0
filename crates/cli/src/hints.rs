//! What to do about an error, for people.

use forge::{
    CeilingOf, ConvertFault, Error, NotAPath, TextError, core_tensor, diffusion_engine, lora, memory, quant, samplers,
};

/// What to do about an error of the library, as an action, where something helps.
pub(crate) fn hint(error: &Error) -> Option<String> {
    if let Some(error) = error.of_device() {
        return Some(device_hint(error).into());
    }
    match error {
        Error::Registry(e) | Error::Run(diffusion_engine::Error::Sampling(e)) => registry_hint(e),
        Error::Load { source, .. } => match source.as_ref() {
            Error::Weights(
                core_tensor::Error::Missing { .. }
                | core_tensor::Error::Shape { .. }
                | core_tensor::Error::Dimensions { .. },
            )
            | Error::Run(diffusion_engine::Error::Weights(_))
            | Error::WrongFile { .. } => Some("`forge inspect` lists what each file contains".into()),
            Error::Run(diffusion_engine::Error::Untold { .. }) => {
                Some("put the model's `config.json` beside the file".into())
            }
            Error::Load { .. } | Error::NotAModel { .. } => hint(source),
            Error::NotThere { .. } | Error::ShardMissing { .. } | Error::Unfinished { .. } => {
                Some("download the folder again, or what is missing of it".into())
            }
            Error::SeveralSplits { .. } => Some("move all but one out of the folder".into()),
            _ => None,
        },
        Error::NotAModel { found, .. } => container_hint(*found),
        Error::Weights(core_tensor::Error::MissingBackend { backend }) => {
            Some(format!("build with `--features {backend}`, or use `backend = \"cpu\"`"))
        }
        Error::NoModel { .. } => {
            Some("name the file in the config, or give its flag; `checkpoint` and `folder` bring all parts".into())
        }
        Error::Memory(memory::Error::TooLittle { needed, by, .. }) => {
            let is_by = |of: CeilingOf| *by == of.to_string();
            Some(match (is_by(CeilingOf::Config), is_by(CeilingOf::Device)) {
                (true, _) => format!("set `memory = \"{needed}\"` or more"),
                (_, true) => {
                    format!("free {needed} or more on the device, or ask for a smaller picture or fewer at once")
                }
                _ => format!("let the process have {needed} or more, or ask for a smaller picture or fewer at once"),
            })
        }
        Error::PictureMemory { needed, ceiling, .. } => Some(match ceiling.from {
            CeilingOf::Config => format!("set `memory = \"{needed}\"` or more"),
            _ => format!("let the process have {needed} or more"),
        }),
        Error::ReadConfig { source: TextError::Folder, .. } => Some("give the config file, not its folder".into()),
        Error::NotAPath { what, .. } => not_a_path_hint(*what).map(str::to_owned),
        Error::Overwrites { .. } | Error::JoinsModel { .. } => Some("give the output another name".into()),
        Error::LongText { .. } => Some("name a PNG or a WebP".into()),
        Error::SeveralPictures { .. } => Some("set `batch = 1`, or name a file with `{index}` in it".into()),
        Error::NoLora { name, known, .. } => {
            let near = nearest(name, known.iter().map(String::as_str));
            near.map(|near| format!("did you mean `{near}`?"))
        }
        Error::Lora(lora::Error::Partial { .. }) => Some("`--allow-partial-lora` applies what fits".into()),
        Error::Lora(lora::Error::NothingFits { .. }) => Some("`forge inspect` tells what the LoRA was made for".into()),
        Error::Convert(fault) => convert_hint(fault),
        Error::ParseConfig { source, .. } => unknown_key_hint(source.message()),
        _ => None,
    }
}

/// What to do about a device that could not compute.
fn device_hint(error: &core_tensor::Error) -> &'static str {
    match error {
        core_tensor::Error::Device { .. } => {
            "look whether the card's driver and its libraries are installed, or use `backend = \"cpu\"`"
        }
        core_tensor::Error::SoftwareAdapter { .. } => {
            "`backend = \"vulkan:software\"` asks for it, `backend = \"cpu\"` is faster; `forge devices` lists all"
        }
        core_tensor::Error::DeviceMemory { .. } => {
            "draw a smaller picture or fewer at once, or end what else uses the card"
        }
        _ => "try again; if it stays so, the driver's log tells more, and `backend = \"cpu\"` does without the card",
    }
}

fn convert_hint(fault: &ConvertFault) -> Option<String> {
    match fault {
        ConvertFault::Type { found, known } => {
            let near = nearest(found, known.iter().map(String::as_str));
            let all = format!("there are {}", known.join(", "));
            Some(near.map_or(all.clone(), |near| format!("did you mean `{near}`? {all}")))
        }
        ConvertFault::Range { .. } | ConvertFault::Vanished { .. } => {
            Some("a rule such as `NAME=bf16` or `NAME=f32` stores it in another type".into())
        }
        ConvertFault::Shadowed { .. } => {
            Some("the first rule that matches counts: put what is special before what is general".into())
        }
        ConvertFault::LoraWords { .. } => Some("`--allow-partial-lora` leaves them out".into()),
        ConvertFault::Renamed { .. } => {
            Some("convert that part alone, or a file in the layout of the original release".into())
        }
        ConvertFault::NotHeld { .. } => Some("name the output so that it ends in the other kind's ending".into()),
        _ => None,
    }
}

fn not_a_path_hint(what: NotAPath) -> Option<&'static str> {
    match what {
        NotAPath::Address => Some("give the path of a file or folder on this machine"),
        NotAPath::HubId => Some("download the model, and give the path of its folder or file"),
        NotAPath::Variable => Some("write the path out; `~` is the home folder"),
        NotAPath::OfWindows => Some("write it as this system has it"),
        NotAPath::HomeOfAnother | NotAPath::NoHome => Some("write the path out"),
        NotAPath::Empty => None,
    }
}

/// What to do about a file that is something else.
fn container_hint(found: quant::Container) -> Option<String> {
    use quant::Container as Is;
    let action = match found {
        Is::LfsPointer => "`git lfs pull` in the file's repository fetches it",
        Is::Index => "give the folder that it lies in",
        Is::Html | Is::Xml | Is::Json | Is::Text => {
            "an answer came in the file's place; download it again, logged in if it asks"
        }
        Is::Zeros | Is::Empty => "download the file again",
        Is::AppleDouble => "the real file has the same name without `._`",
        Is::Gzip | Is::Zstd | Is::Xz | Is::Bzip2 | Is::Lz4 | Is::SevenZip | Is::Rar | Is::Tar | Is::Zip => "unpack it",
        Is::Safetensors
        | Is::TorchZip
        | Is::Pickle
        | Is::Gguf
        | Is::Ggml
        | Is::Onnx
        | Is::TfLite
        | Is::Hdf5
        | Is::NumPy => return None,
        Is::Picture | Is::Pdf | Is::Program | Is::Sqlite | Is::Parquet | Is::Unknown => return None,
    };
    Some(action.into())
}

fn registry_hint(error: &samplers::Error) -> Option<String> {
    let (kind, name, known) = match error {
        samplers::Error::UnknownName { kind, name, known } => (kind, name, known),
        samplers::Error::UnsuitedSampler { instead, .. } => return Some(format!("`{instead}` suits this model")),
        samplers::Error::Unsuited { instead, .. } => return Some(format!("`{instead}` suits every model")),
        _ => return None,
    };
    let near = nearest(name, known.iter().map(String::as_str));
    let list = match *kind {
        "sampler" => "; `forge samplers` lists all".to_owned(),
        "schedule" => "; `forge schedules` lists all".to_owned(),
        "option" if known.is_empty() => "; the sampler and the schedule have none".to_owned(),
        _ => format!("; there are {}", known.join(", ")),
    };
    match near {
        Some(near) => Some(format!("did you mean `{near}`?{}", list.replacen("; ", " ", 1))),
        None => Some(list.trim_start_matches("; ").to_owned()),
    }
}

/// The message lists the keys that exist; the nearest of them is the likely one.
fn unknown_key_hint(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.next().filter(|_| message.starts_with("unknown field"))?;
    nearest(found, quoted).map(|near| format!("did you mean `{near}`?"))
}

/// The most similar of some names, if any is similar at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .map(|k| (strsim::jaro_winkler(&name, &k.to_lowercase()), k))
        .filter(|(similarity, _)| *similarity > 0.7)
        .min_by(|a, b| b.0.total_cmp(&a.0)) // the first of equals
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        for (text, near) in
            [("[sampling]\nstep = 4", "steps"), ("[promt]\n", "prompt"), ("[device]\nback_end = \"cpu\"", "backend")]
        {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("flux.toml");
            std::fs::write(&path, text).unwrap();
            let error = forge::Config::read(&path).unwrap_err();
            assert_eq!(error.fault(), forge::Fault::Usage);
            assert_eq!(hint(&error), Some(format!("did you mean `{near}`?")), "{text}");
        }
    }
}
