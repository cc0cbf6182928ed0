//! How much of a source may be unpacked.

use std::sync::{Mutex, PoisonError};

use super::Residency;

/// Room for what inputs are multiplied with, as much of it as [`Residency`] says.
#[derive(Debug)]
pub(super) struct Room {
    residency: Residency,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// What was unpacked.
    bytes: u64,
    /// What there was of it, the rest with it.
    of: u64,
}

impl Room {
    pub(super) fn of(residency: Residency) -> Self {
        Self { residency, taken: Mutex::default() }
    }

    /// Whether what comes next, which takes so many bytes, is unpacked.
    pub(super) fn takes(&self, more: u64) -> bool {
        let (bytes, of) = match self.residency {
            Residency::Unpacked => return true,
            Residency::Mapped => return false,
            Residency::UpTo { bytes, of } => (bytes, of),
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.of = taken.of.saturating_add(more);
        // As near to the share of all as there was so far, but never beyond what may be unpacked.
        let half = u128::from(taken.bytes) + u128::from(more / 2);
        let is_due = half * u128::from(of) <= u128::from(taken.of) * u128::from(bytes);
        let fits = taken.bytes.checked_add(more).filter(|all| is_due && *all <= bytes);
        taken.bytes = fits.unwrap_or(taken.bytes);
        fits.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_layers_alike_every_other_is_unpacked_where_there_is_room_for_half() {
        let room = Room::of(Residency::UpTo { bytes: 35, of: 60 });
        assert_eq!([10; 6].map(|bytes| room.takes(bytes)), [true, false, true, false, true, false]);
    }

    proptest! {
        #[test]
        fn what_is_unpacked_is_spread_evenly_and_never_more_than_there_is_room(
            layers in prop::collection::vec(1u64..1000, 1..60),
            share in 0u64..=100,
        ) {
            let of: u64 = layers.iter().sum();
            let bytes = of * share / 100;
            let room = Room::of(Residency::UpTo { bytes, of });
            let (mut unpacked, mut seen) = (0, 0);
            for &layer in &layers {
                unpacked += if room.takes(layer) { layer } else { 0 };
                seen += layer;
                let even = seen as f64 * bytes as f64 / of as f64;
                prop_assert!(unpacked <= bytes);
                prop_assert!((unpacked as f64 - even).abs() <= 1000.0, "{unpacked} of {even}");
            }
        }
    }
}
