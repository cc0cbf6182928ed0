//! `forge ops`, and the table in `docs/operators.md`, which `UPDATE_DOCS=1 cargo test -p forge-cli --test ops` writes.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod tiny;

use std::{env, fs};

use quant::operators::{Operator, Place, bits, computed, how, is_written};

use crate::tiny::Tiny;

const START: &str = "<!-- formats -->\n";
const END: &str = "<!-- end of the formats -->";

fn table() -> String {
    let head = "| format | bits | linear, CPU | as integers | on a card | embedding | conv2d, CPU | on a card | parameter | `forge convert` |\n\
        |---|---|---|---|---|---|---|---|---|---|\n";
    let row = |format| {
        let of = |operator, place| how(format, operator, place).name();
        let writes = if is_written(format) { "writes it" } else { "" };
        let integers = if format.integers().is_some() { "yes" } else { "" };
        format!(
            "| {format} | {} | {} | {integers} | {} | {} | {} | {} | {} | {writes} |\n",
            (bits(format) * 10_000.0).round() / 10_000.0,
            of(Operator::Linear, Place::Cpu),
            of(Operator::Linear, Place::Other),
            of(Operator::Embedding, Place::Cpu),
            of(Operator::Conv2d, Place::Cpu),
            of(Operator::Conv2d, Place::Other),
            of(Operator::Parameter, Place::Cpu),
        )
    };
    head.to_owned() + &computed().map(row).collect::<String>()
}

#[test]
fn the_docs_are_what_the_code_does() {
    let path = fixtures::path("../docs/operators.md");
    let found = fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(START).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{START}\n{}\n{END}{after}", table());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    assert!(found == expected, "docs/operators.md is stale: UPDATE_DOCS=1 cargo test -p forge-cli --test ops");
}

#[test]
fn every_format_is_listed_once_for_people_and_for_programs() {
    let tiny = Tiny::quick();
    let text = tiny.forge(&["ops"]).done().out;
    let told = tiny.forge(&["ops", "--json"]).done().json();
    let formats = told[0]["formats"].as_array().unwrap();
    assert_eq!(formats.len(), computed().count());
    for (format, told) in computed().zip(formats) {
        let lines = text.lines().filter(|line| line.split_whitespace().next() == Some(format.name()));
        assert_eq!((lines.count(), told["format"].as_str()), (1, Some(format.name())), "{format}");
        assert!(told["cpu"]["linear"].is_string() && told["other"]["conv2d"].is_string(), "{told}");
        assert_eq!(told["integers"], format.integers().is_some(), "{format}");
        assert!(told["measured"].is_null());
    }
}

#[test]
fn the_printed_table_says_what_the_docs_do_and_fits_a_terminal() {
    let text = Tiny::quick().forge(&["ops"]).done().out;
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    // every word of a row, in order
    for row in table().lines().skip(2) {
        let cells = row.replace("writes it", "writes");
        let cells: Vec<_> = cells.split('|').flat_map(str::split_whitespace).collect();
        let is_row = |line: &str| line.split_whitespace().eq(cells.iter().copied());
        assert!(text.lines().any(is_row), "{row}");
    }
    // and no word of the table is left without a legend
    for word in ["panels", "integers", "as packed", "rows", "f32", "writes"] {
        let has = |line: &str| line.strip_prefix(word).is_some_and(|rest| rest.starts_with("  "));
        assert!(text.lines().any(has), "{word}");
    }
}
