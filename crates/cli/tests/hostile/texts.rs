//! Infotexts as others might write them.

use crate::{End, Reader::Infotext, Row, alone, check};

/// Refused, by whichever error names the value.
const REFUSED: End = End::Refused(|_| true);

pub(crate) fn rows() -> Vec<Row> {
    let row = |kind: &str, text: &str, end| Row::new(Infotext, format!("an infotext of {kind}"), text, end);
    let mut rows = vec![
        row("nothing", "", End::Either),
        row("line ends", &"\n".repeat(10_000), End::Either),
        row("marks alone", &", ".repeat(10_000), End::Either),
        row("pairs of nothing", &": ".repeat(10_000), End::Either),
        row("pairs of nothing, behind steps", &format!("a\nSteps: 1, {}", ": , ".repeat(2_000)), End::Either),
        row(
            "two thousand keys",
            &format!("a\nSteps: 1{}", (0..2_000).map(|i| format!(", K{i}: {i}")).collect::<String>()),
            End::Either,
        ),
        row("one key two thousand times", &format!("a\n{}", "Steps: 1, ".repeat(2_000)), End::Either),
        row("two thousand negative prompts", &"Negative prompt: a\n".repeat(2_000), End::Either),
        row("an open quote", "a\nSteps: 1, Model: \"a", End::Either),
        row("two thousand open quotes", &format!("a\nSteps: 1{}", ", Model: \"a".repeat(2_000)), End::Either),
        row("open brackets", &format!("a\nSteps: 1, Civitai resources: {}", "[".repeat(2_000)), End::Either),
        row(
            "two thousand open brackets, each a value",
            &format!("a\nSteps: 1{}", ", A: [1".repeat(2_000)),
            End::Either,
        ),
        row("100 kB in one word", &"a".repeat(100_000), End::Either),
        row("control characters", "\u{1b}[2J\u{9b}\0\nSteps: 1, Seed: 1", End::Either),
        row("what turns round", "\u{202e}a\nSteps: 1, Seed: 1", End::Either),
        row("an object of objects", &format!("{{\"sui_image_params\":{}", "{\"a\":".repeat(50_000)), End::Either),
        row("a list of lists", &"[".repeat(100_000), End::Either),
    ];
    for (key, wrong) in [
        ("Steps", &["x", "-1", "0.5", "18446744073709551616", "NaN", "0x1"][..]),
        ("CFG scale", &["x", "1,5", "--1"]),
        ("Distilled CFG Scale", &["x", "1.5.5"]),
        ("Seed", &["x", "0.5", "18446744073709551616"]),
        ("Size", &["512", "x", "512x", "x512", "-1x5", "512x768x3", "18446744073709551616x1", "0.5x1"]),
        ("Batch", &["x", "-1", "18446744073709551616"]),
        ("T5 length", &["x", "-1"]),
        ("Sampler", &["DPM-9", "\\u0000", "a b c d e f"]),
        ("Schedule type", &["x"]),
        ("Profile", &["x"]),
        ("RNG", &["dice"]),
        ("Sigmas", &["[a]"]),
    ] {
        for wrong in wrong {
            rows.push(row(
                &format!("{key}: {wrong}"),
                &format!("a\nSteps: 1, A: b, {key}: {wrong}").replace("Steps: 1, A: b, Steps", "A: b, C: d, Steps"),
                REFUSED,
            ));
        }
    }
    rows
}

#[test]
fn an_infotext_is_read_or_refused_and_not_waited_for() {
    let _alone = alone();
    check(rows());
}

#[test]
fn levels_that_are_no_numbers_are_refused_and_not_cut() {
    let _alone = alone();
    let row = |levels: &str| {
        Row::new(Infotext, format!("levels {levels}"), format!("a\nSteps: 2, Seed: 1, Sigmas: {levels}"), REFUSED)
    };
    check(["[1, b]", "[1,, 0]", "[1, [0]]"].map(row).into());
}

#[test]
fn eighty_thousand_keys_are_not_compared_with_each_other() {
    let _alone = alone();
    let keys: String = (0..80_000).map(|i| format!(", Key {i}: {i}")).collect();
    check(vec![Row::new(Infotext, "an infotext of 80,000 keys", format!("a\nSteps: 1{keys}"), End::Either)]);
}
