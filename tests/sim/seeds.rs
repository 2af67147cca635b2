//! Seeds: what each runs, how many, and how one that failed is run again.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::rates::Compared;
use crate::scenario::Scenario;
use crate::waits::Longest;

/// Nothing takes longer, half an hour of a dead device included.
const END: Duration = Duration::from_secs(6 * 3600);

/// Seeds in an ordinary test: some seconds without optimisation.
const SEEDS: u64 = 200;

/// What came of a seed, or of several.
#[derive(Debug, Default)]
struct Outcome {
    steps: u64,
    time: Duration,
    longest: Longest,
    rates: Compared,
}

fn run(seed: u64, is_verbose: bool) -> Outcome {
    let mut run = Scenario::of(seed).build(is_verbose);
    let ended = run.until(END);
    let world = run.sim.world();
    assert!(ended, "{} writers have not ended after {END:?}", world.writers);
    assert!(world.books.is_empty(), "something is left in the budget");
    let mut rates = Compared::default();
    world.rates.iter().for_each(|device| rates.add(device));
    Outcome { steps: world.steps, time: world.now, longest: world.longest, rates }
}

/// A number from the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// `SIM_SEED` runs that one and tells what happens; else `SIM_SEEDS` many from `SIM_FIRST`, in
/// `SIM_THREADS` threads.
#[test]
fn seeds() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{}", run(seed, true));
        return;
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Outcome::default());
    let begun = Instant::now();
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
                Ok(outcome) => total.lock().unwrap().add(seed, &outcome),
                Err(_) => {
                    eprintln!("seed {seed} failed; again: {}", again(seed));
                    failed.lock().unwrap().push(seed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..number("SIM_THREADS").unwrap_or(2) {
            scope.spawn(worker);
        }
    });
    let total = total.into_inner().unwrap();
    println!("{count} seeds in {:.1} s\n{total}", begun.elapsed().as_secs_f64());
    let failed = failed.into_inner().unwrap();
    let again = failed.first().map(|seed| again(*seed)).unwrap_or_default();
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}; {again}", failed.len());
}

fn again(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test --release -p freemkvd --test sim seeds -- --nocapture")
}

impl Outcome {
    /// Adds that of one seed, and tells where it was the worst so far.
    fn add(&mut self, seed: u64, other: &Self) {
        self.steps += other.steps;
        self.time += other.time;
        let (longest, new) = (&mut self.longest, &other.longest);
        for (longest, new, what) in [
            (&mut longest.own, new.own, "for its device"),
            (&mut longest.turn, new.turn, "for its turn"),
            (&mut longest.pool, new.pool, "for the others' devices too"),
            (&mut longest.idle, new.idle, "for nothing"),
        ] {
            if new > *longest {
                println!("seed {seed}: waited {new:?} {what}");
                *longest = new;
            }
        }
        longest.bytes_percent = longest.bytes_percent.max(new.bytes_percent);
        longest.idle_percent = longest.idle_percent.max(new.idle_percent);
        self.rates.add(&other.rates);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, time, longest, rates } = self;
        writeln!(f, "{steps} steps, {} s of virtual time", time.as_secs())?;
        writeln!(
            f,
            "longest waits: {:?} for its device, {:?} for its turn, {:?} for the others' devices too",
            longest.own, longest.turn, longest.pool
        )?;
        writeln!(
            f,
            "of what is allowed: {} % of the bytes, {} % of the idle time ({:?})",
            longest.bytes_percent, longest.idle_percent, longest.idle
        )?;
        write!(
            f,
            "rates, in {} spans of 2 s: {} too low by 3 ({} in a row), {} too high ({}); \
             {} devices suspect that were slow ({} of one)",
            rates.spans,
            rates.low_spans,
            rates.low_max,
            rates.high_spans,
            rates.high_max,
            rates.false_alarms,
            rates.false_alarms_max
        )
    }
}
