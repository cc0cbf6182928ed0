//! What a generated picture shows, and how crisp it is, next to the sprites that the model has seen.

use super::prompts::Prompt;
use super::sprites::Sprites;
use crate::image::Image;

/// What one picture was read as; `subject` and `background` are places in [`Sprites`].
#[derive(Debug)]
pub(super) struct Score {
    pub subject: usize,
    pub background: usize,
    /// Peak signal to noise against the sprite asked for over the colour asked for, in dB.
    pub psnr: f64,
    /// Edge energy in units of the true picture's: below 1 is blurred, above 1 is noisy.
    pub edges: f64,
}

/// The least mean squared error that PSNR is taken of: the rounding of an 8-bit pixel.
const ROUNDING: f64 = 1.0 / 12.0;

const CORNER: usize = 8;

/// Reads a picture of the sprites' size.
pub(super) fn judge(picture: &Image<3>, prompt: &Prompt, sprites: &Sprites) -> Score {
    let asked = &sprites.subjects[prompt.subject].sprite;
    let colour = sprites.backgrounds[prompt.background].colour;
    let truth = asked.over(colour);
    let plain = median(background_pixels(picture, asked));
    Score {
        subject: nearest(sprites.subjects.iter().map(|subject| distance(picture, &subject.sprite.over(colour)))),
        background: nearest(sprites.backgrounds.iter().map(|background| colour_distance(plain, background.colour))),
        psnr: 10.0 * (255.0_f64.powi(2) / distance(picture, &truth).max(ROUNDING)).log10(),
        edges: edge_energy(picture) / edge_energy(&truth).max(f64::MIN_POSITIVE),
    }
}

impl Score {
    pub(super) fn is_hit(&self, prompt: &Prompt) -> bool {
        (self.subject, self.background) == (prompt.subject, prompt.background)
    }
}

/// Where the smallest distance stands.
fn nearest(distances: impl Iterator<Item = f64>) -> usize {
    let nearest = distances.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    nearest.expect("Sprites has two subjects and two backgrounds at least").0
}

/// The mean squared difference of two pictures of one size, over pixels and channels.
fn distance(a: &Image<3>, b: &Image<3>) -> f64 {
    let total: f64 = a.pixels.iter().zip(&b.pixels).map(|(&a, &b)| colour_distance(a, b)).sum();
    total / a.pixels.len() as f64
}

fn colour_distance(a: [u8; 3], b: [u8; 3]) -> f64 {
    let total: u32 = a.iter().zip(b).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum();
    f64::from(total) / 3.0
}

/// The pixels where the sprite is clear; for a sprite without any, the corners.
fn background_pixels(picture: &Image<3>, sprite: &Image<4>) -> Vec<[u8; 3]> {
    let clear: Vec<_> = picture
        .pixels
        .iter()
        .zip(&sprite.pixels)
        .filter(|(_, sprite)| sprite[3] == 0)
        .map(|(&pixel, _)| pixel)
        .collect();
    if !clear.is_empty() {
        return clear;
    }
    let at_end = |place: usize, length: usize| place < CORNER || place + CORNER >= length;
    let places = (0..picture.height).flat_map(|y| (0..picture.width).map(move |x| (x, y)));
    places
        .filter(|&(x, y)| at_end(x, picture.width) && at_end(y, picture.height))
        .map(|(x, y)| picture.at(x, y))
        .collect()
}

/// The median of each channel.
fn median(pixels: Vec<[u8; 3]>) -> [u8; 3] {
    std::array::from_fn(|channel| {
        let mut values: Vec<u8> = pixels.iter().map(|pixel| pixel[channel]).collect();
        let middle = values.len() / 2;
        *values.select_nth_unstable(middle).1
    })
}

