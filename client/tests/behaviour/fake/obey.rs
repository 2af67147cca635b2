//! What the fake daemon does with each command.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use freemkvd_proto::{
    Command, Finished, GoingAway, Kind, Mark, Open, OpenGiven, OpenMode, OpenResumable, Opened,
    Progress, Reloaded, Reply, Resume, Resumed, Transfer,
};
use interprocess::local_socket::Stream;

use super::gate::park;
use super::given::{self, Given};
use super::{File, OnResume, Seen, State, requests, sum};

impl State {
    /// Takes what has come with a first frame. Returns the slots.
    pub(super) fn unpack(&self, command: &Command, passed: &mut Vec<fs::File>) -> Option<fs::File> {
        let mut file = self.file.lock().unwrap();
        let (slots, given) = given::unpack(command, passed, file.given.is_some());
        if let (Some(before), Some(given)) = (&file.given, &given) {
            before.assert_same(given);
        }
        file.given = given;
        slots
    }

    /// `None` closes the connection.
    pub(super) fn resume(&self, stream: &Arc<Stream>, resume: &Resume) -> Option<Reply> {
        let mut file = self.file.lock().unwrap();
        assert_eq!(Some(resume.token), file.token);
        file.resumes.push(*resume);
        let how = file.on_resume.pop_front();
        match how {
            Some(OnResume::Failed(failure)) => return Some(Reply::Failed(failure)),
            Some(OnResume::Close | OnResume::Old) => return None,
            Some(OnResume::Hang) => {
                drop(file);
                let _ = park(stream);
                return None;
            }
            Some(OnResume::Finished) => {
                let len_bytes = file.content.len() as u64;
                return Some(Reply::Finished(Finished { len_bytes, progress: file.progress }));
            }
            Some(OnResume::Inline) | None => {}
        }
        assert!(resume.written.sequence <= file.progress.written.sequence, "{resume:?}");
        assert!(resume.durable.sequence <= resume.written.sequence, "{resume:?}");
        let (accepted, written, durable) = (resume.written, resume.written, resume.durable);
        file.progress = Progress { accepted, written, durable };
        file.position = usize::try_from(resume.position).unwrap();
        file.out = Some(Arc::clone(stream));
        file.is_over = false;
        let shared = matches!(resume.transfer, Transfer::Shared { .. }) && how.is_none();
        file.shares_slots = shared;
        Some(Reply::Resumed(Resumed {
            stream: 7,
            queue_limit_bytes: 32 << 20,
            shared,
            watched: !self.script.unwatched,
        }))
    }

    /// `None` closes the connection.
    pub(super) fn write(&self, sequence: u64, body: &[u8], is_shared: bool) -> Option<Vec<Reply>> {
        let mut file = self.file.lock().unwrap();
        let beyond = |limit: u64| file.progress.written.bytes + body.len() as u64 > limit;
        if let Some((limit, failure)) = &self.script.fails_after {
            if beyond(*limit) {
                return Some(vec![Reply::Failed(failure.clone())]);
            }
        }
        if self.script.closes_after.is_some_and(beyond) {
            if self.script.says_going_away {
                let frame = Reply::GoingAway(GoingAway { drain_ms: 10 }).encode(0).unwrap();
                let _ = (&**file.out.as_ref()?).write_all(&frame);
            }
            return None;
        }
        assert_eq!(file.shares_slots, is_shared, "content took the wrong way");
        let (from, to) = (file.position, file.position + body.len());
        if file.content.len() < to {
            file.content.resize(to, 0);
        }
        file.content[from..to].copy_from_slice(body);
        if let Some(given) = &file.given {
            given.write(from, body);
        }
        file.position = to;
        let replies = self.written(&mut file, Kind::Write, sequence, from, body.len());
        if let Some(seen) = file.seen.last_mut() {
            (seen.is_shared, seen.sum) = (is_shared, sum(body));
        }
        Some(replies)
    }

    fn written(
        &self,
        file: &mut File,
        kind: Kind,
        sequence: u64,
        offset: usize,
        len: usize,
    ) -> Vec<Reply> {
        assert_eq!(sequence, file.progress.written.sequence + u64::from(kind != Kind::Open));
        let (offset, len) = (offset as u64, len as u64);
        file.seen.push(Seen { kind, sequence, offset, len, is_shared: false, sum: 0 });
        let content = if kind == Kind::Write { len } else { 0 };
        let bytes = file.progress.written.bytes + content;
        file.progress.written = Mark { sequence, bytes };
        file.progress.accepted = file.progress.written;
        if self.answering.is_open() { vec![Reply::Progress(file.progress)] } else { Vec::new() }
    }

