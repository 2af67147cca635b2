//! What has happened, as the hook is told of it: variables of its environment, whose names are those of the
//! journal's fields.

use std::ffi::OsString;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_micros;

use super::due::{Kind, Step};
use crate::budget::{Hold, StreamId};
use crate::config::{Size, Span};
use crate::log::escaped;
use crate::user::{self, UserId};
use crate::writer::{Activity, Record, Snapshot};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) stream: StreamId,
    /// Whose stream it is.
    pub(super) user: Option<UserId>,
    /// All that the program is told.
    pub(super) variables: Vec<(&'static str, OsString)>,
}

/// What a stream does that may be worth telling. What hangs of one that is over was told with its end.
pub(super) fn step(seen: &Snapshot) -> Option<Step> {
    match (seen.activity, seen.call, seen.hold) {
        (Activity::Aborted, ..) => None,
        // A refused open never was a stream.
        _ if seen.failure.is_some() => {
            seen.was_opened.then_some((Kind::Failed, Some(seen.activity_age)))
        }
        _ if seen.ended.is_some() => None,
        (Activity::Failed | Activity::Abandoned | Activity::Suspended | Activity::Paused, ..) => {
            None
        }
        (Activity::NoSpace, ..) => Some((Kind::NoSpace, Some(seen.activity_age))),
        (_, Some((_, age)), _) => Some((Kind::Stalled, Some(age))),
        // What it waited for before, and for how long, is no matter of the device.
        (Activity::Throttled, None, Some(Hold::Sick)) => Some((Kind::Stalled, None)),
        _ => None,
    }
}

impl Event {
    /// Stream `record`, which was `seen` like this, has done that for so long.
    pub(super) fn new(kind: Kind, record: &Record, seen: &Snapshot, age: Duration) -> Self {
        let path = record.path.clone().into_os_string();
        let device = seen.device.as_ref().map(|device| device.info.id.clone().into());
        let failure = seen.failure.as_ref().filter(|_| kind == Kind::Failed);
        let missing = seen.no_space.filter(|_| kind == Kind::NoSpace);
        let is_stalled = kind == Kind::Stalled;
        let call = seen.call.filter(|_| is_stalled).map(|(call, _)| call.into());
        let progress = &seen.progress;
        let all = [
            ("FREEMKVD_EVENT", Some(kind.name().into())),
            ("FREEMKVD_TIME", Some(format_rfc3339_micros(SystemTime::now()).to_string().into())),
            // It goes into logs and subjects of mails as it is, and a path may have any character in it.
            ("FREEMKVD_MESSAGE", Some(escaped(&message(kind, record, seen, age), false).into())),
            ("FREEMKVD_STREAM", text(record.id)),
            ("FREEMKVD_PATH", Some(path)),
            ("FREEMKVD_DEVICE", device),
            ("FREEMKVD_CLIENT_PID", record.client.pid.and_then(text)),
            ("FREEMKVD_CLIENT_UID", user::logged(record.client.uid).and_then(text)),
            ("FREEMKVD_ACCEPTED", text(progress.accepted.bytes)),
            ("FREEMKVD_WRITTEN", text(progress.written.bytes)),
            ("FREEMKVD_DURABLE", text(progress.durable.bytes)),
            ("FREEMKVD_ERRNO", failure.and_then(|failure| failure.errno).and_then(text)),
            ("FREEMKVD_OFFSET", failure.and_then(|failure| failure.offset).and_then(text)),
            ("FREEMKVD_MISSING_BYTES", missing.and_then(|(bytes, _)| text(bytes))),
            ("FREEMKVD_CALL", call),
            ("FREEMKVD_SECONDS", text(age.as_secs()).filter(|_| is_stalled)),
        ];
        let variables = all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Self { kind, stream: record.id, user: record.client.uid, variables }
    }
}

fn text(value: impl Display) -> Option<OsString> {
    Some(value.to_string().into())
}

