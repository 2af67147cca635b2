//! `freemkvctl top`, in a terminal of 80 columns and 24 lines.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_proto::status::StreamState;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::fake_daemon::FakeDaemon;
use crate::freemkvctl;
use crate::status::healthy;

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command, and the terminal that it draws on.
struct Terminal {
    keys: File,
    /// The side of the command, held open so that its settings can be looked at afterwards.
    far: File,
    output: Receiver<Vec<u8>>,
    /// What was sent and is not drawn yet.
    sent: Vec<u8>,
    drawn: Screen,
    child: Child,
}

impl Terminal {
    fn start(daemon: &FakeDaemon, environment: &[(&str, &str)]) -> Self {
        // Not the command's as well: then it would never hang up.
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&near, size).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap();
        let far = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let mut command = freemkvctl(&daemon.socket());
        command.args(["top", "--interval", "0.1"]).env("TERM", "xterm");
        command.envs(environment.iter().copied()).stdin(far.try_clone().unwrap());
        command.stdout(far.try_clone().unwrap()).stderr(far.try_clone().unwrap());
        let child = command.spawn().unwrap();
        let keys = File::from(near);
        let mut screen = keys.try_clone().unwrap();
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            // The other side closing is an error here, and the end.
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keys, far, output, sent: Vec::new(), drawn: Screen::default(), child }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn wait(&mut self, is: impl Fn(&Screen) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is(&self.drawn) {
            let left = end.saturating_duration_since(Instant::now());
            let more = self.output.recv_timeout(left);
            self.sent.extend(more.unwrap_or_else(|_| panic!("{:#?}", self.drawn)));
            self.drawn.take(&mut self.sent);
        }
    }

    /// Waits until this is to be seen.
    fn wait_for(&mut self, text: &str) {
        self.wait(|screen| {
            screen.lines.iter().any(|line| line.iter().collect::<String>().contains(text))
        });
    }

    /// Waits for its end, which leaves the terminal as it was.
    fn end(&mut self) -> ExitStatus {
        self.wait(|screen| screen.is_left);
        let status = self.child.wait().unwrap();
        let modes = tcgetattr(&self.far).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        status
    }
}

impl Terminal {
    /// Closes the terminal, of which nobody tells the command by a signal.
    fn hang_up(self, draw: impl FnOnce()) -> Child {
        drop((self.keys, self.output));
        // With the next that comes, the thread that reads finds that nobody wants it, and closes the last of it.
        draw();
        self.child
    }
}

/// As much of a terminal as the command makes use of.
#[derive(Debug)]
struct Screen {
    lines: Vec<Vec<char>>,
    line: usize,
    column: usize,
    has_colour: bool,
    /// The screen that is drawn on was entered, and left again.
    is_left: bool,
}

impl Default for Screen {
    fn default() -> Self {
        let lines = vec![vec![' '; 80]; 24];
        Self { lines, line: 0, column: 0, has_colour: false, is_left: false }
    }
}

impl Screen {
    /// Draws what was sent, and leaves what has no end yet.
    fn take(&mut self, sent: &mut Vec<u8>) {
        let valid = match std::str::from_utf8(sent) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8(sent[..valid].to_vec()).unwrap();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            if first != '\u{1b}' {
                self.lines[self.line][self.column.min(79)] = first;
                self.column += 1;
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let is_end = |(at, character): (usize, char)| at > 1 && character.is_ascii_alphabetic();
            let Some(end) = rest.char_indices().position(is_end) else {
                break;
            };
            self.obey(&rest[2..=end]);
            rest = &rest[end + 1..];
        }
        sent.drain(..valid - rest.len());
    }

    fn obey(&mut self, sequence: &str) {
        let (what, last) = sequence.split_at(sequence.len() - 1);
        match last {
            "H" => {
                let (line, column) = what.split_once(';').unwrap();
                (self.line, self.column) = (line.parse().unwrap(), column.parse().unwrap());
                (self.line, self.column) = (self.line - 1, self.column - 1);
            }
            "J" => self.lines = Self::default().lines,
            "m" => self.has_colour |= what.contains("38;5") || what.contains("48;5"),
            "l" => self.is_left |= what == "?1049",
            _ => {}
        }
    }
}

fn until(is: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn keys_act_on_the_selected_stream() {
    let daemon = FakeDaemon::start(healthy());
    let mut terminal = Terminal::start(&daemon, &[]);
    // The throttled one is in front, and selected.
    terminal.wait_for("stream 2, /rips/Metropolis (1927)/title_t03.mkv: throttled 3 s");
    terminal.press("j");
    terminal.wait_for("stream 1, /rips/The Third Man (1949)/title_t00.mkv: writing");
    assert!(terminal.drawn.has_colour);
    terminal.press("+");
    until(|| daemon.weights() == [(1, 150)]);
    terminal.wait_for("stream 1 has weight 150 now");
    terminal.press("p");
    until(|| daemon.pauses() == [(1, true)]);
    terminal.wait_for("stream 1 is paused");
    terminal.press("\r");
    terminal.wait_for("waiting for writeback to the device");
    terminal.press("\rk");
    terminal.wait_for("stream 2, /rips/Metropolis");
    terminal.press("an");
    terminal.press("a");
    terminal.wait_for("give stream 2 up? y/n");
    assert_eq!(daemon.aborts(), Vec::<u64>::new());
    terminal.press("y");
    until(|| daemon.aborts() == [2]);
    terminal.press("q");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn it_outlives_the_daemon_and_ends_with_a_signal() {
    let mut status = healthy();
    let daemon = FakeDaemon::start(status.clone());
    let mut terminal = Terminal::start(&daemon, &[("NO_COLOR", "1")]);
    terminal.wait_for("throttled");
    assert!(!terminal.drawn.has_colour);
    daemon.hide();
    terminal.wait_for("trying again");
    status.streams[0].state = StreamState::Failed;
    daemon.say(status);
    daemon.show_again();
    terminal.wait_for("failed: stream 1, /rips/The Third Man");
    crate::interrupt(&terminal.child);
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn ctrl_c_ends_it_whatever_is_shown() {
    let daemon = FakeDaemon::start(healthy());
    let mut terminal = Terminal::start(&daemon, &[]);
    terminal.wait_for("throttled");
    terminal.press("?a\u{3}");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn it_ends_when_its_terminal_goes_away_without_a_signal() {
    let mut status = healthy();
    let daemon = FakeDaemon::start(status.clone());
    let mut terminal = Terminal::start(&daemon, &[]);
    terminal.wait_for("throttled");
    let mut child = terminal.hang_up(|| {
        status.streams[0].state = StreamState::Failed;
        daemon.say(status);
    });
    let end = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended.code();
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("it goes on without a terminal");
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert!([Some(0), Some(1)].contains(&code), "{code:?}");
}
