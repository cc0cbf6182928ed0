//! A view of a source, from which layers are built.

use std::{fmt::Display, ops::Range, sync::Arc};

use kernels::Compute;

use super::{
    Convolution, Footprint, Kind, Layout, Matrix, Need, PANEL, Parameter, Residency, Stored, Table, Weight,
    WeightSource,
    branches::{self, Hold, HoldPair},
    computed::Origin,
    convolution::strided,
    joined::Factors,
    layout,
    passing::Passing,
    room::Room,
    stored::WHOLE_ROWS,
};
use crate::{Device, Error, Place};

/// The longest prefix that a mark is looked for behind: it comes back in every message about its tensors.
const LONGEST_PREFIX: usize = 256;

/// The most layers that a stack may have; the deepest model that draws pictures has 57, language models a hundred.
pub const MAX_DEPTH: usize = 256;

/// A view of a [`WeightSource`] under a name prefix, from which layers are built.
///
/// Dimensions are read from any view; layers are built from one with a [`Layout`], which says what shapes their tensors have.
#[derive(Clone)]
pub struct Weights<'a> {
    source: &'a dyn WeightSource,
    layout: Option<Arc<Layout>>,
    /// What stands before the names of the layout.
    root: String,
    prefix: String,
    device: Device,
    /// What may be unpacked still, by all views of one source.
    room: Arc<Room>,
    /// What passes through the device's memory instead.
    passing: Arc<Passing>,
    compute: Compute,
}

impl<'a> std::fmt::Debug for Weights<'a> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Weights").finish_non_exhaustive()
    }
}

impl<'a> Weights<'a> {
    /// The whole of a source.
    pub fn of(source: &'a dyn WeightSource, device: &Device, residency: Residency) -> Self {
        let (root, prefix) = (String::new(), String::new());
        let room = Arc::new(Room::of(residency));
        let (device, passing) = (device.clone(), Arc::default());
        Self { source, layout: None, root, prefix, device, room, passing, compute: Compute::F32 }
    }

    /// The same, for layers that compute in another number format than f32 where they are on the CPU.
    pub fn computed_in(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// The same, for the layers of a network.
    pub fn laid_out(&self, layout: Layout) -> Self {
        let (root, layout) = (self.full(""), Some(Arc::new(layout)));
        Self { layout, root, prefix: String::new(), ..self.clone() }
    }

    /// The part of this view whose names begin with `name.`.
    pub fn at(&self, name: impl Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..self.clone() }
    }

    /// The part under whatever prefix the file puts before `mark`; the view itself where there is no such tensor.
    pub fn before(&self, mark: &str) -> Self {
        if self.shape(mark).is_some() {
            return self.clone();
        }
        let prefix = |name: &str| {
            let prefix = name.strip_suffix(mark)?.strip_suffix('.')?;
            (prefix.len() <= LONGEST_PREFIX).then(|| prefix.to_owned())
        };
        let found = self.source.manifest().under(&self.full("")).find_map(|(name, _)| prefix(name));
        found.map_or_else(|| self.clone(), |prefix| self.at(prefix))
    }

    /// The device that layers are built on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number format that layers on the CPU compute products in.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// What stands before the names that it is asked for.
    pub fn prefix(&self) -> String {
        self.full("")
    }

    /// How to call the source in a message.
    pub fn label(&self) -> &str {
        self.source.label()
    }

