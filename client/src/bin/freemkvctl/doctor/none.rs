//! Where the kernel does not show what there is to look at.

use crate::cli::DoctorOptions;
use crate::exit::{Exit, Failed};

pub(crate) fn run(options: &DoctorOptions) -> Result<Exit, Failed> {
    // All of them are for Linux.
    let DoctorOptions { path, size: _, json: _ } = options;
    Err(Failed::Doctor(format!("cannot examine {}: doctor needs Linux", path.display())))
}
