//! Lists of tensors, a line `NAME FORMAT [SHAPE]` each; `{0..18}` and `{bias,weight}` in a name stand for several.

use std::collections::BTreeMap;

/// A number format of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DType {
    F32,
    F16,
    Bf16,
}

impl DType {
    const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// As files name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of a number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(super) dtype: DType,
    pub(crate) shape: Vec<usize>,
}

impl Tensor {
    /// How many numbers it has; `None` where they can't be counted.
    pub(super) fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        self.len()?.checked_mul(self.dtype.bytes())?.try_into().ok()
    }
}

/// The tensors of a list, all in the format `dtype` where one is given.
pub(crate) fn read(list: &str, dtype: Option<DType>) -> Result<BTreeMap<String, Tensor>, String> {
    let mut tensors = BTreeMap::new();
    for line in list.lines() {
        let (pattern, stored, shape) = parts(line).ok_or_else(|| format!("`{line}` is not `NAME FORMAT [SHAPE]`"))?;
        for name in spelt_out(pattern).ok_or_else(|| format!("the choices in `{pattern}` can't be read"))? {
            let tensor = Tensor { dtype: dtype.unwrap_or(stored), shape: shape.clone() };
            if tensors.insert(name, tensor).is_some() {
                return Err(format!("a tensor of `{pattern}` is there twice"));
            }
        }
    }
    Ok(tensors)
}

fn parts(line: &str) -> Option<(&str, DType, Vec<usize>)> {
    let (name, form) = line.split_once(' ')?;
    let (dtype, shape) = form.split_once(' ')?;
    Some((name, DType::named(dtype)?, serde_json::from_str(shape).ok()?))
}

/// The names that a pattern stands for.
fn spelt_out(pattern: &str) -> Option<Vec<String>> {
    let Some((before, rest)) = pattern.split_once('{') else { return Some(vec![pattern.to_owned()]) };
    let (choices, after) = rest.split_once('}')?;
    let mut all = Vec::new();
    for choice in choices.split(',') {
        match choice.split_once("..") {
            Some((first, last)) => {
                all.extend((first.parse::<usize>().ok()?..=last.parse().ok()?).map(|n| n.to_string()));
            }
            None => all.push(choice.to_owned()),
        }
    }
    let after = spelt_out(after)?;
    Some(all.iter().flat_map(|choice| after.iter().map(move |after| format!("{before}{choice}{after}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_for_all_names_that_its_choices_make() {
        let tensors = read("a.{0..2}.{k,v}.x F16 [3,4]\nb BF16 []\n", None).unwrap();
        assert_eq!(tensors.len(), 7);
        assert_eq!(tensors["a.2.k.x"], Tensor { dtype: DType::F16, shape: vec![3, 4] });
        assert_eq!((tensors["b"].dtype, tensors["b"].len()), (DType::Bf16, Some(1)));
        assert!(read("a F16 [2]", Some(DType::F32)).unwrap().values().all(|tensor| tensor.dtype == DType::F32));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for list in ["a", "a F16", "a I7 [1]", "a F16 3", "a.{0..x} F16 [1]", "a{ F16 [1]", "a F16 [1]\na F32 [1]"] {
            assert!(read(list, None).is_err(), "{list}");
        }
    }
}
