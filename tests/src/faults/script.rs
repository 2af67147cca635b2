//! What goes wrong, and when.
//!
//! Injects, at the Nth call of a kind, once or from then on, for all files or for one:
//! * an error, with nothing done;
//! * a short write, alone or followed by an error;
//! * an interruption by a signal (EINTR), which the storage has to answer by calling again;
//! * a delay;
//! * a hang, until [`Script::release`];
//! * the end of the device: this call and every one after it fails, and so does all writeback;
//! * a read-only remount: from this call on nothing can be changed, and writeback fails.
//!
//! [`Call::Medium`] is no call of the storage but a run of pages on its way to the device, whoever sent it
//! there. Its error is nobody's at first: whoever waits or syncs next, by each descriptor, hears of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

/// What the storage is called for. [`freemkvd::storage::Storage::sync`] is three of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Opening or creating a file.
    Open,
    /// One `pwrite` into the page cache.
    Write,
    /// The same with `RWF_DONTCACHE`.
    WriteUncached,
    /// The same with `O_DIRECT`.
    WriteDirect,
    /// Making a range zeros without writing them.
    WriteZeroes,
    /// Setting the length.
    SetLen,
    /// Asking for the length.
    Len,
    /// Reserving space.
    Reserve,
    /// Asking for free space.
    Available,
    /// Giving back space.
    ReleaseSurplus,
    /// Starting writeback.
    StartWriteback,
    /// Waiting for writeback.
    WaitWriteback,
    /// Syncing the data of the whole file.
    SyncData,
    /// Dropping clean pages.
    Evict,
    /// Counting pages.
    Pages,
    /// Removing the name.
    Unlink,
    /// Asking whether a name is taken.
    TakenBy,
    /// Renaming.
    Rename,
    /// Closing a duplicate, to hear what the close has to say.
    Close,
    /// The first part of a sync: the descriptor that is written to.
    SyncContent,
    /// The second part: the one that is never waited on.
    SyncSentinel,
    /// The third part: the directory.
    SyncName,
    /// A run of pages on its way to the device.
    Medium,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Open,
        Self::Write,
        Self::WriteUncached,
        Self::WriteDirect,
        Self::WriteZeroes,
        Self::SetLen,
        Self::Len,
        Self::Reserve,
        Self::Available,
        Self::ReleaseSurplus,
        Self::StartWriteback,
        Self::WaitWriteback,
        Self::SyncData,
        Self::Evict,
        Self::Pages,
        Self::Unlink,
        Self::TakenBy,
        Self::Rename,
        Self::Close,
        Self::SyncContent,
        Self::SyncSentinel,
        Self::SyncName,
        Self::Medium,
    ];

    /// True for a write of content.
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::WriteUncached | Self::WriteDirect)
    }

    /// True where the kernel may answer a signal with EINTR, so that the call has to be made again.
    #[must_use]
    pub fn is_interruptible(self) -> bool {
        self.is_write()
            || matches!(
                self,
                Self::WriteZeroes
                    | Self::SetLen
                    | Self::Reserve
                    | Self::ReleaseSurplus
                    | Self::StartWriteback
                    | Self::WaitWriteback
                    | Self::SyncData
                    | Self::SyncContent
                    | Self::SyncSentinel
                    | Self::SyncName
            )
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this errno, and has done nothing. At [`Call::Medium`] the run of pages is lost.
    Error(i32),
    /// A write writes half of its bytes. With an errno, the next one of this kind fails with it.
    Short(Option<i32>),
    /// It takes so long.
    Delay(Duration),
    /// It does not return until it is released.
    Hang,
    /// From here on everything fails with this errno.
    Vanish(i32),
    /// From here on nothing can be changed.
    ReadOnly,
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub struct Rule {
    /// At which kind of call.
    pub call: Call,
    /// At which of them, from 1 on, counted since the last [`Script::clear`].
    pub nth: u64,
    /// At all that come after, too.
    pub lasting: bool,
    /// Only for the file that has this name when it is called. The count is that of all files.
    pub path: Option<PathBuf>,
    /// What.
    pub fault: Fault,
}

/// A fault that has struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// In which call.
    pub call: Call,
    /// The number that it failed with, if it did.
    pub errno: Option<i32>,
    /// Where in the file, in bytes, if the call is about a place.
    pub offset: Option<u64>,
    /// The file.
    pub path: PathBuf,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Script {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    counts: BTreeMap<Call, u64>,
    fired: Vec<Fired>,
    hanging: usize,
    releases: u64,
}

impl Script {
    /// The `nth` call of a kind from now on goes wrong.
    pub fn fail(&self, call: Call, nth: u64, fault: Fault) {
        self.add(Rule { call, nth, lasting: false, path: None, fault });
    }

    /// The `nth` and all after it.
    pub fn fail_from(&self, call: Call, nth: u64, fault: Fault) {
        self.add(Rule { call, nth, lasting: true, path: None, fault });
    }

    /// Adds a rule. Of several that fit the first counts.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Forgets all rules, counts and faults.
    pub fn clear(&self) {
        let mut state = self.lock();
        (state.rules, state.counts, state.fired) = Default::default();
    }

    /// Forgets the rules alone.
    pub fn heal(&self) {
        self.lock().rules.clear();
    }

    /// How many calls of each kind there were.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Call, u64> {
        self.lock().counts.clone()
    }

    /// The faults that have struck, in order.
    #[must_use]
    pub fn fired(&self) -> Vec<Fired> {
        self.lock().fired.clone()
    }

    /// How many calls hang.
    #[must_use]
    pub fn hanging(&self) -> usize {
        self.lock().hanging
    }

    /// Takes away all rules that make calls hang, and lets those go on that do.
    pub fn release(&self) {
        let mut state = self.lock();
        state.rules.retain(|rule| rule.fault != Fault::Hang);
        state.releases += 1;
        self.released.notify_all();
    }

    /// A call is made: counts it, and sits out a delay or a hang. What is returned is the caller's to do.
    pub(super) fn meet(&self, call: Call, path: &Path, offset: Option<u64>) -> Option<Fault> {
        let mut state = self.lock();
        let count = state.counts.entry(call).or_default();
        *count += 1;
        let count = *count;
        let fits = |rule: &&Rule| {
            let is_now = rule.nth == count || rule.lasting && rule.nth < count;
            rule.call == call && is_now && rule.path.as_deref().is_none_or(|other| other == path)
        };
        let fault = state.rules.iter().find(fits)?.fault;
        let errno = match fault {
            Fault::Error(errno) | Fault::Vanish(errno) => Some(errno),
            Fault::ReadOnly => Some(Errno::ROFS.raw_os_error()),
            _ => None,
        };
        state.fired.push(Fired { call, errno, offset, path: path.to_owned() });
        if let (Fault::Short(Some(errno)), true) = (fault, call.is_write()) {
            let next = Rule {
                call,
                nth: count + 1,
                lasting: false,
                path: None,
                fault: Fault::Error(errno),
            };
            state.rules.insert(0, next);
        }
        match fault {
            Fault::Delay(time) => {
                drop(state);
                std::thread::sleep(time);
                None
            }
            Fault::Hang => {
                state.hanging += 1;
                let releases = state.releases;
                let hangs = |state: &mut State| state.releases == releases;
                let waited = self.released.wait_while(state, hangs);
                waited.unwrap_or_else(PoisonError::into_inner).hanging -= 1;
                None
            }
            fault => Some(fault),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