    /// A file that came with its stream, as if it had been opened by a path.
    fn begin(&self, given: OpenGiven) -> Open {
        let open = Open {
            path: given.label.clone(),
            mode: if given.empties { OpenMode::Create } else { OpenMode::Existing },
            size_hint_bytes: given.size_hint_bytes,
            transfer: given.transfer,
            weight: given.weight,
            window_bytes: given.window_bytes,
        };
        self.file.lock().unwrap().opened_given = Some(given);
        open
    }

    pub(super) fn command(&self, sequence: u64, command: Command) -> Option<Vec<Reply>> {
        let (command, token) = match command {
            Command::OpenResumable(OpenResumable { token, open }) => {
                (Command::Open(open), Some(token))
            }
            Command::OpenFile(file) => (Command::Open(file.open), file.token),
            Command::OpenGiven(given) => {
                let token = given.token;
                (Command::Open(self.begin(given)), token)
            }
            command => (command, None),
        };
        let kind = command.kind();
        let mut file = self.file.lock().unwrap();
        let (mut offset, mut len) = (file.position, 0);
        let mut answers = Vec::new();
        match command {
            Command::Open(open) => {
                if let Some(failure) = &self.script.refuses_open {
                    return Some(vec![Reply::Failed(failure.clone())]);
                }
                if open.mode != OpenMode::Existing {
                    file.content.clear();
                    file.given.iter().for_each(|given| given.set_len(0));
                }
                if let Some(given) = &file.given {
                    file.content = vec![0; given.len()];
                }
                file.shares_slots =
                    matches!(open.transfer, Transfer::Shared { .. }) && !self.script.wants_no_slots;
                file.token = token.filter(|_| self.script.resumable);
                answers.extend(file.token.map(|_| Reply::Resumable));
                answers.push(Reply::Opened(Opened {
                    stream: 7,
                    len_bytes: file.content.len() as u64,
                    queue_limit_bytes: 32 << 20,
                    window_bytes: open.window_bytes.unwrap_or(64 << 20),
                    shared: file.shares_slots,
                }));
                file.open = Some(open);
            }
            Command::Seek(seek) => {
                offset = usize::try_from(seek.offset).unwrap();
                file.position = offset;
            }
            Command::WriteZeroes(zeroes) => {
                len = usize::try_from(zeroes.len).unwrap();
                let end = offset + len;
                if file.content.len() < end {
                    file.content.resize(end, 0);
                }
                file.content[offset..end].fill(0);
                file.given.iter().for_each(|given| given.write(offset, &vec![0; len]));
                file.position = end;
            }
            Command::SetLen(set) => {
                len = usize::try_from(set.len).unwrap();
                file.content.resize(len, 0);
                file.given.iter().for_each(|given| given.set_len(len));
            }
            Command::Sync => match &self.script.fails_sync {
                Some(failure) => answers.push(Reply::Failed(failure.clone())),
                None => answers.push(Reply::Synced),
            },
            Command::Abort => answers.push(Reply::Aborted),
            Command::Flush | Command::Finish => {}
            Command::Status => {
                self.answering.pass();
                return Some(vec![Reply::FullReport(requests::status())]);
            }
            Command::SetWeight(set) => return Some(vec![requests::weighed(set)]),
            Command::Drain => {
                file.drains += 1;
                return Some(vec![Reply::Done]);
            }
            Command::Reload => return Some(vec![Reply::Reloaded(Reloaded::default())]),
            Command::AbortStream(abort) => return Some(vec![requests::aborted(abort)]),
            Command::PauseStream(pause) => return Some(vec![requests::paused(pause)]),
            Command::Why(_) => return Some(vec![requests::unknown()]),
            Command::Metrics => return Some(vec![Reply::MetricsText("# EOF\n".into())]),
            Command::WriteSlots(_)
            | Command::Resume(_)
            | Command::OpenResumable(_)
            | Command::OpenFile(_)
            | Command::OpenGiven(_) => {
                unreachable!("dealt with before")
            }
        }
        let mut replies = self.written(&mut file, kind, sequence, offset, len);
        if matches!(kind, Kind::Sync | Kind::Finish) {
            file.progress.durable = file.progress.written;
            file.given.iter().for_each(Given::sync);
        }
        if kind == Kind::Finish {
            answers.push(Reply::Finished(Finished {
                len_bytes: file.content.len() as u64,
                progress: file.progress,
            }));
        }
        replies.splice(0..0, answers);
        Some(replies)
    }
}
