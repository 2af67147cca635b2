//! The values on the command line that are not just words: what they are, and what is said of one that is none.

use std::ffi::OsStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{PossibleValue, RangedI64ValueParser, TypedValueParser};
use freemkvd_proto::limits;

use crate::report::StreamColumn;

/// Columns by their names, which shells can complete.
#[derive(Clone, Debug)]
pub(super) struct Columns;

impl TypedValueParser for Columns {
    type Value = StreamColumn;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<StreamColumn, clap::Error> {
        TypedValueParser::parse_ref(&StreamColumn::of, command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(StreamColumn::names().map(PossibleValue::new)))
    }
}

pub(super) fn stream(text: &str) -> Result<u64, String> {
    let parsed = text.parse();
    parsed.map_err(|_| {
        "not a stream's number, which is the first column of `freemkvctl status`".to_owned()
    })
}

pub(super) fn weight() -> RangedI64ValueParser<u32> {
    let (lowest, highest) = limits::WEIGHTS.into_inner();
    clap::value_parser!(u32).range(i64::from(lowest)..=i64::from(highest))
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    text.parse()
        .map(|size: ByteSize| size.as_u64())
        .map_err(|_| "not a size such as 50GiB, or a number of bytes".to_owned())
}

pub(super) fn trial_size(text: &str) -> Result<u64, String> {
    // Less measures caches; more than a TiB is a mistake.
    size(text).and_then(|size| match size {
        0x80_0000..=0x100_0000_0000 => Ok(size),
        _ => Err("not a size from 8MiB to 1TiB".to_owned()),
    })
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    // Below a tenth of a second nobody can read it; above a day it is a mistake.
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds from 0.1 to 86400".to_owned()),
    }
}
