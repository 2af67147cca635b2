//! The command line: its words, and the help that people read.

mod value;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueHint};
use freemkvd_client::OpenBy;
use freemkvd_proto::{Leftover, limits};

use self::value::{Columns, interval, size, stream, trial_size, weight};
use crate::report::StreamColumn;

/// Shown below the long help of the whole command.
const AFTER_HELP: &str = "\
Examples:
  freemkvctl status                      what every rip is doing
  freemkvctl status --watch              the same, again each second
  freemkvctl status --json | jq .streams
  freemkvctl top                         the same, live and with keys
  freemkvctl watch                       a line for each thing that happens
  freemkvctl why 3                       what stream 3 spends its time on
  freemkvctl metrics                     what a monitoring system reads
  dd if=/dev/sr0 bs=1M | freemkvctl write /srv/rips/disc.iso --size-hint 50GiB
  freemkvctl pause 3                     stream 3 lets the others go first; `resume 3` has it go on
  freemkvctl weight 3 300                stream 3 gets three times its part
  freemkvctl abort 3                     give stream 3 up, whatever its disk does
  freemkvctl drain                       finish what was accepted, and stop
  freemkvctl doctor /srv/rips            what this mount can do, by trying; needs no daemon
  freemkvctl status >/dev/null || echo \"look after the rips\"

Exit codes:
  0  fine
  1  failed
  2  wrong usage
  3  no daemon
  4  degraded: a stream that failed, was abandoned, is stalled or has no space, or a device that is not healthy;
     trouble found by doctor

Environment:
  FREEMKVD_SOCKET  the daemon's socket, where --socket is not given
  NO_COLOR         no colour, if it is not empty";

/// Ask freemkvd, the write daemon of a rip host.
///
/// Without --socket, and without FREEMKVD_SOCKET in the environment, it asks your own daemon if you
/// have started one, and else the one of the system.
#[derive(Debug, Parser)]
#[command(name = "freemkvctl", version, max_term_width = 100, subcommand_required = true)]
#[command(arg_required_else_help = true, after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    Abort(AbortOptions),
    Completions(CompletionsOptions),
    Doctor(DoctorOptions),
    Drain(DrainOptions),
    Metrics(MetricsOptions),
    Pause(PauseOptions),
    Reload(ReloadOptions),
    Resume(ResumeOptions),
    Status(StatusOptions),
    Top(TopOptions),
    Watch(WatchOptions),
    Weight(WeightOptions),
    Why(WhyOptions),
    Write(WriteOptions),
}

/// Print what a shell needs to complete the command line.
///
/// Packages bring it along. Without one, put it where your shell looks; it asks no daemon.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  freemkvctl completions bash >~/.local/share/bash-completion/completions/freemkvctl
  freemkvctl completions zsh >~/.zfunc/_freemkvctl      a directory of $fpath, before compinit
  freemkvctl completions fish >~/.config/fish/completions/freemkvctl.fish

The exit code is 0 if it is printed, 2 for wrong usage, 1 otherwise.")]
pub(crate) struct CompletionsOptions {
    /// Which shell
    pub(crate) shell: ShellChoice,
}

/// The shells that packages have a directory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ShellChoice {
    Bash,
    Fish,
    Zsh,
}

/// Write to a mount to see what it can do for rips, without a daemon, and say what to configure.
///
/// It writes the size, up to a quarter more (at most 64 MiB) and 3 MiB to a file without a name in the directory, 323 MiB
/// if nothing else is said, and measures. It says so first, and nothing is left behind, also after Ctrl-C. It is refused
/// when less than twice the size is free, or a daemon that it can ask writes to the same device. Linux only.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The exit code is 0 if nothing is wrong, 4 if something there loses data or ruins rips, 2 for wrong usage,
1 otherwise.")]
pub(crate) struct DoctorOptions {
    /// The directory, or the path of a file that is to be written there
    pub(crate) path: PathBuf,
    /// How much the main run writes, 8MiB or more
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = trial_size, value_hint = ValueHint::Other)]
    pub(crate) size: u64,
    /// Also while freemkvd writes to the same device: that is held up, and what is measured is what it leaves
    #[arg(long)]
    pub(crate) busy: bool,
    /// Print JSON: in one line, or indented on a terminal
    #[arg(long)]
    pub(crate) json: bool,
}

