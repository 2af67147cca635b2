//! The replay simulation: a real link and a model of the daemon, whose connection is cut after every
//! message, in each direction, once and several times per run.
//!
//! The model keeps what the kernel would keep: the file. A cut loses everything else that it knew, any
//! part of what was on its way, and stops it in any command, also in the middle of a write. At the end of
//! each run:
//!
//! 1. The file is what the script says.
//! 2. When a `Sync` was reported, one with that number or a higher one had been executed; when the script
//!    had waited for it, what it covers is in the durable file, byte for byte.
//! 3. `Finished` came once, and no slot is in use.
//! 4. What was sent again under a number was the same, and each `Resume` told number, bytes and position that
//!    belong together.
//! 5. What the journal told is in the durable file and in the file itself, by the newest command that wrote
//!    there, and stays so until the script writes there again; after a `Sync` that the script waited for, and
//!    at the end, everything that was written was told.
//! 6. At no time were more slots kept than the pool has, or more commands than their bound.
//!
//! `REPLAY_SEED=7 cargo test -p freemkvd-client replay` runs one seed; a failure prints its own.

mod account;
mod model;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use freemkvd_proto::{Command as Wire, OpenMode, Opened, Transfer, WirePath};

use self::account::Account;
use self::model::{Frame, Model, TOKEN, put, read, set_len};
use super::tests::decode;
use super::*;
use crate::memory::{self, Memory};
use crate::slot::SLOT_BYTES;

const SLOTS: usize = 4;
/// A script's file is not longer than this. Short, so that most commands touch what others wrote.
const FILE_MAX: u64 = 400;

/// What the muxer does, before any of it becomes a command.
#[derive(Clone, Debug)]
enum Op {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Zeroes {
        offset: u64,
        len: u64,
    },
    SetLen(u64),
    Flush,
    /// True: it waits for the answer before it goes on.
    Sync(bool),
    SyncSoon,
    Nudge,
}

fn script(rng: &mut Rng) -> Vec<Op> {
    let mut end = 0;
    let mut ops = Vec::new();
    for number in 0..rng.usize(3..14) {
        let offset = if rng.bool() { end } else { rng.u64(0..FILE_MAX) };
        let len = rng.u64(1..60);
        ops.push(match rng.u32(0..15) {
            0..=7 => {
                end = offset + len;
                let byte = u8::try_from(number + 1).unwrap();
                Op::Write { offset, bytes: (0..len).map(|_| byte ^ rng.u8(0..4) << 6).collect() }
            }
            8 => Op::Zeroes { offset, len },
            9 => Op::SetLen(rng.u64(0..FILE_MAX)),
            10 => Op::Flush,
            11 => Op::Nudge,
            12 => Op::Sync(false),
            13 => Op::SyncSoon,
            _ => Op::Sync(true),
        });
    }
    ops
}

/// Applies a step of the script to what the file should be.
fn expect(file: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write { offset, bytes } => put(file, *offset, bytes),
        Op::Zeroes { offset, len } => put(file, *offset, &vec![0; usize::try_from(*len).unwrap()]),
        Op::SetLen(len) => set_len(file, *len),
        Op::Flush | Op::Sync(_) | Op::SyncSoon | Op::Nudge => {}
    }
}

/// One run: the script against the model, with cuts.
struct Run {
    rng: Rng,
    link: Link,
    memory: Option<Memory>,
    model: Model,
    to_daemon: VecDeque<Frame>,
    /// Kind and content of every number that was sent.
    told: BTreeMap<u64, (Kind, Vec<u8>)>,
    to_client: VecDeque<(u64, Reply)>,
    /// Messages that have arrived so far, and after which of them the connection ends.
    messages: usize,
    cuts: BTreeSet<usize>,
    expected: Vec<u8>,
    account: Account,
    /// Numbers that `sync` has returned.
    syncs: Vec<u64>,
    finishes: usize,
}

