//! The examination: looks, says what it is about to do, tries it, judges it, prints.
//!
//! * `place`: which directory, on which mount;
//! * `busy`: whether the daemon writes there just now;
//! * `device`: what sysfs tells of what is below it;
//! * `kernel`: what the kernel keeps dirty;
//! * `scratch`: the file that is written to, which has no name;
//! * `trial`: what is measured on it;
//! * `figures`: all of that as values;
//! * `judgement`, `snippet`: what it means, and what to configure; pure;
//! * `text`: how it is told.
//!
//! The trial is a thread of its own, with the open of its file, so that Ctrl-C is answered also while a call hangs. What
//! it leaves behind is nothing: the file goes with the process. Where it can leave something, that is told.

mod busy;
mod device;
mod figures;
mod judgement;
mod kernel;
mod place;
mod scratch;
mod snippet;
mod text;
mod trial;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::figures::{Device, Figures, Kernel, Measured, Place};
use self::judgement::{Level, Verdict};
use self::scratch::Name;
use crate::cli::DoctorOptions;
use crate::exit::{Exit, Failed};
use crate::interrupt::Interrupt;
use crate::screen::Screen;
use crate::status::{in_json, print};
use crate::table::plain;
use crate::units::human;

/// How late an interrupt is seen at most.
const TICK: Duration = Duration::from_millis(50);

/// How long a file that has a name may take to lose it, once somebody wants to end.
const UNNAMING_TIME_MAX: Duration = Duration::from_secs(1);

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    figures: &'a Figures,
    drain: &'static str,
    verdicts: &'a [Verdict],
    config: &'a str,
}

pub(crate) fn run(socket: Option<&Path>, options: &DoctorOptions) -> Result<Exit, Failed> {
    let place = place::of(&options.path).map_err(Failed::Doctor)?;
    if !options.busy {
        busy::idle(socket, &place).map_err(Failed::Doctor)?;
    }
    let device = device::of(&place);
    let kernel = kernel::now();
    // What the trial writes beside the main run is no more than that again.
    let needed = options.size.saturating_mul(2);
    enough(&place, &kernel, needed).map_err(Failed::Doctor)?;
    let interrupt = Interrupt::catch().map_err(Failed::Signals)?;
    announce(&place, options.size);
    let measured = measure(options.size, &device, &interrupt, &place)?;
    let figures = Figures { place, device, kernel, measured };
    report(&figures, options)
}

/// Refuses what would fill a disk, or the memory.
fn enough(place: &Place, kernel: &Kernel, needed: u64) -> Result<(), String> {
    let (free, of_what) = match kernel.available_bytes {
        Some(available) if place.is_memory() => (place.free_bytes.min(available), "in memory"),
        _ => (place.free_bytes, "free"),
    };
    if free >= needed {
        return Ok(());
    }
    Err(format!(
        "not enough space in {}: the trial wants {}, twice what it writes at once, and {} are {of_what}; choose a \
         smaller --size",
        place.name(),
        human(needed),
        human(free)
    ))
}

fn announce(place: &Place, size: u64) {
    let text = format!(
        "freemkvctl: writing up to {} to a file without a name in {}, which is gone at the end; it takes some seconds, \
         and at most about {} unless a call hangs; Ctrl-C ends it\n",
        human(trial::bytes_max(size)),
        plain(&place.name()),
        crate::units::seconds(trial::TIME_MAX.as_secs()),
    );
    // Nobody is there to be told.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn measure(
    size: u64,
    device: &Device,
    interrupt: &Interrupt,
    place: &Place,
) -> Result<Measured, Failed> {
    let stop: Arc<AtomicBool> = interrupt.flag();
    let (counters, directory, shown) =
        (device.counters.clone(), place.directory.clone(), place.name());
    let name = Arc::new(Name::default());
    let (sender, result) = mpsc::sync_channel(1);
    let its_name = Arc::clone(&name);
    let run = move || {
        let measured = scratch::open(&directory, &its_name).and_then(|file| {
            trial::run(&file, size, counters.as_deref(), &stop)
                .map_err(|error| format!("the trial in {shown} failed: {error}"))
        });
        // Nobody waits any more after an interrupt.
        let _ = sender.send(measured);
    };
    let spawned = std::thread::Builder::new().name("trial".into()).spawn(run);
    spawned.map_err(|error| Failed::Doctor(format!("cannot start a thread: {error}")))?;
    loop {
        match result.recv_timeout(TICK) {
            Ok(Ok(Some(measured))) => return Ok(measured),
            Ok(Ok(None)) => break,
            Ok(Err(failed)) => return Err(Failed::Doctor(failed)),
            Err(RecvTimeoutError::Timeout) if interrupt.is_caught() => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failed::Doctor("the trial ended without a result".to_owned()));
            }
        }
    }
    Err(Failed::Doctor(match left_behind(&name) {
        None => "interrupted; nothing is left behind".to_owned(),
        Some(path) => format!(
            "interrupted; {} may be left behind, as its device does not answer",
            plain(&path.display().to_string())
        ),
    }))
}

/// The file that still has a name after a moment.
fn left_behind(name: &Name) -> Option<PathBuf> {
    let begun = Instant::now();
    while name.now().is_some() && begun.elapsed() < UNNAMING_TIME_MAX {
        std::thread::sleep(TICK);
    }
    name.now()
}

fn report(figures: &Figures, options: &DoctorOptions) -> Result<Exit, Failed> {
    let drain = judgement::drain(figures);
    let verdicts = judgement::verdicts(figures);
    let config = snippet::of(figures);
    let screen = Screen::of_stdout();
    let text = match options.json {
        true => {
            let answer = Answer { figures, drain, verdicts: &verdicts, config: &config };
            in_json(&answer, screen.terminal)?
        }
        false => text::of(figures, &verdicts, &config, screen),
    };
    print(&text)?;
    let trouble = verdicts.iter().any(|verdict| verdict.level == Level::Trouble);
    Ok(if trouble { Exit::Degraded } else { Exit::Fine })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_fill_a_disk_or_the_memory_is_refused() {
        let place = |filesystem: &str, free_bytes| Place {
            filesystem: filesystem.to_owned(),
            free_bytes,
            ..Place::default()
        };
        let kernel = Kernel { available_bytes: Some(100), ..Kernel::default() };
        assert_eq!(enough(&place("ext4", 2000), &kernel, 2000), Ok(()));
        let error = enough(&place("ext4", 1999), &kernel, 2000).unwrap_err();
        assert!(error.starts_with("not enough space"), "{error}");
        assert!(enough(&place("tmpfs", 2000), &kernel, 101).unwrap_err().contains("in memory"));
        assert_eq!(enough(&place("tmpfs", 2000), &Kernel::default(), 2000), Ok(()));
    }
}
