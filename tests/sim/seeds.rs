//! Seeds: what each runs, how many, and how one that failed is run again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::rates::Compared;
use crate::scenario::Scenario;
use crate::waits::Longest;

/// Nothing takes longer, ten minutes of a dead device included.
const END: Duration = Duration::from_secs(6 * 3600);

/// What came of a seed.
#[derive(Debug, Default)]
struct Outcome {
    steps: u64,
    time: Duration,
    longest: Longest,
    rates: Vec<Compared>,
}

fn run(seed: u64, is_verbose: bool) -> Outcome {
    let mut run = Scenario::of(seed).build(is_verbose);
    let ended = run.until(END);
    let world = run.sim.world();
    assert!(ended, "{} writers have not ended after {END:?}", world.writers);
    assert!(world.books.is_empty(), "something is left in the budget");
    Outcome {
        steps: world.steps,
        time: world.now,
        longest: world.longest,
        rates: world.rates.clone(),
    }
}

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// `SIM_SEED` runs that one and tells what happens; else `SIM_SEEDS` many from `SIM_FIRST`.
#[test]
fn seeds() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = run(seed, true);
        println!("{outcome:#?}");
        return;
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let count = number("SIM_SEEDS").unwrap_or(200);
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
                Ok(outcome) => add(&mut total.lock().unwrap(), seed, &outcome),
                Err(_) => {
                    eprintln!(
                        "seed {seed} failed; again: \
                         SIM_SEED={seed} cargo test -p freemkvd --test sim seeds -- --nocapture"
                    );
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
    println!(
        "{count} seeds in {:?}: {} steps, {:?} of virtual time",
        begun.elapsed(),
        total.steps,
        total.time
    );
    println!("{:?} {:?}", total.longest, total.rates);
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}", failed.len());
}

fn add(total: &mut Outcome, seed: u64, outcome: &Outcome) {
    total.steps += outcome.steps;
    total.time += outcome.time;
    let (longest, new) = (&mut total.longest, outcome.longest);
    for (longest, new, name) in [
        (&mut longest.own, new.own, "own"),
        (&mut longest.turn, new.turn, "turn"),
        (&mut longest.pool, new.pool, "pool"),
    ] {
        if new > *longest {
            println!("seed {seed}: longest wait, {name}: {new:?}");
            *longest = new;
        }
    }
    if new.bytes_percent > longest.bytes_percent {
        println!("seed {seed}: waited for {} % of the most", new.bytes_percent);
        longest.bytes_percent = new.bytes_percent;
    }
    longest.idle_percent = longest.idle_percent.max(new.idle_percent);
    if new.idle > longest.idle {
        println!("seed {seed}: waited {:?} for nobody", new.idle);
        longest.idle = new.idle;
    }
    total.rates.resize(1, Compared::default());
    for rates in &outcome.rates {
        let sum = &mut total.rates[0];
        if rates.low_max > sum.low_max {
            println!("seed {seed}: too low for {} spans", rates.low_max);
        }
        if rates.high_max > sum.high_max {
            println!("seed {seed}: too high for {} spans", rates.high_max);
        }
        sum.low_max = sum.low_max.max(rates.low_max);
        sum.high_max = sum.high_max.max(rates.high_max);
        if rates.false_alarms > sum.false_alarms_max {
            println!("seed {seed}: {} false alarms", rates.false_alarms);
            sum.false_alarms_max = rates.false_alarms;
        }
        sum.false_alarms += rates.false_alarms;
        sum.spans += rates.spans;
        sum.low_spans += rates.low_spans;
        sum.high_spans += rates.high_spans;
    }
}
