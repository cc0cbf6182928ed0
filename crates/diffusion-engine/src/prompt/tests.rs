//! The language against A1111's and Forge's own parser, whose answers these tables hold (modules/prompt_parser.py, dfdcbab, with lark
//! 1.1.2), and what holds for all prompts.

use proptest::{collection, prelude::*, sample};

use super::{
    Emphasis, Piece, PromptFault, Script, Timeline, attention, changes::Changes, checked, comments, composition,
    extra_networks,
};

const FIRST: Timeline = Timeline { calls: 10, calls_before: 0, shares_before: 0.0 };
const SECOND: Timeline = Timeline { calls: 8, calls_before: 10, shares_before: 1.0 };

/// Words, each with the last call that they are for.
type Words = &'static [(usize, &'static str)];

/// A prompt, its words up to a step of ten, and those of a second pass of eight steps.
const CHANGES: &[(&str, Words, Words)] = &[
    ("a cat", &[(10, "a cat")], &[(8, "a cat")]),
    ("", &[(10, "")], &[(8, "")]),
    ("a [cat:dog:3] b", &[(3, "a cat b"), (10, "a dog b")], &[(8, "a dog b")]),
    ("a [cat:dog:0.5]", &[(5, "a cat"), (10, "a dog")], &[(8, "a dog")]),
    ("[cat:3]", &[(3, ""), (10, "cat")], &[(8, "cat")]),
    ("[cat::3]", &[(3, "cat"), (10, "")], &[(8, "")]),
    ("[cat:dog:.25] [red:blue:0.75]", &[(2, "cat red"), (7, "dog red"), (10, "dog blue")], &[(8, "dog blue")]),
    ("[a:[b:c:6]:2]", &[(2, "a"), (6, "b"), (10, "c")], &[(8, "c")]),
    ("[[a::6]:2]", &[(2, ""), (6, "a"), (10, "")], &[(8, "")]),
    (
        "[a|b]",
        &[(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a"), (6, "b"), (7, "a"), (8, "b"), (9, "a"), (10, "b")],
        &[(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a"), (6, "b"), (7, "a"), (8, "b")],
    ),
    (
        "[fe|]male",
        &[
            (1, "female"),
            (2, "male"),
            (3, "female"),
            (4, "male"),
            (5, "female"),
            (6, "male"),
            (7, "female"),
            (8, "male"),
            (9, "female"),
            (10, "male"),
        ],
        &[
            (1, "female"),
            (2, "male"),
            (3, "female"),
            (4, "male"),
            (5, "female"),
            (6, "male"),
            (7, "female"),
            (8, "male"),
        ],
    ),
    ("[(a:1.2):(b:0.8):3]", &[(3, "(a:1.2)"), (10, "(b:0.8)")], &[(8, "(b:0.8)")]),
    ("([a:b:3]:1.2)", &[(3, "(a:1.2)"), (10, "(b:1.2)")], &[(8, "(b:1.2)")]),
    ("[a:b: 3 ]", &[(3, "a"), (10, "b")], &[(8, "b")]),
    ("[a:b:0]", &[(10, "b")], &[(8, "b")]),
    ("[a:b:-1]", &[(10, "b")], &[(8, "b")]),
    ("[a:b:1.0]", &[(10, "a")], &[(8, "b")]),
    ("[a:b:20]", &[(10, "a")], &[(8, "a")]),
    ("[a:b:1e1]", &[(10, "a")], &[(8, "b")]),
    ("[a:b:1e-1]", &[(10, "b")], &[(8, "b")]),
    ("[a:b:2.]", &[(10, "a")], &[(8, "a")]),
    ("[a:b:1.5]", &[(10, "a")], &[(4, "a"), (8, "b")]),
    ("[a:b:12]", &[(10, "a")], &[(2, "a"), (8, "b")]),
    ("[a]", &[(10, "[a]")], &[(8, "[a]")]),
    ("[a:b]", &[(10, "[a:b]")], &[(8, "[a:b]")]),
    ("[a:b:c:3]", &[(10, "[a:b:c:3]")], &[(8, "[a:b:c:3]")]),
    ("(a:b:c) [a:b:3]", &[(3, "(a:b:c) a"), (10, "(a:b:c) b")], &[(8, "(a:b:c) b")]),
    ("a [b", &[(10, "a [b")], &[(8, "a [b")]),
    ("a] b:c", &[(10, "a] b:c")], &[(8, "a] b:c")]),
    ("[a(b:3]", &[(10, "[a(b:3]")], &[(8, "[a(b:3]")]),
    ("[[a:b:3]", &[(3, "[a"), (10, "[b")], &[(8, "[b")]),
    ("][a:b:3]", &[(3, "]a"), (10, "]b")], &[(8, "]b")]),
    ("((a][:b:c [d:3]", &[(3, "((a][:b:c "), (10, "((a][:b:c d")], &[(8, "((a][:b:c d")]),
    ("a|b [c:d:3]", &[(10, "a|b [c:d:3]")], &[(8, "a|b [c:d:3]")]),
    ("[a:b|c:3]", &[(10, "[a:b|c:3]")], &[(8, "[a:b|c:3]")]),
    ("\\[a:b:3\\]", &[(10, "\\[a:b:3\\]")], &[(8, "\\[a:b:3\\]")]),
    ("[a\\:b:c:3]", &[(3, "a\\:b"), (10, "c")], &[(8, "c")]),
    ("[a\\]:b:3]", &[(3, "a\\]"), (10, "b")], &[(8, "b")]),
    ("a\\", &[(10, "a\\")], &[(8, "a\\")]),
    ("[a:b:3] \\", &[(10, "[a:b:3] \\")], &[(8, "[a:b:3] \\")]),
    ("[a:b:3]\n\\\nc", &[(10, "[a:b:3]\n\\\nc")], &[(8, "[a:b:3]\n\\\nc")]),
    ("[a:b:3 4]", &[(10, "[a:b:3 4]")], &[(8, "[a:b:3 4]")]),
    ("[1:2:3]", &[(3, "1"), (10, "2")], &[(8, "2")]),
    ("[:3]", &[(10, "")], &[(8, "")]),
    ("[::3]", &[(10, "")], &[(8, "")]),
    ("[日本:é:3]", &[(3, "日本"), (10, "é")], &[(8, "é")]),
];

/// A prompt and its pieces.
const WEIGHTS: &[(&str, &[(&str, f32)])] = &[
    ("normal text", &[("normal text", 1.0)]),
    ("an (important) word", &[("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
    ("(unbalanced", &[("unbalanced", 1.1)]),
    ("\\(literal\\]", &[("(literal]", 1.0)]),
    ("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        &[
            ("a ", 1.0),
            ("house", 1.573),
            (" ", 1.1),
            ("on", 1.0),
            (" a ", 1.1),
            ("hill", 0.55),
            (", sun, ", 1.1),
            ("sky", 1.4641),
            (".", 1.1),
        ],
    ),
    // Forge has a piece without words here.
    ("", &[]),
    ("(a)", &[("a", 1.1)]),
    ("((a))", &[("a", 1.21)]),
    ("[a]", &[("a", 0.9090909)]),
    ("[[a]]", &[("a", 0.8264463)]),
    ("([a])", &[("a", 1.0)]),
    ("(a:1.5)", &[("a", 1.5)]),
    ("(a: 1.5 )", &[("a", 1.5)]),
    ("(a:-1)", &[("a", -1.0)]),
    ("(a:.5)", &[("a", 0.5)]),
    ("(a:+2.)", &[("a", 2.0)]),
    ("(a:0)", &[("a", 0.0)]),
    ("a:1.5)", &[("a:1.5)", 1.0)]),
    ("[a:1.5]", &[("a:1.5", 0.9090909)]),
    ("(a:b)", &[("a:b", 1.1)]),
    ("(a:b:1.2)", &[("a:b", 1.2)]),
    ("((a:1.2) b:1.3)", &[("a", 1.56), (" b", 1.3)]),
    ("(a [b:1.2)]", &[("a ", 1.2), ("b", 1.090909)]),
    ("[a (b])", &[("a ", 0.9090909), ("b", 1.0)]),
    ("(a))b", &[("a", 1.1), (")b", 1.0)]),
    ("a]b", &[("a]b", 1.0)]),
    ("\\\\(a)", &[("\\", 1.0), ("a", 1.1)]),
    ("\\a", &[("a", 1.0)]),
    ("a\\", &[("a", 1.0)]),
    ("(\\(a\\):1.2)", &[("(a)", 1.2)]),
    ("a BREAK b", &[("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]),
    ("BREAK", &[("BREAK", -1.0)]),
    ("a\nBREAK\nb", &[("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]),
    ("aBREAK b", &[("aBREAK b", 1.0)]),
    ("BREAK_ a", &[("BREAK_ a", 1.0)]),
    ("a, BREAK, b", &[("a,", 1.0), ("BREAK", -1.0), (", b", 1.0)]),
    ("(a BREAK b)", &[("a", 1.1), ("BREAK", -1.1), ("b", 1.1)]),
    ("(a BREAK b:1)", &[("a", 1.0), ("BREAK", -1.0), ("b", 1.0)]),
    ("BREAK BREAK", &[("BREAK", -1.0), ("BREAK", -1.0)]),
    ("((((a", &[("a", 1.4641)]),
    ("]]a((", &[("]]a", 1.0)]),
    ("(a:1.1)(b:1.1)c", &[("ab", 1.1), ("c", 1.0)]),
    ("()", &[("", 1.0)]),
    ("(:1.2)", &[("", 1.0)]),
    ("é (日本:1.2)", &[("é ", 1.0), ("日本", 1.2)]),
];

/// A prompt and those that are drawn at once.
const PARTS: &[(&str, &[(&str, f32)])] = &[
    ("a cat", &[("a cat", 1.0)]),
    ("a AND b", &[("a", 1.0), (" b", 1.0)]),
    ("a :1.5 AND b:0.5", &[("a", 1.5), (" b", 0.5)]),
    ("a AND b AND c :-1", &[("a", 1.0), (" b", 1.0), (" c", -1.0)]),
    ("a:1.2", &[("a", 1.2)]),
    ("a:1.2 ", &[("a", 1.2)]),
    ("a : 1.", &[("a", 1.0)]),
    ("a:.5", &[("a", 0.5)]),
    ("a:1e5", &[("a:1e5", 1.0)]),
    ("a:-.5 AND", &[("a", -0.5), ("", 1.0)]),
    ("AND", &[("", 1.0), ("", 1.0)]),
    ("ANDROID AND BAND AND_", &[("ANDROID", 1.0), (" BAND AND_", 1.0)]),
    ("a,AND,b", &[("a,", 1.0), (",b", 1.0)]),
    ("time 12:30", &[("time 12", 30.0)]),
    ("a: 1 2", &[("a: 1 2", 1.0)]),
    ("a\nAND\nb:2", &[("a", 1.0), ("\nb", 2.0)]),
    ("(a:1.2) AND [b:c:0.5] :2", &[("(a:1.2)", 1.0), (" [b:c:0.5]", 2.0)]),
];

#[test]
fn words_change_when_forge_changes_them() {
    for (prompt, first, second) in CHANGES {
        for (time, expected) in [(FIRST, first), (SECOND, second)] {
            let editions = Changes::of(prompt).editions(time, 100).unwrap();
            let found: Vec<_> = editions.iter().map(|edition| (edition.until, &edition.text[..])).collect();
            assert_eq!(found, *expected, "{prompt:?} in {} steps", time.calls);
        }
    }
}

#[test]
fn editions_stand_in_forges_schedule_as_often_as_anything_changes() {
    let times = |prompt: &str| -> Vec<(usize, usize)> {
        let editions = Changes::of(prompt).editions(FIRST, 100).unwrap();
        editions.iter().map(|edition| (edition.until, edition.times)).collect()
    };
    assert_eq!(times("a"), [(10, 1)]);
    assert_eq!(times("[a:b:3] [c:c:5]"), [(3, 1), (10, 2)]);
    assert_eq!(times("[a:b:3] [c|c]"), [(3, 3), (10, 7)]);
}

#[test]
fn alternatives_take_turns() {
    let turns = |prompt: &str| -> Vec<String> {
        let editions = Changes::of(prompt).editions(FIRST, 100).unwrap();
        editions.into_iter().map(|edition| edition.text).collect()
    };
    assert_eq!(turns("[a|b|c] [x:y:4]").join(","), "a x,b x,c x,a x,b y,c y,a y,b y,c y,a y");
    assert_eq!(turns("[a|[b|c]]").join(","), "a,c,a,c,a,c,a,c,a,c");
    assert_eq!(turns("[x:[a|b]")[..2], ["[x:a", "[x:b"]);
    // neighbours that say the same are one
    assert_eq!(turns("[|a||]"), ["", "a", "", "a", "", "a"]);
}

#[test]
fn weights_are_those_of_forge() {
    for (prompt, expected) in WEIGHTS {
        let found = attention::pieces(prompt, Emphasis::Original).unwrap();
        let expected = expected.iter().map(|&(text, weight)| match (text, weight) {
            ("BREAK", -1.0) => Piece::Break,
            _ => Piece::Words { text: text.into(), weight },
        });
        assert_eq!(found.len(), expected.len(), "{prompt:?}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            match (found, &expected) {
                (Piece::Words { text: a, weight: x }, Piece::Words { text: b, weight: y }) => {
                    assert!(a == b && (x - y).abs() < 1e-6, "{prompt:?}: {found:?}, {expected:?}");
                }
                _ => assert_eq!(*found, expected, "{prompt:?}"),
            }
        }
    }
}

#[test]
fn weights_may_be_left_out_or_be_words() {
    let ignored = attention::pieces("a (cat:1.3) BREAK b", Emphasis::Ignore).unwrap();
    assert_eq!(ignored, [Piece::plain("a "), Piece::plain("cat"), Piece::Break, Piece::plain("b")]);
    let words = attention::pieces("a (cat:1.3) BREAK b", Emphasis::None).unwrap();
    assert_eq!(words, [Piece::plain("a (cat:1.3) BREAK b")]);
}

#[test]
fn parts_and_their_weights_are_those_of_forge() {
    for (prompt, expected) in PARTS {
        let found = composition::parts(prompt).unwrap();
        let found: Vec<_> = found.iter().map(|part| (part.text, part.weight)).collect();
        assert_eq!(found, *expected, "{prompt:?}");
    }
}

#[test]
fn a_negative_prompt_is_one() {
    let plain = |script: &Script| script.parts[0].editions[0].pieces.clone();
    let positive = Script::positive("a:2 AND b", Emphasis::Original, FIRST, &[]).unwrap();
    assert_eq!((positive.parts.len(), positive.parts[0].weight, plain(&positive)), (2, 2.0, vec![Piece::plain("a")]));
    let negative = Script::negative("a:2 AND b", Emphasis::Original, FIRST, &[]).unwrap();
    assert_eq!((negative.parts.len(), plain(&negative)), (1, vec![Piece::plain("a:2 AND b")]));
}

#[test]
fn comments_are_no_words() {
    for (prompt, expected) in [
        ("a cat # a comment", "a cat \n"),
        ("a cat\n# a line\na dog", "a cat\na dog"),
        ("# one\n# two\na", "\n\na"),
        ("#a", "\n"),
        ("a#b\nc", "a\nc"),
        ("a\nb", "a\nb"),
    ] {
        assert_eq!(comments::stripped(prompt), expected, "{prompt:?}");
    }
}

#[test]
fn names_in_angle_brackets_are_no_words_and_refused_by_name() {
    let (words, networks) = extra_networks::split("a <lora:fur:0.8:1>cat <b <hypernet:x>, a > b <:> <3 <a:>");
    assert_eq!(words, "a cat <b , a > b <:> <3 <a:>");
    let named: Vec<_> =
        networks.iter().map(|network| (&network.kind[..], &network.name[..], &network.args[..])).collect();
    assert_eq!(named, [("lora", "fur", &["0.8".to_owned(), "1".to_owned()][..]), ("hypernet", "x", &[])]);
    let refused = checked("a cat <lyco:fur:te=1>", |_| false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`<lyco:fur:te=1>` is not in the model: LoRAs are found in `prompt.loras`, and other extra networks are not known"
    );
    assert!(checked("a cat # <lora:fur:1>", |_| false).is_ok());
}

#[test]
fn what_can_not_be_drawn_is_told() {
    assert!(matches!(checked(&"(".repeat(10_000), |_| false), Err(PromptFault::TooDeep { .. })));
    assert!(matches!(checked(&"[(".repeat(10_000), |_| false), Err(PromptFault::TooDeep { .. })));
    assert!(checked(&"()".repeat(30_000), |_| false).is_ok());
    let large = format!("(a:{})", "9".repeat(99));
    assert!(matches!(checked(&large, |_| false), Err(PromptFault::Weight { words }) if words == "a"));
    assert!(matches!(checked(&large[1..large.len() - 1], |_| false), Err(PromptFault::Weight { .. })));
    let many = "[a|b][a|b|c][a|b|c|d|e][a|b|c|d|e|f|g][a|b|c|d|e|f|g|h|i|j|k]";
    let time = Timeline { calls: 2000, ..FIRST };
    let refused = Script::positive(many, Emphasis::Original, time, &[]);
    assert!(matches!(refused, Err(PromptFault::Editions { most: Script::MOST })));
}

#[test]
fn the_longest_prompts_take_no_time() {
    let start = std::time::Instant::now();
    for unit in
        ["(a", "[a:", "[a|", "a:1.2)", "<a:", "#\n", "AND ", " BREAK ", "\\", "[(", "a)]", ":", "[a:b:3]", "(a:1.2)"]
    {
        let prompt: String = unit.chars().cycle().take(64 << 10).collect();
        drop(Script::positive(&prompt, Emphasis::Original, FIRST, &[]));
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// Marks and words in any order, also without sense.
fn prompts() -> impl Strategy<Value = String> {
    let units = [
        "(",
        ")",
        "[",
        "]",
        ":",
        "|",
        "\\",
        "\n",
        " ",
        "a",
        "é",
        "1.2",
        "0.5",
        "3",
        ":1.2)",
        ":3]",
        " AND ",
        "BREAK",
        "#",
        "<",
        ">",
        "<lora:x:1>",
    ];
    collection::vec(sample::select(units.to_vec()), 0..40).prop_map(|units| units.concat())
}

proptest! {
    #[test]
    fn every_prompt_is_drawn_or_refused(prompt in prompts(), calls in 1usize..30, before in 0usize..30) {
        let time = Timeline { calls, calls_before: before, shares_before: 1.0 };
        for emphasis in [Emphasis::Original, Emphasis::Ignore, Emphasis::None] {
            for read in [Script::positive, Script::negative] {
                let Ok(script) = read(&prompt, emphasis, time, &[]) else { continue };
                for part in &script.parts {
                    prop_assert!(part.weight.is_finite());
                    let untils: Vec<usize> = part.editions.iter().map(|edition| edition.until).collect();
                    prop_assert!(untils.is_sorted_by(|a, b| a < b), "{untils:?}");
                    prop_assert_eq!(untils.last(), Some(&calls));
                    prop_assert!(part.editions.iter().all(|edition| edition.times > 0));
                }
            }
        }
    }

    #[test]
    fn a_prompt_without_marks_is_one_piece(prompt in "[a-zA-Z0-9 ,.\n'é日-]{0,60}") {
        prop_assume!(!prompt.contains("AND") && !prompt.contains("BREAK"));
        let script = Script::negative(&prompt, Emphasis::Original, FIRST, &[]).unwrap();
        let words = Some(prompt.trim()).filter(|words| !words.is_empty());
        let pieces: Vec<Piece> = words.into_iter().map(Piece::plain).collect();
        prop_assert_eq!(&script.parts[0].editions[0].pieces, &pieces);
    }
}
