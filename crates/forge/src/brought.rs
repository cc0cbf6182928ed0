use diffusion_engine::Error as RunError;

use crate::Error;

/// An error of a run: where a model or an upscaler could not be loaded for it, why.
pub(crate) fn brought(error: RunError) -> Error {
    match error {
        RunError::Bring { which, source } => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => RunError::Bring { which, source }.into(),
        },
        RunError::BringUpscaler { source } => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => RunError::BringUpscaler { source }.into(),
        },
        RunError::Step { step, steps, source: samplers::Error::Model { sigma, source } } => {
            let in_step = |source| RunError::Step { step, steps, source: samplers::Error::Model { sigma, source } };
            match source.downcast::<RunError>() {
                Ok(bring) if matches!(*bring, RunError::Bring { .. }) => brought(*bring),
                Ok(other) => in_step(other).into(),
                Err(source) => in_step(source).into(),
            }
        }
        error => error.into(),
    }
}