impl Run {
    fn new(seed: u64, cuts: BTreeSet<usize>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let shared = rng.bool().then(|| memory::allocate(SLOTS, SLOT_BYTES)).flatten();
        let (pool, memory) = match shared {
            Some((memory, pieces)) => (Pool::shared(pieces), Some(memory)),
            None => (Pool::new(SLOTS), None),
        };
        let slots = u32::try_from(SLOTS).unwrap();
        let transfer = memory.as_ref().map_or(Transfer::Inline, |_| Transfer::Shared { slots });
        let open = proto::Open {
            path: WirePath::from_path(Path::new("/rips/film.mkv")).unwrap(),
            mode: OpenMode::Create,
            size_hint_bytes: None,
            transfer,
            weight: 100,
            window_bytes: None,
        };
        let (token, publish, leftover) = (Some(TOKEN), false, proto::Leftover::Keep);
        let mut link = Link::new(pool, proto::OpenFile { token, open, publish, leftover });
        let mut model = Model::new();
        model.is_shared = memory.is_some();
        model.remembers = rng.bool();
        link.send(&mut Vec::new()).unwrap();
        let (stream, len_bytes, queue_limit_bytes, window_bytes) = (1, 0, 1, 0);
        let shared = model.is_shared;
        let opened = Opened { stream, len_bytes, queue_limit_bytes, window_bytes, shared };
        for reply in [Reply::Resumable, Reply::Opened(opened)] {
            assert_eq!(link.answer(0, reply).unwrap(), Answered::GoesOn);
        }
        Self {
            rng,
            link,
            memory,
            model,
            to_daemon: VecDeque::new(),
            told: BTreeMap::new(),
            to_client: VecDeque::new(),
            messages: 0,
            cuts,
            expected: Vec::new(),
            account: Account::new(),
            syncs: Vec::new(),
            finishes: 0,
        }
    }

    /// Plays the script to its end. Returns how many messages it took.
    fn play(mut self, ops: &[Op]) -> usize {
        for op in ops {
            self.push(op);
            for _ in 0..self.rng.usize(0..6) {
                self.step();
            }
        }
        if self.rng.bool() {
            self.link.sync_soon();
            self.run_until(|run| run.account.is_all_told());
        }
        self.link.push(Command::Finish);
        self.run_until(|run| run.link.finished.is_some());
        assert!(self.link.ended);
        assert_eq!(self.finishes, 1, "finished once");
        self.account.check(&self.link, &self.model);
        assert!(self.account.is_all_told(), "durable, and not told");
        assert!(self.model.file == self.expected, "{:?} {:?}", self.model.file, self.expected);
        assert!(self.model.durable == self.expected, "the end is not durable");
        assert_eq!(self.link.finished.unwrap().len_bytes, self.expected.len() as u64);
        assert_eq!((self.link.kept(), self.link.kept_bytes()), (0, 0));
        let free = std::iter::from_fn(|| self.link.pool.take()).count();
        assert_eq!(free, SLOTS, "a slot leaked");
        self.messages
    }

    fn push(&mut self, op: &Op) {
        match op {
            Op::Write { offset, bytes } => {
                self.run_until(|run| {
                    run.link.nudge();
                    let slot = run.link.pool.take();
                    let Some(mut slot) = slot else { return false };
                    // Whatever the daemon may still read of it is wrong from here on.
                    let memory = Arc::get_mut(&mut slot).expect("nobody else has it");
                    let start = run.rng.usize(0..100);
                    memory[..200].fill(0xEE);
                    memory[start..start + bytes.len()].copy_from_slice(bytes);
                    let part = Part { slot, range: start..start + bytes.len() };
                    let number = run.link.push_write(*offset, part);
                    run.account.write(*offset, bytes.len() as u64, number);
                    true
                });
            }
            Op::Zeroes { offset, len } => {
                let number = self.link.push(Command::WriteZeroes { offset: *offset, len: *len });
                self.account.write(*offset, *len, number);
            }
            Op::SetLen(len) => {
                self.link.push(Command::SetLen { len: *len });
                self.account.cut(*len);
            }
            Op::Flush => {
                self.link.flush();
            }
            Op::Nudge => self.link.nudge(),
            Op::SyncSoon => self.link.sync_soon(),
            Op::Sync(waits) => {
                let number = self.link.sync();
                self.syncs.push(number);
                if *waits {
                    self.run_until(|run| run.link.is_synced(number));
                    assert!(self.model.durable == self.expected, "synced, and not durable");
                    self.account.check(&self.link, &self.model);
                    assert!(self.account.is_all_told(), "durable, and not told");
                }
            }
        }
        expect(&mut self.expected, op);
    }

