//! A family of models: what it knows of files, and how one of its models is opened from them.
//!
//! A [`Family`] is data first. Its [`Kind`]s tell what a set of tensors is, its [`Role`]s are the parts that its models are made of and
//! which kinds may take them. Whoever holds a list of families finds out from files which of them a model belongs to, and hands the parts
//! to [`Family::open`]. No family is known by name here; text encoders and autoencoders that several of them share are in [`clip`], [`t5`]
//! and [`autoencoder`].

pub mod autoencoder;
pub mod clip;
mod duty;
mod kind;
mod network;
mod part;
mod spelling;
pub mod t5;
pub mod work;

use std::sync::Arc;

use core_tensor::Footprint;
use memory::Bytes;

use crate::{Card, Catalog, Error, Job, Key, Method, Model};

pub use self::{
    duty::Duty,
    kind::{Kind, Shapes},
    network::{Count, Is, Network, Settings, Word},
    part::{Part, Parts, Placement},
    spelling::{Span, Spelling},
    work::{Work, Working},
};

/// What the inputs that an adapter adds to a layer are called below the layer's name, where a network takes such.
pub const BESIDE: &str = "beside";

/// A family of models.
pub trait Family: Send + Sync {
    /// Its name among families, in lower case.
    fn id(&self) -> &str;

    /// Its name in messages, without an article.
    fn name(&self) -> &str;

    /// The parts that its models are made of. The first is the one that denoises: a model is this family's where that part is.
    fn roles(&self) -> Vec<Role>;

    /// What it can tell of sets of tensors: its own networks, and those of relatives that would be mistaken for them. Of a duty's kinds
    /// the first that holds counts, so the most specific stand first.
    fn kinds(&self) -> Vec<Kind>;

    /// The classes of diffusers' pipelines, in a `model_index.json`, whose parts are this family's; the usual one first.
    fn pipelines(&self) -> Vec<String> {
        Vec::new()
    }

    /// What can be set of its models beside what every model has.
    fn knobs(&self) -> &'static [Key] {
        &[]
    }

    /// The ways of guiding its models beside those of every model, see [`Model::methods`].
    fn methods(&self) -> &'static [Method] {
        &[]
    }

    /// Whether its text encoders can be given textual inversions.
    fn takes_embeddings(&self) -> bool {
        false
    }

    /// A catalog with what the family adds to it: schedules, profiles.
    ///
    /// # Errors
    /// A name that another entry of the catalog has.
    fn register(&self, catalog: Catalog) -> Result<Catalog, samplers::Error> {
        Ok(catalog)
    }

    /// What the files of some of a model's parts say of its training that no shape tells, each with what told it, in words.
    fn told(&self, parts: &Parts) -> Vec<String> {
        let _ = parts;
        Vec::new()
    }

    /// Looks at a model's parts by their headers. Each of them was found to have what its [`Network`] needs.
    ///
    /// # Errors
    /// Parts that don't fit each other, [`Error::NoPart`] for one that this model can't do without, [`Error::InPart`] for a fault of one.
    fn open(&self, parts: Parts) -> Result<Box<dyn OpenedModel>, Error>;
}

/// A part that the models of a family have.
#[derive(Clone, Debug)]
pub struct Role {
    /// What configs and messages call it: a key of the table `[model]`, such as `transformer`.
    pub key: String,
    /// Where it lies in a folder of diffusers' layout, such as `text_encoder`.
    pub folder: String,
    /// What belongs there, with its article: `a CLIP text encoder`.
    pub expected: String,
    /// Whether no model of the family does without it; where that depends on the model, [`Family::open`] decides.
    pub needed: bool,
    /// The ids of the kinds that can take it, those that are preferred first.
    pub takes: Vec<String>,
    /// What is computed with it.
    pub network: Network,
}

impl Role {
    /// A part that every model of the family needs; which kinds can take it is still to be said.
    pub fn of(key: impl Into<String>, expected: impl Into<String>, network: Network) -> Self {
        let (key, expected) = (key.into(), expected.into());
        Self { folder: key.clone(), key, expected, needed: true, takes: Vec::new(), network }
    }

    /// The same in another folder than that of its key.
    pub fn folder(self, folder: impl Into<String>) -> Self {
        Self { folder: folder.into(), ..self }
    }

    /// The same, taken by kinds of these ids.
    pub fn takes(self, kinds: impl IntoIterator<Item = impl ToString>) -> Self {
        Self { takes: kinds.into_iter().map(|kind| kind.to_string()).collect(), ..self }
    }

    /// The same, that some models do without.
    pub fn optional(self) -> Self {
        Self { needed: false, ..self }
    }
}

/// A model whose files were looked at and nothing is wrong with; nothing is loaded yet.
pub trait OpenedModel: Send + Sync {
    /// What the model is.
    fn card(&self) -> &Card;

    /// What its parts take of memory, in the order in which a report tells them.
    fn bytes(&self) -> Vec<PartBytes>;

    /// What a job holds beside the parts, and in which of its stages. What is no network's is [`Work::of`]'s.
    fn work(&self, job: &Job) -> Work;

    /// Bytes that the inputs of its widest product take in each stage where weights are multiplied as the integers that they are stored as
    /// (see [`Compute::Integers`](core_tensor::Compute::Integers)); none without more to say.
    fn integers(&self, job: &Job) -> Vec<(&'static str, u64)> {
        let _ = job;
        Vec::new()
    }

