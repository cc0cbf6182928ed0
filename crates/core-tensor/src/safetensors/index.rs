//! The tensors of a header, in less memory than its text takes.
//!
//! Names lie in one text and dimensions in one list, both reserved at what a header of this length can hold at most: a
//! hostile header can't make them grow, and a million tensors are three allocations.

use crate::Dtype;

/// The most dimensions that a tensor may have; those of diffusion models have at most five.
pub(super) const RANK_LIMIT: usize = 8;

/// The longest name of a tensor, in bytes; those of known files have less than 200.
pub(super) const NAME_LIMIT: usize = 1024;

/// The least that a tensor takes in a header: `"":{"dtype":"U8","shape":[],"data_offsets":[0,0]},`.
const LEAST: usize = 50;

/// Every tensor of a header, by name.
pub(super) struct Index {
    names: String,
    dims: Vec<usize>,
    places: Vec<Place>,
}

/// A tensor of an [`Index`]: where its name and dimensions are in it, and its bytes in the data.
#[derive(Clone, Copy)]
struct Place {
    name: u32,
    name_bytes: u16,
    dims: u32,
    rank: u8,
    dtype: Dtype,
    start: usize,
    end: usize,
}

/// A tensor as the header has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry<'i> {
    pub name: &'i str,
    pub dtype: Dtype,
    pub shape: &'i [usize],
    /// Where its bytes begin in the data, and where they end; which may be before.
    pub start: usize,
    pub end: usize,
}

impl Index {
    /// An index with room for every tensor that so many bytes of JSON can hold; less than 4 GiB of them.
    pub(super) fn for_header(bytes: usize) -> Self {
        Self {
            names: String::with_capacity(bytes),
            dims: Vec::with_capacity((bytes / (LEAST + 2 * RANK_LIMIT - 1) + 1) * RANK_LIMIT),
            places: Vec::with_capacity(bytes / LEAST + 1),
        }
    }

    /// Adds a tensor, whose name and shape are within their limits.
    pub(super) fn push(&mut self, entry: Entry) {
        let Entry { name, dtype, shape, start, end } = entry;
        self.places.push(Place {
            name: self.names.len() as u32,
            name_bytes: name.len() as u16,
            dims: self.dims.len() as u32,
            rank: shape.len() as u8,
            dtype,
            start,
            end,
        });
        self.names.push_str(name);
        self.dims.extend_from_slice(shape);
    }

    /// Sorts the tensors by name, gives back what was reserved beyond them, and returns a name that occurs twice, if one does.
    pub(super) fn close(&mut self) -> Option<&str> {
        let Self { names, dims, places } = self;
        places.sort_unstable_by(|a, b| a.name(names).cmp(b.name(names)));
        names.shrink_to_fit();
        dims.shrink_to_fit();
        places.shrink_to_fit();
        let twice = places.array_windows().find(|[a, b]| a.name(names) == b.name(names));
        twice.map(|[first, _]| first.name(names))
    }

    /// Every tensor, in the order of their names.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.places.iter().map(|place| self.entry(place))
    }

    /// Every tensor, in the order of their bytes.
    pub(super) fn by_place(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut order: Vec<u32> = (0..self.places.len() as u32).collect();
        order.sort_unstable_by_key(|&i| (self.places[i as usize].start, self.places[i as usize].end, i));
        order.into_iter().map(|i| self.entry(&self.places[i as usize]))
    }

    /// The tensor of a name.
    pub(super) fn get(&self, name: &str) -> Option<Entry<'_>> {
        let at = self.places.binary_search_by(|place| place.name(&self.names).cmp(name)).ok()?;
        Some(self.entry(&self.places[at]))
    }

    fn entry(&self, place: &Place) -> Entry<'_> {
        let &Place { dims, rank, dtype, start, end, .. } = place;
        let shape = &self.dims[dims as usize..][..usize::from(rank)];
        Entry { name: place.name(&self.names), dtype, shape, start, end }
    }
}

impl Place {
    fn name<'n>(&self, names: &'n str) -> &'n str {
        &names[self.name as usize..][..usize::from(self.name_bytes)]
    }
}

impl Entry<'_> {
    /// How many bytes its shape takes; `None` where they are no whole number, or none that a file can have.
    pub(super) fn byte_size(&self) -> Option<u64> {
        let count = self.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))?;
        let bits = count.checked_mul(self.dtype.bitsize() as u64)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}
