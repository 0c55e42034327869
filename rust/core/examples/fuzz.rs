//! Fuzzes the parsers on a stable toolchain for a bounded time: mutation of a corpus, without coverage.
//!
//! `cargo run -p edgerouter-core --example fuzz --release -- [--seconds 20] [--seed N] [--input FILE] [TARGET …]`
//!
//! The seconds are for all targets together. The same seed makes the same inputs. An input that breaks a promise is
//! shortened and printed, and the run ends with status 1; `--input` runs one file only. `cargo fuzz` (see `/fuzz`) runs
//! the same targets with coverage.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "fuzz/targets.rs"]
mod targets;

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use targets::{FuzzTarget, TARGETS, corpus::WORDS};

/// Longest input: longer ones take time and find no more.
const LONGEST: usize = 8 << 10;
/// Longest time for one input.
const MOST: Duration = Duration::from_secs(5);

/// xorshift64*: the same seed gives the same inputs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end.max(1)
    }

    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        from..length.min(from + 1 + self.below(most))
    }
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut Random| {
        seeds
            .get(random.below(seeds.len()))
            .cloned()
            .unwrap_or_default()
    };
    let mut data = pick(random);
    for _ in 0..random.below(6) + 1 {
        let at = random.below(data.len() + 1);
        match random.below(9) {
            0 => drop(data.drain(random.range(data.len(), 8))),
            1 => data.truncate(at),
            2 => data.insert(at, random.next() as u8),
            3 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            4 => {
                let copied: Vec<u8> = data
                    .get(random.range(data.len(), 64))
                    .unwrap_or_default()
                    .to_vec();
                let times = 1 << random.below(6);
                data.splice(at..at, copied.repeat(times));
            }
            5 => {
                let other = pick(random);
                let part = other
                    .get(random.range(other.len(), 200))
                    .unwrap_or_default()
                    .to_vec();
                data.splice(at..at, part);
            }
            6 => {
                let range = random.range(data.len(), 4);
                data.splice(
                    range,
                    WORDS
                        .get(random.below(WORDS.len()))
                        .unwrap()
                        .iter()
                        .copied(),
                );
            }
            _ => drop(
                data.splice(
                    at..at,
                    WORDS
                        .get(random.below(WORDS.len()))
                        .unwrap()
                        .iter()
                        .copied(),
                ),
            ),
        }
    }
    data.truncate(LONGEST);
    data
}

fn breaks(target: &FuzzTarget, data: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(data))).is_err()
}

/// Removes pieces from the input for as long as the promise stays broken.
fn cut_down(target: &FuzzTarget, mut data: Vec<u8>) -> Vec<u8> {
    let mut size = data.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < data.len() {
            let mut shorter = data.clone();
            shorter.drain(at..data.len().min(at + size));
            if breaks(target, &shorter) {
                data = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    data
}

fn report(target: &FuzzTarget, data: Vec<u8>) {
    panic::set_hook(Box::new(|_| {}));
    let data = cut_down(target, data);
    panic::set_hook(Box::new(|info| eprintln!("{info}")));
    breaks(target, &data);
    eprintln!("\n{} broken by b\"{}\"", target.name, data.escape_ascii());
}

struct Arguments {
    seconds: f64,
    seed: u64,
    input: Option<Vec<u8>>,
    targets: Vec<FuzzTarget>,
}

fn arguments() -> Result<Arguments, String> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut found = Arguments {
        seconds: 20.0,
        seed: clock.map_or(1, |time| time.as_nanos() as u64),
        input: None,
        targets: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        let mut value = || given.next().ok_or(format!("{word} wants a value"));
        let wrong = |error: &dyn std::fmt::Display| format!("{word}: {error}");
        match word.as_str() {
            "--seconds" => found.seconds = value()?.parse().map_err(|error| wrong(&error))?,
            "--seed" => found.seed = value()?.parse().map_err(|error| wrong(&error))?,
            "--input" => {
                found.input = Some(std::fs::read(value()?).map_err(|error| wrong(&error))?)
            }
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => found.targets.push(*target),
                None => {
                    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                    return Err(format!(
                        "no target {name:?}; there are: {}",
                        names.join(", ")
                    ));
                }
            },
        }
    }
    if !(0.0..1e6).contains(&found.seconds) {
        return Err("--seconds: from 0 to a million".to_owned());
    }
    if found.targets.is_empty() {
        found.targets = TARGETS.to_vec();
    }
    Ok(found)
}

/// Ends the process when one input takes too long: a parser that hangs cannot be interrupted.
fn watch(runs: &Arc<AtomicU64>) {
    let runs = Arc::clone(runs);
    std::thread::spawn(move || {
        loop {
            let before = runs.load(Ordering::Relaxed);
            std::thread::sleep(MOST);
            if runs.load(Ordering::Relaxed) == before {
                eprintln!(
                    "an input takes longer than {MOST:?}; run the target with the same seed under a debugger"
                );
                std::process::exit(1);
            }
        }
    });
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if let Some(data) = &arguments.input {
        let broken = arguments
            .targets
            .iter()
            .filter(|target| breaks(target, data))
            .count();
        return ExitCode::from(u8::from(broken > 0));
    }
    println!("seed {}", arguments.seed);
    panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let runs = Arc::new(AtomicU64::new(0));
    watch(&runs);
    let share = Duration::from_secs_f64(arguments.seconds / arguments.targets.len() as f64);
    let mut failed = false;
    for target in &arguments.targets {
        let seeds = (target.seeds)();
        let mut random = Random(arguments.seed | 1);
        let (started, before) = (Instant::now(), runs.load(Ordering::Relaxed));
        let broken = seeds
            .iter()
            .cloned()
            .chain(std::iter::from_fn(|| {
                (started.elapsed() < share).then(|| mutate(&mut random, &seeds))
            }))
            .find(|data| {
                runs.fetch_add(1, Ordering::Relaxed);
                breaks(target, data)
            });
        let count = runs.load(Ordering::Relaxed) - before;
        println!(
            "{:16}{count:>10} inputs{}",
            target.name,
            if broken.is_some() { "  BROKEN" } else { "" }
        );
        if let Some(data) = broken {
            failed = true;
            report(target, data);
        }
    }
    ExitCode::from(u8::from(failed))
}
