//! A daemon that is one user, muxers that are others, and directories for both.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use freemkvd_tests::daemon::{Daemon, home};
use freemkvd_tests::{pattern, programs};

use super::super::place::{run, work};
use super::super::{MIB, mount};

/// Numbers that nobody has.
pub(crate) const DAEMON: u32 = 20_701;
pub(crate) const MUXER: u32 = 20_702;

/// See the module's page.
pub(crate) struct Ground {
    pub(crate) daemon: Daemon,
    dir: tempfile::TempDir,
    /// Copies that everybody may run.
    programs: tempfile::TempDir,
}

/// A mount that goes away with this value.
pub(crate) struct Bound(PathBuf);

impl Bound {
    pub(crate) fn new(what: &Path, at: &Path) -> Self {
        run(Command::new("mount").arg("--bind").args([what, at]));
        Self(at.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// How a muxer ended.
pub(crate) struct End {
    said: String,
    is_good: bool,
}

impl End {
    pub(crate) fn succeeds(self) -> String {
        assert!(self.is_good, "{}", self.said);
        self.said
    }

    pub(crate) fn fails(self) -> String {
        assert!(!self.is_good, "{}", self.said);
        self.said
    }
}

/// A muxer that writes what it is fed.
pub(crate) struct Muxer {
    child: Child,
    input: Option<ChildStdin>,
}

impl Muxer {
    pub(crate) fn write(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let len = (to - at).min(MIB);
            let bytes = pattern::bytes(1, at, usize::try_from(len).unwrap());
            // One that has ended says itself why.
            let _ = self.input.as_mut().unwrap().write_all(&bytes);
            at += len;
        }
    }

    pub(crate) fn end(mut self) -> End {
        drop(self.input.take());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        End { said, is_good: self.child.wait().unwrap().success() }
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_to_all(directory: &Path, mode: u32) {
    fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
}

/// What becomes the program that follows, as this user.
fn becoming(user: u32, groups: &str) -> Vec<String> {
    let user = user.to_string();
    let reuid = format!("--reuid={user}");
    let (regid, groups) = (format!("--regid={user}"), format!("--groups={groups}"));
    ["setpriv", &reuid, &regid, &groups, "--inh-caps=-all"].map(str::to_owned).into()
}

impl Ground {
    /// With a root on the file system of this name.
    pub(crate) fn new(filesystem: &str) -> Self {
        Self::configured(filesystem, "")
    }

    /// The same, with this configuration.
    pub(crate) fn configured(filesystem: &str, config: &str) -> Self {
        open_to_all(&work(), 0o711);
        let dir = tempfile::tempdir_in(mount(filesystem)).unwrap();
        open_to_all(dir.path(), 0o755);
        let programs = tempfile::tempdir_in(work()).unwrap();
        open_to_all(programs.path(), 0o755);
        for program in [programs::freemkvd(), programs::freemkvctl()] {
            let copy = programs.path().join(program.file_name().unwrap());
            fs::hard_link(program, &copy).or_else(|_| fs::copy(program, &copy).map(drop)).unwrap();
        }
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        chown(&root, Some(DAEMON), Some(DAEMON)).unwrap();
        let home = home();
        chown(home.path(), Some(DAEMON), Some(DAEMON)).unwrap();
        open_to_all(home.path(), 0o755);
        let socket = home.path().join("s");
        let file = home.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let words = becoming(DAEMON, &DAEMON.to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(programs.path().join("freemkvd"));
        command.arg("--config").arg(&file).arg("--root").arg(&root).arg("--socket").arg(&socket);
        let daemon = Daemon::start_as(home, socket, command);
        Self { daemon, dir, programs }
    }

    /// A new directory with this owner and mode.
    pub(crate) fn directory(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        open_to_all(&path, mode);
        path
    }

    /// A muxer of this user and umask, which writes `path`.
    pub(crate) fn muxer(&self, user: u32, umask: &str, more: &[&str], path: &Path) -> Muxer {
        self.begin(Command::new("sh"), "true", (user, umask), more, path)
    }

    /// The same, in a mount namespace of its own, after `setup` in there.
    pub(crate) fn muxer_after(
        &self,
        setup: &str,
        user: u32,
        umask: &str,
        more: &[&str],
        path: &Path,
    ) -> Muxer {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh"]);
        self.begin(unshare, setup, (user, umask), more, path)
    }

    /// The same, where the daemon's process is not to be seen.
    pub(crate) fn muxer_apart(&self, user: u32, path: &Path) -> Muxer {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh"]);
        self.begin(unshare, "true", (user, "022"), &[], path)
    }

    /// By a program that becomes a shell.
    fn begin(
        &self,
        mut command: Command,
        setup: &str,
        (user, umask): (u32, &str),
        more: &[&str],
        path: &Path,
    ) -> Muxer {
        let script = format!("{setup} && umask {umask} && exec \"$@\"");
        command.args(["-c", &script, "muxer"]).args(becoming(user, &DAEMON.to_string()));
        command.arg(self.programs.path().join("freemkvctl"));
        command.arg("--socket").arg(self.daemon.socket()).arg("write").args(more).arg(path);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        Muxer { child, input }
    }

    /// Feeds it a film of `len` bytes and waits for its end.
    #[expect(clippy::unused_self, reason = "the muxer writes in it")]
    pub(crate) fn feed(&self, mut muxer: Muxer, len: u64) -> End {
        muxer.write(0, len);
        muxer.end()
    }

    pub(crate) fn wait_for_content(&self, bytes: u64) {
        self.daemon.wait_for("content", |status| {
            status.streams.iter().any(|stream| stream.written_bytes >= bytes)
        });
    }

    #[expect(clippy::unused_self, reason = "the file is in it")]
    pub(crate) fn is_film(&self, path: &Path, len: u64) {
        assert_eq!(pattern::prefix_len(1, path).unwrap(), len, "{}", path.display());
        assert_eq!(fs::metadata(path).unwrap().len(), len);
    }
}