    /// A tensor's shape, without reading it; `None` where there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.source.manifest().get(&self.full(name)).map(|form| form.shape)
    }

    /// A tensor's shape, where it has `D` dimensions.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Dimensions`] where their number differs or one is 0.
    pub fn dims<const D: usize>(&self, name: &str) -> Result<[usize; D], Error> {
        let Some(found) = self.shape(name) else { return Err(self.missing(name)) };
        match <[usize; D]>::try_from(found) {
            Ok(dims) if !dims.contains(&0) => Ok(dims),
            Ok(_) | Err(_) => {
                let (name, source_name) = (self.full(name), self.label().to_owned());
                Err(Error::Dimensions { name, source_name, expected: D, found: found.to_vec() })
            }
        }
    }

    /// How many numbers stand after this prefix: the depth of a stack of layers. Where one is left out, the stack ends with
    /// that one, so that its tensors are missed and named.
    ///
    /// # Errors
    /// [`Error::TooDeep`] above [`MAX_DEPTH`].
    pub fn depth(&self) -> Result<usize, Error> {
        let mut numbers = std::collections::BTreeSet::new();
        let prefix = self.full("");
        for (name, _) in self.source.manifest().under(&prefix) {
            let number = name.split('.').next().and_then(|number| number.parse::<usize>().ok());
            numbers.extend(number.filter(|_| numbers.len() <= MAX_DEPTH));
        }
        if numbers.len() > MAX_DEPTH {
            let stack = prefix.trim_end_matches('.').to_owned();
            return Err(Error::TooDeep { stack, source_name: self.label().to_owned(), limit: MAX_DEPTH });
        }
        let consecutive = numbers.iter().enumerate().take_while(|(i, n)| i == *n).count();
        Ok(numbers.len().min(consecutive + 1))
    }

    /// What is wrong with the tensors that the layout needs, one by one, by the headers alone.
    pub fn faults(&self) -> impl Iterator<Item = Error> {
        self.needs().iter().filter_map(|need| self.check(need).err())
    }

    /// Reads every tensor that the layout needs and the source has.
    pub fn read_all(&self) -> impl Iterator<Item = Stored> {
        self.needs().iter().filter_map(|need| self.source.read(&format!("{}{}", self.root, need.name)).ok())
    }

    /// What the layout's layers hold in memory. Tables always stay in their file.
    pub fn bytes(&self, at: Place) -> Footprint {
        let bytes = |need: &Need| {
            let name = format!("{}{}", self.root, need.name);
            let format = self.source.manifest().get(&name)?.format;
            // Only the scales themselves tell how many weights have one in common, and whether a device finds them.
            let is_scaled = format.bits().is_some_and(|form| form.beside);
            let stored = is_scaled.then(|| self.source.read(&name).ok()).flatten();
            let stored = stored.filter(|stored| stored.shape() == need.shape);
            Some(need.bytes(format, at, stored.as_ref()))
        };
        self.needs().iter().filter_map(bytes).fold(Footprint::default(), Footprint::and)
    }

    /// Whether the layout has a tensor.
    pub fn declares(&self, name: &str) -> bool {
        self.need(name).is_ok()
    }

    /// A tensor that is read whole, in f32.
    ///
    /// # Errors
    /// [`Error::Undeclared`]; [`Error::Missing`] or whatever else the source has against it; [`Error::Shape`],
    /// [`Error::Format`] or [`Error::Rows`]; [`Error::Branch`] of a branch that does not fit it.
    pub fn parameter<const D: usize>(&self, name: &str) -> Result<Parameter<D>, Error> {
        let shape = self.need(name).ok().and_then(|need| <[usize; D]>::try_from(&*need.shape).ok());
        let shape = shape.ok_or_else(|| self.undeclared(name))?;
        let (_, stored) = self.taken(name, |kind| *kind == Kind::Parameter)?;
        let rows = 0..shape.first().copied().unwrap_or(0);
        self.part_of(name, &stored, rows, shape)
    }

    /// Vectors that are stored as one, one behind the other, in parts as high as those of the matrix `of`.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn vectors<const N: usize>(&self, name: &str, of: &str) -> Result<[Parameter<1>; N], Error> {
        let (_, stored) = self.taken(name, |kind| *kind == Kind::Parameter)?;
        self.parts(of, |rows| self.part_of(name, &stored, rows.clone(), [rows.len()]))
    }

    /// Rows of a tensor that is read whole, of this shape.
    fn part_of<const D: usize>(
        &self,
        name: &str,
        stored: &Stored,
        rows: Range<usize>,
        shape: [usize; D],
    ) -> Result<Parameter<D>, Error> {
        let full = self.full(name);
        let part = stored.rows(rows.clone())?;
        let of = (full.clone(), stored.shape().to_vec(), rows);
        let parameter = Parameter::under(&part, &self.source.branches(&full), of, shape, &self.device)?;
        self.source.plug(&full, parameter.socket())?;
        Ok(parameter)
    }

    /// The outputs of each of the matrices that are stored as one.
    ///
    /// # Errors
    /// [`Error::Undeclared`].
    pub fn heights(&self, name: &str) -> Result<&[usize], Error> {
        match &self.need(name)?.kind {
            Kind::Matrix { rows } => Ok(rows),
            Kind::Parameter | Kind::Convolution | Kind::Table => Err(self.undeclared(name)),
        }
    }

    /// A matrix.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn matrix(&self, name: &str) -> Result<Weight<Matrix>, Error> {
        let [matrix] = self.matrices(name)?;
        Ok(matrix)
    }

    /// Matrices that are stored as one, one below the other.
    ///
    /// # Errors
    /// As [`Weights::parameter`]; [`Error::Undeclared`] where the layout has another number of them.
    pub fn matrices<const N: usize>(&self, name: &str) -> Result<[Weight<Matrix>; N], Error> {
        let (_, stored) = self.taken(name, |kind| matches!(kind, Kind::Matrix { .. }))?;
        self.parts(name, |rows| {
            let part = stored.rows(rows.clone()).expect(WHOLE_ROWS);
            let shape = [rows.len(), stored.shape()[1]];
            let bytes = Footprint::of_matrix(stored.format(), self.place(), shape, Some(&part)).unpacked;
            self.rows_of(name, &stored, rows, self.room.takes(bytes))
        })
    }

    /// A matrix that no file has: nothing but what is put into it by this name, zeros without.
    ///
    /// # Errors
    /// [`Error::Branch`] of a branch that the source has here and that does not fit.
    pub fn branches_alone(&self, name: &str, shape: [usize; 2]) -> Result<Weight<Matrix>, Error> {
        let [d_out, d_in] = shape;
        let zeros = Stored::of(&vec![0.0; d_out * d_in], shape.to_vec());
        self.rows_of(name, &zeros, 0..d_out, true)
    }

    /// Rows of a matrix, and what is added to them.
    fn rows_of(
        &self,
        name: &str,
        stored: &Stored,
        rows: Range<usize>,
        is_unpacked: bool,
    ) -> Result<Weight<Matrix>, Error> {
        let (device, compute) = (self.device.clone(), self.compute);
        let hold = move |factor: &Origin| match factor {
            Origin::Stored(factor) => {
                let [d_out, d_in] = [factor.shape()[0], factor.shape()[1]];
                Matrix::held(factor.clone().reshape(vec![d_out, d_in]), &device, compute)
            }
            computed @ Origin::Computed { .. } => Matrix::computed(computed.clone(), &device, compute),
        };
        let hold: Hold<_> = Box::new(move |factors, _| factors.iter().map(&hold).collect());
        let device = self.device.clone();
        let hold_pair: HoldPair<_> = Box::new(move |factors, _| Matrix::pair(factors, &device, compute));
        let own = stored.rows(rows.clone()).expect(WHOLE_ROWS);
        let own = match is_unpacked {
            true => Matrix::held(own, &self.device, self.compute),
            false => Matrix::in_file(own, &self.device, self.compute, &self.passing),
        };
        self.weight(name, stored, rows, own, (hold, hold_pair))
    }

    /// The parameters of a convolution.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn convolution(&self, name: &str) -> Result<Weight<Convolution>, Error> {
        let (need, stored) = self.taken(name, |kind| *kind == Kind::Convolution)?;
        let (device, compute, kernel) = (self.device.clone(), self.compute, need.shape[2]);
        let hold = move |factor: &Origin| match factor {
            Origin::Stored(factor) => Convolution::held(factor.clone(), &device, compute),
            computed @ Origin::Computed { .. } => Convolution::computed(computed.clone(), kernel, &device, compute),
        };
        let [c_out, c_in] = [need.shape[0], need.shape[1]];
        let bytes = Footprint::of_convolution(stored.format(), self.place(), [c_out, c_in, kernel]).unpacked;
        let is_unpacked = self.room.takes(bytes);
        let own = match is_unpacked {
            true => Convolution::held(stored.clone(), &self.device, self.compute),
            false => Convolution::in_file(stored.clone(), &self.device, self.compute, &self.passing),
        };
        let hold = move |factors: &[Origin], stride| strided(factors.iter().map(&hold).collect(), kernel, stride);
        let pair = hold.clone();
        let hold_pair = move |factors: [&Stored; 2], stride| {
            let factors = pair(&factors.map(|factor| Origin::Stored(factor.clone())), stride);
            Factors::Each(factors.try_into().unwrap_or_else(|_| unreachable!("one for each factor")))
        };
        self.weight(name, &stored, 0..need.shape[0], own, (Box::new(hold), Box::new(hold_pair)))
    }

    /// Where layers are held, and what they are multiplied in.
    fn place(&self) -> Place {
        Place::of(&self.device, self.compute)
    }

    /// Rows of a tensor that inputs are multiplied with, and what is added to them.
    fn weight<F: Clone + Send + Sync + 'static>(
        &self,
        name: &str,
        stored: &Stored,
        rows: Range<usize>,
        own: F,
        (hold, hold_pair): (Hold<F>, HoldPair<F>),
    ) -> Result<Weight<F>, Error> {
        let full = self.full(name);
        let place = branches::Place { name: full.clone(), shape: stored.shape().to_vec(), rows, hold, hold_pair };
        let weight = Weight::under(own, place, &self.source.branches(&full))?;
        self.source.plug(&full, weight.socket())?;
        Ok(weight)
    }

    /// A table of which single rows are looked up; it stays as it is stored.
    ///
    /// # Errors
    /// As [`Weights::parameter`].
    pub fn table(&self, name: &str) -> Result<Table, Error> {
        let (_, stored) = self.taken(name, |kind| *kind == Kind::Table)?;
        let full = self.full(name);
        let table = Table::under(stored, &self.source.branches(&full), &full, &self.device)?;
        self.source.plug(&full, table.socket())?;
        Ok(table)
    }

    /// `make` of each part of a matrix, by its rows.
    fn parts<T, const N: usize>(
        &self,
        name: &str,
        make: impl Fn(Range<usize>) -> Result<T, Error>,
    ) -> Result<[T; N], Error> {
        let parts = layout::parts(self.heights(name)?).map(make).collect::<Result<Vec<_>, _>>()?;
        parts.try_into().map_err(|_| self.undeclared(name))
    }

    /// A tensor that the layout declares as such a kind, and nothing is wrong with.
    fn taken(&self, name: &str, is: impl Fn(&Kind) -> bool) -> Result<(&Need, Stored), Error> {
        let need = self.need(name).ok().filter(|need| is(&need.kind)).ok_or_else(|| self.undeclared(name))?;
        self.check(need)?;
        Ok((need, self.source.read(&self.full(name))?))
    }

    /// Finds out whether a tensor that the layout needs is there in the right form.
    fn check(&self, need: &Need) -> Result<(), Error> {
        let (name, source_name) = (format!("{}{}", self.root, need.name), self.label().to_owned());
        let Some(form) = self.source.manifest().get(&name) else {
            // The source knows why it has none.
            self.source.read(&name)?;
            return Err(Error::Missing { name, source_name });
        };
        if form.shape != need.shape {
            return Err(Error::Shape { name, source_name, expected: need.shape.clone(), found: form.shape.to_vec() });
        }
        if !form.format.is_float() {
            return Err(Error::Format { name, source_name, found: form.format });
        }
        let (weights, per_block) = (form.shape.iter().skip(1), form.format.weights());
        // Of remainders alone: a file may claim more weights than can be counted.
        let beyond = weights.clone().fold(1, |beyond, side| beyond * (side % per_block) % per_block);
        let is_cut_at = |rows: usize| ((rows % per_block) * beyond).is_multiple_of(per_block);
        let is_cut_between_blocks = match &need.kind {
            Kind::Parameter => true,
            Kind::Table => is_cut_at(1),
            Kind::Convolution => is_cut_at(PANEL),
            Kind::Matrix { rows } => is_cut_at(PANEL) && rows.iter().all(|&rows| is_cut_at(rows)),
        };
        if !is_cut_between_blocks {
            let weights = weights.fold(1, |weights: usize, side| weights.saturating_mul(*side));
            return Err(Error::Blocks { name, source_name, format: form.format, weights, per_block });
        }
        Ok(())
    }

    fn needs(&self) -> &[Need] {
        self.layout.as_ref().map_or(&[], |layout| layout.needs())
    }

    fn need(&self, name: &str) -> Result<&Need, Error> {
        let need = self.layout.as_ref().and_then(|layout| layout.get(&format!("{}{name}", self.prefix)));
        need.ok_or_else(|| self.undeclared(name))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{}{name}", self.root, self.prefix)
    }

    fn undeclared(&self, name: &str) -> Error {
        Error::Undeclared { name: format!("{}{name}", self.prefix) }
    }

    fn missing(&self, name: &str) -> Error {
        Error::Missing { name: self.full(name), source_name: self.label().to_owned() }
    }
}
