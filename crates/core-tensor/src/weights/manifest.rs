//! What a source holds: every tensor's name and form, in less memory than a header's text takes.
//!
//! Names lie in one text and dimensions in one list, both reserved at what a header of this length can hold at most: a hostile
//! header can't make them grow, and a million tensors are three allocations.

use super::Format;

/// Every tensor of a source, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    names: String,
    dims: Vec<usize>,
    formats: Vec<Format>,
    places: Vec<Place>,
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form<'m> {
    /// The number format.
    pub format: Format,
    /// The dimensions, outermost first.
    pub shape: &'m [usize],
    /// How many bytes it takes.
    pub bytes: u64,
}

/// A tensor of a [`Manifest`]: where its name, dimensions and format are in it, and its bytes in the source.
#[derive(Clone, Copy, Debug)]
struct Place {
    name: usize,
    dims: usize,
    name_bytes: u32,
    rank: u16,
    format: u16,
    start: u64,
    end: u64,
}

impl Manifest {
    /// An empty manifest with room for every tensor that so many bytes of text can name, where each takes `least` bytes beside its
    /// name and has `rank` dimensions at most, of which each takes two bytes.
    pub(crate) fn for_header(bytes: usize, least: usize, rank: usize) -> Self {
        Self {
            names: String::with_capacity(bytes),
            dims: Vec::with_capacity((bytes / (least + 2 * rank - 1) + 1) * rank),
            formats: Vec::new(),
            places: Vec::with_capacity(bytes / least + 1),
        }
    }

    /// An empty manifest with room for so many tensors, and for the bytes of all their names and all their dimensions.
    pub fn with_room(tensors: usize, name_bytes: usize, dims: usize) -> Self {
        Self {
            names: String::with_capacity(name_bytes),
            dims: Vec::with_capacity(dims),
            formats: Vec::new(),
            places: Vec::with_capacity(tensors),
        }
    }

    /// Adds a tensor whose bytes begin and end there in its source; which may be before. Its readers call [`Manifest::close`] at the end.
    ///
    /// # Panics
    /// If a name has 4 GiB, or a tensor 65,536 dimensions.
    pub fn push(&mut self, name: &str, format: Format, shape: &[usize], [start, end]: [u64; 2]) {
        const FEW: &str = "a tensor has a name below 4 GiB, and neither 65,536 dimensions nor as many formats exist";
        // A format of which values can be read may have the name of one of which they can't.
        let is_same = |known: &Format| *known == format && known.is_float() == format.is_float();
        let number = self.formats.iter().position(is_same).unwrap_or_else(|| {
            self.formats.push(format);
            self.formats.len() - 1
        });
        self.places.push(Place {
            name: self.names.len(),
            dims: self.dims.len(),
            name_bytes: name.len().try_into().expect(FEW),
            rank: shape.len().try_into().expect(FEW),
            format: number.try_into().expect(FEW),
            start,
            end,
        });
        self.names.push_str(name);
        self.dims.extend_from_slice(shape);
    }

    /// Sorts the tensors by name, gives back what was reserved beyond them, and returns a name that occurs twice, if one does.
    pub fn close(&mut self) -> Option<&str> {
        let Self { names, dims, places, .. } = self;
        places.sort_unstable_by(|a, b| a.name(names).cmp(b.name(names)));
        names.shrink_to_fit();
        dims.shrink_to_fit();
        places.shrink_to_fit();
        let twice = places.array_windows().find(|[a, b]| a.name(names) == b.name(names));
        twice.map(|[first, _]| first.name(names))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<Form<'_>> {
        self.place(name).map(|place| self.form(place))
    }

    /// Whether there is a tensor of a name.
    pub fn contains(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// Every tensor, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Form<'_>)> {
        self.places.iter().map(|place| (place.name(&self.names), self.form(place)))
    }