    fn run_until(&mut self, mut ready: impl FnMut(&mut Self) -> bool) {
        for _ in 0..5000 {
            if ready(self) {
                return;
            }
            self.step();
        }
        panic!("it gets nowhere: {:?}", self.link);
    }

    /// Something happens, somewhere.
    fn step(&mut self) {
        match self.rng.u32(0..8) {
            0 | 1 if self.link.has_work() && !self.link.ended => self.send(),
            2 | 3 => {
                if let Some(frame) = self.to_daemon.pop_front() {
                    self.model.accept(frame);
                    self.has_arrived();
                }
            }
            4 | 5 => self.execute(),
            _ => {
                if let Some((sequence, reply)) = self.to_client.pop_front() {
                    self.answer(sequence, reply);
                    self.has_arrived();
                }
            }
        }
        self.check();
    }

    fn send(&mut self) {
        let mut head = Vec::new();
        let parts = self.link.send(&mut head).unwrap();
        let mut content: Vec<u8> = Vec::new();
        for part in parts {
            content.extend(&part.slot[part.range]);
            self.link.pool.put(part.slot);
        }
        decode(&head, |header, body| {
            if header.kind() == Kind::Write {
                assert_eq!(header.body_bytes() as usize, content.len());
                let content = std::mem::take(&mut content);
                self.tell(header.sequence(), Kind::Write, content.clone());
                self.to_daemon.push_back(Frame::Inline(header.sequence(), content));
                return;
            }
            let command = Wire::decode(header, body).unwrap();
            let (kind, body) = match &command {
                Wire::WriteSlots(write) => {
                    let memory = self.memory.as_ref();
                    let parts = write.parts.iter().flat_map(|part| read(memory, part));
                    (Kind::Write, parts.collect())
                }
                command => (command.kind(), body.to_vec()),
            };
            self.tell(header.sequence(), kind, body);
            self.to_daemon.push_back(Frame::Control(header.sequence(), command));
        });
    }

    fn tell(&mut self, sequence: u64, kind: Kind, content: Vec<u8>) {
        let now = (kind, content);
        let before = self.told.entry(sequence).or_insert_with(|| now.clone());
        assert_eq!(*before, now, "number {sequence} is something else now");
    }

    fn execute(&mut self) {
        let asked = match self.model.queue.front() {
            Some(Frame::Control(_, Wire::Flush)) => true,
            Some(_) => self.rng.bool(),
            None => return,
        };
        let answer = self.model.execute(self.memory.as_ref(), None);
        // Progress may come before the answer that it belongs to, after it, or with the next.
        let first = self.rng.bool();
        if asked && first {
            self.to_client.push_back((0, self.model.progress()));
        }
        let is_over = matches!(answer, Some((_, Reply::Finished(_))));
        self.to_client.extend(answer);
        if asked && !first && !is_over {
            self.to_client.push_back((0, self.model.progress()));
        }
    }

    fn answer(&mut self, sequence: u64, reply: Reply) {
        if self.link.ended {
            return;
        }
        self.finishes += usize::from(matches!(reply, Reply::Finished(_)));
        let _ = self.link.answer(sequence, reply).unwrap();
    }

