//! The process of one stream: opens, says that it is ready, waits for the word, writes, tells.

use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::process::ExitCode;
use std::time::Instant;

use freemkvd_tests::counted::Counted;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};

use super::kernel;
use super::play::{Content, play};
use super::spec::{EXIT_UNSUPPORTED, GO, READY, Spec, Told};

pub(crate) fn main(spec: &str) -> ExitCode {
    // Nobody would read what it says, and its file would stay.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("bench writer: {error}");
        return ExitCode::FAILURE;
    }
    let told = serde_json::from_str(spec).map_err(io::Error::from).and_then(|spec| write(&spec));
    match told.and_then(|told| Ok(serde_json::to_string(&told)?)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            match error.kind() {
                io::ErrorKind::Unsupported => ExitCode::from(EXIT_UNSUPPORTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn write(spec: &Spec) -> io::Result<Told> {
    let mut content = Content::new(&spec.job, spec.seed);
    let memory_before_bytes = kernel::own_memory_bytes()?;
    let mut sink = Counted::new(spec.contender.open(spec)?);
    wait_for_the_word()?;

    let start = Instant::now();
    let (started_ns, cpu_before) = (now_ns(ClockId::Monotonic), now_ns(ClockId::ProcessCPUTime));
    play(spec, &mut content, &mut sink)?;
    let taken = sink.last_write_ended().unwrap_or(start).duration_since(start);
    let counts = sink.counts();
    let len_bytes = sink.get_mut().seek(SeekFrom::End(0))?;
    let latency = sink.latency_ns().iter_recorded();
    let latency = latency.map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    let settled = sink.into_inner().settle()?;
    let durable = start.elapsed().saturating_sub(settled.aside);
    let cpu_ns = now_ns(ClockId::ProcessCPUTime) - cpu_before;
    let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Ok(Told {
        started_ns,
        taken_ns: started_ns + ns(taken),
        durable_ns: started_ns + ns(durable),
        bytes: counts.bytes + counts.zero_bytes,
        len_bytes,
        cpu_ns,
        memory_before_bytes,
        writes: counts.writes + counts.zero_writes,
        sent: settled.sent,
        latency,
    })
}

fn wait_for_the_word() -> io::Result<()> {
    println!("{READY}");
    io::stdout().flush()?;
    let mut word = String::new();
    io::stdin().lock().read_line(&mut word)?;
    if word.trim() == GO { Ok(()) } else { Err(io::Error::other("was not told to go")) }
}

fn now_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
