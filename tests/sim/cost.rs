//! What a decision costs. The only place here that looks at a real clock; it asserts nothing, since a
//! busy machine would fail it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use freemkvd::budget::{Ask, Budget, Completion, Reserve, StreamId};

const MIB: u64 = 1 << 20;
const DECISIONS: u64 = 1_000_000;

/// Streams that always want more, in a budget that is always full.
struct Load {
    budget: Budget,
    /// In writeback, the oldest first.
    busy: VecDeque<(StreamId, u64)>,
    now: Duration,
    decisions: u64,
}

impl Load {
    fn new(streams: u64, devices: u64, seeks: bool) -> Self {
        let mut budget = Budget::new(512 * MIB);
        for stream in 0..streams {
            let device = u32::try_from(stream % devices).expect("few devices");
            budget.join(stream, device, seeks, 100, Duration::ZERO);
        }
        Self { budget, busy: VecDeque::new(), now: Duration::ZERO, decisions: 0 }
    }

    fn reserve(&mut self, stream: StreamId) {
        let ask = Ask { need_bytes: MIB, want_bytes: MIB, offset: 0 };
        self.decisions += 1;
        if let Reserve::Granted(bytes) = self.budget.reserve(stream, ask, self.now) {
            self.busy.push_back((stream, bytes));
        }
    }

    /// The oldest extent is clean; its stream wants another, as do those who are woken.
    fn complete(&mut self) {
        let (stream, bytes) = self.busy.pop_front().expect("somebody has something");
        self.now += Duration::from_millis(2);
        let began = self.now.saturating_sub(Duration::from_millis(50));
        self.decisions += 1;
        self.budget.complete(stream, Completion { bytes, began, exact: true }, self.now);
        for woken in self.budget.take_woken() {
            self.reserve(woken);
        }
        self.reserve(stream);
    }

    /// Nanoseconds of one.
    fn measure(mut self, streams: u64) -> f64 {
        (0..streams).for_each(|stream| self.reserve(stream));
        while self.decisions < DECISIONS / 10 {
            self.complete();
        }
        self.decisions = 0;
        let begun = Instant::now();
        while self.decisions < DECISIONS {
            self.complete();
        }
        #[expect(clippy::cast_precision_loss, reason = "a cost")]
        let decisions = self.decisions as f64;
        begun.elapsed().as_secs_f64() * 1e9 / decisions
    }
}

#[test]
#[ignore = "a benchmark"]
fn what_a_decision_costs() {
    println!("{:>8} {:>16} {:>16} {:>16}", "streams", "one device", "in turns", "10 per device");
    for streams in [1, 10, 100, 1000] {
        let one = Load::new(streams, 1, false).measure(streams);
        let turns = Load::new(streams, 1, true).measure(streams);
        let many = Load::new(streams, streams.div_ceil(10), false).measure(streams);
        println!("{streams:>8} {one:>13.0} ns {turns:>13.0} ns {many:>13.0} ns");
    }
}
