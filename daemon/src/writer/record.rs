//! What the connection, the writer thread and the status report of one stream know of each other.
//! The lock is held for moments only: a status report must never wait for a device.

mod outgoing;
mod restart;
mod totals;
mod waits;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freemkvd_proto::limits::SLOT_BYTES;
use freemkvd_proto::limits::WEIGHT_DEFAULT;
use freemkvd_proto::status::{Held, StreamState};
use freemkvd_proto::{Failure, Mark, Opened, Progress, Reply};

use self::restart::Restart;
use super::queue::{End, Queue};
use crate::access::Peer;
use crate::budget::{Hold, StreamId};
use crate::clock::Clock;
use crate::device::Device;
use crate::foreign::Mapped;
use crate::rate::Rate;
use crate::stream::ladder::Rung;
use crate::stream::marks::Marks;
use crate::stream::waits::Clocked;
use crate::user::UserId;

/// Who is at the other end, where the platform tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Process id.
    pub pid: Option<u32>,
    /// User id.
    pub uid: Option<UserId>,
}

impl From<&Peer> for Client {
    fn from(peer: &Peer) -> Self {
        Self { pid: peer.pid, uid: peer.uid }
    }
}

/// See the module's documentation.
pub struct Record {
    /// The stream's number.
    pub id: StreamId,
    /// The file, as the client named it.
    pub path: PathBuf,
    /// The muxer.
    pub client: Client,
    /// Its muxer has opened the file itself, and passed it.
    pub is_given: bool,
    /// What was accepted and not yet written.
    pub queue: Queue,
    weight: AtomicU32,
    clock: Clock,
    inner: Mutex<Inner>,
    /// Its client has come back with its file.
    file_came: Condvar,
}

/// Called when there is something to send, or room in the queue.
type Wake = Arc<dyn Fn() + Send + Sync>;

struct Inner {
    marks: Marks,
    /// `None` while it has no connection.
    wake: Option<Wake>,
    restart: Restart,
    /// Its content comes in shared slots, also after they were let go of.
    is_shared: bool,
    /// Here and not with the connection: the writer needs them also when the client is dead.
    slots: Option<Arc<Mapped>>,
    /// What the client was told last.
    told: Progress,
    answers: VecDeque<(u64, Reply)>,
    activity: Activity,
    since: Duration,
    call: Option<(&'static str, Duration)>,
    /// What it is throttled by, while it is.
    hold: Option<Hold>,
    /// While it waits for space: so many bytes are missing, and when it gives up.
    no_space: Option<(u64, Duration)>,
    device: Option<Arc<Device>>,
    rung: Option<Rung>,
    /// True once the file was opened: before that there is no stream, only a request for one.
    was_opened: bool,
    window_bytes: u64,
    charged_bytes: u64,
    kernel_dirty_bytes: Option<u64>,
    cleaned_bytes: u64,
    /// In this daemon: the marks go on from where the daemon before was.
    accepted_bytes: u64,
    seeks: u64,
    patches: u64,
    failure: Option<Failure>,
    /// When the writer thread let go of the file.
    ended: Option<Duration>,
    rate_in: Rate,
    rate_out: Rate,
    clocked: Clocked,
    /// Its thread looks for something to do.
    is_asking: bool,
    /// Its connection has something for the queue, which has no room.
    is_refused: bool,
    /// The sync or finish that its muxer has sent last, with nothing behind it and no answer yet.
    owed: Option<u64>,
    /// Its thread stands still, because somebody has paused it.
    stands: bool,
}

impl Inner {
    fn attach(&mut self, slots: Option<Mapped>, wake: impl Fn() + Send + Sync + 'static) {
        self.is_shared = slots.is_some();
        self.slots = slots.map(Arc::new);
        self.wake = Some(Arc::new(wake));
    }

