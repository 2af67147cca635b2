//! One workload through the real client library, against the model, and what it came to.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use freemkvd_client::{Error, RipFile};
use freemkvd_proto::status::StreamState;
use freemkvd_tests::faults::{FaultDisk, Served};

use crate::model::{Model, content, partial};
use crate::workload::{End, MIB, Step, Workload};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What the muxer was told, if it was told of a failure.
    pub(crate) error: Option<Error>,
    /// It failed to open.
    pub(crate) was_refused: bool,
    /// It was finished, and told so.
    pub(crate) is_finished: bool,
    /// In the middle of which step it failed; as many as there are for the end.
    pub(crate) at: usize,
}

/// Called with what was acknowledged, at once after it was.
pub(crate) type Looks<'a> = &'a (dyn Fn(&Mutex<Model>) + Sync);

/// A call that comes after the first failure.
type Later = fn(&mut RipFile) -> io::Result<()>;

/// Where the muxer of a run is to write, and who looks.
pub(crate) struct Bench<'a> {
    pub(crate) daemon: &'a Served,
    pub(crate) disk: &'a FaultDisk,
    pub(crate) path: PathBuf,
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) looks: Looks<'a>,
}

impl<'a> Bench<'a> {
    /// Sets the place up for `workload`.
    pub(crate) fn new(
        (daemon, disk): (&'a Served, &'a FaultDisk),
        name: &str,
        workload: &Workload,
        looks: Looks<'a>,
    ) -> Self {
        let path = disk.root().join(name);
        let old = workload.replaces.then(|| content(99, 0, 3 * MIB / 2));
        if let Some(old) = &old {
            disk.put(&path, old);
        }
        let model = Model::new(&path, workload.publish, workload.leftover, old);
        Self { daemon, disk, path, model: Arc::new(Mutex::new(model)), looks }
    }

    /// Writes the file. A failure has to be told again by every later call, in the same words, and to be seen
    /// in status.
    pub(crate) fn run(&self, workload: &Workload) -> Ran {
        let mut ran = Ran { error: None, was_refused: false, is_finished: false, at: 0 };
        let mut options = self
            .daemon
            .options()
            .window_bytes(MIB)
            .memory_limit_bytes(6 * MIB)
            .daemon_window_bytes(workload.window_bytes)
            .shared_slots(workload.shared)
            .publish(workload.publish)
            .create_new(workload.create_new)
            .leftover(workload.leftover);
        if let Some(hint) = workload.hint_bytes {
            options = options.size_hint(hint);
        }
        let mut file = match options.create(&self.path) {
            Ok(file) => file,
            Err(error) => {
                (ran.error, ran.was_refused) = (Some(error), true);
                return ran;
            }
        };
        let mut durable_bytes = 0;
        for (at, step) in workload.steps.iter().enumerate() {
            ran.at = at;
            if let Err(error) = self.step(&mut file, at as u64, step) {
                let reported = file.progress().durable_bytes;
                assert_eq!(reported, durable_bytes, "durable, though {step:?} failed");
                self.fail(&mut ran, file, &error);
                return ran;
            }
            if *step == Step::Sync {
                durable_bytes = file.progress().durable_bytes;
            }
        }
        ran.at = workload.steps.len();
        let stream = file.stream_id();
        if workload.end != End::Finish {
            self.model.lock().unwrap().given_up();
        }
        let result = match workload.end {
            End::Finish => {
                self.model.lock().unwrap().finishing();
                let expected = self.model.lock().unwrap().len();
                file.finish().map(|finished| {
                    assert_eq!(finished.len_bytes, expected);
                    self.model.lock().unwrap().finished();
                    (self.looks)(&self.model);
                    ran.is_finished = true;
                })
            }
            End::Abort => file.abort(),
            End::Drop => {
                drop(file);
                Ok(())
            }
        };
        if let Err(error) = result {
            ran.error = Some(inside(&error));
            self.check_status(stream, ran.error.as_ref().unwrap());
        }
        ran
    }

