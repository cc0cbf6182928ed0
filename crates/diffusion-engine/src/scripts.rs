use crate::{
    Conditions, Error, Job, Pass, Piece,
    conditions::Editions,
    prompt::{Script, Timeline},
};

/// What the prompts of a pass say from call to call.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) positive: Script,
    /// Where the model is asked about it.
    pub(crate) negative: Option<Script>,
}

impl Scripts {
    /// Those of one pass of a job.
    ///
    /// As in A1111 and Forge, times are counted in calls of the model, and those of a further pass go on where the first one ends: 1.5
    /// is the middle of the second pass, which a number of steps reaches once those of the first are through.
    pub(crate) fn of(job: &Job, index: usize) -> Result<Self, Error> {
        let calls = |pass: &Pass| {
            let steps = pass.sigmas.as_ref().map_or(pass.steps, |levels| levels.len().saturating_sub(1));
            steps.saturating_mul(pass.sampler.calls.per_step().unwrap_or(1).into())
        };
        let (pass, first) = (&job.passes()[index], &job.passes()[0]);
        let (calls_before, shares_before) = if index == 0 { (0, 0.0) } else { (calls(first), 1.0) };
        let time = Timeline { calls: calls(pass), calls_before, shares_before };
        let wrong = |negative| move |source| Error::Prompt { negative, source };
        let applied: Vec<_> = pass.loras.iter().map(|lora| lora.network.clone()).collect();
        let positive = Script::positive(&pass.prompt, pass.emphasis, time, &applied).map_err(wrong(false))?;
        let negative = pass
            .needs_negative()
            .then(|| Script::negative(&pass.negative, pass.emphasis, time, &applied).map_err(wrong(true)));
        Ok(Self { positive, negative: negative.transpose()? })
    }
}

impl Job {
    /// What the prompts of a pass come to in turn, as a model is asked to encode it: for each prompt all that it says in some call of the
    /// pass, the positive ones first.
    ///
    /// # Errors
    /// [`Error::Prompt`].
    ///
    /// # Panics
    /// If there is no such pass.
    pub fn editions(&self, pass: usize) -> Result<Vec<Vec<Vec<Piece>>>, Error> {
        let Scripts { positive, negative } = Scripts::of(self, pass)?;
        let (_, prompts) = Conditions::of(&positive, negative.as_ref());
        let of_prompt = |editions: &Editions| editions.iter().map(|(pieces, _)| pieces.to_vec()).collect();
        Ok(prompts.iter().map(of_prompt).collect())
    }
}
