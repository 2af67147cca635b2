//! `freemkvctl top`: the status, live and with keys.
//!
//! 1. The terminal is given back as it was found: at the end, after an error, and when something panics.
//!    One that is gone is not given back: crossterm reads its end again and again, and comes back from that never.
//! 2. This thread waits for nobody but the person at the keys; a thread of its own asks the daemon.

mod asker;
mod frame;
mod history;
mod model;
mod order;
#[cfg(test)]
pub(crate) mod sample;

use std::io;
use std::path::Path;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use freemkvd_client::control::Control;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::asker::{Ask, Asker};
use self::frame::{Paint, draw};
use self::model::{Model, Step};
use crate::cli::TopOptions;
use crate::exit::{Exit, Failed};
use crate::hangup::end_when_unread;
use crate::interrupt::Interrupt;
use crate::screen::Screen;
use crate::status::TIMEOUT;

/// How long an answer of the daemon, or a signal, may wait to be seen. Keys never wait.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn run(socket: Option<&Path>, options: &TopOptions) -> Result<Exit, Failed> {
    let screen = Screen::of_stdout();
    if !screen.terminal {
        return Err(Failed::NoTerminal);
    }
    // The first connection must succeed: a socket that never was there is most likely mistyped.
    let control = Control::connect(socket, TIMEOUT)?;
    let interrupt = Interrupt::catch().map_err(Failed::Signals)?;
    end_when_unread(Exit::Failed as u8).map_err(Failed::Terminal)?;
    let asker = asker::start(control, options.interval).map_err(Failed::Terminal)?;
    let paint = Paint { colour: screen.colour };
    let outcome =
        ratatui::try_init().and_then(|terminal| show(terminal, &asker, &interrupt, paint));
    ratatui::restore();
    outcome.map(|()| Exit::Fine).map_err(Failed::Terminal)
}

fn show(
    mut terminal: DefaultTerminal,
    asker: &Asker,
    interrupt: &Interrupt,
    paint: Paint,
) -> io::Result<()> {
    let mut model = Model::default();
    let mut is_old = true;
    while !interrupt.is_caught() {
        loop {
            match asker.answers.try_recv() {
                Ok(answer) => model.hear(answer),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(nobody_asks()),
            }
            is_old = true;
        }
        if is_old {
            terminal.draw(|frame| draw(frame, &model, paint))?;
            is_old = false;
        }
        if !event::poll(TICK)? {
            continue;
        }
        is_old = true;
        let step = match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => model.press(key),
            _ => Step::Nothing,
        };
        match step {
            Step::Nothing => {}
            Step::Ask(ask) => send(asker, ask)?,
            Step::Quit => return Ok(()),
        }
    }
    Ok(())
}

fn send(asker: &Asker, ask: Ask) -> io::Result<()> {
    asker.asks.send(ask).map_err(|_| nobody_asks())
}

/// Only a panic ends that thread, and has said why.
fn nobody_asks() -> io::Error {
    io::Error::other("the thread that asks the daemon has ended")
}
