//! What each stage takes beside what its plan says, in the shapes of published models.

use std::path::PathBuf;

use serde::Deserialize;

use super::{LEAST, output, said_of};
use crate::Done;

#[derive(Deserialize)]
struct Line {
    case: String,
    stage: String,
    planned: u64,
    taken: u64,
}

/// Prints a row for each stage of the runs of a size whose names hold `filter`; one that takes more than its plan says is a fault.
pub(super) fn told(program: &PathBuf, side: &str, filter: &str, decode: &str) -> Done {
    let text = output(program, &["--stages", side, "--case", filter, "--decode", decode])?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Line>, _>>()?;
    println!("| run | stage | plan, MiB | taken, MiB | taken of plan |\n|---|---|---|---|---|");
    let mib = |bytes: u64| bytes as f64 / LEAST as f64;
    for Line { case, stage, planned, taken } in &lines {
        let share = 100.0 * *taken as f64 / (*planned).max(1) as f64;
        println!("| {case} | `{stage}` | {:.0} | {:.0} | {share:.0} % |", mib(*planned), mib(*taken));
    }
    said_of(beyond(&lines))
}

fn beyond(lines: &[Line]) -> Vec<String> {
    let said = |line: &Line| {
        let Line { case, stage, planned, taken } = line;
        format!("{case}: `{stage}` takes {taken} bytes, and the plan says {planned}")
    };
    lines.iter().filter(|line| line.taken > line.planned).map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_takes_more_than_its_plan_says_is_a_fault() {
        let line = |taken| Line { case: "a".into(), stage: "decode".into(), planned: 10, taken };
        assert_eq!(beyond(&[line(10)]), Vec::<String>::new());
        assert_eq!(beyond(&[line(9), line(11)]), ["a: `decode` takes 11 bytes, and the plan says 10"]);
    }
}