    /// The first failure stays, and is the one that the client hears of.
    fn latch(&mut self, failure: Failure) {
        if self.failure.is_none() {
            self.failure = Some(failure.clone());
            self.answers.push_back((0, Reply::Failed(failure)));
        }
    }
}

/// What the stream is doing, as status shows it.
pub type Activity = StreamState;

/// A copy of everything that status shows.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The watermarks.
    pub progress: Progress,
    /// What it is doing.
    pub activity: Activity,
    /// For how long.
    pub activity_age: Duration,
    /// Somebody has paused it, also if its thread does not stand still yet.
    pub is_paused: bool,
    /// How much its muxer was held up lately.
    pub held: Option<Held>,
    /// True when its content comes in shared slots, also after they were let go of.
    pub is_shared: bool,
    /// The system call its thread is in, and for how long.
    pub call: Option<(&'static str, Duration)>,
    /// What it is throttled by, while it is.
    pub hold: Option<Hold>,
    /// While it waits for space: at least so many bytes are missing, and how long it goes on waiting.
    pub no_space: Option<(u64, Duration)>,
    /// How its pages are written back, once the file is open.
    pub rung: Option<Rung>,
    /// Its device, once the file is open and until it is closed.
    pub device: Option<Arc<Device>>,
    /// True once the file was opened, also after it was closed.
    pub was_opened: bool,
    /// Newest bytes that stay resident.
    pub window_bytes: u64,
    /// Bytes charged to the budget.
    pub charged_bytes: u64,
    /// The same as the kernel counts it.
    pub kernel_dirty_bytes: Option<u64>,
    /// Seeks that moved the position.
    pub seeks: u64,
    /// Writes below the highest byte.
    pub patches: u64,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When its file was closed.
    pub ended: Option<Duration>,
    /// What its muxer hands over, bytes per second.
    pub in_bytes_per_second: u64,
    /// What reaches the device, bytes per second.
    pub out_bytes_per_second: u64,
}

impl Record {
    /// A stream whose file is about to be opened.
    #[must_use]
    pub fn new(id: StreamId, path: PathBuf, client: Client, queue: Queue, clock: Clock) -> Self {
        let inner = Inner {
            marks: Marks::default(),
            wake: None,
            restart: Restart::default(),
            is_shared: false,
            slots: None,
            told: Progress::default(),
            answers: VecDeque::new(),
            activity: Activity::Opening,
            since: clock.now(),
            call: None,
            hold: None,
            no_space: None,
            device: None,
            rung: None,
            was_opened: false,
            window_bytes: 0,
            charged_bytes: 0,
            kernel_dirty_bytes: None,
            cleaned_bytes: 0,
            accepted_bytes: 0,
            seeks: 0,
            patches: 0,
            failure: None,
            ended: None,
            rate_in: Rate::default(),
            rate_out: Rate::default(),
            clocked: Clocked::new(clock.now()),
            is_asking: false,
            is_refused: false,
            owed: None,
            stands: false,
        };
        Self {
            id,
            path,
            client,
            is_given: false,
            queue,
            weight: AtomicU32::new(WEIGHT_DEFAULT),
            clock,
            inner: Mutex::new(inner),
            file_came: Condvar::new(),
        }
    }

    /// Gives it a connection: what wakes that, and the slots that its client shares.
    pub fn attach(&self, slots: Option<Mapped>, wake: impl Fn() + Send + Sync + 'static) {
        self.lock().attach(slots, wake);
    }

    /// Its connection has come to its end; nobody is to be told anything any more.
    pub fn detach(&self) {
        self.lock().wake = None;
    }

    /// True while it has a connection.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.lock().wake.is_some()
    }

    /// Tells the client that its file is open, and how long it is.
    pub fn answer_open(&self, len_bytes: u64, window_bytes: u64) {
        let queue_limit_bytes = self.queue.limit_bytes();
        let mut inner = self.lock();
        if inner.restart.token.is_some() {
            inner.answers.push_back((0, Reply::Resumable));
        }
        let (stream, shared) = (self.id, inner.is_shared);
        let opened = Opened { stream, len_bytes, queue_limit_bytes, window_bytes, shared };
        inner.answers.push_back((0, Reply::Opened(opened)));
        drop(inner);
        self.wake();
    }

    fn wake(&self) {
        // Called without the lock: what it wakes may take it at once.
        let wake = self.lock().wake.clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Its part of the device's speed, relative to the others there.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes that; the budget is told by others.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// The slots that its client shares, until the stream has ended.
    #[must_use]
    pub fn slots(&self) -> Option<Arc<Mapped>> {
        self.lock().slots.clone()
    }

    /// How much its client can have queued in them, in bytes.
    #[must_use]
    pub fn slots_bytes(&self) -> u64 {
        let slots = self.slots();
        slots.map_or(0, |slots| u64::from(slots.count()) * u64::from(SLOT_BYTES))
    }

    /// Its thread's name, as `top -H` shows it: the number, and as much of the file's name as fits
    /// into the 15 bytes that Linux keeps.
    #[must_use]
    pub fn thread_name(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut name = format!("{}:", self.id);
        for character in file.chars().filter(|character| *character != '\0') {
            if name.len() + character.len_utf8() > 15 {
                break;
            }
            name.push(character);
        }
        name
    }

    // The connection's side.

    /// How often the muxer has moved and patched.
    pub fn count_seeks(&self, seeks: u64, patches: u64) {
        let mut inner = self.lock();
        (inner.seeks, inner.patches) = (seeks, patches);
    }

    /// How many answers wait to be sent.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.lock().answers.len()
    }

    // The writer's side.

    /// The file is open.
    pub fn opened(&self, device: Arc<Device>) {
        let mut inner = self.lock();
        inner.device = Some(device);
        inner.was_opened = true;
    }

