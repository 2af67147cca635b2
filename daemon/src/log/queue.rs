//! What is between those who log and the log: a queue, and a thread that empties it.
//!
//! 1. Who logs waits for no journal, no terminal and no disk. The lock is held to put a message in or to take one
//!    out, never while one is told.
//! 2. The queue is bounded. What does not fit is left out and counted, and the count is told as soon as the log
//!    takes anything again.
//! 3. The log itself is opened by that thread: already that may hang.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tracing::dispatcher::with_default;
use tracing::{Dispatch, Event, Subscriber, warn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use super::event;
use super::message::Message;

/// Most memory of what waits: some thousand messages, more than a healthy log ever leaves waiting.
const BYTES_MAX: usize = 1 << 20;

/// Takes messages, one at a time, for as long as it likes.
pub(super) trait Sink {
    fn take(&mut self, message: &Message);
}

/// See the module's documentation.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The thread that empties the queue: what it says is about the queue, and always fits.
    writer: OnceLock<ThreadId>,
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Message>,
    bytes: usize,
    left_out: u64,
    /// One was taken out, and is not told yet.
    is_telling: bool,
}

impl Queue {
    /// Has a thread tell what comes to what `open` makes.
    pub(super) fn start(
        &self,
        open: impl FnOnce() -> Box<dyn Sink> + Send + 'static,
    ) -> std::io::Result<()> {
        let queue = self.clone();
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || {
            let _ = queue.0.writer.set(thread::current().id());
            let mut sink = open();
            loop {
                let (message, left_out) = queue.next();
                sink.take(&message);
                queue.told();
                if left_out > 0 {
                    queue.tell_of_missing(left_out);
                }
            }
        })?;
        Ok(())
    }

    /// Puts a message into this queue, whatever level is told and whatever else hears of messages.
    fn tell_of_missing(&self, count: u64) {
        let own = Dispatch::new(Registry::default().with(self.clone()));
        with_default(&own, || {
            warn!(
                event = event::MESSAGES_MISSING,
                count,
                "messages that are missing in the log before this one, as it did not take them: {count}"
            );
        });
    }

    /// Waits until all of it is told, but not for longer than that.
    pub(super) fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut inner = self.lock();
        while inner.is_telling || !inner.messages.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(inner, left);
            (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, message: Message) {
        let bytes = message.len_bytes();
        let mut inner = self.lock();
        if inner.bytes + bytes > BYTES_MAX && !self.is_writer() {
            inner.left_out += 1;
            return;
        }
        inner.bytes += bytes;
        inner.messages.push_back(message);
        drop(inner);
        self.0.changed.notify_all();
    }

    fn is_writer(&self) -> bool {
        self.0.writer.get() == Some(&thread::current().id())
    }

    /// The next one, and how many were left out until now.
    fn next(&self) -> (Message, u64) {
        let mut inner = self.lock();
        loop {
            if let Some(message) = inner.messages.pop_front() {
                inner.bytes -= message.len_bytes();
                inner.is_telling = true;
                return (message, std::mem::take(&mut inner.left_out));
            }
            inner = self.0.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn told(&self) {
        self.lock().is_telling = false;
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Queue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.put(Message::of(event));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing::info;

    use super::super::message::Owned;
    use super::*;

    /// Takes a message each time that it is allowed to.
    struct Gated {
        gate: mpsc::Receiver<()>,
        /// Whether it is about messages that are missing.
        seen: mpsc::Sender<bool>,
    }

    impl Sink for Gated {
        fn take(&mut self, message: &Message) {
            let _ = self.gate.recv();
            let is_it = |text: &str| text == event::MESSAGES_MISSING;
            let mut values = message.values.iter().map(|(_, value)| value);
            let _ = self
                .seen
                .send(values.any(|value| matches!(value, Owned::Text(text) if is_it(text))));
        }
    }

    #[test]
    fn a_log_that_takes_nothing_holds_nobody_up_and_then_tells_how_many_are_missing() {
        let (open, gate) = mpsc::channel();
        let (seen, told) = mpsc::channel();
        let queue = Queue::default();
        let dispatch = Dispatch::new(Registry::default().with(queue.clone()));
        let sink: Box<dyn Sink + Send> = Box::new(Gated { gate, seen });
        queue.start(move || sink).unwrap();
        let padding = "x".repeat(1000);
        with_default(&dispatch, || {
            info!(padding);
            // It has taken one, with what was left out before, and none comes back until the gate opens.
            while !queue.lock().is_telling {
                thread::yield_now();
            }
            for _ in 1..10_000 {
                info!(padding);
            }
        });
        let (kept, left_out) = {
            let inner = queue.lock();
            assert!(inner.bytes <= BYTES_MAX, "{} bytes wait", inner.bytes);
            (inner.messages.len() as u64 + u64::from(inner.is_telling), inner.left_out)
        };
        assert_eq!(kept + left_out, 10_000, "each is told or counted");
        assert!(left_out > 1000, "{left_out}");
        queue.finish(Duration::from_millis(1));
        for _ in 0..kept {
            open.send(()).unwrap();
            assert!(!told.recv().unwrap());
        }
        open.send(()).unwrap();
        assert!(told.recv().unwrap(), "how many are missing");
        queue.finish(Duration::from_secs(30));
        assert_eq!(queue.lock().bytes, 0);
    }
}
