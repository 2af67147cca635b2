//! The benchmark: freemkvd beside what muxers do without it, in one run, on real and throttled file
//! systems. `cargo benchmark` runs it; the tables go to standard output, `--json FILE` keeps all.
//!
//! Exit codes: 0 measured, 1 failed, 2 usage, 130 interrupted. Whether a goal was reached is no exit
//! code: a busy machine is no bug.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the benchmark runs on Linux only");
    std::process::exit(1);
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}
