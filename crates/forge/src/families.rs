//! The families of models: the only place that knows one by name.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use diffusion_engine::{
    Catalog, Family, Key,
    family::{Kind, Network, Role},
    methods,
};
use flux::FluxFamily;
use stable_diffusion::StableDiffusionFamily;

use crate::model_files::{Kinds, known_kinds};

/// Families of models, in the order in which they are asked. Clones share them.
///
/// ```
/// use forge::{Families, flux::FluxFamily};
///
/// let families = Families::builtin().with(FluxFamily);
/// assert_eq!(families.iter().next().unwrap().id(), "flux");
/// ```
#[derive(Clone)]
pub struct Families(Arc<List>);

struct List {
    families: Vec<Arc<dyn Family>>,
    /// Of each family.
    roles: Vec<Vec<Role>>,
    kinds: Kinds,
}

impl Families {
    /// Those that come with the engine.
    pub fn builtin() -> Self {
        static BUILTIN: LazyLock<Families> =
            LazyLock::new(|| Families::of(vec![Arc::new(FluxFamily), Arc::new(StableDiffusionFamily)]));
        BUILTIN.clone()
    }

    /// None, for programs that have only their own.
    pub fn empty() -> Self {
        Self::of(Vec::new())
    }

    /// The same and one more, which is asked before the others and takes the place of one with its id.
    pub fn with(&self, family: impl Family + 'static) -> Self {
        let others = self.iter().filter(|other| other.id() != family.id()).cloned().collect::<Vec<_>>();
        let family: Arc<dyn Family> = Arc::new(family);
        Self::of([vec![family], others].concat())
    }

    fn of(families: Vec<Arc<dyn Family>>) -> Self {
        let roles: Vec<Vec<Role>> = families.iter().map(|family| family.roles()).collect();
        let used = roles.iter().flatten().flat_map(|role| role.takes.clone());
        let kinds = Kinds::of(families.iter().map(|family| family.kinds()).chain([known_kinds()]), used);
        Self(Arc::new(List { kinds, families, roles }))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Family>> {
        self.0.families.iter()
    }

    /// The samplers, schedules and profiles that come with the engine, and what the families add.
    ///
    /// # Errors
    /// Two entries of one name.
    pub fn catalog(&self) -> Result<Catalog, samplers::Error> {
        let with = |catalog: Catalog, family: &Arc<dyn Family>| {
            let methods = family.methods().iter();
            family.register(methods.fold(catalog.with_knobs(family.knobs()), |catalog, m| catalog.with_knobs(m.keys)))
        };
        self.iter().try_fold(Catalog::builtin(), with)
    }

    /// What can be set of their models beside what every model has, and of the ways to guide them; what several of them have once.
    pub(crate) fn knobs(&self) -> Vec<&'static Key> {
        let mut knobs: Vec<&'static Key> = Vec::new();
        let methods = methods::all().iter().chain(self.iter().flat_map(|family| family.methods()));
        let of_families = self.iter().flat_map(|family| family.knobs());
        for key in of_families.chain(methods.flat_map(|method| method.keys)) {
            if !knobs.iter().any(|other| other.path() == key.path()) {
                knobs.push(key);
            }
        }
        knobs
    }

    /// Each of them with the parts that its models have.
    pub(crate) fn with_roles(&self) -> impl Iterator<Item = (&Arc<dyn Family>, &[Role])> {
        self.iter().zip(self.0.roles.iter().map(Vec::as_slice))
    }

    /// What files are told apart by.
    pub(crate) fn kinds(&self) -> &Kinds {
        &self.0.kinds
    }

    /// The first role that a kind can take.
    pub(crate) fn role_of(&self, kind: &Kind) -> Option<&Role> {
        self.place_of(kind).map(|(_, role)| role)
    }

    /// The network of the first role that a kind can take.
    pub(crate) fn network_of<'n>(&'n self, kind: &'n Kind) -> Option<&'n Network> {
        Some(kind.network(&self.role_of(kind)?.network))
    }

    /// Its role with the family whose models have it.
    pub(crate) fn place_of(&self, kind: &Kind) -> Option<(&Arc<dyn Family>, &Role)> {
        let of_family = |(family, roles)| std::iter::repeat(family).zip(roles);
        let mut places = self.with_roles().flat_map(of_family);
        places.find(|(_, role): &(_, &Role)| role.network.duty == kind.duty && role.takes.contains(&kind.id))
    }
}

/// The samplers, schedules and profiles that come with the engine and its families of models.
pub fn catalog() -> Catalog {
    Families::builtin().catalog().expect("no two of the entries that come with the engine share a name")
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|family| family.id())).finish()
    }
}

#[cfg(test)]
mod tests {
    use core_tensor::WeightSource;
    use fixtures::Listed;

