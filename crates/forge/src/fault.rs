use core_tensor::Error as Tensor;
use diffusion_engine::Error as Engine;

use crate::Error;

/// Whose fault an error is: what a program tells its callers apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for: a flag, a config, a request.
    Usage,
    /// Memory, of which there is too little.
    Memory,
    /// A model's file, which was rejected.
    Model,
    /// Somebody who asked to stop.
    Stopped,
    /// The run itself, or the system under it.
    Run,
}

impl Error {
    /// What a device says that could not compute, where it is its fault: while a model was loaded, or later.
    pub fn of_device(&self) -> Option<&Tensor> {
        match self {
            Self::Run(run) => run.of_device(),
            Self::Weights(error) | Self::Upscale(upscale::Error::Weights(error)) => {
                Some(error).filter(|error| error.is_of_device())
            }
            Self::Load { source, .. } => source.of_device(),
            _ => None,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        if let Some(error) = self.of_device() {
            return if matches!(error, Tensor::DeviceMemory { .. }) { Fault::Memory } else { Fault::Run };
        }
        match self {
            Self::ReadConfig { .. } | Self::ParseConfig { .. } => Fault::Usage,
            Self::Convert(fault) if fault.is_of_usage() => Fault::Usage,
            Self::Convert(_) => Fault::Model,
            Self::Value { .. } | Self::NoModel { .. } | Self::NotAPath { .. } | Self::Format { .. } => Fault::Usage,
            Self::LongText { .. } => Fault::Usage,
            Self::Overwrites { .. } | Self::JoinsModel { .. } | Self::SeveralPictures { .. } => Fault::Usage,
            Self::PartsOfSeveral { .. } | Self::NoFamily => Fault::Usage,
            Self::ReadWords { .. } | Self::Styles { .. } => Fault::Usage,
            Self::LoraTag { .. } | Self::NoLora { .. } | Self::Lora(lora::Error::Blocks { .. }) => Fault::Usage,
            Self::Lora(_) | Self::LoraWords { .. } => Fault::Model,
            Self::Run(Engine::Prompt { .. } | Engine::EmbeddingWidth { .. } | Engine::EmbeddingLength { .. }) => {
                Fault::Usage
            }
            Self::Run(Engine::NoEmbedding { .. }) => Fault::Usage,
            Self::Registry(_) | Self::Memory(memory::Error::NotBytes { .. }) => Fault::Usage,
            Self::Weights(Tensor::UnknownDevice { .. } | Tensor::MissingBackend { .. }) => Fault::Usage,
            Self::Run(Engine::Request { .. } | Engine::Picture { .. } | Engine::Sampling(_)) => Fault::Usage,
            Self::Memory(_) | Self::PictureMemory { .. } | Self::Run(Engine::PictureMemory { .. }) => Fault::Memory,
            Self::Load { source, .. } if source.fault() == Fault::Memory => Fault::Memory,
            Self::Load { .. } | Self::WrongFile { .. } | Self::ModelConfig { .. } => Fault::Model,
            Self::Run(Engine::Weights(_) | Engine::Model { .. } | Engine::Untold { .. }) => Fault::Model,
            Self::Run(Engine::NoPart { .. } | Engine::InPart { .. } | Engine::Settings { .. }) => Fault::Model,
            Self::NotAModel { .. } | Self::NotRegular { .. } | Self::Unfinished { .. } => Fault::Model,
            Self::TooLong { .. } | Self::Quantised { .. } | Self::Unscaled { .. } => Fault::Model,
            Self::Malformed { .. } => Fault::Model,
            Self::Index { .. } | Self::NotThere { .. } => Fault::Model,
            Self::NotInItsFile { .. } | Self::ShardMissing { .. } | Self::SeveralSplits { .. } => Fault::Model,
            Self::InTwoFiles { .. } | Self::OneNameForTwo { .. } | Self::TooManyFiles { .. } => Fault::Model,
            Self::Contradiction { .. } | Self::NotAnObject { .. } | Self::Unsupported { .. } => Fault::Model,
            Self::OtherClass { .. } | Self::NotInCheckpoint { .. } | Self::PartOfNone { .. } => Fault::Model,
            Self::NotInFolder { .. } => Fault::Model,
            Self::Run(Engine::Stopped { .. } | Engine::Cancelled) => Fault::Stopped,
            Self::Weights(_) | Self::Blocks(_) | Self::Upscale(_) => Fault::Model,
            Self::Read { .. } | Self::Write { .. } | Self::Run(_) | Self::Damaged { .. } => Fault::Run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_is_not_the_models_fault_wherever_it_comes_to_light() {
        type Of = fn(Tensor) -> Error;
        let places: [Of; 5] = [
            Error::Weights,
            |error| Error::Run(Engine::Weights(error)),
            |error| Error::Run(Engine::InPart { key: "vae".into(), source: Box::new(Engine::Weights(error)) }),
            |error| Error::Load { path: "x".into(), source: Box::new(Error::Weights(error)) },
            |error| Error::Upscale(upscale::Error::Weights(error)),
        ];
        for of in places {
            let fault = |error| of(error).fault();
            assert_eq!(fault(Tensor::DeviceMemory { reason: String::new() }), Fault::Memory);
            assert_eq!(fault(Tensor::DeviceFault { reason: String::new() }), Fault::Run);
            assert!(of(Tensor::DeviceFault { reason: String::new() }).of_device().is_some());
            let of_file = Tensor::Undeclared { name: String::new() };
            assert!(of(of_file).of_device().is_none());
        }
    }
}
