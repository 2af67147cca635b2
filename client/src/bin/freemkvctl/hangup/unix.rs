//! Asked of `poll`, for nothing but what it tells unasked: an error, or a terminal that has hung up.

use std::io;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(super) fn is_unread() -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    is_told(Some(&now)).unwrap_or(false)
}

pub(super) fn end_when_unread(code: u8) -> io::Result<()> {
    let wait = move || {
        loop {
            match is_told(None) {
                Ok(true) => std::process::exit(code.into()),
                Ok(false) | Err(rustix::io::Errno::INTR) => {}
                // Then nothing is to be learned.
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name("hangup".into()).spawn(wait).map(drop)
}

fn is_told(timeout: Option<&Timespec>) -> rustix::io::Result<bool> {
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut asked, timeout)?;
    Ok(asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP))
}