    /// Finds out what the model can't do of a job; without more to say, that a picture's sides are multiples of the card's.
    ///
    /// # Errors
    /// [`Error::Request`].
    fn fits(&self, job: &Job) -> Result<(), Error> {
        job.passes().iter().try_for_each(|pass| pass.size.checked(self.card().size_multiple).map(drop))
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`Error::InPart`] for a part that can't be read.
    fn load(&self, placement: &Placement) -> Result<Arc<dyn Model>, Error>;
}

/// What a part takes of memory.
#[derive(Clone, Debug, PartialEq)]
pub struct PartBytes {
    /// What a plan counts from the beginning to the end, by the part's [`Role::key`]. Room for what passes through a device's memory is
    /// in it, as that is there until the model goes.
    pub part: memory::Part,
    /// What of it may be unpacked or left in its file.
    pub either: u64,
    /// What a device unpacks at a time beside that, while it computes with the part.
    pub unpacking: u64,
}

impl PartBytes {
    /// Of a part that may be loaded either way.
    pub fn either(part: &Part) -> Self {
        let Footprint { unpacked: weights, mapped: fixed, passing, unpacking, .. } = part.bytes();
        // What is unpacked at a time is of what is held and of what passes.
        let unpacked = weights.saturating_add(unpacking);
        let mapped = unpacked.min(fixed.saturating_add(passing).saturating_add(unpacking));
        // What a device does not hold is brought there in every step. On the CPU it is read where the system keeps it, with the very memory
        // that a share would take.
        let in_shares = passing > 0 && unpacked != mapped;
        let part = memory::Part { mapped: Bytes(mapped), in_shares, ..held(part, unpacked) };
        Self { part, either: weights.saturating_sub(fixed), unpacking: 0 }
    }

    /// Of a part that always stays in its file.
    pub fn mapped(part: &Part) -> Self {
        let Footprint { mapped, passing, unpacking, .. } = part.bytes();
        let part = memory::Part { in_file: true, ..held(part, mapped.saturating_add(passing)) };
        Self { part, either: 0, unpacking }
    }

    /// Of a part that is always unpacked.
    pub fn unpacked(part: &Part) -> Self {
        let Footprint { unpacked: weights, unpacking, .. } = part.bytes();
        Self { part: held(part, weights.saturating_add(unpacking)), either: 0, unpacking: 0 }
    }
}

/// A part that takes so many bytes in any case.
fn held(part: &Part, bytes: u64) -> memory::Part {
    let Footprint { unpacked, as_stored, .. } = part.bytes();
    let [weights, as_stored] = [unpacked, as_stored].map(Bytes);
    memory::Part { weights, as_stored, ..memory::Part::fixed(part.key(), Bytes(bytes)) }
}

#[cfg(test)]
mod tests {
    use core_tensor::Memory;
    use memory::{Plan, Share, Stage};

    use super::*;

    fn part(key: &str, bytes: Footprint) -> Part {
        Part::of(key, "", Arc::new(Memory::of::<&str>([])), "").takes(bytes)
    }

    #[test]
    fn what_passes_of_every_part_is_held_in_every_stage() {
        // given a card through whose memory two text encoders pass, and a transformer where it has no room
        let of = |unpacked, mapped, passing, unpacking| Footprint {
            unpacked,
            mapped,
            passing,
            unpacking,
            ..Footprint::default()
        };
        let transformer = part("transformer", of(1000, 10, 60, 7));
        let parts = [
            PartBytes::either(&transformer),
            PartBytes::mapped(&part("t5", of(500, 4, 30, 5))),
            PartBytes::mapped(&part("clip", of(100, 2, 12, 3))),
            PartBytes::unpacked(&part("vae", of(80, 80, 0, 0))),
        ];
        assert_eq!(parts.each_ref().map(|part| part.unpacking), [0, 5, 3, 0]);
        assert_eq!(parts.each_ref().map(|part| part.either), [990, 0, 0, 0]);
        let stage = |name: &str| Stage { name: name.to_owned(), holds: Vec::new() };
        let under = |ceiling| {
            let parts = parts.iter().map(|bytes| bytes.part.clone()).collect();
            Plan::under(Bytes(ceiling), parts, vec![stage(work::ENCODE), stage(work::SAMPLE)]).unwrap()
        };
        // then room for them is held while something else works
        let others = 4 + 30 + 2 + 12 + 80;
        assert_eq!(under(10_000).at(work::SAMPLE), Some(Bytes(1000 + 7 + others)));
        // and beside a transformer that passes too
        let least = 10 + 60 + 7 + others;
        let plan = under(least + 1);
        assert_eq!((plan.unpacks("transformer"), plan.total()), (Share::UpTo(Bytes(1)), Bytes(least + 1)));
    }

    #[test]
    fn a_part_of_which_as_much_passes_as_there_is_leaves_no_choice() {
        let bytes = Footprint { unpacked: 100, mapped: 10, passing: 270, ..Footprint::default() };
        let PartBytes { part: planned, .. } = PartBytes::either(&part("unet", bytes));
        assert!(!planned.has_a_choice() && planned.unpacked == Bytes(100));
    }
}