/// The mean length of the brightness gradient.
fn edge_energy(picture: &Image<3>) -> f64 {
    let brightness = |x, y| {
        let [r, g, b] = picture.at(x, y).map(f64::from);
        0.2126 * r + 0.7152 * g + 0.0722 * b // ITU-R BT.709
    };
    let (width, height) = (picture.width - 1, picture.height - 1);
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let total: f64 = places
        .map(|(x, y)| {
            let here = brightness(x, y);
            (brightness(x + 1, y) - here).hypot(brightness(x, y + 1) - here)
        })
        .sum();
    total / (width * height) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo_score::sprites::tests::shapes;

    const BLUE: usize = 0; // backgrounds are in the order of their names
    const WHITE: usize = 1;

    fn asked(subject: usize, background: usize) -> Prompt {
        Prompt { subject, background, seed: 0, text: String::new() }
    }

    fn drawn(subject: usize, background: usize) -> Image<3> {
        let sprites = shapes();
        sprites.subjects[subject].sprite.over(sprites.backgrounds[background].colour)
    }

    /// The picture with each pixel moved by less than 16, the same on every run.
    fn noisy(picture: &Image<3>) -> Image<3> {
        let noise = |i: usize| ((i * 2_654_435_761) >> 7) as i16 % 16;
        let moved = |(i, pixel): (usize, &[u8; 3])| pixel.map(|v| (i16::from(v) + noise(i)).clamp(0, 255) as u8);
        Image { pixels: picture.pixels.iter().enumerate().map(moved).collect(), ..picture.clone() }
    }

    fn blurred(picture: &Image<3>) -> Image<3> {
        Image::paint(picture.width, picture.height, |x, y| {
            let (x2, y2) = ((x + 1).min(picture.width - 1), (y + 1).min(picture.height - 1));
            let four = [(x, y), (x2, y), (x, y2), (x2, y2)].map(|(x, y)| picture.at(x, y).map(u16::from));
            std::array::from_fn(|c| (four.iter().map(|pixel| pixel[c]).sum::<u16>() / 4) as u8)
        })
    }

    #[test]
    fn a_perfect_picture_is_right_in_all() {
        for (subject, background) in [(0, BLUE), (0, WHITE), (1, BLUE), (1, WHITE)] {
            let prompt = asked(subject, background);
            let score = judge(&drawn(subject, background), &prompt, &shapes());
            assert!(score.is_hit(&prompt), "{score:?}");
            assert_eq!(score.edges, 1.0);
            assert!(score.psnr > 58.0, "{score:?}");
        }
    }

    #[test]
    fn a_noisy_picture_is_right_and_told_by_its_edges() {
        let prompt = asked(0, WHITE);
        let score = judge(&noisy(&drawn(0, WHITE)), &prompt, &shapes());
        assert!(score.is_hit(&prompt) && score.edges > 1.2 && score.psnr < 35.0, "{score:?}");
    }

    #[test]
    fn a_blurred_picture_is_right_and_told_by_its_edges() {
        let prompt = asked(0, BLUE);
        let score = judge(&blurred(&drawn(0, BLUE)), &prompt, &shapes());
        assert!(score.is_hit(&prompt) && score.edges < 0.95, "{score:?}");
    }

    #[test]
    fn another_subject_is_a_miss() {
        let score = judge(&drawn(1, WHITE), &asked(0, WHITE), &shapes());
        assert_eq!((score.subject, score.background), (1, WHITE));
    }

    #[test]
    fn another_background_is_a_miss() {
        let score = judge(&drawn(0, BLUE), &asked(0, WHITE), &shapes());
        assert_eq!(score.background, BLUE);
    }

    #[test]
    fn the_background_of_an_opaque_sprite_is_read_in_the_corners() {
        let white_corners = Image::paint(32, 32, |x, y| {
            let middle = 8..24;
            if middle.contains(&x) || middle.contains(&y) { [40, 92, 212] } else { [250, 250, 250] }
        });
        assert_eq!(judge(&white_corners, &asked(2, WHITE), &shapes()).background, WHITE);
    }

    #[test]
    fn the_median_forgives_a_few_stray_pixels() {
        let pixels = [[[0, 0, 0]; 4].as_slice(), &[[255, 254, 253]; 5]].concat();
        assert_eq!(median(pixels), [255, 254, 253]);
    }
}
