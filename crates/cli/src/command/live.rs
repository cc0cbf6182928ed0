//! `--preview FILE`: the picture in the making, after a step.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use diffusion_engine::{PictureFormat, write_passing};
use forge::{Preview, Result, with_causes};

/// A picture that is replaced again and again. What goes wrong with it is told once, and no run fails of it.
pub(super) struct Live<'p> {
    path: &'p Path,
    /// Steps from one to the next; 0 for those that the pace leaves time for.
    every: usize,
    pace: Pace,
    /// When the step that is taken now began.
    since: Instant,
    is_out_of_order: bool,
}

impl<'p> Live<'p> {
    /// Of a run whose sampling has not begun.
    pub(super) fn new(path: &'p Path, every: usize) -> Self {
        Self { path, every, pace: Pace::default(), since: Instant::now(), is_out_of_order: false }
    }

    /// The steps of a pass begin: what was done before them is none of their time.
    pub(super) fn begins(&mut self) {
        self.since = Instant::now();
    }

    /// Shows the picture after a step, from 1, where it is time for that; a note where it can't be shown.
    pub(super) fn step(&mut self, step: usize, preview: &Preview) -> Option<String> {
        if self.is_out_of_order {
            return None;
        }
        self.pace.sampled(self.since.elapsed());
        let shown = self.show_if_due(step, preview);
        self.since = Instant::now();
        let error = shown.err()?;
        self.is_out_of_order = true;
        Some(format!("there are no previews: {}", with_causes(&error)))
    }

    fn show_if_due(&mut self, step: usize, preview: &Preview) -> Result<()> {
        let is_due = match self.every {
            0 => {
                if self.pace.expected.is_none() {
                    let began = Instant::now();
                    let Some((corner, share)) = preview.corner()? else { return Ok(()) };
                    // The stream takes everything.
                    drop(corner.encode(self.format(), &mut io::sink()));
                    self.pace.tried(began.elapsed(), share);
                }
                self.pace.is_due()
            }
            every => step.is_multiple_of(every),
        };
        if is_due {
            let began = Instant::now();
            self.show(preview)?;
            self.pace.shown(began.elapsed());
        }
        Ok(())
    }

    fn show(&self, preview: &Preview) -> Result<()> {
        let Some(image) = preview.image()? else { return Ok(()) };
        Ok(write_passing(self.path, |file| image.encode(self.format(), file))?)
    }

    fn format(&self) -> PictureFormat {
        // That the name has such an ending was found out before the run.
        PictureFormat::of(self.path, PictureFormat::QUALITY).unwrap_or(PictureFormat::Png)
    }
}

/// When previews come, so that all together never take more than a share of the time that steps have taken so far.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// What steps have taken.
    sampled: Duration,
    /// What previews have, and what was tried before the first.
    spent: Duration,
    /// What the next preview is expected to take; `None` before anything is known of it.
    expected: Option<Duration>,
}

impl Pace {
    /// Of the time of all steps so far, where nothing is said of how often previews come.
    const SHARE: f64 = 0.03;

    /// A step took so long.
    fn sampled(&mut self, took: Duration) {
        self.sampled += took;
    }

    /// Such a share of a preview took so long.
    fn tried(&mut self, took: Duration, share: f64) {
        self.spent += took;
        // What no duration can hold is never due.
        self.expected = Some(Duration::try_from_secs_f64(took.as_secs_f64() / share).unwrap_or(Duration::MAX));
    }

    /// A preview took so long, and the next is expected to.
    fn shown(&mut self, took: Duration) {
        self.spent += took;
        self.expected = Some(took);
    }

    /// Whether there is time for the next.
    fn is_due(&self) -> bool {
        let expected = self.expected.unwrap_or_default();
        self.spent.saturating_add(expected).as_secs_f64() <= Self::SHARE * self.sampled.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After which of so many steps previews come, where a step and a preview take so many milliseconds and a sixty-fourth of one is tried.
    fn shown(steps: u64, step: u64, preview: u64) -> (Vec<u64>, Pace) {
        let mut pace = Pace::default();
        let mut after = Vec::new();
        for i in 1..=steps {
            pace.sampled(Duration::from_millis(step));
            if pace.expected.is_none() {
                pace.tried(Duration::from_millis(preview) / 64, 1.0 / 64.0);
            }
            if pace.is_due() {
                pace.shown(Duration::from_millis(preview));
                after.push(i);
            }
        }
        (after, pace)
    }

    #[test]
    fn previews_come_as_often_as_three_hundredths_of_the_time_of_the_steps_so_far_pay_for_and_the_first_no_earlier() {
        // A preview of a hundredth of a step comes after each.
        assert_eq!(shown(5, 1000, 10).0, [1, 2, 3, 4, 5]);
        // One of a twentieth comes after every other, a bit later for what was tried.
        assert_eq!(shown(12, 1000, 50).0, [2, 4, 6, 7, 9, 11, 12]);
        // One that would never be paid for does not come.
        assert_eq!(shown(6, 1000, 200).0, [0; 0]);
        for preview in [1, 10, 29, 31, 50, 100, 500, 2000] {
            let (_, pace) = shown(50, 1000, preview);
            assert!(pace.spent.as_secs_f64() <= 0.03 * pace.sampled.as_secs_f64(), "{preview} ms: {pace:?}");
        }
    }

    #[test]
    fn a_preview_that_takes_longer_than_expected_is_paid_for_before_the_next() {
        let mut pace = Pace::default();
        pace.tried(Duration::ZERO, 0.1);
        pace.sampled(Duration::from_secs(1));
        assert!(pace.is_due());
        pace.shown(Duration::from_millis(60));
        // 60 ms are spent and 60 more expected: four seconds of steps pay for both.
        pace.sampled(Duration::from_millis(2900));
        assert!(!pace.is_due());
        pace.sampled(Duration::from_millis(100));
        assert!(pace.is_due());
    }

    #[test]
    fn what_can_not_be_told_as_a_time_is_never_due() {
        let mut pace = Pace::default();
        pace.sampled(Duration::from_secs(1 << 40));
        pace.tried(Duration::from_secs(1), 0.0);
        assert!(!pace.is_due());
    }
}
