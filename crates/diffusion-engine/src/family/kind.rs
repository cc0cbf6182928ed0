use std::{fmt, sync::Arc};

use core_tensor::{Branch, Manifest, WeightSource};

use super::{Duty, Network};

/// What a set of tensors is: names that go together, and what their shapes must say.
///
/// ```
/// use diffusion_engine::family::{Duty, Kind};
///
/// let refiner = Kind::of(Duty::DENOISER, "the UNet of a refiner", ["input_blocks.0.0.weight", "label_emb.0.0.weight"])
///     .shaped(|shapes| shapes.of("input_blocks.0.0.weight", 0) == Some(384))
///     .id("refiner");
/// assert_eq!(refiner.specificity(), 3);
/// ```
#[derive(Clone)]
pub struct Kind {
    /// What roles call it that it can take; empty for what is known and can't be used.
    pub id: String,
    /// What messages call it, with its article: `a CLIP text encoder`.
    pub name: String,
    /// What it is there for, or would be taken to be there for if only some names were looked at.
    pub duty: Duty,
    /// Tensors that all must be there, behind the file's prefix.
    pub marks: Vec<String>,
    fits: Option<Arc<Fits>>,
    names: Option<Arc<Names>>,
    places: Option<Places>,
    network: Option<Arc<Network>>,
    is_telling: bool,
}

type Fits = dyn Fn(&Shapes) -> bool + Send + Sync;
type Names = dyn Fn(Arc<dyn WeightSource>, &str) -> Arc<dyn WeightSource> + Send + Sync;
/// The prefix, a tensor's name with it, its shape, and a branch of it, to the tensor of the file and the same there.
type Places = fn(&str, (&str, &[usize]), Branch) -> Option<(String, Branch)>;

impl Kind {
    /// What is known by these tensors, and can't be used.
    pub fn of(duty: Duty, name: impl Into<String>, marks: impl IntoIterator<Item = impl ToString>) -> Self {
        let marks = marks.into_iter().map(|mark| mark.to_string()).collect();
        Self {
            id: String::new(),
            name: name.into(),
            duty,
            marks,
            fits: None,
            names: None,
            places: None,
            network: None,
            is_telling: false,
        }
    }

    /// The same, which roles can be taken by under this id. Kinds that differ in their layout alone may share one.
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// The same, where shapes tell it from its relatives.
    pub fn shaped(self, fits: impl Fn(&Shapes) -> bool + Send + Sync + 'static) -> Self {
        Self { fits: Some(Arc::new(fits)), ..self }
    }

    /// The same, whose tensors have other names than its network asks for: `names` wraps a source so that those under a prefix have them,
    /// prefix and all.
    pub fn renamed(
        self,
        names: impl Fn(Arc<dyn WeightSource>, &str) -> Arc<dyn WeightSource> + Send + Sync + 'static,
    ) -> Self {
        Self { names: Some(Arc::new(names)), ..self }
    }

    /// The same, where something can be written back under the file's own names: `places` tells where a branch of a tensor, by the
    /// prefix, the name with it and the shape that the network knows, lies in the file.
    pub fn placed(self, places: Places) -> Self {
        Self { places: Some(places), ..self }
    }

    /// The same, which is computed by another network than that of the role which it takes.
    pub fn computed_by(self, network: Network) -> Self {
        Self { network: Some(Arc::new(network)), ..self }
    }

    /// What is computed with it, in the place of a role that has `usual`.
    pub fn network<'n>(&'n self, usual: &'n Network) -> &'n Network {
        self.network.as_deref().unwrap_or(usual)
    }

    /// The same, of which no other model has the marks: it is this one whatever else is there.
    pub fn telling(self) -> Self {
        Self { is_telling: true, ..self }
    }

    /// Whether the shapes of tensors, all of whose marks are there, are this kind's.
    pub fn fits(&self, shapes: &Shapes) -> bool {
        self.fits.as_ref().is_none_or(|fits| fits(shapes))
    }

    /// How much it asks of tensors: of two kinds that hold, the higher is the better word.
    pub fn specificity(&self) -> usize {
        if self.is_telling { usize::MAX } else { self.marks.len() + usize::from(self.fits.is_some()) }
    }

    /// Where a branch of a tensor, by the name and shape that the network knows, lies in the file, in which the names begin with `prefix`;
    /// `None` where that can't be said.
    pub fn place_of(&self, prefix: &str, (name, shape): (&str, &[usize]), branch: Branch) -> Option<(String, Branch)> {
        match (&self.names, self.places) {
            (None, _) => Some((name.to_owned(), branch)),
            (Some(_), Some(places)) => places(prefix, (name, shape), branch),
            (Some(_), None) => None,
        }
    }

    /// A source in which the tensors under a prefix have the names that the kind's network asks for, prefix and all.
    pub fn source(&self, source: Arc<dyn WeightSource>, prefix: &str) -> Arc<dyn WeightSource> {
        match &self.names {
            Some(names) => names(source, prefix),
            None => source,
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { id, name, duty, marks, .. } = self;
        f.debug_struct("Kind")
            .field("id", id)
            .field("name", name)
            .field("duty", &duty.id)
            .field("marks", marks)
            .finish()
    }
}

/// Shapes of tensors under a prefix.
#[derive(Clone, Copy, Debug)]
pub struct Shapes<'a> {
    manifest: &'a Manifest,
    prefix: &'a str,
}

impl<'a> Shapes<'a> {
    /// Those of a file's tensors whose names begin with `prefix`, which is empty or ends in a point.
    pub fn under(manifest: &'a Manifest, prefix: &'a str) -> Self {
        Self { manifest, prefix }
    }

    /// A dimension of a tensor.
    pub fn of(&self, name: &str, dimension: usize) -> Option<usize> {
        self.shape(name)?.get(dimension).copied()
    }

    /// How many dimensions a tensor has.
    pub fn rank(&self, name: &str) -> Option<usize> {
        Some(self.shape(name)?.len())
    }

    /// Rows and columns of a matrix.
    pub fn matrix(&self, name: &str) -> Option<[usize; 2]> {
        self.shape(name)?.try_into().ok()
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.manifest.get(&format!("{}{name}", self.prefix)).map(|form| form.shape)
    }
}
