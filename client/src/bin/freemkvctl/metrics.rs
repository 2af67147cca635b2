//! `freemkvctl metrics`: what a monitoring system reads from a file.
//!
//! The daemon says OpenMetrics text. The textfile collector of node_exporter, and what else reads metrics from files,
//! knows only the format before that (`text/plain; version=0.0.4`) and refuses a file with a type that it has not heard
//! of. The samples are the same in both.

use std::collections::BTreeMap;
use std::path::Path;

use freemkvd_client::control::Control;

use crate::exit::{Exit, Failed};
use crate::status::{TIMEOUT, print};

pub(crate) fn run(socket: Option<&Path>) -> Result<Exit, Failed> {
    let text = Control::connect(socket, TIMEOUT)?.metrics()?;
    print(&as_before_openmetrics(&text))?;
    Ok(Exit::Fine)
}

/// Without units and end mark, which are new; with a family called as its samples are; and with the types of then.
fn as_before_openmetrics(text: &str) -> String {
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let line_before = |line: &str| {
        let Some(about) = line.strip_prefix("# ") else { return Some(line.to_owned()) };
        let (what, about) = about.split_once(' ')?;
        let (name, rest) = about.split_once(' ').unwrap_or((about, ""));
        let (ending, kind) = match types.get(name).copied() {
            Some("counter") => ("_total", "counter"),
            Some("info") => ("_info", "gauge"),
            kind => ("", kind.unwrap_or("untyped")),
        };
        match what {
            "HELP" => Some(format!("# HELP {name}{ending} {rest}")),
            "TYPE" => Some(format!("# TYPE {name}{ending} {kind}")),
            _ => None,
        }
    };
    text.lines().filter_map(line_before).map(|line| line + "\n").collect()
}
