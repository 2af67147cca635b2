//! Where the kernel does not show what there is to look at.

use std::path::Path;

use crate::cli::DoctorOptions;
use crate::exit::{Exit, Failed};

pub(crate) fn run(_socket: Option<&Path>, options: &DoctorOptions) -> Result<Exit, Failed> {
    // All of them are for Linux.
    let DoctorOptions { path, size: _, json: _, busy: _ } = options;
    Err(Failed::Doctor(format!("cannot examine {}: doctor needs Linux", path.display())))
}
