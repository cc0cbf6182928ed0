//! `--preview FILE`: the picture in the making, after a step.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use diffusion_engine::{PictureFormat, write_passing};
use forge::{Preview, Result};

/// The share of a run's time that previews take, where nothing is said of how often they come.
const SHARE: f64 = 0.03;

/// A picture that is replaced again and again. What goes wrong with it is told once, and no run fails of it.
pub(super) struct Live<'p> {
    path: &'p Path,
    /// Steps from one to the next; 0 for those that the share leaves time for.
    every: usize,
    begun: Instant,
    /// What all of them have taken.
    spent: Duration,
    /// What the last has.
    last: Duration,
    is_out_of_order: bool,
}

impl<'p> Live<'p> {
    /// From the first step on.
    pub(super) fn new(path: &'p Path, every: usize) -> Self {
        let (spent, last) = (Duration::ZERO, Duration::ZERO);
        Self { path, every, begun: Instant::now(), spent, last, is_out_of_order: false }
    }

    /// Shows the picture after a step, from 1, where it is time for that; a note where it can't be shown.
    pub(super) fn step(&mut self, step: usize, preview: &Preview) -> Option<String> {
        if self.is_out_of_order || !self.is_due(step, self.begun.elapsed()) {
            return None;
        }
        let began = Instant::now();
        let shown = self.show(preview);
        self.last = began.elapsed();
        self.spent += self.last;
        let error = shown.err()?;
        self.is_out_of_order = true;
        Some(format!("there are no previews: {error}"))
    }

    /// Whether a preview comes after this step, so long after the beginning.
    fn is_due(&self, step: usize, since: Duration) -> bool {
        match self.every {
            0 => (self.spent + self.last).as_secs_f64() <= SHARE * since.as_secs_f64(),
            every => step.is_multiple_of(every),
        }
    }

    fn show(&self, preview: &Preview) -> Result<()> {
        let Some(image) = preview.image()? else { return Ok(()) };
        // That the name has such an ending was found out before the run.
        let format = PictureFormat::of(self.path, PictureFormat::QUALITY).unwrap_or(PictureFormat::Png);
        Ok(write_passing(self.path, |file| image.encode(format, file))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_come_as_often_as_is_said_or_as_their_share_of_the_time_allows() {
        let due = |every, spent: u64, last: u64, step, since: u64| {
            let [spent, last, since] = [spent, last, since].map(Duration::from_millis);
            let live = Live { spent, last, ..Live::new(Path::new("a.png"), every) };
            live.is_due(step, since)
        };
        assert!(due(2, 9999, 9999, 4, 1) && !due(2, 0, 0, 5, 9999));
        // The first is due at once, and a further one where it keeps all within the share.
        assert!(due(0, 0, 0, 1, 1));
        assert!(due(0, 10, 10, 7, 700) && !due(0, 10, 10, 7, 600));
    }
}
