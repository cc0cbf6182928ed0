//! Damaged inputs for every parser, on every core.

use std::{
    cell::RefCell,
    num::NonZero,
    ops::Range,
    panic::{catch_unwind, set_hook},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{PARSERS, Parser, Reached};

/// How far an input must come often enough, in percent: a campaign that is turned away at the first byte says nothing.
const LEAST_DEEP: u64 = 10;

/// What a campaign can be told.
pub const USAGE: &str = "usage: mutations [--count N] [--seed S]… [--parser NAME] [--input NUMBER]
  --count N       inputs for each parser, 10000 unless given
  --seed S        what the inputs are made from, 1 unless given; several share the count
  --parser NAME   this one only
  --input NUMBER  this input only, of the last seed; it is printed";

/// The longest that an input may take.
const LIMIT: Duration = Duration::from_secs(1);

/// The most memory that reading an input may take beside four times its own length, in bytes.
const MEMORY: u64 = 16 << 20;

/// When an input that does not end is given up, in milliseconds.
const HANGS: u64 = 20_000;

/// Inputs of a thread. Its name says which, as a stack that overflows ends the process with that name and no more.
const BLOCK: u64 = 50_000;

thread_local! {
    /// What the last panic of this thread said.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// How many inputs, of what seeds, for which parsers.
#[derive(Clone, Debug)]
pub struct Campaign {
    count: u64,
    seeds: Vec<u64>,
    parsers: Vec<&'static Parser>,
    input: Option<u64>,
}

impl Campaign {
    /// Reads the flags of [`USAGE`].
    ///
    /// # Errors
    /// An unknown flag or parser, or a value that is no number.
    pub fn parse(args: &[&str]) -> Result<Self, String> {
        let mut campaign = Self { count: 10_000, seeds: vec![], parsers: PARSERS.iter().collect(), input: None };
        let (pairs, rest) = args.as_chunks::<2>();
        for [flag, value] in pairs {
            let number = || value.parse().map_err(|_| format!("`{flag}` takes a number, not `{value}`"));
            match *flag {
                "--count" => campaign.count = number()?,
                "--seed" => campaign.seeds.push(number()?),
                "--input" => campaign.input = Some(number()?),
                "--parser" => {
                    let known = || PARSERS.iter().map(|parser| parser.name).collect::<Vec<_>>().join(", ");
                    let parser = Parser::named(value);
                    campaign.parsers =
                        vec![parser.ok_or_else(|| format!("no parser is called `{value}`; there are {}", known()))?];
                }
                _ => return Err(format!("`{flag}` is not a flag")),
            }
        }
        if let [flag] = rest {
            return Err(format!("`{flag}` is not a flag, or lacks its value"));
        }
        if campaign.seeds.is_empty() {
            campaign.seeds.push(1);
        }
        Ok(campaign)
    }

    /// Reads every input. Panics are quiet from then on in the whole process.
    ///
    /// # Errors
    /// An input that panics, takes longer than a second, or more memory than four times its length and 16 MiB, and how to make it again, or a
    /// parser that turned nearly all away. One that does not end, ends the process.
    pub fn run(&self) -> Result<(), String> {
        // Told with the input that caused it, and not by each thread.
        set_hook(Box::new(|panic| LAST.with_borrow_mut(|last| *last = panic.to_string())));
        for parser in &self.parsers {
            let files =
                parser.seeds().map_err(|error| format!("cannot read the seed files of `{}`: {error}", parser.name))?;
            if files.is_empty() {
                return Err(format!("`{}` has no seed files", parser.name));
            }
            match (self.input, self.seeds.last()) {
                (Some(number), Some(&seed)) => {
                    let input = parser.input(&files, seed, number);
                    println!("{}", input.escape_ascii());
                    one(parser, &input).map_err(|fault| repeat(parser, seed, number, &fault))?;
                }
                _ => self.all(parser, &files)?,
            }
        }
        Ok(())
    }

    fn all(&self, parser: &'static Parser, files: &[Vec<u8>]) -> Result<(), String> {
        let start = Instant::now();
        let parts = self.seeds.len() as u64;
        let mut sum = Counts::default();
        for (i, &seed) in (0..).zip(&self.seeds) {
            let count = self.count * (i + 1) / parts - self.count * i / parts;
            sum = sum.and(&Trial { parser, files, seed }.run(count)?);
        }
        let Counts { form, meaning, accepted, longest, largest } = sum;
        let all = (form + meaning + accepted).max(1);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:13} {all} inputs in {seconds:.1} s: {} % past the form, {} % accepted, at most {:.1} ms and {:.1} KiB",
            parser.name,
            100 * (meaning + accepted) / all,
            100 * accepted / all,
            longest.as_secs_f64() * 1000.0,
            largest as f64 / 1024.0
        );
        if 100 * (meaning + accepted) < LEAST_DEEP * all {
            return Err(format!("`{}` turns nearly all away: {sum:?}", parser.name));
        }
        Ok(())
    }
}

/// How many inputs came how far.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    form: u64,
    meaning: u64,
    accepted: u64,
    longest: Duration,
    /// The most memory, in bytes.
    largest: u64,
}

impl Counts {
    fn and(self, other: &Self) -> Self {
        Self {
            form: self.form + other.form,
            meaning: self.meaning + other.meaning,
            accepted: self.accepted + other.accepted,
            longest: self.longest.max(other.longest),
            largest: self.largest.max(other.largest),
        }
    }
}

