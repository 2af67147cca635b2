//! `[hook]`: what is run when something deserves a notification.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::file;
use super::merge::Merge;
use super::{ConfigError, Span};
use crate::hook::{IS_AVAILABLE, Program, Settings};

/// What is shorter than a second is no stall, and ends sooner than a program that is asked to end.
const SECOND: Duration = Duration::from_secs(1);
const STALL: RangeInclusive<Duration> = SECOND..=Duration::from_secs(24 * 60 * 60);
/// Meanwhile nothing else is told.
const TIMEOUT: RangeInclusive<Duration> = SECOND..=Duration::from_secs(60 * 60);

/// Each with its key, for saying what differs.
pub(super) fn rows(hook: &Settings) -> [(&'static str, String); 3] {
    let command = hook.program.as_ref().map_or("nothing".to_owned(), |program| {
        let words = program.arguments.iter().map(|argument| format!("{argument:?}"));
        let path = format!("{:?}", program.path);
        std::iter::once(path).chain(words).collect::<Vec<_>>().join(" ")
    });
    [
        ("hook.command", command),
        ("hook.stall", Span(hook.stall).to_string()),
        ("hook.timeout", Span(hook.timeout).to_string()),
    ]
}

impl Merge<'_> {
    pub(super) fn hook(&self, file: &file::Hook) -> Result<Settings, ConfigError> {
        let default = Settings::default();
        let program = file.command.as_ref().map(|command| self.program(command));
        Ok(Settings {
            program: program.transpose()?.flatten(),
            stall: self.time(STALL, "hook.stall", file.stall.as_ref(), default.stall)?,
            timeout: self.time(TIMEOUT, "hook.timeout", file.timeout.as_ref(), default.timeout)?,
        })
    }

    fn program(&self, command: &Spanned<Vec<String>>) -> Result<Option<Program>, ConfigError> {
        let key = "hook.command";
        let [path, arguments @ ..] = command.as_ref().as_slice() else { return Ok(None) };
        if !IS_AVAILABLE {
            let problem =
                "cannot be run on this platform; leave it out, and see `freemkvctl watch`";
            return Err(self.invalid(key, command, problem));
        }
        if let Some(word) = command.as_ref().iter().find(|word| word.contains('\0')) {
            let problem = format!("has {word:?}; leave out the NUL, which no program can be given");
            return Err(self.invalid(key, command, problem));
        }
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            let problem = format!(
                "begins with {path:?}; write the absolute path of a program, and each of its arguments by itself, \
                 like [\"/usr/local/bin/notify\", \"--urgent\"]"
            );
            return Err(self.invalid(key, command, problem));
        }
        Ok(Some(Program { path, arguments: arguments.to_vec() }))
    }

    fn time(
        &self,
        range: RangeInclusive<Duration>,
        key: &'static str,
        span: Option<&Spanned<Span>>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let (least, most) = (Span(*range.start()), Span(*range.end()));
        Ok(self.ranged(least..=most, key, span, Span(default))?.0)
    }
}

#[cfg(test)]
mod tests;
