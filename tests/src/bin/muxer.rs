//! A muxer that is none: plays a trace into a file and reports what the writing felt like.
//!
//! Prints one line of JSON. Exit codes: 0 fine, 1 failed, 2 usage.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use freemkvd_client::RipFile;
use freemkvd_tests::counted::Counted;
use freemkvd_tests::sink::Sink;
use freemkvd_tests::sparse::Sparse;
use freemkvd_tests::trace::{Kind, MUXER_BUFFER_LEN, Trace};
use freemkvd_tests::verify::verify;
use serde::Serialize;

/// Plays the trace of a muxer into a file.
#[derive(Debug, Parser)]
struct Args {
    /// Which muxer to play
    #[arg(long, value_enum)]
    trace: Kind,
    /// Chooses frame sizes, damage and payload
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length in seconds of content
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    content_seconds: f64,
    /// Times faster than the content; 0 does not pace
    #[arg(long, default_value = "0", value_parser = seconds)]
    speed: f64,
    /// Expected length, for a sink that can reserve room
    #[arg(long, value_name = "BYTES")]
    size_hint: Option<u64>,
    /// The file; a patch trace needs the one that a sweep of the same seed and length left
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Where the calls go
    #[arg(long, value_enum, default_value = "file")]
    sink: SinkKind,
    /// Send content through the daemon's socket, not in shared slots
    #[arg(long)]
    inline: bool,
    /// Which calls: the muxer's own, or what a 4 MiB buffer makes of them. A bare file gets the
    /// latter unless told otherwise
    #[arg(long, value_enum)]
    calls: Option<Calls>,
    /// Make the file durable in the end, and say how long it took
    #[arg(long)]
    sync: bool,
    /// Compare the file with the trace afterwards
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SinkKind {
    /// The file itself
    File,
    /// A buffer of 4 MiB over the file, as muxers have it
    Bufwriter,
    /// A model in memory; nothing is written
    Memory,
    /// freemkvd, through its client library; FREEMKVD_SOCKET says where it is
    Daemon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Calls {
    Own,
    Buffered,
}

/// The line that is printed. Times of calls are in microseconds.
#[derive(Debug, Serialize)]
struct Report {
    trace: &'static str,
    seed: u64,
    content_seconds: f64,
    size_hint: Option<u64>,
    /// Bytes that were handed over, patches and zeros included.
    bytes: u64,
    /// Length of the file in the end, in bytes.
    length: u64,
    /// From the first call to the last flush.
    seconds: f64,
    /// What durability took on top; null if nobody asked.
    sync_seconds: Option<f64>,
    writes: u64,
    seeks: u64,
    seeks_in_place: u64,
    queries: u64,
    write_p50_us: f64,
    write_p99_us: f64,
    write_max_us: f64,
    /// What closing the file took; with a daemon it is durable then.
    finish_seconds: f64,
    /// Frames that the client library sent; null without a daemon.
    frames: Option<u64>,
    verified_bytes: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let report = play(&args).and_then(|report| Ok(serde_json::to_string(&report)?));
    match report {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("muxer: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn play(args: &Args) -> Result<Report, Box<dyn Error>> {
    let Args { trace: kind, seed, content_seconds, .. } = *args;
    let trace = Trace { kind, seed, content_seconds };
    let mut sink = Counted::new(Out::open(args)?);

    let start = Instant::now();
    let mut pacer = |content: f64| pace(start, content, args.speed);
    match args.calls() {
        Calls::Own => trace.run_unbuffered(&mut sink, &mut pacer)?,
        Calls::Buffered => trace.run(&mut sink, &mut pacer)?,
    }
    let seconds = start.elapsed().as_secs_f64();

    let sync_seconds = match args.sync {
        true => Some(sync(&mut sink)?),
        false => None,
    };
    let counts = sink.counts();
    let latency = sink.latency();
    let length = sink.get_mut().seek(SeekFrom::End(0))?;
    let start = Instant::now();
    let frames = sink.into_inner().complete()?;
    let finish_seconds = start.elapsed().as_secs_f64();
    let verified_bytes = match args.verify && args.sink != SinkKind::Memory {
        true => Some(verify(&trace, &args.out)?),
        false => None,
    };
    Ok(Report {
        trace: kind.name(),
        seed,
        content_seconds,
        size_hint: args.size_hint,
        bytes: counts.bytes + counts.zero_bytes,
        length,
        seconds,
        sync_seconds,
        writes: counts.writes + counts.zero_writes,
        seeks: counts.seeks,
        seeks_in_place: counts.seeks_in_place,
        queries: counts.queries,
        write_p50_us: latency.p50_us,
        write_p99_us: latency.p99_us,
        write_max_us: latency.max_us,
        finish_seconds,
        frames,
        verified_bytes,
    })
}

impl Args {
    fn calls(&self) -> Calls {
        // No muxer makes a system call for every byte it writes; a buffer has to be somewhere.
        let usual = if self.sink == SinkKind::File { Calls::Buffered } else { Calls::Own };
        self.calls.unwrap_or(usual)
    }
}

/// Where the calls go.
enum Out {
    File(File),
    Buffered(BufWriter<File>),
    Memory(Sparse),
    Daemon(Box<RipFile>),
}

impl Out {
    fn open(args: &Args) -> io::Result<Self> {
        Ok(match args.sink {
            SinkKind::Memory => Self::Memory(Sparse::default()),
            SinkKind::File => Self::File(open_file(&args.out, args.trace)?),
            SinkKind::Bufwriter => {
                let file = open_file(&args.out, args.trace)?;
                Self::Buffered(BufWriter::with_capacity(MUXER_BUFFER_LEN, file))
            }
            // As a muxer does that knows nothing but these three.
            SinkKind::Daemon => Self::Daemon(Box::new(match (args.trace, args.size_hint) {
                _ if args.inline => open_inline(args)?,
                (Kind::Patch, _) => RipFile::open(&args.out)?,
                (_, Some(bytes)) => RipFile::create_with_size_hint(&args.out, bytes)?,
                (_, None) => RipFile::create(&args.out)?,
            })),
        })
    }

    /// Closes it; a daemon's file is complete and durable then. Returns the frames it took.
    fn complete(self) -> io::Result<Option<u64>> {
        match self {
            Self::Daemon(file) => Ok(Some(file.finish()?.progress.frames_sent)),
            Self::Buffered(mut file) => file.flush().map(|()| None),
            Self::File(_) | Self::Memory(_) => Ok(None),
        }
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match self {
            Self::File(file) => file,
            Self::Buffered(file) => file,
            Self::Memory(model) => model,
            Self::Daemon(file) => &mut **file,
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink().flush()
    }
}

impl Seek for Out {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.sink().seek(to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        self.sink().stream_position()
    }
}

impl Sink for Out {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.sink().set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.sink().write_zeroes(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sink().sync()
    }
}

fn open_file(path: &Path, kind: Kind) -> io::Result<File> {
    match kind {
        Kind::Patch => File::options().write(true).open(path),
        _ => File::create(path),
    }
}

fn open_inline(args: &Args) -> Result<RipFile, freemkvd_client::Error> {
    let mut options = RipFile::options().shared_slots(false);
    if let Some(bytes) = args.size_hint {
        options = options.size_hint(bytes);
    }
    match args.trace {
        Kind::Patch => options.open(&args.out),
        _ => options.create(&args.out),
    }
}

/// Sleeps until the content is due. After a hold-up the trace catches up as fast as the sink lets it,
/// like a drive that has read ahead.
fn pace(start: Instant, content_seconds: f64, speed: f64) {
    if speed > 0.0 {
        let due = start + Duration::from_secs_f64(content_seconds / speed);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn sync(sink: &mut impl Sink) -> io::Result<f64> {
    let start = Instant::now();
    sink.sync()?;
    Ok(start.elapsed().as_secs_f64())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(seconds),
        _ => Err("not a number of at least 0".to_owned()),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
