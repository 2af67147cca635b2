//! `freemkvctl watch`: asks again and again, and prints what has changed, a line each.

mod change;

use std::path::Path;
use std::time::SystemTime;

use freemkvd_client::Error;
use freemkvd_client::control::Control;
use freemkvd_proto::status::Status;
use freemkvd_proto::waits::Waits;
use serde::Serialize;

use self::change::{Change, Kind, Known, back};
use crate::cli::WatchOptions;
use crate::exit::{Exit, Failed, in_words};
use crate::hangup::is_unread;
use crate::interrupt::Interrupt;
use crate::screen::Screen;
use crate::status::{Reader, TIMEOUT, in_json, print};
use crate::table::plain;
use crate::utc::utc;

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Event<'a> {
    time: &'a str,
    #[serde(flatten)]
    change: &'a Change,
}

pub(crate) fn run(socket: Option<&Path>, options: &WatchOptions) -> Result<Exit, Failed> {
    // The first connection must succeed: a socket that never was there is most likely mistyped.
    let mut control = Some(Control::connect(socket, TIMEOUT)?);
    let interrupt = Interrupt::catch().map_err(Failed::Signals)?;
    let mut known = Known::default();
    let mut is_gone = false;
    loop {
        let pid = known.status().map(|status| status.pid);
        let answer = look(socket, &mut control, &mut known);
        let told = match answer {
            Ok(mut told) => {
                // A daemon that was restarted in no time says so itself.
                let is_back = |status: &&Status| pid.is_none_or(|pid| pid == status.pid);
                if let Some(status) = known.status().filter(|_| is_gone).filter(is_back) {
                    told.insert(0, back(status));
                }
                is_gone = false;
                told
            }
            Err(_) if is_gone => Vec::new(),
            Err(error) => {
                is_gone = true;
                let message = format!("freemkvd is gone: {}", in_words(&error));
                vec![Change::of_daemon(Kind::DaemonGone, message)]
            }
        };
        if tell(&told, options.json)? == Reader::Gone || is_unread() {
            return Ok(Exit::Fine);
        }
        if interrupt.wait(options.interval) {
            return Ok(Exit::Fine);
        }
    }
}

/// Asks on the connection that there is, or on a new one.
fn look(
    socket: Option<&Path>,
    kept: &mut Option<Control>,
    known: &mut Known,
) -> Result<Vec<Change>, Error> {
    let mut control = match kept.take() {
        Some(control) => control,
        None => Control::connect(socket, TIMEOUT)?,
    };
    let mut status = control.status()?;
    let (gone, mut accounts) = (known.gone(&status), Vec::new());
    for stream in &gone {
        match control.why(stream.id) {
            Ok(waits) => accounts.push(waits),
            // It is too old, or another one: the rest is known all the same.
            Err(Error::Failed { .. }) => {}
            // What is not told now is still missing next time.
            Err(error) => return Err(error),
        }
    }
    if !gone.is_empty() {
        // A drain that has begun meanwhile would make those that it leaves look as if they had ended.
        status.state = control.status()?.state;
    }
    *kept = Some(control);
    let mut told = known.learn(status);
    for change in told.iter_mut().filter(|change| change.event == Kind::StreamEnded) {
        let is_its = |waits: &&Waits| {
            change.stream == Some(waits.stream) && change.path.as_ref() == Some(&waits.path)
        };
        if let Some(waits) = accounts.iter().find(is_its) {
            change.explain(waits);
        }
    }
    Ok(told)
}

/// All of them at once, so that they are there as soon as they are known.
fn tell(told: &[Change], json: bool) -> Result<Reader, Failed> {
    if told.is_empty() {
        return Ok(Reader::There);
    }
    let time = utc(SystemTime::now());
    let mut text = String::new();
    let screen = Screen::of_stdout();
    for change in told {
        if json {
            text.push_str(&in_json(&Event { time: &time, change }, false)?);
            continue;
        }
        let message = plain(&change.message);
        let message = match change.is_trouble() {
            true => screen.trouble(&message),
            false => message,
        };
        text.push_str(&format!("{time} {message}\n"));
    }
    print(&text)
}
