//! Exit codes, as `freemkvctl` has them.

use crate::StartError;
use crate::server::Ending;

/// Nothing went wrong.
pub const FINE: u8 = 0;
/// It could not be done, or not all of it.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong. systemd does not restart the unit for this one: it would fail the
/// same way.
pub const USAGE: u8 = 2;

/// The code for how a daemon has ended, or why it did not start.
#[must_use]
pub fn code_of(ended: &Result<Ending, StartError>) -> u8 {
    match ended {
        Ok(Ending::Drained) => FINE,
        Err(StartError::Config(_)) => USAGE,
        Ok(Ending::Lost) | Err(_) => FAILED,
    }
}