/// The inputs of one seed.
struct Trial<'f> {
    parser: &'static Parser,
    files: &'f [Vec<u8>],
    seed: u64,
}

impl Trial<'_> {
    /// The first `count` inputs, a thread for each block and as many at once as there are cores.
    fn run(&self, count: u64) -> Result<Counts, String> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let (next, sum) = (AtomicU64::new(0), Mutex::new(Ok(Counts::default())));
        thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    loop {
                        let start = next.fetch_add(BLOCK, Ordering::Relaxed);
                        if start >= count || sum.lock().unwrap_or_else(PoisonError::into_inner).is_err() {
                            return;
                        }
                        let block = self.watched(start..count.min(start + BLOCK));
                        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                        *sum = match (&*sum, block) {
                            (Ok(sum), Ok(block)) => Ok(sum.and(&block)),
                            (Ok(_), Err(error)) => Err(error),
                            (Err(_), _) => return,
                        };
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block in a thread of its own, which is given up when an input does not end.
    fn watched(&self, block: Range<u64>) -> Result<Counts, String> {
        let name = format!("{} {block:?} of seed {}", self.parser.name, self.seed);
        let clock = Instant::now();
        // The input in work, and when it began.
        let (at, since) = (AtomicU64::new(block.start), AtomicU64::new(0));
        thread::scope(|scope| {
            let work = || {
                let mut counts = Counts::default();
                for number in block {
                    at.store(number, Ordering::Relaxed);
                    since.store(clock.elapsed().as_millis() as u64, Ordering::Relaxed);
                    let input = self.parser.input(self.files, self.seed, number);
                    let fault = |fault: String| repeat(self.parser, self.seed, number, &fault);
                    let Read { reached, took, bytes } = one(self.parser, &input).map_err(fault)?;
                    match reached {
                        Reached::Form => counts.form += 1,
                        Reached::Meaning => counts.meaning += 1,
                        Reached::Accepted => counts.accepted += 1,
                    }
                    counts.longest = counts.longest.max(took);
                    counts.largest = counts.largest.max(bytes);
                }
                Ok(counts)
            };
            let worker = thread::Builder::new().name(name).spawn_scoped(scope, work);
            let worker = worker.map_err(|error| format!("cannot start a thread: {error}"))?;
            while !worker.is_finished() {
                thread::sleep(Duration::from_millis(2));
                let begun = since.load(Ordering::Relaxed);
                if (clock.elapsed().as_millis() as u64).saturating_sub(begun) > HANGS {
                    let number = at.load(Ordering::Relaxed);
                    eprintln!("error: {}", repeat(self.parser, self.seed, number, "does not end"));
                    std::process::exit(1);
                }
            }
            worker.join().unwrap_or_else(|_| Err("a thread ended outside of any input".into()))
        })
    }
}

/// What came of an input.
struct Read {
    reached: Reached,
    took: Duration,
    /// The most memory that was allocated at once.
    bytes: u64,
}

/// Reads one input; it took too long only if it does so again, as the machine may have had other work.
fn one(parser: &Parser, input: &[u8]) -> Result<Read, String> {
    let read = || {
        let mut read = Err(String::new());
        let allocated = allocation_counter::measure(|| {
            let start = Instant::now();
            let reached = catch_unwind(|| (parser.read)(input));
            read = reached
                .map(|reached| (reached, start.elapsed()))
                .map_err(|_| format!("panics: {}", LAST.with_borrow(String::clone)));
        });
        let (reached, took) = read?;
        Ok::<_, String>(Read { reached, took, bytes: allocated.bytes_max })
    };
    let mut result = read()?;
    if result.took > LIMIT {
        result = read()?;
    }
    let Read { took, bytes, .. } = result;
    if took > LIMIT {
        return Err(format!("takes {took:.1?}"));
    }
    let most = 4 * input.len() as u64 + MEMORY;
    if bytes > most {
        return Err(format!("of {} bytes takes {bytes} bytes of memory, expected at most {most}", input.len()));
    }
    Ok(result)
}

/// What an input did, and how to make it again.
fn repeat(parser: &Parser, seed: u64, number: u64, fault: &str) -> String {
    let name = parser.name;
    format!(
        "{name}: input {number} of seed {seed} {fault}\n  `mutations --parser {name} --seed {seed} --input {number}` makes it again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage;

    /// A parser that believes the first byte, in MiB.
    const BELIEVES: Parser = Parser {
        name: "believes",
        read: |bytes| match std::hint::black_box(vec![1u8; usize::from(bytes[0]) << 20]).len() {
            0 => Reached::Form,
            _ => Reached::Accepted,
        },
        tokens: &[],
        damage: damage::damaged,
    };

    #[test]
    fn memory_taken_on_an_inputs_word_alone_is_a_fault_that_says_how_much() {
        assert!(one(&BELIEVES, &[16]).is_ok_and(|read| read.bytes == 16 << 20 && read.reached == Reached::Accepted));
        let fault = one(&BELIEVES, &[17]).err().unwrap_or_default();
        assert_eq!(fault, "of 1 bytes takes 17825792 bytes of memory, expected at most 16777220");
        let panics = one(&BELIEVES, &[]).err().unwrap_or_default();
        assert!(panics.starts_with("panics"), "{panics}");
        // The counts begin anew behind a panic.
        assert!(one(&BELIEVES, &[1]).is_ok_and(|read| read.bytes == 1 << 20));
    }
}
