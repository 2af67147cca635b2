//! What came with a first frame, and a file that came with its stream: the fake daemon writes it through the
//! descriptor that it was given, besides its memory.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use freemkvd_proto::{Command, OpenGiven, Transfer};

/// A file as a client passes it.
#[derive(Debug)]
pub(crate) struct Given {
    data: File,
    sentinel: File,
    directory: Option<File>,
}

/// The slots and the file that came with this frame. Nothing else may have come.
pub(super) fn unpack(
    command: &Command,
    passed: &mut Vec<File>,
    is_given: bool,
) -> (Option<File>, Option<Given>) {
    let (transfer, given) = match command {
        Command::Open(open) => (open.transfer, None),
        Command::OpenResumable(open) => (open.open.transfer, None),
        Command::OpenFile(file) => (file.open.transfer, None),
        Command::OpenGiven(OpenGiven { transfer, passes_directory, .. }) => {
            (*transfer, Some(*passes_directory))
        }
        Command::Resume(resume) => {
            let has_directory = passed.len() > 2 + usize::from(resume.transfer != Transfer::Inline);
            (resume.transfer, is_given.then_some(has_directory))
        }
        _ => (Transfer::Inline, None),
    };
    let mut passed = std::mem::take(passed).into_iter();
    // Where nothing can be passed, the slots are not looked at either.
    let slots = passed.next_if(transfer != Transfer::Inline);
    let given = given.map(|has_directory| Given {
        data: passed.next().expect("the file"),
        sentinel: passed.next().expect("its sentinel"),
        directory: has_directory.then(|| passed.next().expect("its directory")),
    });
    assert!(passed.next().is_none(), "something else came with {:?}", command.kind());
    (slots, given)
}

trait NextIf: Iterator {
    fn next_if(&mut self, is_wanted: bool) -> Option<Self::Item> {
        if is_wanted { self.next() } else { None }
    }
}

impl<I: Iterator> NextIf for I {}

impl Given {
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.data.metadata().unwrap().len()).unwrap()
    }

    pub(super) fn write(&self, offset: usize, content: &[u8]) {
        let mut data = &self.data;
        data.seek(SeekFrom::Start(offset as u64)).unwrap();
        data.write_all(content).unwrap();
    }

    pub(super) fn set_len(&self, len: usize) {
        self.data.set_len(len as u64).unwrap();
    }

    pub(super) fn sync(&self) {
        for file in [&self.data, &self.sentinel].into_iter().chain(&self.directory) {
            file.sync_all().unwrap();
        }
    }

    /// The other one is the same file, passed as before.
    pub(super) fn assert_same(&self, other: &Self) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let of = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).unwrap();
            let all = |given: &Self| {
                [of(&given.data), of(&given.sentinel), given.directory.as_ref().map_or((0, 0), of)]
            };
            assert_eq!(all(self), all(other));
            assert_eq!(of(&self.data), of(&self.sentinel));
        }
        let _ = other;
    }
}
