//! The daemon, as far as a client can tell: a file, a queue, and three watermarks. Whatever contradicts what
//! it knows of the client panics.

use std::collections::{BTreeMap, VecDeque};

use freemkvd_proto::{
    self as proto, Command as Wire, Progress, Reply, Resume, Resumed, SlotPart, Token,
};

use crate::memory::Memory;
use crate::slot::SLOT_BYTES;

pub(super) const TOKEN: Token = Token([3; 16]);

pub(super) fn put<T: Clone + Copy + Default>(file: &mut Vec<T>, offset: u64, bytes: &[T]) {
    let from = usize::try_from(offset).unwrap();
    let to = from + bytes.len();
    if !bytes.is_empty() {
        file.resize(file.len().max(to), T::default());
        file[from..to].copy_from_slice(bytes);
    }
}

pub(super) fn set_len<T: Clone + Default>(file: &mut Vec<T>, len: u64) {
    file.resize(usize::try_from(len).unwrap(), T::default());
}

/// A frame on its way to the daemon.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Inline(u64, Vec<u8>),
    Control(u64, Wire),
}

impl Frame {
    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Inline(sequence, _) | Self::Control(sequence, _) => *sequence,
        }
    }
}

/// The daemon, as far as a client can tell.
pub(super) struct Model {
    pub(super) file: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// By which command each byte of the file, and of what is durable, came to be what it is.
    pub(super) file_by: Vec<u64>,
    pub(super) durable_by: Vec<u64>,
    /// The highest `Sync` or `Finish` executed.
    pub(super) synced: u64,
    pub(super) finished: Option<proto::Finished>,
    /// Whether it has told, so that the daemons after it know.
    pub(super) remembers: bool,
    /// Bytes and position after each command that was ever executed.
    ways: BTreeMap<u64, (u64, u64)>,
    // What a cut loses:
    pub(super) queue: VecDeque<Frame>,
    position: u64,
    progress: Progress,
    pub(super) is_shared: bool,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            file: Vec::new(),
            durable: Vec::new(),
            file_by: Vec::new(),
            durable_by: Vec::new(),
            synced: 0,
            finished: None,
            remembers: true,
            ways: BTreeMap::from([(0, (0, 0))]),
            queue: VecDeque::new(),
            position: 0,
            progress: Progress::default(),
            is_shared: false,
        }
    }

    /// Takes a frame into its queue.
    pub(super) fn accept(&mut self, frame: Frame) {
        let next = self.progress.accepted.sequence + 1;
        assert_eq!(frame.sequence(), next, "a gap in the numbers");
        self.progress.accepted.sequence = next;
        self.queue.push_back(frame);
    }

    /// Executes the first of its queue, or only so many of its bytes. Returns what is to be answered.
    pub(super) fn execute(
        &mut self,
        memory: Option<&Memory>,
        torn: Option<usize>,
    ) -> Option<(u64, Reply)> {
        let frame = self.queue.pop_front()?;
        let sequence = frame.sequence();
        let content = match &frame {
            Frame::Inline(_, content) => {
                assert!(!self.is_shared, "content inline although slots are shared");
                Some(content.clone())
            }
            Frame::Control(_, Wire::WriteSlots(write)) => {
                assert!(self.is_shared, "slots that were not shared");
                Some(write.parts.iter().flat_map(|part| read(memory, part)).collect())
            }
            Frame::Control(_, Wire::WriteZeroes(zeroes)) => {
                Some(vec![0; usize::try_from(zeroes.len).unwrap()])
            }
            Frame::Control(..) => None,
        };
        if let Some(content) = content {
            let len = torn.unwrap_or(content.len()).min(content.len());
            put(&mut self.file, self.position, &content[..len]);
            put(&mut self.file_by, self.position, &vec![sequence; len]);
            if torn.is_some() {
                return None;
            }
            self.position += content.len() as u64;
            self.progress.written.bytes += content.len() as u64;
        }
        if let Frame::Control(_, Wire::Seek(seek)) = &frame {
            self.position = seek.offset;
        }
        self.progress.written.sequence = sequence;
        self.ways.insert(sequence, (self.progress.written.bytes, self.position));
        let Frame::Control(_, command) = frame else {
            return None;
        };
        match command {
            Wire::SetLen(set) => {
                set_len(&mut self.file, set.len);
                set_len(&mut self.file_by, set.len);
            }
            Wire::Sync => {
                self.sync(sequence);
                return Some((sequence, Reply::Synced));
            }
            Wire::Finish => {
                self.sync(sequence);
                self.progress.accepted = self.progress.written;
                let (len_bytes, progress) = (self.file.len() as u64, self.progress);
                let finished = proto::Finished { len_bytes, progress };
                self.finished = Some(finished);
                return Some((sequence, Reply::Finished(finished)));
            }
            _ => {}
        }
        None
    }

    fn sync(&mut self, sequence: u64) {
        self.durable.clone_from(&self.file);
        self.durable_by.clone_from(&self.file_by);
        self.synced = self.synced.max(sequence);
        self.progress.durable = self.progress.written;
    }

    pub(super) fn progress(&self) -> Reply {
        // Its queue counts bytes when they are written, which is all that this client believes.
        let mut progress = self.progress;
        progress.accepted.bytes = progress.written.bytes;
        Reply::Progress(progress)
    }

    /// Another one, that was told this.
    pub(super) fn resume(&mut self, resume: &Resume, shared: bool, watched: bool) -> Reply {
        assert_eq!(resume.token, TOKEN);
        assert!(resume.durable.sequence <= resume.written.sequence);
        assert!(resume.durable.bytes <= resume.written.bytes);
        let way = self.ways[&resume.written.sequence];
        assert_eq!(way, (resume.written.bytes, resume.position), "{resume:?}");
        assert_eq!(self.ways[&resume.durable.sequence].0, resume.durable.bytes, "{resume:?}");
        if let Some(finished) = self.finished.filter(|_| self.remembers) {
            return Reply::Finished(finished);
        }
        let (accepted, written, durable) = (resume.written, resume.written, resume.durable);
        self.progress = Progress { accepted, written, durable };
        self.position = resume.position;
        self.is_shared = shared;
        self.queue.clear();
        Reply::Resumed(Resumed { stream: 1, queue_limit_bytes: 1, shared, watched })
    }
}

pub(super) fn read(memory: Option<&Memory>, part: &SlotPart) -> Vec<u8> {
    let at = u64::from(part.slot) * SLOT_BYTES as u64 + u64::from(part.start);
    memory.expect("slots were shared").read(at, part.len as usize)
}
