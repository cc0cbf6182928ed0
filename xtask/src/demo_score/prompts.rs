//! What to ask the demo model for: the same prompts for the same seed, on every machine.

use super::sprites::Sprites;

/// A picture to ask for; `subject` and `background` are places in [`Sprites`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt {
    pub subject: usize,
    pub background: usize,
    pub seed: u64,
    pub text: String,
}

/// Draws `count` different pairs of subject and background.
pub(super) fn draw(sprites: &Sprites, count: usize, seed: u64) -> Result<Vec<Prompt>, String> {
    let pairs = sprites.subjects.len() * sprites.backgrounds.len();
    if count == 0 || count > pairs {
        return Err(format!("`--count {count}` is out of range: there are {pairs} pairs of subject and background"));
    }
    let prompts = shuffled(pairs, seed).into_iter().take(count).zip(seed..).map(|(pair, seed)| {
        let (subject, background) = (pair / sprites.backgrounds.len(), pair % sprites.backgrounds.len());
        let (caption, colour) = (&sprites.subjects[subject].caption, &sprites.backgrounds[background].name);
        Prompt { subject, background, seed, text: format!("{caption} on a {colour} background") }
    });
    Ok(prompts.collect())
}

/// The numbers below `count` in an order fixed by `seed` (Fisher and Yates).
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for (last, random) in (1..count).rev().zip(splitmix64(seed)) {
        order.swap(last, (random % (last as u64 + 1)) as usize);
    }
    order
}

/// Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators", with the constants of Vigna's C code.
fn splitmix64(seed: u64) -> impl Iterator<Item = u64> {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    (1_u64..).map(move |n| {
        let z = seed.wrapping_add(GOLDEN_GAMMA.wrapping_mul(n));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo_score::sprites::tests::shapes;

    #[test]
    fn splitmix64_gives_the_published_numbers() {
        let first: Vec<u64> = splitmix64(1_234_567).take(3).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_seed_fixes_the_prompts_and_no_pair_comes_twice() {
        let sprites = shapes();
        let pairs = sprites.subjects.len() * sprites.backgrounds.len();
        let prompts = draw(&sprites, pairs, 7).unwrap();
        assert_eq!(prompts, draw(&sprites, pairs, 7).unwrap());
        assert_ne!(prompts, draw(&sprites, pairs, 8).unwrap());
        let mut drawn: Vec<_> = prompts.iter().map(|prompt| (prompt.subject, prompt.background)).collect();
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn.len(), pairs);
    }

    #[test]
    fn a_prompt_reads_as_a_sentence() {
        let prompts = draw(&shapes(), 6, 7).unwrap();
        assert!(prompts.iter().any(|prompt| prompt.text == "a disc on a white background"), "{prompts:?}");
    }

    #[test]
    fn more_prompts_than_pairs_is_an_error() {
        assert!(draw(&shapes(), 1000, 7).unwrap_err().contains("there are 6 pairs"));
    }
}
