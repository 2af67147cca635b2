//! What the peers of a run do, as the input says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arbitrary::{Result, Unstructured};
use freemkvd_proto::hello::{ClientHello, VERSION_HIGHEST};
use freemkvd_proto::waits::Why;
use freemkvd_proto::{
    AbortStream, Command, Header, Kind, PauseStream, Resume, Seek, SetLen, SetWeight, Token,
    Transfer, WriteSlots, WriteZeroes,
};

use super::asked::{Asked, Last};
use super::bench::Bench;
use super::check;
use super::choices::{self, of_stream, offset};
use super::content::Change;
use super::given::Given;
use super::peer::{GIVEN_MAX, Peer};
use crate::faults::{Call, Fault};
use crate::pattern;

/// Peers at once.
const PEERS: usize = 3;

/// More than that finds nothing that a few don't.
const STEPS_MAX: usize = 64;

/// What all `Write`s of a run may carry: a few large ones.
const CONTENT_BYTES_MAX: usize = 10 << 20;

/// Files that are there before anybody connects.
const THERE: [(&str, usize); 2] = [("/rips/b", 10_000), ("/rips/c.partial", 77)];

/// See the module's documentation.
pub(super) struct Run<'a> {
    pub(super) bench: &'a mut Bench,
    peers: [Option<Peer>; PEERS],
    /// Connections that are over.
    pub(super) over: Vec<Peer>,
    /// What is there from the beginning.
    pub(super) before: BTreeMap<PathBuf, Vec<u8>>,
    /// The disk was told to fail.
    pub(super) has_faults: bool,
    /// Its disk was lost in the middle.
    is_lost: bool,
    content_left: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(bench: &'a mut Bench) -> Self {
        let there = THERE.map(|(path, len)| (PathBuf::from(path), pattern::bytes(3, 0, len)));
        there.iter().for_each(|(path, content)| bench.disk.put(path, content));
        Self {
            bench,
            peers: [const { None }; PEERS],
            over: Vec::new(),
            before: there.into(),
            has_faults: false,
            is_lost: false,
            content_left: CONTENT_BYTES_MAX,
        }
    }

    pub(super) fn steps(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..STEPS_MAX {
            if input.is_empty() {
                break;
            }
            let who = usize::from(input.arbitrary::<u8>()?) % PEERS;
            self.step(who, input)?;
            if self.peers[who].as_ref().is_some_and(|peer| peer.rules.wants_end) {
                self.restart();
            }
        }
        Ok(())
    }

    /// Everybody hangs up; then it is looked at what came of it.
    pub(super) fn end(mut self) {
        (0..PEERS).for_each(|who| self.hang_up(who));
        self.bench.come_to_rest();
        if !self.is_lost {
            check::check(&self);
        }
        self.bench.clean();
    }

    fn step(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        match input.arbitrary::<u8>()? % 32 {
            0..10 => self.command(who, input)?,
            10..14 => self.write(who, input)?,
            14..16 => self.write_slots(who, input)?,
            16 => {
                let len = input.arbitrary::<u8>()? % 64;
                let bytes = input.bytes(usize::from(len).min(input.len()))?;
                self.send(who, input, bytes)?;
            }
            17 => self.raw_header(who, input)?,
            18 => self.half_a_frame(who, input)?,
            19 => self.pass(who, input)?,
            20..22 => self.listen(who, true),
            22 => self.listen(who, false),
            23 => self.hang_up(who),
            24 => {
                if let Some(mut peer) = self.peers[who].take() {
                    peer.vanish();
                    self.over.push(peer);
                }
            }
            25 => self.resume(who, input)?,
            26..28 => self.request(who, input)?,
            28 => {
                if let Some(peer) = self.peer(who, input)? {
                    match input.arbitrary::<u8>()? % 4 {
                        0 => peer.is_deaf = true,
                        1 => peer.is_deaf = false,
                        2 => peer.is_slow = true,
                        _ => peer.is_slow = false,
                    }
                }
            }
            29..31 => self.fail(input)?,
            // It takes a hundred times as long as the rest of a run.
            _ => {
                if input.arbitrary::<u8>()? % 8 == 0 && input.arbitrary::<u8>()? % 4 == 0 {
                    self.restart();
                }
            }
        }
        Ok(())
    }

    /// The peer of this number, which connects if it has not. `None` when nobody listens.
    fn peer(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<Option<&mut Peer>> {
        if self.peers[who].is_none() {
            let Some(mut peer) = Peer::connect(self.bench.socket()) else { return Ok(None) };
            let hello = match input.arbitrary::<u8>()? {
                0..240 => ClientHello::THIS.encode(),
                240..250 => {
                    let highest = input.int_in_range(0..=VERSION_HIGHEST + 1)?;
                    ClientHello { lowest: input.int_in_range(0..=3)?, highest }.encode()
                }
                _ => input.arbitrary()?,
            };
            peer.send(&hello);
            self.peers[who] = Some(peer);
        }
        Ok(self.peers[who].as_mut())
    }

    fn send(&mut self, who: usize, input: &mut Unstructured<'_>, bytes: &[u8]) -> Result<()> {
        if let Some(peer) = self.peer(who, input)? {
            peer.send(bytes);
        }
        Ok(())
    }

    /// A number for the next command, mostly the right one.
    fn number(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<u64> {
        let Some(peer) = self.peer(who, input)? else { return Ok(0) };
        let number = peer.next;
        Ok(match input.arbitrary::<u8>()? {
            0..250 => {
                peer.next += 1;
                number
            }
            250 => number.wrapping_sub(1),
            251 => number + 1,
            _ => input.arbitrary()?,
        })
    }

    fn command(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let is_first = self.peer(who, input)?.is_some_and(|peer| peer.next == 0);
        let is_as_usual = input.arbitrary::<u8>()? < 245;
        let command = match is_first == is_as_usual {
            true => {
                let token = self.token(input.arbitrary::<u8>()? % 2);
                let command = choices::opening(input, token)?;
                let brings = input.arbitrary::<u8>()? < 240;
                if let Some(peer) = self.peer(who, input)?.filter(|_| brings) {
                    peer.passes = choices::descriptors_of(&command);
                }
                command
            }
            false => of_stream(input)?,
        };
        let number = self.number(who, input)?;
        // A path may be longer than a frame.
        let Ok(frame) = command.encode(number) else { return Ok(()) };
        self.send(who, input, &frame)
    }

    /// No other run has the same one: a daemon remembers for a while what it was.
    fn token(&self, number: u8) -> Token {
        let mut token = [number; 16];
        token[..8].copy_from_slice(&self.bench.runs.to_le_bytes());
        Token(token)
    }

    fn write(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let len = match input.arbitrary::<u8>()? {
            0..100 => 1 + usize::from(input.arbitrary::<u8>()?),
            100..200 => 1 + usize::from(input.arbitrary::<u16>()?),
            edge => {
                const EDGES: [usize; 8] =
                    [1, 512, 4095, 4096, 65_536, (1 << 20) - 1, 1 << 20, 4 << 20];
                EDGES[usize::from(edge) % EDGES.len()]
            }
        };
        let len = len.min(self.content_left);
        self.content_left -= len;
        if len == 0 {
            return Ok(());
        }
        let content = pattern::bytes(u64::from(input.arbitrary::<u8>()?), 0, len);
        let number = self.number(who, input)?;
        let header = Header::new(Kind::Write, len, number).expect("it fits a frame");
        let frame = [&header.encode()[..], &content].concat();
        // All of it, or it is cut off somewhere.
        let sent = match input.arbitrary::<u8>()? {
            0..250 => frame.len(),
            _ => input.int_in_range(0..=frame.len())?,
        };
        self.send(who, input, &frame[..sent])
    }

    fn write_slots(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let parts = choices::parts(input)?;
        let number = self.number(who, input)?;
        let frame = Command::WriteSlots(WriteSlots { parts }).encode(number);
        self.send(who, input, &frame.expect("it fits a frame"))
    }

    fn raw_header(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let kind = match input.arbitrary::<bool>()? {
            true => Kind::ALL[usize::from(input.arbitrary::<u8>()?) % Kind::ALL.len()] as u16,
            false => input.arbitrary()?,
        };
        let flags: u16 = if input.arbitrary::<u8>()? < 250 { 0 } else { input.arbitrary()? };
        let length: u32 = if input.arbitrary::<u8>()? < 200 { 0 } else { input.arbitrary()? };
        let number = self.number(who, input)?;
        let mut header = Vec::with_capacity(16);
        header.extend(kind.to_le_bytes());
        header.extend(flags.to_le_bytes());
        header.extend(length.to_le_bytes());
        header.extend(number.to_le_bytes());
        self.send(who, input, &header)
    }

    /// A frame that ends too early, after which its peer has hung up, either way.
    fn half_a_frame(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let number = self.number(who, input)?;
        let frame = of_stream(input)?.encode(number).expect("it fits a frame");
        let sent = input.int_in_range(0..=frame.len() - 1)?;
        self.send(who, input, &frame[..sent])?;
        if let Some(mut peer) = self.peers[who].take() {
            match input.arbitrary()? {
                true => peer.hang_up(),
                false => peer.vanish(),
            }
            self.over.push(peer);
        }
        Ok(())
    }

    fn pass(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let given = match input.arbitrary::<u8>()? {
            0..200 => vec![Given::Slots],
            kind @ 200..240 => vec![Given::ALL[usize::from(kind) % Given::ALL.len()]],
            _ => {
                let kinds = input.arbitrary::<u8>()? % 4;
                let count = match input.arbitrary::<u8>()? {
                    0..250 => input.int_in_range(1..=6)?,
                    _ => GIVEN_MAX,
                };
                let kind = |number| Given::ALL[(usize::from(kinds) + number) % Given::ALL.len()];
                (0..count).map(kind).collect()
            }
        };
        if let Some(peer) = self.peer(who, input)? {
            peer.passes = given;
        }
        Ok(())
    }

    fn listen(&mut self, who: usize, waits: bool) {
        if let Some(peer) = &mut self.peers[who] {
            match waits {
                true => peer.listen_for_first(),
                false => drop(peer.listen()),
            }
        }
    }

    fn hang_up(&mut self, who: usize) {
        if let Some(mut peer) = self.peers[who].take() {
            peer.hang_up();
            self.over.push(peer);
        }
    }

    fn request(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let opened = |peer: &Peer| peer.told.opened.map(|opened| opened.stream);
        let known: Vec<u64> = self.peers.iter().flatten().filter_map(opened).collect();
        let stream = match known.get(usize::from(input.arbitrary::<u8>()?) % (PEERS + 1)) {
            Some(stream) => *stream,
            None => input.arbitrary()?,
        };
        let command = match input.arbitrary::<u8>()? {
            0..80 => Command::Status,
            80..100 => Command::Metrics,
            100..180 => {
                Command::SetWeight(SetWeight { stream, weight: input.arbitrary::<u16>()?.into() })
            }
            180..240 => Command::AbortStream(AbortStream { stream }),
            240..248 => Command::Why(Why { stream }),
            // Nobody here would have one go on that was really paused.
            248..=252 => Command::PauseStream(PauseStream { stream, pause: false }),
            253..=254 => Command::Reload,
            _ => Command::Drain,
        };
        let frame = command.encode(input.arbitrary()?).expect("it fits a frame");
        self.send(who, input, &frame)
    }

    fn fail(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let call = Call::ALL[usize::from(input.arbitrary::<u8>()?) % Call::ALL.len()];
        let nth = 1 + u64::from(input.arbitrary::<u8>()? % 16);
        let errno = [5, 28, 4, 122, 30, 95, 22][usize::from(input.arbitrary::<u8>()?) % 7];
        let fault = match input.arbitrary::<u8>()? % 8 {
            0..5 => Fault::Error(errno),
            5 => Fault::Short(input.arbitrary::<bool>()?.then_some(errno)),
            6 => Fault::Vanish(5),
            _ => Fault::ReadOnly,
        };
        self.has_faults = true;
        self.bench.disk.script().fail(call, nth, fault);
        Ok(())
    }

    fn restart(&mut self) {
        let asked = self.peers.iter().flatten().any(|peer| peer.rules.wants_end);
        match asked {
            true => {
                // Whoever has asked is answered before.
                for who in 0..PEERS {
                    if self.peers[who].as_ref().is_some_and(|peer| peer.rules.wants_end) {
                        self.hang_up(who);
                    }
                }
                self.is_lost |= !self.bench.start_again();
            }
            false => self.bench.restart(),
        }
        for who in 0..PEERS {
            if let Some(peer) = &mut self.peers[who] {
                peer.was_stopped = true;
                self.hang_up(who);
            }
        }
    }

    /// Comes back for the stream of a connection that was lost, and mostly sends again what was not written.
    fn resume(&mut self, who: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let lost =
            |peer: &&Peer| peer.was_stopped && peer.told.is_resumable && peer.told.opened.is_some();
        let lost: Vec<&Peer> = self.over.iter().filter(lost).collect();
        let Some(peer) = lost.get(usize::from(input.arbitrary::<u8>()?) % lost.len().max(1)) else {
            return Ok(());
        };
        let Some(asked) = &peer.rules.asked else { return Ok(()) };
        let Some(token) = asked.token() else { return Ok(()) };
        let (written, durable) = (peer.told.progress.written, peer.told.progress.durable);
        let is_written = |done: &&super::asked::Done| done.sequence == written.sequence;
        let position = asked.done.iter().find(is_written).map_or(0, |done| done.position);
        let mut resume = Resume { token, written, durable, position, transfer: Transfer::Inline };
        if input.arbitrary::<u8>()? >= 240 {
            resume.position = offset(input)?;
            resume.written.sequence = input.arbitrary()?;
        }
        let again = again(asked, written.sequence, position);
        // A file that its client has opened comes again; slots do not.
        let brings: Vec<_> =
            asked.given.iter().copied().filter(|given| *given != Given::Slots).collect();
        let count = match input.arbitrary::<u8>()? {
            0..200 => again.len(),
            _ => input.int_in_range(0..=again.len())?,
        };
        self.hang_up(who);
        let Some(peer) = self.peer(who, input)? else { return Ok(()) };
        peer.passes = brings;
        peer.send(&Command::Resume(resume).encode(0).expect("it fits a frame"));
        again[..count].iter().for_each(|frame| peer.send(frame));
        peer.next = written.sequence + 1 + count as u64;
        Ok(())
    }
}

/// The commands after `written`, once more.
fn again(asked: &Asked, written: u64, mut position: u64) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for done in asked.done.iter().filter(|done| done.sequence > written) {
        let moved = std::mem::replace(&mut position, done.position);
        let command = match &done.change {
            Change::Write(_, bytes) => {
                let header = Header::new(Kind::Write, bytes.len(), done.sequence);
                let header = header.expect("it fitted a frame").encode();
                frames.push([&header[..], bytes].concat());
                continue;
            }
            Change::Zero(range) => {
                Command::WriteZeroes(WriteZeroes { len: range.end - range.start })
            }
            Change::SetLen(len) => Command::SetLen(SetLen { len: *len }),
            Change::None if asked.done.last() == Some(done) && asked.last == Some(Last::Finish) => {
                Command::Finish
            }
            Change::None if asked.done.last() == Some(done) && asked.last == Some(Last::Abort) => {
                Command::Abort
            }
            Change::None if moved != done.position => Command::Seek(Seek { offset: done.position }),
            Change::None => Command::Flush,
        };
        frames.push(command.encode(done.sequence).expect("it fits a frame"));
    }
    frames
}
