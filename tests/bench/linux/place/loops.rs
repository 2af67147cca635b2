//! File systems on a loop device that is as slow as wanted. Root only.
//!
//! A layer over it (overlayfs, FUSE) is mounted on top. Whatever was made is removed in the opposite
//! order when the value is dropped, half-made ones too.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::dirty::Source;
use super::{Filesystem, Refusal};

/// Root's group of the old blkio hierarchy. A limit there holds for everybody who uses the device,
/// and for writeback as well, which one in a child group does not.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";

/// FUSE file systems that copy nothing but pass calls on, and how to run one in the foreground.
const FUSE_PROGRAMS: [(&str, &[&str]); 2] = [
    // As NAS boxes use it.
    ("mergerfs", &["-f", "-o", "cache.files=off,minfreespace=0"]),
    ("bindfs", &["-f"]),
];

/// Beside the runs, for the file system's own: its journal, its trees.
const OWN_BYTES: u64 = 512 << 20;

#[derive(Debug)]
pub(crate) struct Loop {
    image: PathBuf,
    /// `/dev/loopN`.
    device: Option<PathBuf>,
    number: (u32, u32),
    throttled: bool,
    /// Lowest first.
    mounts: Vec<PathBuf>,
    fuse: Option<Child>,
    description: String,
    dirty: Source,
}

impl Loop {
    /// `debugfs` is where that is mounted, if it is.
    pub(crate) fn set_up(
        work: &Path,
        debugfs: Option<&Path>,
        filesystem: Filesystem,
        bytes_per_second: Option<u64>,
        size: u64,
    ) -> Result<Self, Refusal> {
        let below = match filesystem {
            Filesystem::Xfs => "xfs",
            Filesystem::Btrfs => "btrfs",
            _ => "ext4",
        };
        let left_out = |reason: String| Err(Refusal::LeftOut(reason));
        for program in [format!("mkfs.{below}"), "losetup".to_owned()] {
            if find_program(&program).is_none() {
                return left_out(format!("{program} is not installed"));
            }
        }
        if bytes_per_second.is_some() && !Path::new(THROTTLE).exists() {
            return left_out(format!("no {THROTTLE} (cgroup v1) to throttle with"));
        }
        let fuse = FUSE_PROGRAMS.iter().find(|(program, _)| find_program(program).is_some());
        if filesystem == Filesystem::Fuse && fuse.is_none() {
            return left_out("neither mergerfs nor bindfs is installed".to_owned());
        }

        let mut made = Self {
            image: work.join("image"),
            device: None,
            number: (0, 0),
            throttled: false,
            mounts: Vec::new(),
            fuse: None,
            description: String::new(),
            dirty: Source::Host,
        };
        made.attach(below, 2 * size + OWN_BYTES)?;
        if Path::new(THROTTLE).exists() {
            // Whoever had this device before may have been killed before it could take that back.
            made.throttle(0)?;
        }
        let disk = made.mount_device(work, below)?;
        made.dirty = made.find_counters(debugfs, below);
        made.description = format!("{below} on a loop device");
        if filesystem == Filesystem::Overlay {
            made.mount_overlay(work, &disk)?;
            made.description.insert_str(0, "overlayfs over ");
        }
        if let (Filesystem::Fuse, Some((program, options))) = (filesystem, fuse) {
            made.mount_fuse(work, program, options, &disk)?;
            made.description.insert_str(0, &format!("{program} (FUSE) over "));
        }
        if let Some(rate) = bytes_per_second {
            made.throttled = true;
            made.throttle(rate)?;
            made.description.push_str(&format!(" throttled to {} MB/s", rate / 1_000_000));
        }
        Ok(made)
    }

    /// Where to write: on top of everything.
    pub(crate) fn directory(&self) -> &Path {
        self.mounts.last().unwrap_or(&self.image)
    }

    pub(crate) fn number(&self) -> (u32, u32) {
        self.number
    }

    pub(crate) fn dirty_source(&self) -> Source {
        self.dirty.clone()
    }

    pub(crate) fn description(&self) -> String {
        self.description.clone()
    }

