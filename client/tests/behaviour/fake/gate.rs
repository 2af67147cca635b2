//! A place where the fake daemon stops while a test wants it to.

use std::io;
use std::sync::{Condvar, Mutex};

use interprocess::local_socket::Stream;

/// Open: work goes on. Closed: it stops there until the test opens it.
#[derive(Debug)]
pub(super) struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Mutex::new(true), Condvar::new())
    }

    pub(super) fn set(&self, is_open: bool) {
        *self.0.lock().unwrap() = is_open;
        self.1.notify_all();
    }

    pub(super) fn is_open(&self) -> bool {
        *self.0.lock().unwrap()
    }

    pub(super) fn pass(&self) {
        let mut is_open = self.0.lock().unwrap();
        while !*is_open {
            is_open = self.1.wait(is_open).unwrap();
        }
    }
}

/// Reads and answers nothing until the client hangs up.
pub(super) fn park(mut stream: &Stream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(|_| ())
}
