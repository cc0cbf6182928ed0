//! All kinds that a list of families and the models beside them are told apart by.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use core_tensor::Manifest;
use diffusion_engine::family::{Duty, Kind, Shapes};

/// What each of several tables knows; in one the first row that holds counts, and between them the most specific word.
pub(crate) struct Kinds {
    tables: Vec<Table>,
    /// The ids of kinds that some role takes.
    used: BTreeSet<String>,
}

/// The rows of one family.
struct Table {
    rows: Vec<Arc<Kind>>,
    /// The marks by the last two steps of their names, the longest first.
    marks: HashMap<String, Vec<String>>,
}

/// The most prefixes that are looked at; files have one for each part and some of a submodule that looks like a mark.
const MOST_PREFIXES: usize = 1024;

/// The longest prefix that is looked at: it comes back in every message about its tensors.
const LONGEST_PREFIX: usize = 256;

/// What stands under a prefix.
pub(super) struct Found {
    pub(super) kind: Arc<Kind>,
    /// Less specific words for it, by which it can be used too.
    pub(super) others: Vec<Arc<Kind>>,
    pub(super) prefix: String,
    pub(super) is_usable: bool,
}

impl Kinds {
    /// Those of these tables, of equal words the first; `used` are the ids that roles take.
    pub(crate) fn of(tables: impl IntoIterator<Item = Vec<Kind>>, used: impl IntoIterator<Item = String>) -> Self {
        Self { tables: tables.into_iter().map(Table::of).collect(), used: used.into_iter().collect() }
    }

    fn is_usable(&self, kind: &Kind) -> bool {
        self.used.contains(&kind.id)
    }

    /// What a file holds: under each prefix one kind of each duty at most.
    pub(super) fn found(&self, manifest: &Manifest) -> Vec<Found> {
        // By duty and prefix, in an order that is always the same.
        let mut found: BTreeMap<(u8, &str, String), Vec<Arc<Kind>>> = BTreeMap::new();
        for table in &self.tables {
            for (prefix, marks) in table.marked(manifest) {
                for kind in table.holding(&marks, &Shapes::under(manifest, prefix)) {
                    let Duty { rank, id, .. } = kind.duty;
                    found.entry((rank, id, prefix.to_owned())).or_default().push(kind.clone());
                }
            }
        }
        found.into_iter().map(|((.., prefix), words)| self.weighed(prefix, words)).collect()
    }

    /// The most specific of several words, and of equal ones the first that can be used.
    fn weighed(&self, prefix: String, mut words: Vec<Arc<Kind>>) -> Found {
        words.sort_by_key(|kind| std::cmp::Reverse((kind.specificity(), self.is_usable(kind))));
        let kind = words.remove(0);
        let is_usable = self.is_usable(&kind);
        // What can't be used stays so, whoever knows less of it.
        let others = words.into_iter().take_while(|other| is_usable && self.is_usable(other));
        Found { others: others.filter(|other| other.id != kind.id).collect(), kind, prefix, is_usable }
    }
}

impl Table {
    fn of(kinds: Vec<Kind>) -> Self {
        let mut marks: HashMap<String, Vec<String>> = HashMap::new();
        for mark in kinds.iter().flat_map(|kind| &kind.marks) {
            let same_end = marks.entry(end(mark).to_owned()).or_default();
            if !same_end.contains(mark) {
                same_end.push(mark.clone());
            }
        }
        marks.values_mut().for_each(|marks| marks.sort_by_key(|mark| std::cmp::Reverse(mark.len())));
        Self { rows: kinds.into_iter().map(Arc::new).collect(), marks }
    }

    /// The marks that a file has, by their prefixes.
    fn marked<'m>(&self, manifest: &'m Manifest) -> BTreeMap<&'m str, BTreeSet<&str>> {
        let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for name in manifest.names() {
            let Some(mark) = self.mark(name) else { continue };
            let prefix = &name[..name.len() - mark.len()];
            if let Some(marks) = found.get_mut(prefix) {
                marks.insert(mark);
            } else if found.len() < MOST_PREFIXES && prefix.len() <= LONGEST_PREFIX {
                found.insert(prefix, [mark].into());
            }
        }
        found
    }

    /// Of each duty the first row that holds.
    fn holding(&self, marks: &BTreeSet<&str>, shapes: &Shapes) -> Vec<&Arc<Kind>> {
        let mut held: Vec<&Arc<Kind>> = Vec::new();
        for kind in &self.rows {
            let is_first = held.iter().all(|other| other.duty != kind.duty);
            if is_first && kind.marks.iter().all(|mark| marks.contains(&**mark)) && kind.fits(shapes) {
                held.push(kind);
            }
        }
        held
    }

    /// The longest mark that a name ends with.
    fn mark(&self, name: &str) -> Option<&str> {
        let ends_in = |mark: &&String| {
            name.strip_suffix(mark.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let last = name.rsplit('.').next()?;
        let candidates = [end(name), last].into_iter().filter_map(|end| self.marks.get(end)).flatten();
        candidates.into_iter().find(ends_in).map(String::as_str)
    }
}

/// The last two steps of a name.
fn end(name: &str) -> &str {
    name.rmatch_indices('.').nth(1).map_or(name, |(at, _)| &name[at + 1..])
}
