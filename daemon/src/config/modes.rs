//! The permissions in the configuration: of files and directories that are made, and of the socket.

use toml::Spanned;

use super::access::ONLY_UNIX;
use super::file;
use super::merge::Merge;
use super::{ConfigError, FileMode};
use crate::storage::Creation;

impl Merge<'_> {
    pub(super) fn creation(&self, files: &file::Files) -> Result<Creation, ConfigError> {
        // Without these bits the daemon could not open its own file a second time, nor enter its own directory.
        let file_mode = self.mode("files.mode", files.mode.as_ref(), 0o200)?;
        let directory_mode =
            self.mode("files.directory_mode", files.directory_mode.as_ref(), 0o700)?;
        let makes = files.make_directories.as_ref().is_some_and(|makes| *makes.as_ref());
        Ok(Creation {
            file_mode: file_mode.unwrap_or(Creation::default().file_mode),
            directory_mode: makes.then_some(directory_mode.unwrap_or(0o777)),
        })
    }

    pub(super) fn socket_mode(
        &self,
        mode: Option<&Spanned<FileMode>>,
    ) -> Result<Option<u32>, ConfigError> {
        // Else the daemon's own user could not ask it anything.
        self.mode("access.socket_mode", mode, 0o600)
    }

    /// A mode that has all bits of `least`, and none beyond the nine of permissions: by a set-user-id bit
    /// the daemon would lend its rights.
    fn mode(
        &self,
        key: &'static str,
        mode: Option<&Spanned<FileMode>>,
        least: u32,
    ) -> Result<Option<u32>, ConfigError> {
        let Some(mode) = mode else { return Ok(None) };
        if cfg!(windows) {
            return Err(self.invalid(key, mode, ONLY_UNIX));
        }
        let FileMode(bits) = *mode.as_ref();
        if bits & !0o777 == 0 && bits & least == least {
            return Ok(Some(bits));
        }
        let (is, least) = (FileMode(bits), FileMode(least));
        let problem = format!("is {is}; it must be at most 0777 and have {least} for its owner");
        Err(self.invalid(key, mode, problem))
    }
}