/// Have the daemon write what it has accepted, and stop.
///
/// For a daemon that is not run by systemd: under the unit of the package this is a restart, and what stops it is
/// `systemctl stop freemkvd.socket freemkvd`. The command returns when the daemon has begun. Rips that are running wait
/// for the daemon to come back, and go on with it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The exit code is 0 if it has begun, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct DrainOptions {}

/// Show what the daemon, its devices and its streams are doing.
///
/// What is wrong comes first and in words, then a line for each device and each stream. The answer
/// comes from the daemon's memory, so it is there at once even when every disk hangs.
///
/// In a terminal that is too narrow, or where COLUMNS says so, some columns are left out; a pipe and --json get everything.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Columns of a device:
  DRAIN            how its dirty pages are written back
  DIRTY, LIMIT     bytes written but not yet on the device, and the most it may have
  RATE/s           what gets clean while it has something to do
  KERNEL           what the kernel counts of DIRTY
  P95              95 of 100 extents were written back within this time

Columns of a stream:
  IN/s, OUT/s      what its muxer hands over, what reaches the device
  ACCEPTED         taken from the muxer
  WRITTEN          handed to the kernel: survives a crash of the daemon, not a power cut
  DURABLE          on the device for certain
  QUEUED, DIRTY    accepted and not yet written; written and not yet on the device

Columns that -o knows beside those are DEVICE, DRAIN, WEIGHT, WINDOW, KERNEL, SEEKS and PATCHES. It takes
the first word of each title: in, out, waits.

The exit code is 0 if all is well, 4 if something is degraded, 3 if there is no daemon. With --watch
it is that of the last answer.")]
pub(crate) struct StatusOptions {
    /// Print JSON: in one line, or indented on a terminal
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask again every second, or every SECONDS, until Ctrl-C; with --json one line each time
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1", value_parser = interval, value_hint = ValueHint::Other)]
    pub(crate) watch: Option<Duration>,
    /// Print of the streams these columns alone, such as id,file,state,device
    #[arg(
        short = 'o',
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        conflicts_with = "json"
    )]
    #[arg(value_parser = Columns, hide_possible_values = true)]
    pub(crate) columns: Option<Vec<StreamColumn>>,
    /// Print sizes and rates as plain numbers of bytes
    #[arg(long, conflicts_with = "json")]
    pub(crate) bytes: bool,
    /// Leave out the titles of the columns
    #[arg(long, conflicts_with = "json")]
    pub(crate) no_header: bool,
}

/// Look at the streams and devices, live, and act on them with keys.
///
/// What is wrong comes first and in words; then the memory that all share, the devices, and the streams with their
/// rates of the last minutes. It needs a terminal, of 80 columns and 24 lines or more.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Keys:
  up, down, j, k   select a stream
  Enter            where its time went, as `freemkvctl why` says it; again, or Esc: back
  a                give it up, as `freemkvctl abort` does; asks first
  p                pause it, or have it go on, as `freemkvctl pause` and `resume` do
  +, -             more or less weight, as `freemkvctl weight` gives it
  s                sort by the next column; at first what is in trouble comes first
  ?                the keys, and what the bars show
  q, Esc, Ctrl-C   end

The exit code is 0 when it is ended, 2 for wrong usage or without a terminal, 3 if there is no daemon at the
beginning, 1 otherwise.")]
pub(crate) struct TopOptions {
    /// How often the daemon is asked, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval, value_hint = ValueHint::Other)]
    pub(crate) interval: Duration,
}

/// Print a line for each thing that happens, until Ctrl-C.
///
/// That a stream is opened or ends, hangs in a call, has no space, waits long for the budget, holds its muxer up, fails
/// or goes on; that a device stops to answer or does again; that the daemon goes away or comes back. It begins with what
/// is wrong.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  freemkvctl watch
  freemkvctl watch --json | jq --unbuffered 'select(.event == \"stream-failed\") | .path'

