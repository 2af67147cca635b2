//! Where no open file can be passed on.

use std::io;
use std::path::Path;

use freemkvd_proto::OpenMode;

use crate::OpenBy;
use crate::directory::Directory;

/// There is none.
#[derive(Debug)]
pub(crate) enum Given {}

impl Given {
    /// Fails.
    pub(crate) fn open(_path: &Path, _mode: OpenMode, _by: OpenBy) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn has_directory(&self) -> bool {
        match *self {}
    }

    pub(crate) fn directory(&self) -> &Directory {
        match *self {}
    }

    pub(crate) fn path(&self) -> &Path {
        match *self {}
    }

    pub(crate) fn is_new(&self) -> bool {
        match *self {}
    }

    pub(crate) fn sync_name(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn has_its_name(&self) -> bool {
        match *self {}
    }

    pub(crate) fn has_no_other_name(&self) -> bool {
        match *self {}
    }

    pub(crate) fn take_back(&self) {
        match *self {}
    }
}
