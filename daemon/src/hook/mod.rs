//! The hook: a program of the administrator's that is run when something happens that deserves a notification.
//!
//! 1. Nobody waits for it: what has happened is seen in memory, at the tick of the control loop, and put into a
//!    bounded queue that a thread of its own empties.
//! 2. One runs at a time, for a bounded time, and nothing of its process group outlives it.
//! 3. Whatever it does, all it can do to the daemon is to have a bounded number of lines logged.

mod due;
mod event;
mod failure;
mod queue;
#[cfg_attr(unix, path = "run/unix.rs")]
#[cfg_attr(not(unix), path = "run/none.rs")]
mod run;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::writer::Record;

pub use self::failure::Failure;
pub use self::run::{DESCRIPTORS, IS_AVAILABLE, second_step};

use self::due::Due;
use self::event::Event;
use self::queue::Queue;

/// What is run, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `None`: nothing is.
    pub program: Option<Program>,
    /// How long a stream may stand still before that is told.
    pub stall: Duration,
    /// How long one run may take.
    pub timeout: Duration,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path.
    pub path: PathBuf,
    /// What it is given.
    pub arguments: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { program: None, stall: Duration::from_secs(60), timeout: Duration::from_secs(30) }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Hook {
    due: Mutex<Due>,
    queue: Arc<Queue>,
}

impl Hook {
    /// Looks what has become of the streams since it was looked last. What happens while there is no program is not
    /// told later, when there is one.
    pub fn look(&self, records: &[Arc<Record>], clock: Clock, settings: &Settings) {
        let seen: Vec<_> = records.iter().map(|record| (record, record.snapshot())).collect();
        let steps = seen.iter().map(|(record, seen)| (record.id, event::step(seen)));
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let happened = due.look(steps, settings.stall, clock.now());
        drop(due);
        let Some(program) = &settings.program else { return };
        for (stream, kind, age) in happened {
            if let Some((record, seen)) = seen.iter().find(|(record, _)| record.id == stream) {
                let event = Event::new(kind, record, seen, age);
                self.queue.put(event, program.clone(), settings.timeout);
            }
        }
    }

    /// The daemon ends: what runs may go on for a moment, and is ended then; what waits is left out.
    pub fn finish(&self) {
        self.queue.finish();
    }
}
