//! Who takes part, and how each opens its file.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use freemkvd_client::control::Control;
use freemkvd_client::{Options, RipFile};
use freemkvd_tests::sink::Sink;
use freemkvd_tests::trace::MUXER_BUFFER_LEN;
use serde::{Deserialize, Serialize};

use super::seed::Seed;
use super::spec::{Served, Spec};
use super::uncached::Uncached;

/// One way to get bytes to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// A plain file, and an fsync in the end
    File,
    /// The same below a buffer of 4 MiB, as muxers have it
    Bufwriter,
    /// pwritev2(RWF_DONTCACHE) of 1 MiB in a loop: as good as it gets in one process
    Dontcache,
    /// In one process: a ring of 128 MiB, a writer thread, sync_file_range by 128 MiB
    Seed,
    /// Through the daemon, as the client library does it by itself
    Freemkvd,
    /// The same with the bytes on the socket instead of in shared memory
    FreemkvdInline,
    /// The same with a daemon that writes past the page cache
    FreemkvdDirect,
}

impl Contender {
    pub(crate) const ALL: [Self; 7] = [
        Self::File,
        Self::Bufwriter,
        Self::Dontcache,
        Self::Seed,
        Self::Freemkvd,
        Self::FreemkvdInline,
        Self::FreemkvdDirect,
    ];

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn needs_daemon(self) -> bool {
        matches!(self, Self::Freemkvd | Self::FreemkvdInline | Self::FreemkvdDirect)
    }

    /// The daemon's configuration.
    pub(crate) fn config(self, root: &Path, budget: &str) -> String {
        let mut text = format!("[budget]\ntotal = \"{budget}\"\n");
        if self == Self::FreemkvdDirect {
            text += &format!("[root.{:?}]\ndrain = \"direct\"\n", root.display().to_string());
        }
        text
    }

    fn options(self, socket: &Path, weight: Option<u32>) -> Options {
        let options = RipFile::options().socket(socket);
        let options = options.shared_slots(self != Self::FreemkvdInline);
        weight.into_iter().fold(options, Options::weight)
    }

    /// Opens the file of `spec`, which exists already when its job says so.
    pub(crate) fn open(self, spec: &Spec) -> io::Result<Box<dyn Contestant>> {
        Ok(match self {
            Self::File => Box::new(create(spec)?),
            Self::Bufwriter => Box::new(BufWriter::with_capacity(MUXER_BUFFER_LEN, create(spec)?)),
            Self::Dontcache => Box::new(Uncached::buffered(create(spec)?)),
            Self::Seed => {
                let seed = Seed::new(create(spec)?, &spec.out)?;
                // Its muxers had a buffer above it; its sweeps had none.
                match spec.job.is_buffered_by_its_muxer() {
                    true => Box::new(BufWriter::with_capacity(MUXER_BUFFER_LEN, seed)),
                    false => Box::new(seed),
                }
            }
            Self::Freemkvd | Self::FreemkvdInline | Self::FreemkvdDirect => {
                let socket = spec.socket.as_deref();
                let socket = socket.ok_or_else(|| io::Error::other("no daemon was started"))?;
                let options = self.options(socket, spec.weight);
                let file = match spec.job.opens_what_exists() {
                    true => options.open(&spec.out)?,
                    false => options.create(&spec.out)?,
                };
                Box::new(Remote { file, socket: socket.to_owned() })
            }
        })
    }
}

/// Longer than a status takes.
const PATIENCE: Duration = Duration::from_secs(30);

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

fn create(spec: &Spec) -> io::Result<File> {
    match spec.job.opens_what_exists() {
        true => File::options().write(true).open(&spec.out),
        false => File::create(&spec.out),
    }
}

/// What a stream came to, beside the time it took.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What the daemon did for it, if there is one.
    pub(crate) daemon: Option<Served>,
    /// Time that was spent on asking, not on writing.
    pub(crate) aside: Duration,
}

/// A sink that can become durable, and says what it sent.
pub(crate) trait Contestant: Sink {
    /// Makes everything durable and ends.
    fn settle(self: Box<Self>) -> io::Result<Settled>;
}

impl Contestant for File {
    fn settle(self: Box<Self>) -> io::Result<Settled> {
        self.sync_all().map(|()| Settled::default())
    }
}

impl Contestant for BufWriter<File> {
    fn settle(mut self: Box<Self>) -> io::Result<Settled> {
        self.sync().map(|()| Settled::default())
    }
}

impl Contestant for BufWriter<Uncached> {
    fn settle(mut self: Box<Self>) -> io::Result<Settled> {
        self.sync().map(|()| Settled::default())
    }
}

impl Contestant for Seed {
    fn settle(mut self: Box<Self>) -> io::Result<Settled> {
        self.sync().map(|()| Settled::default())
    }
}

impl Contestant for BufWriter<Seed> {
    fn settle(mut self: Box<Self>) -> io::Result<Settled> {
        self.sync().map(|()| Settled::default())
    }
}

/// A stream of the daemon, and where to ask about it.
struct Remote {
    file: RipFile,
    socket: PathBuf,
}

impl Remote {
    /// What the daemon says of the stream; it forgets it when that is finished.
    fn served(&self) -> Result<Served, Box<dyn Error + Send + Sync>> {
        let id = self.file.stream_id();
        let status = Control::connect(Some(&self.socket), PATIENCE)?.status()?;
        let stream = status.streams.iter().find(|stream| Some(stream.id) == id);
        let stream = stream.ok_or("the daemon does not know the stream")?;
        let device =
            status.devices.iter().find(|device| Some(&device.id) == stream.device.as_ref());
        let device = device.ok_or("the daemon does not know the device")?;
        Ok(Served {
            frames: 0,
            seeks: stream.seeks,
            drain: stream.drain.clone().unwrap_or_default(),
            turns: device.turns,
            extent_bytes: device.extent_bytes,
            budget_bytes: status.budget.limit_bytes,
        })
    }
}

impl Contestant for Remote {
    fn settle(mut self: Box<Self>) -> io::Result<Settled> {
        self.file.flush()?;
        let start = Instant::now();
        let served = self.served().map_err(io::Error::other)?;
        let aside = start.elapsed();
        let frames = self.file.finish()?.progress.frames_sent;
        Ok(Settled { daemon: Some(Served { frames, ..served }), aside })
    }
}

impl Write for Remote {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Remote {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }
}

impl Sink for Remote {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.file.write_zeroes(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}