    fn has_arrived(&mut self) {
        self.messages += 1;
        if self.cuts.contains(&self.messages) && !self.link.ended {
            self.cut();
        }
    }

    /// The connection ends; any part of what was on its way arrives, and any part of that is executed.
    fn cut(&mut self) {
        for _ in 0..self.rng.usize(0..=self.to_daemon.len()) {
            let frame = self.to_daemon.pop_front().unwrap();
            self.model.accept(frame);
        }
        for _ in 0..self.rng.usize(0..=self.model.queue.len()) {
            let answer = self.model.execute(self.memory.as_ref(), None);
            self.to_client.extend(answer);
        }
        if self.rng.bool() {
            let torn = self.rng.usize(0..60);
            if matches!(
                self.model.queue.front(),
                Some(
                    Frame::Inline(..)
                        | Frame::Control(_, Wire::WriteSlots(_) | Wire::WriteZeroes(_))
                )
            ) {
                self.model.execute(self.memory.as_ref(), Some(torn));
            }
        }
        for _ in 0..self.rng.usize(0..=self.to_client.len()) {
            let (sequence, reply) = self.to_client.pop_front().unwrap();
            self.answer(sequence, reply);
        }
        self.to_daemon.clear();
        self.to_client.clear();
        // While there is no daemon the muxer may still ask for things.
        if self.link.ended {
            return;
        }
        let resume = self.link.resume().expect("it goes on");
        let shared = self.memory.is_some() && self.rng.u32(0..4) > 0;
        let mut reply = self.model.resume(&resume, shared, true);
        while self.rng.u32(0..4) == 0 {
            // The answer was lost, and the one after it is that of another daemon.
            assert_eq!(self.link.resume().as_ref(), Some(&resume));
            reply = self.model.resume(&resume, shared, false);
        }
        match reply {
            Reply::Resumed(resumed) => self.link.resumed(resumed).unwrap(),
            finished => {
                self.finishes += 1;
                self.link.finish_instead(0, finished).unwrap();
            }
        }
    }

    /// What holds after every step.
    fn check(&mut self) {
        self.account.check(&self.link, &self.model);
        let synced = self.model.synced;
        for number in &self.syncs {
            assert!(!self.link.is_synced(*number) || synced >= *number, "an answer was made up");
        }
        assert!(self.link.kept_bytes() <= (SLOTS * SLOT_BYTES) as u64);
        assert!(self.link.kept() <= crate::remote::COMMANDS_MAX);
    }
}

fn with_cuts(seed: u64, cuts: impl IntoIterator<Item = usize>) -> usize {
    let cuts: BTreeSet<_> = cuts.into_iter().collect();
    let told = format!("REPLAY_SEED={seed} cargo test -p freemkvd-client replay, cuts {cuts:?}");
    let on_panic = Told(told);
    let ops = script(&mut Rng::with_seed(seed));
    let messages = Run::new(seed, cuts).play(&ops);
    std::mem::forget(on_panic);
    messages
}

/// Says which run it was that failed.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("to see it again: {}", self.0);
    }
}

fn seeds(all: RangeInclusive<u64>) -> RangeInclusive<u64> {
    match std::env::var("REPLAY_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..=seed,
        None => all,
    }
}

#[test]
fn one_cut_after_every_message() {
    for seed in seeds(1..=60) {
        let messages = with_cuts(seed, []);
        for cut in 1..=messages {
            with_cuts(seed, [cut]);
        }
    }
}

#[test]
fn several_cuts_anywhere() {
    for seed in seeds(1..=400) {
        let mut rng = Rng::with_seed(!seed);
        for _ in 0..5 {
            let cuts = rng.usize(2..9);
            with_cuts(seed, (0..cuts).map(|_| rng.usize(1..60)));
        }
    }
}