    /// Every tensor's name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name(&self.names))
    }

    /// The tensors whose names begin with `prefix`, with what stands behind it, in order; found without looking at the others.
    pub fn under<'m>(&'m self, prefix: &'m str) -> impl Iterator<Item = (&'m str, Form<'m>)> {
        let first = self.places.partition_point(|place| place.name(&self.names) < prefix);
        let behind = move |place: &'m Place| Some((place.name(&self.names).strip_prefix(prefix)?, self.form(place)));
        self.places[first..].iter().map_while(behind)
    }

    /// Where a tensor's bytes begin and end in its source.
    pub fn range(&self, name: &str) -> Option<[u64; 2]> {
        self.place(name).map(|place| [place.start, place.end])
    }

    /// Every tensor and where its bytes begin and end, in that order.
    pub fn by_range(&self) -> impl Iterator<Item = (&str, Form<'_>, [u64; 2])> {
        let mut order: Vec<u32> = (0..self.places.len() as u32).collect();
        order.sort_unstable_by_key(|&i| (self.places[i as usize].start, self.places[i as usize].end, i));
        order.into_iter().map(|i| {
            let place = &self.places[i as usize];
            (place.name(&self.names), self.form(place), [place.start, place.end])
        })
    }

    fn place(&self, name: &str) -> Option<&Place> {
        let at = self.places.binary_search_by(|place| place.name(&self.names).cmp(name)).ok()?;
        Some(&self.places[at])
    }

    fn form(&self, place: &Place) -> Form<'_> {
        let &Place { dims, rank, format, start, end, .. } = place;
        let shape = &self.dims[dims..][..usize::from(rank)];
        Form { format: self.formats[usize::from(format)], shape, bytes: end.saturating_sub(start) }
    }
}

impl Place {
    fn name<'n>(&self, names: &'n str) -> &'n str {
        &names[self.name..][..self.name_bytes as usize]
    }
}

/// Of two tensors with one name there is one; a shape that is no whole number of blocks takes no bytes.
impl<N: AsRef<str>> FromIterator<(N, Format, Vec<usize>)> for Manifest {
    fn from_iter<T: IntoIterator<Item = (N, Format, Vec<usize>)>>(tensors: T) -> Self {
        let mut manifest = Self::default();
        for (name, format, shape) in tensors {
            let bytes = format.size_of(&shape).unwrap_or(0);
            manifest.push(name.as_ref(), format, &shape, [0, bytes]);
        }
        manifest.close();
        let Self { names, places, .. } = &mut manifest;
        places.dedup_by(|a, b| a.name(names) == b.name(names));
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_found_by_name_and_by_the_beginning_of_it() {
        let names = ["b.1.w", "a.w", "b.10.w", "b.w", "b", "c", "b.1.v"];
        let manifest: Manifest = names.iter().map(|name| (*name, Format::F16, vec![name.len(), 2])).collect();
        assert_eq!(manifest.names().collect::<Vec<_>>(), ["a.w", "b", "b.1.v", "b.1.w", "b.10.w", "b.w", "c"]);
        for name in names {
            let form = Form { format: Format::F16, shape: &[name.len(), 2], bytes: 4 * name.len() as u64 };
            assert_eq!(manifest.get(name), Some(form), "{name}");
        }
        assert_eq!((manifest.get("a"), manifest.len()), (None, names.len()));
        let under = |prefix: &'static str| manifest.under(prefix).map(|(rest, _)| rest.to_owned()).collect::<Vec<_>>();
        assert_eq!(under("b.1"), [".v", ".w", "0.w"]);
        assert_eq!(under("b."), ["1.v", "1.w", "10.w", "w"]);
        assert_eq!(under("").len(), names.len());
        assert_eq!(under("d"), [""; 0]);
    }

    #[test]
    fn a_format_whose_values_can_be_read_is_not_taken_for_one_of_its_name() {
        struct Read;
        impl crate::BlockFormat for Read {
            fn name(&self) -> &'static str {
                Format::F8_E4M3.name()
            }
            fn weights(&self) -> usize {
                1
            }
            fn bytes(&self) -> usize {
                1
            }
            fn unpack(&self) -> Option<crate::Unpack> {
                Some(|_, weights| weights.fill(0.0))
            }
        }
        let formats = [Format::F8_E4M3, Format(&Read), Format::F8_E4M3];
        let manifest: Manifest = ["a", "b", "c"].into_iter().zip(formats).map(|(n, f)| (n, f, vec![1])).collect();
        let are_floats: Vec<bool> = manifest.iter().map(|(_, form)| form.format.is_float()).collect();
        assert_eq!(are_floats, [false, true, false]);
    }

    #[test]
    fn one_name_is_one_tensor() {
        let twice = [("a", Format::F32, vec![1]), ("a", Format::F32, vec![1]), ("b", Format::F32, vec![1])];
        assert_eq!(twice.into_iter().collect::<Manifest>().len(), 2);
    }
}
