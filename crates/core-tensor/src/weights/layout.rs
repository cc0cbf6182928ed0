//! What a network needs, as data.

use std::{collections::HashMap, fmt::Display, ops::Range};

use super::{Footprint, Format, Stored, footprint};
use crate::Place;

/// A tensor that a network needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its name, behind the file's prefix.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What becomes of it.
    pub kind: Kind,
}

/// What a network does with a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is read whole: a bias, a norm's scale.
    Parameter,
    /// Inputs are multiplied with it, `[out, in]`.
    Matrix {
        /// The outputs of each of the layers that are stored in it, one below the other; of most one.
        rows: Vec<usize>,
    },
    /// A picture is convolved with it, `[c_out, c_in, kernel, kernel]`.
    Convolution,
    /// Single rows of it are looked up.
    Table,
}

impl Need {
    /// What a layer holds of it in memory. `stored` is the tensor itself, of this shape, where more than its format says how it is held.
    pub(super) fn bytes(&self, format: Format, at: Place, stored: Option<&Stored>) -> Footprint {
        let floats = footprint::floats(&self.shape);
        match (&self.kind, &*self.shape) {
            (Kind::Parameter, _) => Footprint::fixed(floats),
            (Kind::Matrix { rows }, &[_, d_in]) => {
                let of_rows = |rows: Range<usize>| {
                    let part = stored.and_then(|stored| stored.rows(rows.clone()).ok());
                    Footprint::of_matrix(format, at, [rows.len(), d_in], part.as_ref())
                };
                parts(rows).map(of_rows).fold(Footprint::default(), Footprint::and)
            }
            (Kind::Convolution, &[c_out, c_in, kernel, _]) => {
                Footprint::of_convolution(format, at, [c_out, c_in, kernel])
            }
            (Kind::Matrix { .. } | Kind::Convolution, _) => Footprint::either(floats, at),
            (Kind::Table, _) => Footprint::default(),
        }
    }
}

/// The rows of matrices of such heights that are stored as one, one below the other.
pub(super) fn parts(heights: &[usize]) -> impl Iterator<Item = Range<usize>> {
    heights.iter().scan(0usize, |end, &height| {
        let start = *end;
        *end = start.saturating_add(height);
        Some(start..*end)
    })
}

/// Every tensor that a network needs, in the order in which its layers are built. Layers take their shapes from it, so that
/// nothing can be loaded that is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    needs: Vec<Need>,
    places: HashMap<String, usize>,
}

impl Layout {
    /// What `declare` declares.
    pub fn of(declare: impl FnOnce(&mut Declare)) -> Self {
        let mut layout = Self::default();
        declare(&mut Declare { layout: &mut layout, prefix: String::new() });
        layout
    }

    /// All of them, in order.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// The one of a name.
    pub fn get(&self, name: &str) -> Option<&Need> {
        self.places.get(name).map(|&place| &self.needs[place])
    }
}

/// Where a network's layers are declared, under a prefix of their names.
#[derive(Debug)]
pub struct Declare<'l> {
    layout: &'l mut Layout,
    prefix: String,
}

impl Declare<'_> {
    /// The same for the layers whose names begin with `name.`; without a name, for this one's own.
    pub fn at(&mut self, name: impl Display) -> Declare<'_> {
        let prefix = match name.to_string() {
            name if name.is_empty() => self.prefix.clone(),
            name => format!("{}{name}.", self.prefix),
        };
        Declare { prefix, layout: self.layout }
    }

    /// A [`Linear`](crate::layers::Linear): `weight` `[d_out, d_in]` and `bias` `[d_out]`.
    pub fn linear(&mut self, name: impl Display, d_in: usize, d_out: usize) {
        self.stacked(name, d_in, &[d_out]);
    }

    /// A linear layer without `bias`.
    pub fn unbiased(&mut self, name: impl Display, d_in: usize, d_out: usize) {
        self.at(name).need("weight", vec![d_out, d_in], Kind::Matrix { rows: vec![d_out] });
    }

    /// Linear layers of these outputs that are stored as one: `weight` `[sum of d_out, d_in]` and `bias` `[sum of d_out]`.
    pub fn stacked(&mut self, name: impl Display, d_in: usize, d_out: &[usize]) {
        let out = d_out.iter().fold(0, |sum: usize, &rows| sum.saturating_add(rows));
        let mut at = self.at(name);
        at.need("weight", vec![out, d_in], Kind::Matrix { rows: d_out.to_vec() });
        at.parameter("bias", &[out]);
    }

    /// A [`Conv2d`](crate::layers::Conv2d): `weight` `[c_out, c_in, kernel, kernel]` and `bias` `[c_out]`.
    pub fn convolution(&mut self, name: impl Display, c_in: usize, c_out: usize, kernel: usize) {
        let mut at = self.at(name);
        at.unbiased_convolution("", c_in, c_out, kernel);
        at.parameter("bias", &[c_out]);
    }

    /// A convolution without `bias`.
    pub fn unbiased_convolution(&mut self, name: impl Display, c_in: usize, c_out: usize, kernel: usize) {
        self.at(name).need("weight", vec![c_out, c_in, kernel, kernel], Kind::Convolution);
    }

    /// A norm: `weight` and `bias`, both `[d]`.
    pub fn norm(&mut self, name: impl Display, d: usize) {
        let mut at = self.at(name);
        at.parameter("weight", &[d]);
        at.parameter("bias", &[d]);
    }

    /// A tensor that a layer reads whole.
    pub fn parameter(&mut self, name: impl Display, shape: &[usize]) {
        self.need(name, shape.to_vec(), Kind::Parameter);
    }

    /// A table of which single rows are looked up.
    pub fn table(&mut self, name: impl Display, shape: [usize; 2]) {
        self.need(name, shape.to_vec(), Kind::Table);
    }

    fn need(&mut self, name: impl Display, shape: Vec<usize>, kind: Kind) {
        let name = format!("{}{name}", self.prefix);
        let Layout { needs, places } = &mut *self.layout;
        places.entry(name.clone()).or_insert_with(|| {
            needs.push(Need { name, shape, kind });
            needs.len() - 1
        });
    }
}
