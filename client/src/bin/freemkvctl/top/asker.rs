//! The thread that talks to the daemon, so that keys are answered while it does.
//!
//! 1. Each request is over within twice [`TIMEOUT`], and there never are more waiting than keys were pressed.
//! 2. When the daemon is away it tries again with each turn, for as long as somebody listens.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_client::Error;
use freemkvd_client::control::Control;
use freemkvd_proto::status::Status;
use freemkvd_proto::waits::Waits;

use crate::exit::in_words;
use crate::status::TIMEOUT;

/// What the person at the keys wants to know or to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// From now on also where the time of this stream went, or of none.
    Follow(Option<u64>),
    Abort(u64),
    /// Pause it, or have it go on.
    Pause(u64, bool),
    Weight(u64, u32),
}

/// What the daemon has said.
#[derive(Debug)]
pub(super) enum Answer {
    Status(Box<Status>),
    /// It does not answer, and why.
    Away(String),
    /// Where the time of that stream went, or why it does not say.
    Why(u64, Result<Box<Waits>, String>),
    /// What was asked for is done, or why not.
    Done(Ask, Result<(), String>),
}

/// The two ends for whoever draws.
pub(super) struct Asker {
    pub(super) asks: Sender<Ask>,
    pub(super) answers: Receiver<Answer>,
}

/// Begins to ask, on this connection first, with this pause in between.
pub(super) fn start(control: Control, interval: Duration) -> io::Result<Asker> {
    let (asks, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let socket = control.socket().to_owned();
    let mut talk = Talk { socket, control: Some(control), followed: None, answer };
    let body = move || while talk.turn(&asked, interval).is_some() {};
    thread::Builder::new().name("asker".into()).spawn(body)?;
    Ok(Asker { asks, answers })
}

struct Talk {
    socket: PathBuf,
    /// `None` after a failure.
    control: Option<Control>,
    followed: Option<u64>,
    answer: Sender<Answer>,
}

impl Talk {
    /// One report, and what is asked for until the next is due. `None` when nobody listens any more.
    fn turn(&mut self, asked: &Receiver<Ask>, interval: Duration) -> Option<()> {
        let due = Instant::now() + interval;
        self.report()?;
        loop {
            match asked.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(ask) => self.obey(ask)?,
                Err(RecvTimeoutError::Timeout) => return Some(()),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn report(&mut self) -> Option<()> {
        let answer = match self.request(Control::status) {
            Ok(status) => Answer::Status(Box::new(status)),
            Err(error) => Answer::Away(in_words(&error)),
        };
        let is_there = matches!(answer, Answer::Status(_));
        self.answer.send(answer).ok()?;
        if is_there { self.why() } else { Some(()) }
    }

    fn why(&mut self) -> Option<()> {
        let Some(stream) = self.followed else {
            return Some(());
        };
        let waits = self.request(|control| control.why(stream));
        let told = waits.map(Box::new).map_err(|error| in_words(&error));
        self.answer.send(Answer::Why(stream, told)).ok()
    }

    fn obey(&mut self, ask: Ask) -> Option<()> {
        let done = match ask {
            Ask::Follow(stream) => {
                self.followed = stream;
                return self.why();
            }
            Ask::Abort(stream) => self.request(|control| control.abort(stream)),
            Ask::Pause(stream, true) => self.request(|control| control.pause(stream)),
            Ask::Pause(stream, false) => self.request(|control| control.resume(stream)),
            Ask::Weight(stream, weight) => {
                self.request(|control| control.set_weight(stream, weight))
            }
        };
        let done = done.map_err(|error| in_words(&error));
        self.answer.send(Answer::Done(ask, done)).ok()?;
        // What it has come to is to be seen at once.
        self.report()
    }

    fn request<T>(
        &mut self,
        request: impl FnOnce(&mut Control) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut control = match self.control.take() {
            Some(control) => control,
            None => Control::connect(Some(&self.socket), TIMEOUT)?,
        };
        let answer = request(&mut control);
        // After a refusal it can be used again; if not, the next request says so, and the one after it connects.
        if matches!(&answer, Ok(_) | Err(Error::Failed { .. })) {
            self.control = Some(control);
        }
        answer
    }
}
