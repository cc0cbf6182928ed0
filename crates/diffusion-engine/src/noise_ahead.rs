//! Noise that is drawn before it is asked for, on a thread of its own: while a device computes a step, the host makes what the next one will
//! most likely ask,. The numbers are the same, and in the same order, whether somebody guessed right or not.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
};

use samplers::noise::{Brownian, Generator, NoiseSource};

/// Streams of noise, one for each picture. A copy goes on with the same numbers.
#[derive(Debug)]
pub(crate) struct Streams {
    each: Vec<Generator>,
    ahead: Option<Ahead<usize, Drawn>>,
}

/// Streams, and what was drawn of them.
type Drawn = (Vec<Generator>, Vec<f32>);

impl Streams {
    /// Those of these seeds.
    pub(crate) fn of(source: NoiseSource, seeds: impl Iterator<Item = u64>) -> Self {
        Self { each: seeds.map(|seed| Generator::new(source, seed)).collect(), ahead: None }
    }

    /// The streams themselves, for whoever asks for something else than the next noise of all of them.
    pub(crate) fn each(&mut self) -> &mut [Generator] {
        self.ahead = None;
        &mut self.each
    }

    /// The next `len` values of each, one stream after the other; as many more are drawn meanwhile if `is_ahead`.
    pub(crate) fn draw(&mut self, len: usize, is_ahead: bool) -> Vec<f32> {
        let values = match self.ahead.take().filter(|ahead| ahead.asked == len) {
            Some(ahead) => {
                let (each, values) = ahead.made();
                self.each = each;
                values
            }
            None => drawn(&mut self.each, len),
        };
        if is_ahead {
            let mut each = self.each.clone();
            self.ahead = Ahead::begin(len, move || {
                let values = drawn(&mut each, len);
                (each, values)
            });
        }
        values
    }
}

impl Clone for Streams {
    fn clone(&self) -> Self {
        Self { each: self.each.clone(), ahead: None }
    }
}

fn drawn(each: &mut [Generator], len: usize) -> Vec<f32> {
    each.iter_mut().flat_map(|stream| stream.randn(len)).collect()
}

/// Brownian paths, one for each picture. As what a path gains does not depend on what was asked before, copies share them.
#[derive(Debug)]
pub(crate) struct Paths {
    each: Arc<Mutex<Vec<Brownian>>>,
    ahead: Option<Ahead<[f32; 2], Vec<f32>>>,
}

impl Paths {
    pub(crate) fn of(each: Vec<Brownian>) -> Self {
        Self { each: Arc::new(Mutex::new(each)), ahead: None }
    }

    /// What each path gains over a step, one after the other, in units of the root of its length; the same of the step that comes `next` is
    /// made meanwhile.
    pub(crate) fn between(&mut self, step: [f32; 2], next: Option<[f32; 2]>) -> Vec<f32> {
        let values = match self.ahead.take_if(|ahead| ahead.asked == step) {
            Some(ahead) => ahead.made(),
            None => gained(&self.each, step),
        };
        // What was begun and not asked for yet may be asked for later: steps of several parts ask for these first.
        if self.ahead.as_ref().is_none_or(|ahead| next.is_some_and(|next| next != ahead.asked)) {
            let each = self.each.clone();
            self.ahead = next.and_then(|next| Ahead::begin(next, move || gained(&each, next)));
        }
        values
    }
}

impl Clone for Paths {
    fn clone(&self) -> Self {
        Self { each: self.each.clone(), ahead: None }
    }
}

fn gained(each: &Mutex<Vec<Brownian>>, [sigma, sigma_next]: [f32; 2]) -> Vec<f32> {
    let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
    each.iter_mut().flat_map(|path| path.between(sigma, sigma_next)).collect()
}

/// What a thread makes.
#[derive(Debug)]
struct Ahead<A, T> {
    asked: A,
    thread: JoinHandle<T>,
}

impl<A, T: Send + 'static> Ahead<A, T> {
    /// Nothing where the system has no thread for it.
    fn begin(asked: A, make: impl FnOnce() -> T + Send + 'static) -> Option<Self> {
        let thread = Builder::new().name("noise".into()).spawn(make).ok()?;
        Some(Self { asked, thread })
    }

    fn made(self) -> T {
        self.thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(seeds: [u64; 2]) -> Streams {
        Streams::of(NoiseSource::Cpu, seeds.into_iter())
    }

    #[test]
    fn what_is_drawn_ahead_are_the_numbers_that_would_have_been_drawn() {
        let (mut ahead, mut plain) = (streams([1, 2]), streams([1, 2]));
        for len in [64, 64, 48, 48, 48, 17, 64] {
            assert_eq!(ahead.draw(len, true), plain.draw(len, false), "{len}");
            let mut copy = ahead.clone();
            assert_eq!(copy.draw(64, true), plain.clone().draw(64, false));
        }
        // and what one picture draws alone comes next, too
        assert_eq!(ahead.each()[1].randn(20), plain.each()[1].randn(20));
        assert_eq!(ahead.draw(64, true), plain.draw(64, false));
        assert!(ahead.ahead.is_some() && plain.ahead.is_none());
    }

    #[test]
    fn a_step_of_a_path_made_ahead_is_the_one_that_would_have_been_made() {
        let paths = || Paths::of([3, 4].map(|seed| Brownian::new(NoiseSource::Nv, seed, 40, 0.1, 9.0)).to_vec());
        let (mut ahead, mut plain) = (paths(), paths());
        let levels = [9.0, 5.0, 2.0, 0.5, 0.1];
        for at in 0..4 {
            let step = |at: usize| Some([*levels.get(at)?, *levels.get(at + 1)?]);
            // a part of the step is asked for before the whole of it, which nobody has guessed
            let part = [levels[at], (levels[at] + levels[at + 1]) / 2.0];
            assert_eq!(ahead.between(part, None), plain.between(part, None), "{at}");
            assert_eq!(ahead.clone().between(part, None), plain.between(part, None), "{at}");
            assert_eq!(ahead.ahead.is_some(), at > 0);
            let whole = [levels[at], levels[at + 1]];
            assert_eq!(ahead.between(whole, step(at + 1)), plain.between(whole, None), "{at}");
        }
        assert!(plain.ahead.is_none());
    }
}