    /// How its pages are written back from now on, and how many of the newest bytes stay resident.
    pub fn drains_by(&self, rung: Rung, resident_bytes: u64) {
        let mut inner = self.lock();
        inner.rung = Some(rung);
        inner.window_bytes = resident_bytes;
    }

    /// Every command up to `sequence` was handed to the kernel.
    pub fn written(&self, sequence: u64, bytes: u64) {
        let mut inner = self.lock();
        inner.marks.write(sequence, bytes);
        self.recount(&mut inner);
        drop(inner);
        self.wake();
    }

    /// The written watermark.
    #[must_use]
    pub fn written_mark(&self) -> Mark {
        self.lock().marks.progress().written
    }

    /// What was written when `covered` was taken is durable.
    pub fn durable(&self, covered: Mark) {
        self.lock().marks.make_durable(covered);
        self.wake();
    }

    /// All watermarks.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.lock().marks.progress()
    }

    /// An answer for the client.
    pub fn answer(&self, sequence: u64, reply: Reply) {
        let mut inner = self.lock();
        self.has_waited(&mut inner, sequence);
        inner.answers.push_back((sequence, reply));
        drop(inner);
        self.wake();
    }

    /// What is charged and cleaned.
    pub fn charged(&self, charged_bytes: u64, cleaned_bytes_more: u64) {
        let mut inner = self.lock();
        inner.charged_bytes = charged_bytes;
        inner.cleaned_bytes += cleaned_bytes_more;
    }

    /// What the kernel counts.
    pub fn kernel_dirty(&self, bytes: Option<u64>) {
        self.lock().kernel_dirty_bytes = bytes;
    }

    /// Latches the first failure, tells the client, and drops what is queued.
    pub fn fail(&self, failure: Failure) {
        self.fail_as(Activity::Failed, failure);
    }

    fn fail_as(&self, activity: Activity, failure: Failure) {
        self.queue.close();
        self.set_activity(activity);
        self.lock().latch(failure);
        self.wake();
    }

    /// Somebody else than its muxer gives it up. The muxer hears of it now; the thread, which may be in a call
    /// that never ends, when it can.
    pub fn abort(&self, failure: Failure) {
        let mut inner = self.lock();
        // It wakes by this, and sees by the failure whose doing it is: never one without the other.
        self.queue.end(End::Aborted(0));
        inner.latch(failure.clone());
        drop(inner);
        self.fail_as(Activity::Aborted, failure);
    }

    /// There may be room in the queue again.
    pub fn made_room(&self) {
        self.wake();
    }

    /// Lets go of the client's slots in this thread, which may take a moment, before the last answer: whoever
    /// reads that may share as much again. What is still there when the stream ends is let go of elsewhere.
    pub fn unmap(&self) {
        let slots = self.lock().slots.take();
        // Its connection may be looking at them right now: then that lets go of them.
        slots.and_then(Arc::into_inner).into_iter().for_each(Mapped::unmap);
    }

    /// The writer thread has let go of the file, and this is the last answer. The two come together:
    /// whoever reads the answer may open the file again, and counts as one stream less.
    pub fn end(&self, last: Option<(u64, Reply)>) {
        self.queue.close();
        let mut inner = self.lock();
        inner.answers.extend(last);
        self.recount(&mut inner);
        let now = self.clock.now();
        // There is no answer to come that its muxer could not have waited for.
        inner.clocked.has_waited(now);
        inner.ended = Some(now);
        inner.device = None;
        inner.charged_bytes = 0;
        inner.kernel_dirty_bytes = None;
        let slots = inner.slots.take();
        drop(inner);
        drop(slots);
        self.wake();
    }

    // For everybody who looks.

    /// True once the writer thread has let go of the file.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.lock().failure.clone()
    }

    /// A copy of what status shows.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let inner = self.lock();
        Snapshot {
            progress: inner.marks.progress(),
            activity: inner.activity,
            is_shared: inner.is_shared,
            activity_age: now.saturating_sub(inner.since),
            // Whoever comes to an end does not wait for that.
            is_paused: self.queue.stands_still()
                && inner.failure.is_none()
                && inner.ended.is_none(),
            held: Self::held(&inner, now),
            hold: inner.hold,
            no_space: inner.no_space.map(|(missing, until)| (missing, until.saturating_sub(now))),
            rung: inner.rung,
            call: inner.call.map(|(name, since)| (name, now.saturating_sub(since))),
            device: inner.device.clone(),
            was_opened: inner.was_opened,
            window_bytes: inner.window_bytes,
            charged_bytes: inner.charged_bytes,
            kernel_dirty_bytes: inner.kernel_dirty_bytes,
            seeks: inner.seeks,
            patches: inner.patches,
            failure: inner.failure.clone(),
            ended: inner.ended,
            in_bytes_per_second: inner.rate_in.bytes_per_second(),
            out_bytes_per_second: inner.rate_out.bytes_per_second(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
