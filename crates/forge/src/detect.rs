//! From a config to a family: which parts its files hold, and whose they are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use diffusion_engine::{Family, family::Role};

use crate::{
    Config, Error, Families, Result,
    files::{Chosen, Files},
    model_files::{MODEL_INDEX, abridged, read_object},
};

/// A family, and the parts of one of its models.
pub(crate) struct Detected {
    pub(crate) family: Arc<dyn Family>,
    pub(crate) parts: Vec<Chosen>,
}

/// The family of the model that a config describes, and its parts: a part's own key goes before the checkpoint, and that before the folder.
///
/// Of the families whose needed parts are there, it is the one whose word for what denoises is the most specific, and of equal ones the
/// first.
pub(crate) fn detect(config: &Config, families: &Families, files: &mut Files) -> Result<Detected> {
    let given = Given::of(config);
    let candidates = candidates(&given, families, files)?;
    let mut found: Option<(usize, Detected)> = None;
    let mut refused = Refused::default();
    for (family, roles) in candidates {
        match parts(&given, roles, families, files) {
            Ok(parts) => {
                let word = parts.first().map_or(0, Chosen::specificity);
                if found.as_ref().is_none_or(|(other, _)| word > *other) {
                    found = Some((word, Detected { family: family.clone(), parts }));
                }
            }
            Err(refusal) => refused.see(refusal),
        }
    }
    found.map(|(_, detected)| detected).ok_or_else(|| refused.told())
}

/// What a config says of a model's files.
struct Given {
    /// The parts that have a file of their own, by their keys.
    parts: BTreeMap<&'static str, PathBuf>,
    checkpoint: Option<PathBuf>,
    folder: Option<PathBuf>,
}

/// What brings a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bringer {
    /// Its own key.
    Key,
    Checkpoint,
    Folder,
}

impl Given {
    fn of(config: &Config) -> Self {
        let files = config.files().into_iter().filter(|(key, _)| key.table == "model");
        let mut parts: BTreeMap<&'static str, PathBuf> = files.map(|(key, path)| (key.name, path)).collect();
        let (checkpoint, folder) = (parts.remove("checkpoint"), parts.remove("folder"));
        Self { parts, checkpoint, folder }
    }

    /// What may bring a part, and its files: a key of its own alone, or else the checkpoint before the folder.
    fn places(&self, role: &Role) -> Vec<(Bringer, PathBuf)> {
        if let Some(path) = self.parts.get(&*role.key) {
            return vec![(Bringer::Key, path.clone())];
        }
        let checkpoint = self.checkpoint.clone().map(|path| (Bringer::Checkpoint, path));
        let folder = self.folder.as_ref().map(|folder| (Bringer::Folder, folder.join(&role.folder)));
        checkpoint.into_iter().chain(folder).collect()
    }
}

type Candidate<'f> = (&'f Arc<dyn Family>, &'f [Role]);

/// The families that may be meant, by what is written in the config and in a folder's index.
fn candidates<'f>(given: &Given, families: &'f Families, files: &mut Files) -> Result<Vec<Candidate<'f>>> {
    let all: Vec<Candidate> = families.with_roles().collect();
    let has = |roles: &[Role], key: &str| roles.iter().any(|role| role.key == key);
    for (key, path) in &given.parts {
        if !all.iter().any(|(_, roles)| has(roles, key)) {
            let file = files.open(path, families.kinds())?;
            return Err(Error::PartOfNone { key: (*key).to_owned(), found: files.file(file).name().to_owned() });
        }
    }
    let of_keys = all.iter().copied().filter(|(_, roles)| given.parts.keys().all(|key| has(roles, key)));
    let of_keys: Vec<Candidate> = of_keys.collect();
    if of_keys.is_empty() {
        let whose = |key: &&str| {
            let names = all.iter().filter(|(_, roles)| has(roles, key)).map(|(family, _)| family.name().to_owned());
            ((*key).to_owned(), names.collect())
        };
        return Err(Error::PartsOfSeveral { parts: given.parts.keys().map(whose).collect() });
    }
    // A model is described as a whole, or not at all.
    let lacking = |roles: &[Role]| {
        let lacking = roles.iter().find(|role| role.needed && given.places(role).is_empty());
        lacking.map(|role| role.key.clone())
    };
    let first = of_keys.first().and_then(|(_, roles)| lacking(roles));
    let whole: Vec<Candidate> = of_keys.into_iter().filter(|(_, roles)| lacking(roles).is_none()).collect();
    if let (true, Some(key)) = (whole.is_empty(), first) {
        return Err(Error::NoModel { key });
    }
    of_pipeline(given, whole)
}

/// Those of the families whose pipeline a folder's index names, where what denoises comes from the folder.
fn of_pipeline<'f>(given: &Given, families: Vec<Candidate<'f>>) -> Result<Vec<Candidate<'f>>> {
    let from_folder = |roles: &[Role]| {
        let first = roles.first().and_then(|role| given.places(role).into_iter().next());
        matches!(first, Some((Bringer::Folder, _)))
    };
    let Some(folder) = given.folder.as_ref().filter(|_| families.iter().any(|(_, roles)| from_folder(roles))) else {
        return Ok(families);
    };
    let Some((index, class)) = pipeline(folder)? else { return having_folder(given, folder, families) };
    let usual = families.iter().filter_map(|(family, _)| Some(format!("`{}`", family.pipelines().first()?)));
    let expected = usual.collect::<Vec<_>>().join(" or ");
    let is_of = |(family, roles): &Candidate| !from_folder(roles) || family.pipelines().contains(&class);
    let of_class: Vec<Candidate> = families.into_iter().filter(is_of).collect();
    match of_class.is_empty() {
        true => Err(Error::OtherClass { path: index, class: abridged(&class), expected }),
        false => having_folder(given, folder, of_class),
    }
}

