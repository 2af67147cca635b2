//! A control group of version 1, for a daemon that may not have everything.

use std::fs;
use std::path::PathBuf;

use freemkvd_tests::daemon::wait_until;

/// A control group, which ends with its owner.
pub(crate) struct Group(PathBuf);

impl Group {
    /// One of this controller.
    ///
    /// # Panics
    /// On a host without it.
    pub(crate) fn new(controller: &str) -> Self {
        let name = format!("freemkvd-test-{}", std::process::id());
        let place = PathBuf::from("/sys/fs/cgroup").join(controller).join(name);
        let made = fs::create_dir(&place);
        assert!(made.is_ok(), "this test needs cgroup v1 with {controller}: {made:?}");
        Self(place)
    }

    /// What starts a process in it.
    pub(crate) fn launcher(&self) -> [String; 3] {
        let words = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display());
        ["sh".to_owned(), "-c".to_owned(), words]
    }

    pub(crate) fn set(&self, file: &str, number: u64) {
        fs::write(self.0.join(file), number.to_string()).unwrap();
    }

    pub(crate) fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.0.join(file)).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes are gone, if not quite.
        let removed = wait_until(|| fs::remove_dir(&self.0).is_ok());
        assert!(removed || std::thread::panicking(), "{} is still there", self.0.display());
    }
}
