//! What a stream has to tell its client, in order: the answer to the first frame, the watermarks, and then the
//! answers that rest on them.

use freemkvd_proto::{Kind, Reply};

use super::Record;

impl Record {
    /// What there is to send now: the watermarks if they moved, and then the answers that rest on
    /// them.
    #[must_use]
    pub fn take_outgoing(&self) -> Vec<(u64, Reply)> {
        let mut inner = self.lock();
        let progress = inner.marks.progress();
        let moved = progress.written != inner.told.written
            || progress.durable != inner.told.durable
            || !inner.answers.is_empty() && progress != inner.told;
        let mut outgoing = Vec::new();
        // Nothing may come before the answer to the first frame, but that the daemon is about to stop.
        let first = [Kind::GoingAway, Kind::Resumable, Kind::Opened, Kind::Resumed];
        let is_first = |reply: &Reply| first.contains(&reply.kind());
        while inner.answers.front().is_some_and(|(_, reply)| is_first(reply)) {
            outgoing.extend(inner.answers.pop_front());
        }
        if moved && inner.was_opened {
            inner.told = progress;
            outgoing.push((0, Reply::Progress(progress)));
        }
        outgoing.extend(inner.answers.drain(..));
        outgoing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freemkvd_proto::GoingAway;
    use freemkvd_proto::status::StreamState;

    use super::*;
    use crate::clock::Clock;
    use crate::device::Devices;
    use crate::storage::{self, Medium};
    use crate::writer::{Client, Queue, Queues};

    fn record() -> Record {
        let queue = Queue::new(Queues::new(1 << 20, 1 << 20), None);
        Record::new(1, "/rips/film".into(), Client::default(), queue, Clock::start())
    }

    fn kinds(record: &Record) -> Vec<Kind> {
        record.take_outgoing().iter().map(|(_, reply)| reply.kind()).collect()
    }

    #[test]
    fn no_watermark_comes_before_the_answer_to_the_first_frame() {
        let record = record();
        // Its client has sent more than the first frame, and the daemon is about to stop.
        record.accept(1, 5);
        record.answer(0, Reply::GoingAway(GoingAway { drain_ms: 1 }));
        assert_eq!(kinds(&record), [Kind::GoingAway]);
        record.answer(0, Reply::GoingAway(GoingAway { drain_ms: 1 }));
        record.answer_open(0, 0);
        let info = storage::Device {
            id: "8:1".to_owned(),
            mount: String::new(),
            source: String::new(),
            filesystem: String::new(),
            medium: Medium::Unknown,
            is_a_users: false,
        };
        record.opened(Arc::clone(&Devices::default().of(info)));
        record.set_activity(StreamState::Idle);
        assert_eq!(kinds(&record), [Kind::GoingAway, Kind::Opened, Kind::Progress]);
        assert!(kinds(&record).is_empty());
    }
}