/// Those of the families for which a whole model's folder has that of what denoises, where that is to come from there.
fn having_folder<'f>(given: &Given, folder: &Path, families: Vec<Candidate<'f>>) -> Result<Vec<Candidate<'f>>> {
    // What is no folder is told by the system when it is read.
    if folder.exists() && !folder.is_dir() {
        return Ok(families);
    }
    let lacks = |roles: &[Role]| {
        let role = roles.first()?;
        let (bringer, path) = given.places(role).into_iter().next()?;
        (bringer == Bringer::Folder && !path.exists()).then(|| role.folder.clone())
    };
    let lacking = families.iter().filter_map(|(_, roles)| lacks(roles)).collect();
    let having: Vec<Candidate> = families.into_iter().filter(|(_, roles)| lacks(roles).is_none()).collect();
    match having.is_empty() {
        true => Err(Error::NotInFolder { folder: folder.to_owned(), parts: lacking }),
        false => Ok(having),
    }
}

/// The class of pipeline that a whole model's folder is of, as its index says it, and where that stands.
fn pipeline(folder: &Path) -> Result<Option<(PathBuf, String)>> {
    let path = folder.join(MODEL_INDEX);
    if !path.exists() {
        return Ok(None);
    }
    let json = read_object(&path)?;
    let class = json.get("_class_name").map(|class| class.as_str().map_or_else(|| class.to_string(), str::to_owned));
    Ok(class.map(|class| (path, class)))
}

/// Why a family's parts are not there.
struct Refusal {
    error: Error,
    /// Whether what denoises is the family's own.
    is_claimed: bool,
}

/// The parts of a family's model, in the order of its roles.
fn parts(
    given: &Given,
    roles: &[Role],
    families: &Families,
    files: &mut Files,
) -> std::result::Result<Vec<Chosen>, Refusal> {
    let mut parts: Vec<Chosen> = Vec::new();
    for (at, role) in roles.iter().enumerate() {
        let refusal = |error: Error| Refusal { is_claimed: at > 0 || !is_of_another(&error), error };
        let found = part(given, role, families, files, &parts).map_err(refusal)?;
        parts.extend(found);
    }
    Ok(parts)
}

/// Whether a file was refused for what it holds.
fn is_of_another(error: &Error) -> bool {
    matches!(error, Error::Load { source, .. } if matches!(**source, Error::WrongFile { .. }))
}

/// The part that takes a role; none where the model may do without and nothing brings it.
fn part(
    given: &Given,
    role: &Role,
    families: &Families,
    files: &mut Files,
    others: &[Chosen],
) -> Result<Option<Chosen>> {
    let mut lacking = None;
    for (bringer, path) in given.places(role) {
        if bringer == Bringer::Folder && !path.exists() && (!role.needed || lacking.is_some()) {
            continue;
        }
        let file = files.open(&path, families.kinds())?;
        match files.choose(file, role, others) {
            Ok(chosen) => return Ok(Some(chosen)),
            // What a checkpoint has nothing of, a folder may bring.
            Err(error) if bringer == Bringer::Checkpoint && is_of_another(&error) => {
                let has_some = !role.needed || files.file(file).in_place_of(role).is_some() || others.is_empty();
                lacking = Some(if has_some { error } else { not_in(path, role) });
            }
            Err(error) => return Err(error),
        }
    }
    lacking.filter(|_| role.needed).map_or(Ok(None), Err)
}

/// A checkpoint without a part.
fn not_in(path: PathBuf, role: &Role) -> Error {
    let (expected, key) = (role.expected.clone(), role.key.clone());
    Error::Load { path, source: Box::new(Error::NotInCheckpoint { expected, key }) }
}

/// Why no family has its parts.
#[derive(Default)]
struct Refused {
    /// Of a family whose own what denoises is.
    claimed: Option<Error>,
    /// Of the first that has nothing of it.
    other: Option<Error>,
    /// What all that have nothing of it expected.
    expected: Vec<String>,
}

impl Refused {
    fn see(&mut self, Refusal { error, is_claimed }: Refusal) {
        if is_claimed {
            self.claimed.get_or_insert(error);
            return;
        }
        if let Error::Load { source, .. } = &error
            && let Error::WrongFile { expected, .. } = &**source
            && !self.expected.contains(expected)
        {
            self.expected.push(expected.clone());
        }
        self.other.get_or_insert(error);
    }

    fn told(self) -> Error {
        let Self { claimed, other, expected } = self;
        match (claimed, other) {
            (Some(error), _) => error,
            (None, Some(Error::Load { path, source })) => match *source {
                Error::WrongFile { found, .. } => {
                    let expected = expected.join(" or ");
                    Error::Load { path, source: Box::new(Error::WrongFile { expected, found }) }
                }
                source => Error::Load { path, source: Box::new(source) },
            },
            (None, Some(error)) => error,
            (None, None) => Error::NoFamily,
        }
    }
}
