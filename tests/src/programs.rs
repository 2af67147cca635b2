//! The programs under test, built by the profile that runs the tests, so that nobody tests yesterday's.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The daemon.
#[must_use]
pub fn freemkvd() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("freemkvd", "freemkvd"))
}

/// The command.
#[must_use]
pub fn freemkvctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("freemkvd-client", "freemkvctl"))
}

/// The fake muxer.
#[must_use]
pub fn muxer() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("freemkvd-tests", "muxer"))
}

/// Where the programs are that were built by somebody else, where no cargo runs: under an emulator.
const BUILT: &str = "FREEMKVD_PROGRAMS";

fn build(package: &str, program: &str) -> PathBuf {
    if let Some(built) = std::env::var_os(BUILT) {
        return Path::new(&built).join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    }
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut cargo =
        escargot::CargoBuild::new().manifest_path(workspace).package(package).bin(program);
    if !cfg!(debug_assertions) {
        cargo = cargo.release();
    }
    match cargo.run() {
        Ok(program) => program.path().to_owned(),
        Err(error) => panic!("cannot build {program}: {error}"),
    }
}
