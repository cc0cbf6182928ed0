use std::fmt;

use crate::{Job, host_noise::HostNoise, prepared::Prepared};

/// A run between two steps: its latent, the state of its sampler and of its noise.
pub struct Snapshot {
    pub(crate) job: Job,
    pub(crate) source: HostNoise,
    pub(crate) at: Prepared,
    /// What infotexts call the job's model.
    pub(crate) name: Option<String>,
}

impl Snapshot {
    /// The job that the run does.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The same of a job as [`Job::within`] makes it of this one.
    pub fn within(self, room: impl Into<Option<u64>>) -> Self {
        Self { job: self.job.within(room), ..self }
    }

    /// Steps done in the pass that the run is in.
    pub fn step(&self) -> usize {
        self.at.done
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        let (job, source, name) = (self.job.clone(), self.source.clone(), self.name.clone());
        Self { job, source, at: self.at.fork(), name }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (pass, step) = (self.at.pass, self.at.done);
        f.debug_struct("Snapshot").field("pass", &pass).field("step", &step).finish_non_exhaustive()
    }
}
