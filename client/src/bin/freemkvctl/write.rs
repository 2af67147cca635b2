//! `freemkvctl write`: standard input to a stream.
//!
//! 1. A thread reads, so that Ctrl-C and the end of the stream are seen while nothing comes in, and so that
//!    reading goes on while the stream waits for room.
//! 2. Exit code 0 means durable. Everything else leaves the file where it is and says how much of it
//!    is there.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use freemkvd_client::{Error, ErrorCode, RipFile};
use freemkvd_proto::partial_path;

use crate::cli::{LeftoverChoice, WriteOptions};
use crate::exit::{Exit, Failed};
use crate::input::Input;
use crate::interrupt::Interrupt;
use crate::table::plain;
use crate::units::{human, seconds};
use crate::waiting::Waiting;

/// How often the progress is drawn, and how late an interrupt is seen at most.
const TICK: Duration = Duration::from_millis(250);

/// How long an ending that was not asked for waits until the content so far is durable.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) fn run(socket: Option<&Path>, options: &WriteOptions) -> Result<Exit, Failed> {
    let interrupt = Interrupt::catch().map_err(Failed::Signals)?;
    let begun = Instant::now();
    let mut file = create(socket, options, &interrupt).map_err(Failed::Open)?;
    let mut meter = Meter::new(options.quiet);
    let stream = file.stream_id().filter(|_| !options.quiet);
    let _waiting = stream.map(|stream| Waiting::watch(socket, stream)).transpose();

    if let Err(stop) = copy(&mut file, &interrupt, &mut meter) {
        meter.erase();
        return Err(settle(file, stop, &interrupt, options));
    }
    meter.say("making it durable");
    // Before `finish`, which takes the file away: an interrupt here can still be told how far it is.
    let synced = file.sync_all();
    meter.erase();
    if let Err(error) = synced {
        return Err(settle(file, Stop::from(error), &interrupt, options));
    }
    let (path, opened_by) = (file.path().to_owned(), file.opened_by());
    let finished = file.finish().map_err(|error| broken(error, options, &path))?;
    if !options.quiet {
        let took = begun.elapsed();
        let text = format!(
            "wrote {} to {} in {}, durable; opened {opened_by}\n",
            human(finished.len_bytes),
            plain(&path.display().to_string()),
            match took.as_secs() {
                0..60 => format!("{:.1} s", took.as_secs_f64()),
                whole => seconds(whole),
            }
        );
        let _ = io::stderr().write_all(text.as_bytes());
    }
    Ok(Exit::Fine)
}

fn create(
    socket: Option<&Path>,
    options: &WriteOptions,
    interrupt: &Interrupt,
) -> Result<RipFile, Error> {
    let mut how = RipFile::options()
        .create_new(!options.overwrite)
        .halt(interrupt.flag())
        // A pipe can't seek back: there is nothing to wait for in the window.
        .window_bytes(1 << 20)
        .daemon_window_bytes(0)
        .weight(options.weight)
        .open_by(options.open_by.into())
        .publish(options.publish)
        .leftover(options.leftover.into())
        // What is waited for was waited for in `settle`.
        .drop_wait(Duration::from_secs(1));
    if let Some(socket) = socket {
        how = how.socket(socket);
    }
    if let Some(bytes) = options.size_hint {
        how = how.size_hint(bytes);
    }
    how.create(&options.path)
}

/// Why the copying ended before the input did.
#[derive(Debug)]
enum Stop {
    Interrupted,
    Input(io::Error),
    Stream(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match Error::inside(&error) {
            Some(Error::Halted { .. }) => Self::Interrupted,
            _ => Self::Stream(error),
        }
    }
}

