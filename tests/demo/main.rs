//! The demo: a real daemon on a private socket, four muxer processes that write four rips through it
//! at the same time, `freemkvctl status` while they run, and in the end every byte compared.
//!
//! Exit codes: 0 all bytes are right, 1 something is not.

#[cfg(unix)]
mod report;
#[cfg(unix)]
mod rip;
#[cfg(unix)]
mod watch;

#[cfg(not(unix))]
fn main() {
    eprintln!("the demo runs on Unix only");
    std::process::exit(1);
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    match unix::demo() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("demo: at least one file is not what its muxer wrote");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::path::{Path, PathBuf};

    use clap::Parser;
    use freemkvd_tests::daemon::Daemon;
    use freemkvd_tests::programs;

    use crate::{report, rip, watch};

    /// Four rips at once through one freemkvd, verified byte by byte.
    #[derive(Debug, Parser)]
    #[command(name = "demo")]
    struct Args {
        /// Write the rips here (they need 1.4 GB, and are removed at the end), instead of in the build directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The daemon's budget of dirty memory
        #[arg(long, value_name = "SIZE", default_value = "64MiB")]
        budget: String,
    }

    pub(crate) fn demo() -> Result<bool, Box<dyn Error>> {
        let args = Args::parse();
        println!("Building freemkvd, freemkvctl and the fake muxers ...");
        for program in [programs::freemkvd, programs::freemkvctl, programs::muxer] {
            program();
        }

        // Not in /tmp, which is often memory: a rip goes to a disk.
        let beside = programs::freemkvd().parent().unwrap_or(Path::new("."));
        let home = tempfile::Builder::new()
            .prefix("demo-")
            .tempdir_in(args.dir.as_deref().unwrap_or(beside))?;
        let space = rustix::fs::statvfs(home.path())?;
        let free_bytes = space.f_bavail * space.f_frsize;
        if free_bytes < rip::SPACE_BYTES {
            let dir = home.path().display();
            return Err(format!(
                "{} MB are free in {dir}, and the demo needs {} MB; choose another place with --dir",
                free_bytes / 1_000_000,
                rip::SPACE_BYTES / 1_000_000
            )
            .into());
        }

        let daemon =
            Daemon::start(home.path(), &format!("[budget]\ntotal = \"{}\"\n", args.budget));
        println!("freemkvd runs (pid {}); four muxers begin to rip.\n", daemon.pid());
        let rips = rip::start_all(home.path(), daemon.socket())?;
        let peak = watch::until_done(&daemon, &rips)?;
        let done = rips.into_iter().map(rip::Rip::finish).collect::<Result<Vec<_>, _>>()?;
        println!("Verifying {} files against what their muxers sent ...", done.len());
        let verdicts: Vec<_> = done.iter().map(rip::Done::verify).collect();
        report::print(&done, &verdicts, &peak);
        let (status, log) = daemon.stop();
        if !status.success() {
            return Err(format!("freemkvd ended with {status}; its log:\n{log}").into());
        }
        let all_right = verdicts.iter().all(Result::is_ok);
        if all_right {
            println!("\nAll four files are right, and removed again.");
        }
        Ok(all_right)
    }
}