/// One sentence for people.
fn message(kind: Kind, record: &Record, seen: &Snapshot, age: Duration) -> String {
    let (stream, path) = (record.id, record.path.display());
    let mount = seen.device.as_ref().map_or("", |device| device.info.place());
    let on = if mount.is_empty() { String::new() } else { format!(" on {mount}") };
    let age = Span::about(age);
    match (kind, seen.call) {
        (Kind::Failed, _) => {
            let why = seen.failure.as_ref().map_or("", |failure| &failure.message);
            format!("stream {stream} failed: {why}")
        }
        (Kind::NoSpace, _) => {
            let (missing_bytes, left) = seen.no_space.unwrap_or_default();
            let missing = match missing_bytes {
                0 => String::new(),
                bytes => format!(", at least {} more,", Size(bytes)),
            };
            let left = Span::about(left);
            format!("stream {stream} waits for space{on}{missing} and gives up in {left}: {path}")
        }
        (Kind::Stalled, Some((call, _))) => {
            format!("stream {stream} has been stalled in {call}{on} for {age}: {path}")
        }
        (Kind::Stalled, None) => {
            format!("stream {stream} has stood still for {age}, as {mount} does not answer: {path}")
        }
    }
}

#[cfg(test)]
mod tests {
    use freemkvd_proto::{ErrorCode, Failure, Token};

    use super::*;
    use crate::clock::Clock;
    use crate::writer::{Client, Queue, Queues};

    fn record() -> Record {
        let queue = Queue::new(Queues::new(1 << 20, 1 << 20), None);
        Record::new(7, "/rips/film.mkv".into(), Client::default(), queue, Clock::start())
    }

    fn failure() -> Failure {
        let at = Failure::new(ErrorCode::NO_SPACE, "cannot write /rips/film.mkv".to_owned());
        Failure { errno: Some(28), offset: Some(4096), ..at }
    }

    fn kind(record: &Record) -> Option<Kind> {
        step(&record.snapshot()).map(|(kind, _)| kind)
    }

    #[test]
    fn who_stands_still_because_somebody_wanted_it_to_is_not_stalled() {
        let record = record();
        record.calling("pwrite", Duration::ZERO, || {
            for activity in [Activity::Paused, Activity::Suspended, Activity::Abandoned] {
                record.set_activity(activity);
                assert_eq!(kind(&record), None, "{activity:?}");
            }
            record.set_activity(Activity::Writing);
            assert_eq!(kind(&record), Some(Kind::Stalled));
            record.no_space(1, Duration::from_secs(9));
            assert_eq!(kind(&record), Some(Kind::NoSpace), "it tries again");
            record.abort(failure());
            assert_eq!(kind(&record), None, "it was given up");
        });
    }

    #[test]
    fn a_path_makes_no_line_of_its_own_in_the_message() {
        let queue = Queue::new(Queues::new(1 << 20, 1 << 20), None);
        let path = "/rips/a\nforged\u{1b}[2J".into();
        let record = Record::new(7, path, Client::default(), queue, Clock::start());
        record.no_space(0, Duration::ZERO);
        let event = Event::new(Kind::NoSpace, &record, &record.snapshot(), Duration::ZERO);
        let (_, message) =
            event.variables.iter().find(|(name, _)| *name == "FREEMKVD_MESSAGE").unwrap();
        let message = message.to_str().unwrap();
        assert!(message.ends_with("/rips/a\\nforged\\u{1b}[2J"), "{message}");
    }

    #[test]
    fn only_the_device_makes_a_stream_that_waits_for_budget_stand_still() {
        let record = record();
        for hold in [Hold::Turn, Hold::Total] {
            record.throttled(hold);
            assert_eq!(kind(&record), None, "{hold:?}");
        }
        record.throttled(Hold::Sick);
        assert_eq!(step(&record.snapshot()), Some((Kind::Stalled, None)));
    }

    #[test]
    fn a_refused_open_is_no_failure_and_one_of_a_stream_says_where() {
        let refused = record();
        refused.fail(failure());
        assert_eq!(kind(&refused), None);
        let record = record();
        // Opened by the daemon before.
        record.suspend(Token([0; 16]), true, (0, 0));
        record.fail(failure());
        record.end(None);
        assert_eq!(kind(&record), Some(Kind::Failed));
        let event = Event::new(Kind::Failed, &record, &record.snapshot(), Duration::ZERO);
        let value = |name: &str| {
            let found = event.variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        let all = ["MESSAGE", "STREAM", "PATH", "ERRNO", "OFFSET", "CALL", "DEVICE", "CLIENT_PID"];
        let all = all.map(|name| value(&format!("FREEMKVD_{name}")));
        let message = "stream 7 failed: cannot write /rips/film.mkv";
        let said = [message, "7", "/rips/film.mkv", "28", "4096"].map(Some);
        assert_eq!((&all[..5], &all[5..]), (&said[..], &[None; 3][..]));
    }
}