The exit code is 0 when it is ended, or nobody reads on; 2 for wrong usage, 3 if there is no daemon at the
beginning, 1 otherwise.")]
pub(crate) struct WatchOptions {
    /// Print each as a line of JSON; freemkvctl(1) lists the keys
    #[arg(long)]
    pub(crate) json: bool,
    /// How often the daemon is asked, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = interval, value_hint = ValueHint::Other)]
    pub(crate) interval: Duration,
}

/// Give a stream up: its muxer gets an error, and what was not written of it is dropped.
///
/// For a muxer that hangs, or a disk that never answers. It takes effect at once, also while a thread of the
/// daemon is in a call that does not return; that thread ends when the call does. What becomes of the file is
/// what its muxer has chosen; usually it stays. You may do it for your own streams; root, the user that
/// freemkvd runs as, and the members of access.admin_group may do it for all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The exit code is 0 if it took effect, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct AbortOptions {
    /// The stream's number, the first column of `freemkvctl status`
    #[arg(value_parser = stream, value_hint = ValueHint::Other)]
    pub(crate) stream: u64,
}

/// Have a stream written no further until `freemkvctl resume`, so that others get its device.
///
/// It writes what it has begun and gives its part of the budget back; its muxer waits as soon as its queue is full, and
/// a sync or finish waits as well. It stays paused over a restart of the daemon. A stream whose muxer goes away
/// without having finished, and all when the daemon stops, write what is queued all the same. You may do it for your own
/// streams; root, the user that freemkvd runs as, and the members of access.admin_group may do it for all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The exit code is 0 if it took effect, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct PauseOptions {
    /// The stream's number, the first column of `freemkvctl status`
    #[arg(value_parser = stream, value_hint = ValueHint::Other)]
    pub(crate) stream: u64,
}

/// Have the daemon read its configuration again, and say what has changed.
///
/// The same as `systemctl reload freemkvd`, or the signal HUP, but it says here what is wrong with the file. Streams go
/// on; a file that is not valid changes nothing. It is for root, the user that freemkvd runs as, and the members of
/// access.admin_group.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The exit code is 0 if the configuration is in use, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct ReloadOptions {}

/// Have a paused stream go on.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The exit code is 0 if it took effect, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct ResumeOptions {
    /// The stream's number, the first column of `freemkvctl status`
    #[arg(value_parser = stream, value_hint = ValueHint::Other)]
    pub(crate) stream: u64,
}

/// Give a stream more or less of its device's speed than the others there.
///
/// The streams of one device share its speed by weight: one of 200 gets twice what one of 100 gets,
/// while both have something to write. It takes effect at once. You may do it for your own streams; root,
/// the user that freemkvd runs as, and the members of access.admin_group may do it for all.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  freemkvctl weight 3 300                stream 3 first, as far as that goes
  freemkvctl weight 3 100                as it was

The exit code is 0 if it took effect, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct WeightOptions {
    /// The stream's number, the first column of `freemkvctl status`
    #[arg(value_parser = stream, value_hint = ValueHint::Other)]
    pub(crate) stream: u64,
    /// Its new weight, 10 to 1000; streams begin with 100
    #[arg(value_parser = weight(), value_hint = ValueHint::Other)]
    pub(crate) weight: u32,
}

/// Print what a monitoring system reads from a file: the text format of Prometheus, 0.0.4.
///
/// For the textfile collector of Prometheus' node_exporter write it to another file first, and rename that. Over HTTP the
/// daemon serves the same as OpenMetrics text if it is configured to (`metrics.listen`, `freemkvd-metrics.socket`).
#[derive(Debug, Args)]
pub(crate) struct MetricsOptions {}

/// Say where the time of a stream went, and how much of it its muxer was held up.
///
/// The daemon counts what each stream does at every moment of its life, so the parts add up to the whole. It
/// tells that of streams that have ended within a day, too, as long as it has not been restarted.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Columns:
  FOR              how long in the stream's life, and how much of it
  MUXER HELD UP    as much of that as the muxer waited for the daemon: its queue was full, half of
                   the memory that it shares was on its way, or it waited for an open, sync or finish
  LATELY, HELD UP  the same of the last 30 to 60 seconds