    use super::*;
    use crate::model_files::parts;

    #[test]
    fn every_list_of_a_real_checkpoint_is_told_for_the_parts_that_it_has() {
        const FLUX: &str = "a Flux transformer";
        const SD_VAE: &str = "the autoencoder of Stable Diffusion 1, 2 or XL";
        let (unet, vae) = ("model.diffusion_model.", "first_stage_model.");
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("clip-g.sdxl.hf", &[("CLIP-G", "")]),
            ("clip-h.sd21.hf", &[("CLIP-H", "")]),
            ("clip-l.flux.hf", &[("a CLIP text encoder", "")]),
            ("clip-l.sd15.hf", &[("a CLIP text encoder", "")]),
            ("clip-l.sd3.hf", &[("a CLIP text encoder", "")]),
            ("flux-ae.bfl", &[("an autoencoder", "")]),
            ("flux1-dev.bfl", &[(FLUX, "")]),
            ("flux1-dev.diffusers-transformer", &[(FLUX, "")]),
            ("flux1-dev.diffusers-vae", &[("an autoencoder", "")]),
            ("flux1-dev.forge-prefix", &[(FLUX, "model.diffusion_model.")]),
            ("flux1-schnell.bfl", &[(FLUX, "")]),
            ("flux1-schnell.diffusers-transformer", &[(FLUX, "")]),
            ("flux1-schnell.diffusers-vae", &[("an autoencoder", "")]),
            ("realesrgan-x4plus-anime-6b", &[("an upscaler", "")]),
            ("sd15-inpaint.diffusers-unet", &[("a Stable Diffusion 1 UNet", "")]),
            ("sd15-inpaint.diffusers-vae", &[(SD_VAE, "")]),
            (
                "sd15-inpaint.ldm",
                &[
                    ("a Stable Diffusion 1 UNet", unet),
                    ("a CLIP text encoder", "cond_stage_model.transformer."),
                    (SD_VAE, vae),
                ],
            ),
            ("sd15.diffusers-unet", &[("a Stable Diffusion 1 UNet", "")]),
            ("sd15.diffusers-vae", &[(SD_VAE, "")]),
            (
                "sd15.ldm",
                &[
                    ("a Stable Diffusion 1 UNet", unet),
                    ("a CLIP text encoder", "cond_stage_model.transformer."),
                    (SD_VAE, vae),
                ],
            ),
            ("sd21.diffusers-unet", &[("a Stable Diffusion 2 UNet", "")]),
            ("sd21.diffusers-vae", &[(SD_VAE, "")]),
            ("sd21.ldm", &[("a Stable Diffusion 2 UNet", unet), ("CLIP-H", "cond_stage_model.model."), (SD_VAE, vae)]),
            ("sd3-medium.diffusers-transformer", &[("a Stable Diffusion 3 transformer", "")]),
            ("sdxl-base.diffusers-unet", &[("an SDXL UNet", "")]),
            ("sdxl-base.diffusers-vae", &[(SD_VAE, "")]),
            (
                "sdxl-base.ldm",
                &[
                    ("an SDXL UNet", unet),
                    ("CLIP-G", "conditioner.embedders.1.model."),
                    ("a CLIP text encoder", "conditioner.embedders.0.transformer."),
                    (SD_VAE, vae),
                ],
            ),
            ("sdxl-refiner.diffusers-unet", &[("the UNet of SDXL's refiner", "")]),
            ("sdxl-refiner.diffusers-vae", &[(SD_VAE, "")]),
            (
                "sdxl-refiner.ldm",
                &[("the UNet of SDXL's refiner", unet), ("CLIP-G", "conditioner.embedders.0.model."), (SD_VAE, vae)],
            ),
            ("t5xxl-encoder.hf", &[("a T5 encoder", "")]),
            ("taesd.decoder", &[("a tiny autoencoder whose latents have 4 channels", "")]),
        ];
        let families = Families::builtin();
        let mut lists = Vec::new();
        for (list, expected) in cases {
            let mut found: Vec<_> = parts(Listed::open(list).manifest(), families.kinds());
            let mut expected = expected.to_vec();
            // Which of two encoders is told first is of no account.
            found.sort_by_key(|part| part.prefix.clone());
            expected.sort_by_key(|(_, prefix)| *prefix);
            assert_eq!(found.len(), expected.len(), "{list}: {found:?}");
            for (part, (name, prefix)) in found.iter().zip(expected) {
                assert!(part.kind.name.starts_with(name) && part.prefix == prefix, "{list}: {part:?}");
            }
            lists.push(format!("{list}.txt"));
        }
        // and there are no lists but these
        let folder = fixtures::path("keys").read_dir().unwrap();
        let mut there: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        there.sort();
        assert_eq!(lists, there);
    }
}
