//! Asked of `poll`, for nothing but what it tells unasked: an error, or a terminal that has hung up.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(super) fn is_unread() -> bool {
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_told = poll(&mut asked, Some(&now)).is_ok();
    is_told && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
