//! The adapters of this machine, in the order in which the loader has them, and which of them a name means.

use std::{cmp::Reverse, fmt, str::FromStr, sync::OnceLock};

use burn::tensor::wgpu::wgpu::{self, DeviceType};
use cubecl::future::block_on;

use super::driver;
use crate::Error;

/// Which adapter is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The card that is likely the fastest: a discrete one before one that shares its memory with the CPU, then the one of more memory.
    Best,
    /// The one of this number among all.
    Number(usize),
    /// The first that computes on the CPU.
    Software,
}

impl FromStr for Which {
    type Err = ();

    /// What follows `vulkan:`.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "software" => Ok(Self::Software),
            number => number.parse().map(Self::Number).map_err(|_| ()),
        }
    }
}

/// As a config has it.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Best => f.write_str("vulkan"),
            Self::Number(n) => write!(f, "vulkan:{n}"),
            Self::Software => f.write_str("vulkan:software"),
        }
    }
}

/// An adapter.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) handle: wgpu::Adapter,
    card: Card,
}

/// What is told of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// What a config calls it.
    pub(crate) name: String,
    /// What it is: its own name, its kind and its driver.
    pub(crate) about: String,
    /// Bytes of its own memory; `None` for one without any, or where its driver does not tell.
    pub(crate) memory: Option<u64>,
    kind: DeviceType,
}

impl Card {
    /// What is told of the adapter of a number.
    fn of(index: usize, info: &wgpu::AdapterInfo, memory: Option<u64>, is_second_software: bool) -> Self {
        let is_software = info.device_type == DeviceType::Cpu;
        let which = if is_software && !is_second_software { Which::Software } else { Which::Number(index) };
        let kind = match info.device_type {
            DeviceType::DiscreteGpu => "a card of its own memory",
            DeviceType::IntegratedGpu => "a part of the processor",
            DeviceType::VirtualGpu => "a virtual card",
            DeviceType::Cpu => "computes on the CPU",
            DeviceType::Other => "an adapter of another kind",
        };
        let driver = [&info.driver, &info.driver_info].map(|words| words.trim()).into_iter();
        let driver = driver.filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ");
        let driver = if driver.is_empty() { driver } else { format!(", driver {driver}") };
        let about = format!("{}, {kind}{driver}", info.name);
        Self { name: which.to_string(), about, memory: memory.filter(|_| !is_software), kind: info.device_type }
    }
}

impl Card {
    /// Why no name gets it.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let is_second = self.kind == DeviceType::Cpu && self.name != Which::Software.to_string();
        is_second.then_some(
            "of the adapters that compute on the CPU the first is the one that has a name, `vulkan:software`",
        )
    }
}

/// wgpu's door to the loader: one for the process, as loaders crash where several come and go at once.
pub(super) fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN,
            // The same in every build: no layer that looks at each call.
            flags: wgpu::InstanceFlags::empty(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        })
    })
}

/// All adapters, as the loader had them when it was first asked.
pub(super) fn all() -> Result<&'static [Adapter], &'static str> {
    static ADAPTERS: OnceLock<Option<Vec<Adapter>>> = OnceLock::new();
    let found = ADAPTERS.get_or_init(|| {
        let instance = instance();
        driver::has_loader(instance).then(|| {
            let found = block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
            let mut software = 0;
            let numbered = found.into_iter().enumerate().map(|(index, handle)| {
                let info = handle.get_info();
                software += usize::from(info.device_type == DeviceType::Cpu);
                let memory = driver::memory(&handle).map(|memory| memory.total);
                Adapter { card: Card::of(index, &info, memory, software > 1), handle }
            });
            numbered.collect()
        })
    });
    found.as_deref().ok_or("the loader, libvulkan, is not there, or has no driver")
}

/// What is told of each adapter, in their order.
///
/// # Errors
/// Why nobody can be asked.
pub(crate) fn adapters() -> Result<Vec<Card>, &'static str> {
    Ok(all()?.iter().map(|adapter| adapter.card.clone()).collect())
}

/// The name and number of the adapter that is asked for.
pub(crate) fn about(which: Which) -> Option<String> {
    let (_, adapter) = chosen(which, all()).ok()?;
    Some(format!("{}, {}", adapter.card.name, adapter.handle.get_info().name))
}

/// Bytes of a card's memory that nobody uses; `None` where its driver does not tell, and for what has no memory of its own.
pub(crate) fn free_memory(which: Which) -> Option<u64> {
    let (_, adapter) = chosen(which, all()).ok()?;
    adapter.card.memory.and(driver::memory(&adapter.handle)?.free)
}

/// The adapter that is asked for, and its number.
pub(super) fn chosen<'a>(
    which: Which,
    all: Result<&'a [Adapter], &'static str>,
) -> Result<(usize, &'a Adapter), Error> {
    let found = all.and_then(|all| if all.is_empty() { Err("the loader knows no adapter") } else { Ok(all) });
    let all = found.map_err(|reason| Error::Device { name: which.to_string(), reason: reason.into() })?;
    let cards: Vec<_> = all.iter().map(|adapter| &adapter.card).collect();
    let index = number(which, &cards)?;
    Ok((index, &all[index]))
}