    fn step(&self, file: &mut RipFile, seed: u64, step: &Step) -> io::Result<()> {
        let model = || self.model.lock().unwrap();
        match *step {
            Step::Append(len) => {
                let at = model().len();
                let bytes = content(seed, at, len);
                model().write(at, &bytes);
                file.seek(SeekFrom::Start(at))?;
                bytes.chunks(300_000).try_for_each(|piece| file.write_all(piece))
            }
            Step::Patch(at, len) => {
                let bytes = content(seed, at, len);
                model().write(at, &bytes);
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&bytes)
            }
            Step::SetLen(len) => {
                model().set_len(len);
                file.set_len(len)
            }
            Step::Zeroes(at, len) => {
                model().zero(at..at + len);
                file.seek(SeekFrom::Start(at))?;
                file.write_zeroes(len)
            }
            Step::Flush => {
                file.flush()?;
                let seen = self.disk.read(&self.name()).unwrap_or_default();
                assert!(seen == model().content(), "flush said that all is written");
                Ok(())
            }
            Step::Sync => {
                file.sync_all()?;
                model().synced();
                (self.looks)(&self.model);
                Ok(())
            }
        }
    }

    fn fail(&self, ran: &mut Ran, mut file: RipFile, error: &io::Error) {
        let first = inside(error);
        let stream = file.stream_id();
        // Whatever the first call was, from here on all of them say the same.
        let later: [(&str, Later); 5] = [
            ("write", |file| file.write_all(b"more")),
            ("flush", |file| file.flush()),
            ("sync_all", |file| file.sync_all()),
            ("set_len", |file| file.set_len(1)),
            ("write_zeroes", |file| file.write_zeroes(1 << 20)),
        ];
        for (name, call) in later {
            let error = call(&mut file).expect_err(name);
            assert_eq!(inside(&error).to_string(), first.to_string(), "{name}");
            assert_eq!(inside(&error).errno(), first.errno(), "{name}");
        }
        let error = file.finish().expect_err("finish after a failure");
        assert_eq!(inside(&error).to_string(), first.to_string(), "finish");
        self.check_status(stream, &first);
        ran.error = Some(first);
    }

    /// Somebody who looks sees the failure, too.
    fn check_status(&self, stream: Option<u64>, error: &Error) {
        let status = self.daemon.status();
        let seen = status.streams.iter().find(|seen| Some(seen.id) == stream);
        let seen = seen.unwrap_or_else(|| panic!("a failed stream is not in status: {error}"));
        assert!(matches!(seen.state, StreamState::Failed | StreamState::Aborted), "{seen:?}");
        let told = seen.error.as_ref().expect("status has its error");
        assert_eq!((told.errno, told.offset), (error.errno(), error.offset()));
    }

    /// The name that the file has while it is written.
    pub(crate) fn name(&self) -> PathBuf {
        let partial = partial(&self.path);
        let names = self.disk.names();
        if names.contains(&partial) { partial } else { self.path.clone() }
    }

    /// Nothing of the stream is left in the daemon.
    pub(crate) fn assert_no_leak(&self) {
        self.daemon.wait_for("everything given back", |status| {
            let is_open = |stream: &freemkvd_proto::status::Stream| stream.device.is_some();
            status.budget.charged_bytes == 0
                && status.budget.queued_bytes == 0
                && !status.streams.iter().any(is_open)
                && self.disk.open_files() == 0
        });
    }
}

/// The error that the client library put into an [`io::Error`].
fn inside(error: &io::Error) -> Error {
    Error::inside(error).unwrap_or_else(|| panic!("not an error of the library: {error}")).clone()
}

/// Removes what a run has left behind on the disk.
pub(crate) fn clean(disk: &FaultDisk, path: &Path) {
    disk.remove(path);
    disk.remove(&partial(path));
}
