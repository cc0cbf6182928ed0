//! `mutations [--count N] [--seed S]… [--parser NAME] [--input NUMBER]`: ends with 1 after an input that should not be.

use std::process::ExitCode;

use mutations::{Campaign, USAGE};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let campaign = match Campaign::parse(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(campaign) => campaign,
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match campaign.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
