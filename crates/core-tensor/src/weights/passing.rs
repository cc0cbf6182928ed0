//! What is not unpacked when it is loaded: it passes through a device's memory while it is computed with, or is read from its file, the next
//! ahead of its use.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use kernels::Compute;

use super::Stored;
use crate::{
    Device, Tensor, cpu,
    cuda::{Ahead, Brought, Fill},
};

/// What passes of one source.
#[derive(Default)]
pub(super) struct Passing {
    /// On a device that has kernels of ours.
    ahead: OnceLock<Option<Arc<Ahead>>>,
    /// On the CPU.
    files: Arc<Files>,
}

/// A place among those that pass.
pub(super) enum Seat {
    Device { ahead: Arc<Ahead>, number: usize },
    Files { files: Arc<Files>, number: usize },
}

impl Passing {
    /// A place for a matrix of a tensor, which `fill` writes as a device has it; `None` where nothing is done ahead of its use.
    pub(super) fn seat(
        &self,
        stored: &Stored,
        device: &Device,
        compute: Compute,
        shape: [usize; 2],
        fill: Fill,
    ) -> Option<Seat> {
        if cpu::is(device) {
            let number = self.files.enrol(stored)?;
            return Some(Seat::Files { files: self.files.clone(), number });
        }
        let ahead = self.ahead.get_or_init(|| Ahead::on(device).map(Arc::new)).clone()?;
        let number = ahead.enrol(shape, compute, fill);
        Some(Seat::Device { ahead, number })
    }
}

impl Seat {
    /// What has this place, on the device; `None` where it has to be had in another way.
    pub(super) fn bring(&self) -> Option<Brought> {
        match self {
            Self::Device { ahead, number } => ahead.bring(*number),
            Self::Files { .. } => None,
        }
    }

    /// Has the system read what is likely to be asked for behind this, which is about to be read.
    pub(super) fn read_ahead(&self) {
        if let Self::Files { files, number } = self {
            files.read_behind(*number);
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Device { number, .. } => write!(f, "Device({number})"),
            Self::Files { number, .. } => write!(f, "Files({number})"),
        }
    }
}

/// Tensors of files that are read in each product.
#[derive(Default)]
pub(super) struct Files {
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    all: Vec<Stored>,
    /// What was asked for behind each the last time.
    follows: BTreeMap<usize, usize>,
    last: Option<usize>,
}

/// Less than this the system reads ahead by itself.
const WORTH: usize = 1 << 20;

impl Files {
    fn enrol(&self, stored: &Stored) -> Option<usize> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        (stored.byte_len() >= WORTH).then(|| asked.all.push(stored.clone()))?;
        Some(asked.all.len() - 1)
    }

    fn read_behind(&self, number: usize) {
        let next = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.behind(number).and_then(|next| asked.all.get(next).cloned())
        };
        if let Some(next) = next {
            next.read_ahead();
        }
    }
}

impl Asked {
    /// What is likely to be asked for behind what is asked for now: what was the last time, or else what was built next. `None` where the
    /// same is asked for again.
    fn behind(&mut self, number: usize) -> Option<usize> {
        match self.last.replace(number) {
            Some(last) if last == number => return None,
            Some(last) => self.follows.insert(last, number),
            None => None,
        };
        Some(self.follows.get(&number).copied().unwrap_or((number + 1) % self.all.len().max(1)))
    }
}

/// A matrix on a device, to be dropped once what is computed with it is asked for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle of fixed size, and one of them is there at a time")]
pub(crate) enum OnDevice {
    /// Memory of its own.
    Own(Tensor<2>),
    /// Memory that others pass through.
    Passing(Brought),
}

impl Deref for OnDevice {
    type Target = Tensor<2>;

    fn deref(&self) -> &Tensor<2> {
        match self {
            Self::Own(tensor) => tensor,
            Self::Passing(brought) => brought,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_came_behind_the_last_time() {
        // given five tensors that are asked for in another order than they were built in
        let mut asked = Asked { all: vec![Stored::of(&[0.0], vec![1]); 5], ..Asked::default() };
        let mut round = |order: [usize; 6]| order.map(|number| asked.behind(number));
        // when they are for the first time, then what was built next is guessed, and nothing where one is asked for twice
        assert_eq!(round([0, 2, 2, 1, 3, 4]), [Some(1), Some(3), None, Some(2), Some(4), Some(0)]);
        // and from then on what came
        assert_eq!(round([0, 2, 2, 1, 3, 4]), [Some(2), Some(1), None, Some(3), Some(4), Some(0)]);
    }

    #[test]
    fn a_tensor_of_few_bytes_has_no_place_of_its_own_in_the_queue_of_files() {
        let files = Files::default();
        assert_eq!(files.enrol(&Stored::of(&[0.0; 16], vec![4, 4])), None);
        let large = Stored::of(&vec![0.0; WORTH / 4], vec![4, WORTH / 16]);
        assert_eq!([files.enrol(&large), files.enrol(&large)], [Some(0), Some(1)]);
        files.read_behind(1);
    }
}
