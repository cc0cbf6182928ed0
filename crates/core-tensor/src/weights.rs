//! Parameters by name: where they come from, what a network needs of them, and how layers hold them.

mod branch;
mod branches;
mod chain;
mod computed;
mod convolution;
mod factor;
mod footprint;
mod joined;
mod layout;
mod manifest;
mod matrix;
mod memory;
mod merged;
mod on_device;
mod parameter;
mod passing;
mod room;
mod segment;
mod socket;
mod source;
mod stored;
mod strength;
mod view;
mod weight;

use crate::format::{self, Format, Product};

pub use branch::{Branch, Change};
pub use computed::{Computed, Rule};
pub use convolution::Convolution;
pub(crate) use convolution::{Around, Before, ForDevice, Parameters};
pub use factor::Factor;
pub use footprint::Footprint;
pub use layout::{Declare, Kind, Layout, Need};
pub use manifest::{Form, Manifest};
pub use matrix::Matrix;
pub(crate) use matrix::{F32, multiply};
pub use memory::Memory;
pub use parameter::{Parameter, Table};
pub(crate) use passing::OnDevice;
pub use segment::Scaling;
pub use socket::Socket;
pub use source::WeightSource;
pub use stored::Stored;
pub use strength::Strength;
pub use view::{MAX_DEPTH, Weights};
pub(crate) use weight::Beside;
pub use weight::Weight;

/// Rows, or output channels, of what stays in its file that are unpacked at a time: a panel of Flux's widest matrix (15,360 columns) is 30 MB.
const PANEL: usize = 512;

/// What becomes of what inputs are multiplied with when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Brought into the order that it is multiplied in, at once: fastest. On the CPU it keeps its precision or that which is
    /// computed in, elsewhere it becomes f32.
    Unpacked,
    /// Left where and as it is stored, and unpacked a few panels at a time in each multiplication: slower in most formats, with no
    /// memory but these panels and the system's file cache. To a device that is not the CPU it is brought anew each time.
    Mapped,
    /// So many bytes of so many unpacked, in an even mixture over the layers in the order in which they are built, and the others mapped:
    /// while a device computes with some, others are brought there.
    UpTo {
        /// The most that is unpacked.
        bytes: u64,
        /// What all takes that could be.
        of: u64,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{BitForm, BlockFormat, Device, Error, Field, Number, Scale, Shift, Steps, Table, Unpack, Whole};

    pub(crate) use super::Memory;

    /// Two weights of a byte, of which a tensor may have scales beside them.
    pub(crate) const FOURS: Format = Format(&Fours { bytes: 1 });

    /// Blocks of so many bytes, of which each holds two weights of a table.
    pub(crate) struct Fours {
        pub(crate) bytes: usize,
    }

    impl BlockFormat for Fours {
        fn name(&self) -> &'static str {
            "FOURS"
        }

        fn weights(&self) -> usize {
            2 * self.bytes
        }

        fn bytes(&self) -> usize {
            self.bytes
        }

        fn unpack(&self) -> Option<Unpack> {
            Some(|_, weights| weights.fill(1.0))
        }

        fn bits(&self) -> Option<BitForm> {
            let number = Number { low: Field::of(4, 0, 1), high: None, steps: Steps::Of(Table(&[1.0; 16])) };
            Some(BitForm { number, scale: Scale::of(Whole::One), shift: Shift::None, beside: true })
        }
    }

    pub(crate) fn halves(format: Format, bits: &[u16], shape: Vec<usize>) -> Stored {
        Stored::of_bytes(format, shape, bits.iter().flat_map(|b| b.to_le_bytes()).collect()).unwrap()
    }

    #[test]
    fn a_wrong_request_names_what_is_there() {
        let source =
            Memory::of([("a.w", Stored::of(&[0.0; 6], vec![2, 3])), ("a.q", halves(Format::I16, &[0], vec![1]))]);
        let layout = Layout::of(|l| {
            l.parameter("x", &[1]);
            l.parameter("w", &[3, 2]);
            l.parameter("q", &[1]);
            l.table("w.weight", [2, 3]);
        });
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked).at("a").laid_out(layout);
        // when its tensors are asked for, and when all are looked at
        let message = |e: Error| e.to_string();
        let asked = ["x", "q"].map(|name| weights.parameter::<1>(name).err().map(message).unwrap());
        let shape = weights.parameter::<2>("w").err().map(message).unwrap();
        let faults: Vec<_> = weights.faults().map(message).collect();
        // then each fault is told
        let expected = [
            "tensor `a.x` is missing from memory",
            "tensor `a.w` of memory has shape [2, 3], the model needs [3, 2]",
            "tensor `a.q` of memory is stored as I16, expected F64, F32, F16 or BF16",
            "tensor `a.w.weight` is missing from memory",
        ];
        assert_eq!(faults, expected);
        assert_eq!([&*asked[0], &*shape, &*asked[1]], expected[..3]);
        // and what the layout does not have, or has as another kind, is not given
        let undeclared = |name: &str| matches!(weights.parameter::<1>(name), Err(Error::Undeclared { .. }));
        assert!(undeclared("y") && undeclared("w") && undeclared("w.weight"));
        assert!(matches!(weights.table("w"), Err(Error::Undeclared { .. })));
    }

    #[test]
    fn depth_ends_with_the_first_layer_that_is_left_out() {
        let s = || Stored::of(&[0.0], vec![1]);
        let source = Memory::of([("b.0.w", s()), ("b.1.w", s()), ("b.3.w", s()), ("c.0", s())]);
        let weights = Weights::of(&source, &Device::flex(), Residency::Unpacked);
        let depth = |stack| weights.at(stack).depth().unwrap();
        assert_eq!((depth("b"), depth("c"), depth("d")), (3, 1, 0));
    }

    #[test]
    fn a_stack_deeper_than_any_model_is_an_error() {
        for (layers, deep) in [(MAX_DEPTH, false), (MAX_DEPTH + 1, true)] {
            let source = Memory::of((0..layers).map(|i| (format!("b.{i}.w"), Stored::of(&[0.0], vec![1]))));
            let depth = Weights::of(&source, &Device::flex(), Residency::Mapped).at("b").depth();
            assert_eq!(matches!(depth, Err(Error::TooDeep { .. })), deep, "{depth:?}");
        }
    }
}