fn copy(file: &mut RipFile, interrupt: &Interrupt, meter: &mut Meter) -> Result<(), Stop> {
    let input = Input::start().map_err(Stop::Input)?;
    loop {
        if interrupt.is_caught() {
            return Err(Stop::Interrupted);
        }
        match input.next(TICK) {
            Ok(Ok(piece)) if piece.bytes().is_empty() => return Ok(()),
            Ok(Ok(piece)) => {
                file.write_all(piece.bytes())?;
                input.give_back(piece);
            }
            Ok(Err(error)) => return Err(Stop::Input(error)),
            Err(RecvTimeoutError::Timeout) => {
                // A drive that hangs brings nothing any more, and its stream may have been given up.
                file.failure().map_or(Ok(()), |error| Err(Stop::Stream(error.into())))?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Stop::Input(io::ErrorKind::BrokenPipe.into()));
            }
        }
        meter.show(file);
    }
}

/// Makes durable what was taken, for a bounded time, and says what became of it. Another interrupt
/// ends the waiting.
fn settle(mut file: RipFile, stop: Stop, interrupt: &Interrupt, options: &WriteOptions) -> Failed {
    let cause = match stop {
        Stop::Stream(error) => return broken(error, options, file.path()),
        Stop::Input(error) => format!("cannot read standard input: {error}"),
        Stop::Interrupted => {
            interrupt.forget();
            if !options.quiet {
                let text =
                    "freemkvctl: making durable what was read; interrupt again to stop now\n";
                let _ = io::stderr().write_all(text.as_bytes());
            }
            "interrupted".to_owned()
        }
    };
    // Its outcome is in the progress.
    let _ = file.sync_all_timeout(SETTLE);
    let progress = file.progress();
    let left = match kept_as(options, file.path()) {
        None => "nothing of it is kept".to_owned(),
        Some(path) => format!(
            "{} stays as it is, {} are written and {} of them durable",
            path.display(),
            human(progress.written_bytes),
            human(progress.durable_bytes)
        ),
    };
    // The daemon need not wonder where its muxer went.
    let _ = file.abort();
    Failed::Incomplete { cause, left }
}

/// An error that ends the stream, with what it leaves.
fn broken(error: io::Error, options: &WriteOptions, path: &Path) -> Failed {
    // Then the file is complete, and the error says what it is called.
    let code = Error::inside(&error).and_then(Error::code);
    if code == Some(ErrorCode::NOT_PUBLISHED) {
        return Failed::Stream(error);
    }
    let left = match kept_as(options, path) {
        None => "nothing of it is kept".to_owned(),
        Some(path) => {
            format!("what was written of it is {}, which --overwrite begins anew", path.display())
        }
    };
    Failed::Incomplete { cause: error.to_string(), left }
}

/// What is left of a file that is not complete is called.
fn kept_as(options: &WriteOptions, path: &Path) -> Option<PathBuf> {
    match options.leftover {
        LeftoverChoice::Remove => None,
        LeftoverChoice::Keep if !options.publish => Some(path.to_owned()),
        LeftoverChoice::Keep | LeftoverChoice::Partial => Some(partial_path(path)),
    }
}

/// One line on standard error that is drawn again and again, if that is a terminal.
#[derive(Debug)]
struct Meter {
    on: bool,
    drawn: Instant,
    /// Length of the file when it was last drawn, for the rate.
    drawn_len: u64,
}

impl Meter {
    fn new(quiet: bool) -> Self {
        Self { on: !quiet && io::stderr().is_terminal(), drawn: Instant::now(), drawn_len: 0 }
    }

    fn show(&mut self, file: &RipFile) {
        let elapsed = self.drawn.elapsed();
        if !self.on || elapsed < TICK {
            return;
        }
        let len = file.len_bytes();
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let rate = (len - self.drawn_len).saturating_mul(1000) / ms.max(1);
        let progress = file.progress();
        self.drawn = Instant::now();
        self.drawn_len = len;
        self.say(&format!(
            "{}, {}/s, written {}, durable {}",
            human(len),
            human(rate),
            human(progress.written_bytes),
            human(progress.durable_bytes)
        ));
    }

    fn say(&self, text: &str) {
        if self.on {
            // A line that can't be drawn is not worth failing for.
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
        }
    }

    fn erase(&self) {
        self.say("");
    }
}