    fn attach(&mut self, filesystem: &str, bytes: u64) -> io::Result<()> {
        fs::File::create_new(&self.image)?.set_len(bytes)?;
        let quiet: &[&str] = if filesystem == "btrfs" { &["-q", "-f"] } else { &["-q"] };
        let image = self.image.as_os_str();
        let arguments = quiet.iter().map(OsStr::new).chain([image]);
        command(&format!("mkfs.{filesystem}"), arguments)?;
        // Past the page cache: the image's own dirty pages would only be in the way.
        let options = ["--find", "--show", "--direct-io=on"].map(OsStr::new);
        let device = command("losetup", options.into_iter().chain([image]))?;
        let device = PathBuf::from(device.trim());
        let name = device.file_name().unwrap_or_default().to_owned();
        self.device = Some(device);
        let number = fs::read_to_string(Path::new("/sys/block").join(name).join("dev"))?;
        let parse = || {
            let (major, minor) = number.trim().split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        self.number = parse().ok_or(io::ErrorKind::InvalidData)?;
        Ok(())
    }

    fn mount_device(&mut self, work: &Path, filesystem: &str) -> io::Result<PathBuf> {
        let device = self.device.clone().ok_or(io::ErrorKind::NotFound)?;
        let directory = self.mount(work, "disk", &["-t", filesystem], device.as_os_str())?;
        // From here on it goes with its last mount, whatever happens to this process.
        command("losetup", ["--detach".as_ref(), device.as_os_str()])?;
        Ok(directory)
    }

    fn mount_overlay(&mut self, work: &Path, disk: &Path) -> io::Result<PathBuf> {
        let [lower, upper, internal] = ["lower", "upper", "internal"].map(|name| disk.join(name));
        for directory in [&lower, &upper, &internal] {
            fs::create_dir(directory)?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            internal.display()
        );
        self.mount(work, "overlay", &["-t", "overlay", "-o", &options], "overlay".as_ref())
    }

    fn mount_fuse(
        &mut self,
        work: &Path,
        program: &str,
        options: &[&str],
        disk: &Path,
    ) -> io::Result<PathBuf> {
        let (branch, target) = (disk.join("branch"), work.join("fuse"));
        fs::create_dir(&branch)?;
        fs::create_dir(&target)?;
        // It ends with this process even if that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", program])
            .args(options)
            .args([&branch, &target])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        self.fuse = Some(child);
        self.mounts.push(target.clone());
        let is_mounted = || {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            mounts.contains(&format!(" {} fuse", target.display()))
        };
        if freemkvd_tests::daemon::wait_until(is_mounted) {
            return Ok(target);
        }
        Err(io::Error::other(format!("{program} does not mount")))
    }

    fn mount(
        &mut self,
        work: &Path,
        name: &str,
        options: &[&str],
        what: &OsStr,
    ) -> io::Result<PathBuf> {
        let directory = work.join(name);
        fs::create_dir(&directory)?;
        let options = options.iter().map(OsStr::new);
        command("mount", options.chain([what, directory.as_os_str()]))?;
        self.mounts.push(directory.clone());
        Ok(directory)
    }

    /// 0 for as fast as it goes.
    fn throttle(&self, bytes_per_second: u64) -> io::Result<()> {
        let (major, minor) = self.number;
        fs::write(THROTTLE, format!("{major}:{minor} {bytes_per_second}"))
    }

    /// Where the kernel counts the dirty pages of the device. btrfs counts under a name of its own.
    fn find_counters(&self, debugfs: Option<&Path>, filesystem: &str) -> Source {
        let (major, minor) = self.number;
        let name = match filesystem {
            "btrfs" => self.btrfs_counters(),
            _ => Some(format!("{major}:{minor}")),
        };
        let path = debugfs.zip(name).map(|(root, name)| root.join("bdi").join(name).join("stats"));
        match path {
            Some(path) if path.exists() => Source::Device(path),
            _ => Source::Host,
        }
    }

    fn btrfs_counters(&self) -> Option<String> {
        let name = self.device.as_ref()?.file_name()?.to_owned();
        let volumes = fs::read_dir("/sys/fs/btrfs").ok()?;
        let ours =
            volumes.flatten().find(|volume| volume.path().join("devices").join(&name).exists());
        let counters = fs::read_link(ours?.path().join("bdi")).ok()?;
        Some(counters.file_name()?.to_str()?.to_owned())
    }
}

impl Drop for Loop {
    /// Nothing is left to tell the errors to but the screen.
    fn drop(&mut self) {
        if self.throttled && self.throttle(0).is_err() {
            eprintln!("bench: {:?} is still throttled in {THROTTLE}", self.number);
        }
        for directory in self.mounts.iter().rev() {
            unmount(directory);
            let _ = fs::remove_dir(directory);
        }
        if let Some(mut child) = self.fuse.take() {
            // It ends with its mount; if there was none, not by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(device) = self.device.take().filter(|_| self.mounts.is_empty()) {
            let _ = command("losetup", ["--detach".as_ref(), device.as_os_str()]);
        }
        let _ = fs::remove_file(&self.image);
    }
}

pub(super) fn unmount(directory: &Path) {
    for _ in 0..100 {
        match command("umount", [directory]) {
            Ok(_) => return,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    eprintln!("bench: {} is still in use", directory.display());
    let _ = command("umount", ["--lazy".as_ref(), directory.as_os_str()]);
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// Runs a program to its end; returns what it printed.
pub(super) fn command<I: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = I>,
) -> io::Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{program}: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