/// The number of the adapter that is asked for, of at least one.
fn number(which: Which, all: &[&Card]) -> Result<usize, Error> {
    let is_software = |card: &Card| card.kind == DeviceType::Cpu;
    let broken = |reason: String| Err(Error::Device { name: which.to_string(), reason });
    let software = |card: &Card| Err(Error::SoftwareAdapter { name: which.to_string(), adapter: card.about.clone() });
    match which {
        Which::Number(n) => match all.get(n) {
            Some(card) if is_software(card) => software(card),
            Some(_) => Ok(n),
            None if all.len() == 1 => broken("there is one adapter, of number 0".into()),
            None => broken(format!("there are {} adapters, of numbers 0 to {}", all.len(), all.len() - 1)),
        },
        Which::Software => match all.iter().position(|card| is_software(card)) {
            Some(n) => Ok(n),
            None => broken("there is no adapter that computes on the CPU, such as Mesa's llvmpipe".into()),
        },
        Which::Best => {
            let kind = |card: &Card| match card.kind {
                DeviceType::DiscreteGpu => 3,
                DeviceType::IntegratedGpu => 2,
                DeviceType::VirtualGpu => 1,
                DeviceType::Other | DeviceType::Cpu => 0,
            };
            let cards = all.iter().enumerate().filter(|(_, card)| !is_software(card));
            // Of equal ones the first.
            let best = cards.max_by_key(|&(index, card)| (kind(card), card.memory, Reverse(index)));
            best.map_or_else(|| software(all[0]), |(index, _)| Ok(index))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(kind: DeviceType, memory: Option<u64>) -> Card {
        Card { name: String::new(), about: format!("{kind:?}"), memory, kind }
    }

    fn found(which: Which, kinds: &[(DeviceType, Option<u64>)]) -> Result<usize, Error> {
        let cards: Vec<_> = kinds.iter().map(|&(kind, memory)| card(kind, memory)).collect();
        number(which, &cards.iter().collect::<Vec<_>>())
    }

    const MIXED: [(DeviceType, Option<u64>); 5] = [
        (DeviceType::Cpu, None),
        (DeviceType::IntegratedGpu, Some(90)),
        (DeviceType::DiscreteGpu, Some(8)),
        (DeviceType::DiscreteGpu, Some(24)),
        (DeviceType::DiscreteGpu, Some(24)),
    ];

    #[test]
    fn the_best_adapter_is_the_first_card_of_the_most_memory_and_never_the_cpu() {
        assert_eq!(found(Which::Best, &MIXED).unwrap(), 3);
        assert_eq!(found(Which::Best, &MIXED[..2]).unwrap(), 1);
        assert_eq!(found(Which::Best, &[(DeviceType::Cpu, None), (DeviceType::Other, None)]).unwrap(), 1);
        let refused = found(Which::Best, &MIXED[..1]).unwrap_err();
        assert!(matches!(refused, Error::SoftwareAdapter { name, .. } if name == "vulkan"));
    }

    #[test]
    fn a_number_is_a_place_among_all_adapters_and_one_that_is_software_is_refused() {
        assert_eq!(found(Which::Number(1), &MIXED).unwrap(), 1);
        assert_eq!(found(Which::Number(4), &MIXED).unwrap(), 4);
        let Err(Error::SoftwareAdapter { name, adapter }) = found(Which::Number(0), &MIXED) else { panic!("taken") };
        assert_eq!((name.as_str(), adapter.as_str()), ("vulkan:0", "Cpu"));
        for (kinds, reason) in [
            (&MIXED[..], "the device `vulkan:7` can't be used: there are 5 adapters, of numbers 0 to 4"),
            (&MIXED[..1], "the device `vulkan:7` can't be used: there is one adapter, of number 0"),
        ] {
            assert_eq!(found(Which::Number(7), kinds).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn software_is_had_by_its_own_name_and_is_an_error_where_there_is_none() {
        assert_eq!(found(Which::Software, &MIXED).unwrap(), 0);
        let missing = found(Which::Software, &MIXED[1..]).unwrap_err().to_string();
        assert!(
            missing.contains("`vulkan:software` can't be used: there is no adapter that computes on the CPU"),
            "{missing}"
        );
    }

    #[test]
    fn without_a_loader_or_an_adapter_it_is_said_which_is_missing() {
        let said = |all| chosen(Which::Best, all).unwrap_err().to_string();
        assert_eq!(said(Err("there is no loader")), "the device `vulkan` can't be used: there is no loader");
        assert_eq!(said(Ok(&[])), "the device `vulkan` can't be used: the loader knows no adapter");
    }

    #[test]
    fn names_are_read_as_they_are_shown() {
        for which in [Which::Number(0), Which::Number(31), Which::Software] {
            assert_eq!(which.to_string().strip_prefix("vulkan:").expect("a place").parse(), Ok(which));
        }
        for other in ["", "-1", "software:0", "Software", "best"] {
            assert!(other.parse::<Which>().is_err(), "{other}");
        }
    }
}
