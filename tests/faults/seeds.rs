//! Random workloads, random faults, random power cuts: what a seed gives is the same again, but for when
//! threads are woken.

use std::sync::Arc;

use freemkvd_client::Error;
use freemkvd_tests::faults::{Call, Fault, Rule};
use freemkvd_tests::trace::Random;
use rustix::io::Errno;

use crate::ground::Place;
use crate::images::Images;
use crate::run::Bench;
use crate::workload;

/// Fewer than this are not worth the name.
const POWER_CUTS_MIN: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What goes wrong in a run: mostly one thing, sometimes nothing, sometimes several.
fn rules(random: &mut Random) -> Vec<Rule> {
    let errnos = [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::STALE, Errno::ROFS, Errno::NODEV];
    let count = [0, 0, 1, 1, 1, 2, 3][random.index(7)];
    let rule = |random: &mut Random| {
        let call = Call::ALL[random.index(Call::ALL.len())];
        let errno = errnos[random.index(errnos.len())].raw_os_error();
        let fault = match random.below(12) {
            0 if call.is_write() => Fault::Short(Some(errno)),
            1 if call.is_write() => Fault::Short(None),
            2 if call.is_interruptible() => Fault::Error(Errno::INTR.raw_os_error()),
            3 => Fault::Vanish(errno),
            4 => Fault::ReadOnly,
            5 => Fault::Delay(std::time::Duration::from_millis(random.below(15))),
            _ => Fault::Error(errno),
        };
        let most = if matches!(call, Call::Write | Call::Medium) { 20 } else { 6 };
        let lasting = matches!(fault, Fault::Error(_)) && random.one_in(4);
        // One that goes on for ever would be interrupted for ever.
        let lasting = lasting && fault != Fault::Error(Errno::INTR.raw_os_error());
        Rule { call, nth: random.between(1, most), lasting, path: None, fault }
    };
    (0..count).map(|_| rule(random)).collect()
}

/// One run. Returns how many power cuts there were, and what was wrong.
fn run(seed: u64) -> (u64, Vec<String>, bool) {
    let mut random = Random::new(seed);
    let place = Place::ALL[random.index(Place::ALL.len())];
    let workload = workload::random(&mut random);
    let rules = rules(&mut random);
    let disk = place.disk("/rips");
    if random.one_in(3) {
        disk.flush_by_itself(seed);
    }
    let daemon = place.serve(&disk, random.one_in(2));
    rules.iter().for_each(|rule| disk.script().add(rule.clone()));
    let images = Images::new(&disk, seed);
    let looks = |model: &_| images.look(model, 8);
    let bench = Bench::new((&daemon, &disk), "film.mkv", &workload, &looks);
    let (watching, watched) = (images.clone(), Arc::clone(&bench.model));
    disk.watch(move |_| watching.look(&watched, 1));
    let ran = bench.run(&workload);
    bench.assert_no_leak();
    images.look(&bench.model, 8);
    disk.look_away();
    let mut wrong = images.wrong();
    let injected: Vec<i32> = disk.script().fired().iter().filter_map(|fired| fired.errno).collect();
    match ran.error.as_ref().map(Error::errno) {
        Some(Some(errno)) if injected.contains(&errno) => {}
        // Writeback to a device that is gone, or must not be written.
        Some(Some(errno)) if errno == Errno::IO.raw_os_error() && !injected.is_empty() => {}
        Some(_) => wrong.push(format!("{:?}, but injected was {injected:?}", ran.error)),
        None if ran.is_finished => {
            let content = disk.read(&bench.path).unwrap_or_default();
            if content != bench.model.lock().unwrap().content() {
                wrong.push("finished, and it reads otherwise".to_owned());
            }
        }
        None => {}
    }
    if !wrong.is_empty() {
        wrong.push(format!("{place:?}, {rules:?}, {workload:?}: {ran:?}"));
    }
    (images.taken(), wrong, ran.is_finished)
}

#[test]
fn whatever_was_acknowledged_as_durable_is_there_after_a_power_cut() {
    if let Some(seed) = number("FAULTS_SEED") {
        let (power_cuts, wrong, _) = run(seed);
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        println!("seed {seed}: {power_cuts} power cuts, nothing wrong");
        return;
    }
    let first = number("FAULTS_FIRST").unwrap_or(0);
    let seeds = number("FAULTS_SEEDS").unwrap_or(0);
    let (mut power_cuts, mut finished, mut runs) = (0, 0, 0);
    for seed in first.. {
        if power_cuts >= POWER_CUTS_MIN && runs >= seeds {
            break;
        }
        let (more, wrong, is_finished) = run(seed);
        assert!(wrong.is_empty(), "FAULTS_SEED={seed}: {wrong:#?}");
        (power_cuts, runs) = (power_cuts + more, runs + 1);
        finished += u64::from(is_finished);
    }
    println!("{runs} runs from seed {first} on, {finished} finished, {power_cuts} power cuts");
}