The exit code is 0 if the stream is known, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct WhyOptions {
    /// The stream's number, the first column of `freemkvctl status`
    #[arg(value_parser = stream, value_hint = ValueHint::Other)]
    pub(crate) stream: u64,
    /// Print JSON: in one line, or indented on a terminal
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave out the titles of the columns
    #[arg(long, conflicts_with = "json")]
    pub(crate) no_header: bool,
}

/// Write standard input to a file, through the daemon, and make it durable.
///
/// On a terminal it shows how far it has come. Ctrl-C, and an error of the input, end it; what was
/// read so far is written and made durable, and the file stays, or becomes what --leftover says.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  dd if=/dev/sr0 bs=1M | freemkvctl write /srv/rips/disc.iso
  freemkvctl write film.mkv --size-hint 50GiB <film.tmp
  freemkvctl write film.mkv --publish --leftover remove <film.tmp

The exit code is 0 if the whole input is durable, 2 for wrong usage, 3 if there is no daemon, 1 otherwise.")]
pub(crate) struct WriteOptions {
    /// The file, which must not exist yet
    pub(crate) path: PathBuf,
    /// How long the file is likely to become, such as 50GiB: the space is reserved, or refused, now
    #[arg(long, value_name = "SIZE", value_parser = size, value_hint = ValueHint::Other)]
    pub(crate) size_hint: Option<u64>,
    /// Its part of the device's speed beside other streams there, 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = weight(), value_hint = ValueHint::Other)]
    #[arg(default_value_t = limits::WEIGHT_DEFAULT)]
    pub(crate) weight: u32,
    /// Empty and write a file that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Call it PATH.partial until all of it is there and durable
    #[arg(long)]
    pub(crate) publish: bool,
    /// What becomes of the file if the input fails or is interrupted
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    pub(crate) leftover: LeftoverChoice,
    /// Who opens the file: this command, which passes it on, or the daemon, which is told the path
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) open_by: OpenByChoice,
    /// Print nothing but errors
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// As in the library, in words for the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OpenByChoice {
    /// This command, if the daemon is another user or may see other files
    Auto,
    /// The daemon
    Path,
    /// This command: the file is yours, wherever the daemon's roots are
    Descriptor,
}

impl From<OpenByChoice> for OpenBy {
    fn from(choice: OpenByChoice) -> Self {
        match choice {
            OpenByChoice::Auto => Self::Auto,
            OpenByChoice::Path => Self::Path,
            OpenByChoice::Descriptor => Self::Descriptor,
        }
    }
}

/// As in the protocol, in words for the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LeftoverChoice {
    /// It stays as it is
    Keep,
    /// It stays, as PATH.partial
    Partial,
    /// It is removed
    Remove,
}

impl From<LeftoverChoice> for Leftover {
    fn from(choice: LeftoverChoice) -> Self {
        match choice {
            LeftoverChoice::Keep => Self::Keep,
            LeftoverChoice::Partial => Self::Partial,
            LeftoverChoice::Remove => Self::Remove,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_have_units_or_are_bytes() {
        assert_eq!(size("50GiB"), Ok(50 << 30));
        assert_eq!(size("1.5 KiB"), Ok(1536));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "GiB", "-1", "50 parsecs"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn watch_takes_seconds_only_after_an_equals_sign() {
        let watch = |arguments: &[&str]| {
            let all = ["freemkvctl", "status"].iter().chain(arguments);
            match Arguments::try_parse_from(all).map(|a| a.command) {
                Ok(Subcommand::Status(options)) => Ok(options.watch),
                _ => Err(()),
            }
        };
        assert_eq!(watch(&[]), Ok(None));
        assert_eq!(watch(&["--watch"]), Ok(Some(Duration::from_secs(1))));
        assert_eq!(watch(&["--watch=0.5"]), Ok(Some(Duration::from_millis(500))));
        for wrong in ["--watch=0", "--watch=x", "--watch=nan", "--watch=1e9"] {
            assert_eq!(watch(&[wrong]), Err(()), "{wrong}");
        }
        assert_eq!(watch(&["--watch", "2"]), Err(()));
    }
}
