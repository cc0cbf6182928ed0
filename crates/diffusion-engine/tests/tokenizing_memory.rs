//! What reading words takes is no more than what plans count for it; in a program of its own, as the heap is the process's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use diffusion_engine::{ClipTokenizer, T5Tokenizer, tokenizing_bytes};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most that reading takes, of what it leaves too.
fn taken<T>(read: impl FnOnce() -> T) -> u64 {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let left = read();
    let taken = HEAP.peak_usage() - before;
    drop(left);
    taken as u64
}

#[test]
fn a_text_takes_no_more_than_a_plan_counts_for_it() {
    let (t5, clip) = (T5Tokenizer::new().unwrap(), ClipTokenizer::new().unwrap());
    // Words, marks, blanks, other scripts, and what becomes many characters in its compatibility form.
    let words = ["a fox, ", "a ", "aaaaaaaaa", "the quick brown fox jumps. ", "<a:1> ", "(a:1.2)", "1 2", "don't "];
    let marks = ["!", ", ", "\n", " \t ", "🦊", "🏳\u{fe0f}\u{200d}🌈", "狐狸", "ليس ", "\u{301}", "é", "\0"];
    let forms = ["\u{fdfa}", "\u{fdfb}", "\u{fdfa} ", "\u{33af}", "\u{3316}", "\u{bd}", "\u{fdf8}", "ﬁ", "Ⅷ"];
    let texts = [&words[..], &marks, &forms].concat();
    for text in texts {
        let long = text.repeat(64_000 / text.len());
        // What tokenizers keep of words that they have seen counts among their tables.
        _ = (t5.text(&long), clip.text(&long));
        let said = tokenizing_bytes(&long);
        let both = taken(|| (t5.text(&long), clip.text(&long)));
        println!("{text:?}: {both} of {said}");
        assert!(both <= said, "{text:?}: {both} of {said}");
    }
}
