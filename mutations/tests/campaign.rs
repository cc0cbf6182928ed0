//! The campaign as a test: small with the others, and as large as `FORGE_CAMPAIGN` says, which `cargo xtask mutations` sets.

use mutations::{Campaign, PARSERS, Reached};

#[test]
fn no_damaged_input_makes_a_parser_panic_or_wait() {
    let flags = std::env::var("FORGE_CAMPAIGN").unwrap_or_else(|_| "--count 2000".into());
    let campaign = Campaign::parse(&flags.split_whitespace().collect::<Vec<_>>()).unwrap();
    campaign.run().unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_input_can_be_made_again() {
    for parser in PARSERS {
        let seeds = parser.seeds().unwrap();
        let inputs = |seed: u64| (0..50).map(|number| parser.input(&seeds, seed, number)).collect::<Vec<_>>();
        assert_eq!(inputs(1), inputs(1), "{}", parser.name);
        assert_ne!(inputs(1), inputs(2), "{}", parser.name);
    }
}

#[test]
fn seed_files_are_taken_as_they_are() {
    for parser in PARSERS {
        let seeds = parser.seeds().unwrap();
        let turned_away = seeds.iter().filter(|seed| (parser.read)(seed) == Reached::Form).count();
        assert!(2 * turned_away < seeds.len(), "{}: {turned_away} of {}", parser.name, seeds.len());
    }
}
