//! The tables, for people.

use super::figures::Figure;
use super::report::Report;
use super::stats::Spread;
use super::summary::{Summary, summarize};

/// Prints all of them, and what to know about them.
pub(crate) fn print(report: &Report) {
    let host = report.host();
    println!("\nLinux {}, {} processors", host.kernel, host.processors);
    if let Some(limits) = host.dirty_limits {
        println!(
            "dirty pages of the host: the kernel starts writeback above {} MiB, and holds writers up \
             above {} MiB",
            limits.background_bytes >> 20,
            limits.throttled_from_bytes() >> 20
        );
    }
    let cost = host.touch_cost;
    println!(
        "memory: {:.0} ms to touch a GiB, {:.0} ms again{}",
        cost.first_ms_per_gib,
        cost.again_ms_per_gib,
        if cost.is_dear() {
            ": unused memory is fetched from elsewhere here; it was touched before each run"
        } else {
            ""
        }
    );
    println!("medians of {} runs; the worst and the best behind \"durable\"", host.repeats);
    if host.verified {
        println!("every file was compared, byte by byte, with what was written to it");
    }
    let summaries = summarize(report.runs());
    for place in report.places() {
        println!("\n== {}: {}", place.name, place.description);
        let held_up = match place.plain_file_could_be_throttled {
            Some(true) => "the kernel could hold a plain file's writer up",
            Some(false) => "too short for the kernel to hold a plain file's writer up",
            None => "the kernel's dirty limits are not known",
        };
        println!("   {} MB a run: {held_up}", place.run_bytes / 1_000_000);
        let here: Vec<_> = summaries.iter().filter(|one| one.place == place.name).collect();
        let mut workloads: Vec<_> = here.iter().map(|one| one.workload).collect();
        workloads.dedup();
        for workload in workloads {
            let rows: Vec<_> =
                here.iter().copied().filter(|one| one.workload == workload).collect();
            println!();
            print_rows(&workload.name(), &rows);
        }
    }
    print_legend(report);
    print_goals(report);
    for left_out in report.left_out() {
        let who = left_out.contender.map_or("all contenders".to_owned(), |one| one.name());
        println!("left out: {}, {who}: {}", left_out.place, left_out.reason);
    }
    for failure in report.failures() {
        println!("FAILED: {failure}");
    }
}

/// Columns that nobody has a figure for are not shown.
fn print_rows(workload: &str, rows: &[&Summary]) {
    let mut lines = vec![vec![workload.to_owned()]];
    lines.extend(rows.iter().map(|row| vec![name(row)]));
    for (figure, heading, digits) in Figure::columns() {
        if !rows.iter().any(|row| row.figures.contains_key(&figure)) {
            continue;
        }
        lines[0].push(heading.to_owned());
        for (line, row) in lines[1..].iter_mut().zip(rows) {
            let shown = row.figures.get(&figure).map(|spread| match figure {
                Figure::DurableMbPerS => with_spread(spread),
                _ => format!("{:.digits$}", spread.median),
            });
            line.push(shown.unwrap_or_else(|| "-".to_owned()));
        }
    }
    for line in aligned(&lines, 1) {
        println!("{line}");
    }
}

/// With what its daemon did.
fn name(row: &Summary) -> String {
    match row.drains.is_empty() {
        true => row.contender.name(),
        false => format!("{} ({})", row.contender, row.drains.join(", ")),
    }
}

fn with_spread(spread: &Spread) -> String {
    format!("{:.0} {:.0}..{:.0}", spread.median, spread.min, spread.max)
}

/// The first columns to the left, the others to the right.
fn aligned(lines: &[Vec<String>], left: usize) -> Vec<String> {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let shown = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths).enumerate();
        let cells = cells.map(|(nth, (cell, &width))| match nth {
            nth if nth < left => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    });
    shown.collect()
}

fn print_legend(report: &Report) {
    let mut counted: Vec<_> =
        report.runs().iter().map(|run| (run.place.as_str(), run.dirty_counted_by)).collect();
    counted.sort_unstable();
    counted.dedup();
    println!(
        "\n\
         in, durable: MB/s until the last write came back, and until all was on the disk; sync s: what \
         lay between\n\
         p50 to max: how long write() took, over all streams; \"file\" below the muxer's buffer, the \
         others above\n\
         s/GiB, cores: CPU of writers and daemon; the kernel's own writeback threads are not in it\n\
         writer: MiB that the largest writer took for its stream; daemon: MiB of its own at the peak\n\
         dirty: MiB dirty or in writeback at the worst moment\n\
         Jain, off by %: how equal streams were that wanted the same, and how far one was from what its \
         weight gives it\n\
         frames, seeks: what was sent to the daemon\n\
         seeks/GiB, run, model: requests that the disk got: seeks, MiB between them, and MiB/s of a \
         disk of 180 MB/s and 8 ms a seek\n\
         fragment: MiB of the file in one piece"
    );
    for (place, asked) in counted {
        let by = match asked {
            super::dirty::Asked::Device => "by the counters of its device",
            super::dirty::Asked::Files => {
                "in the files alone, by cachestat; others use the disk too"
            }
            super::dirty::Asked::Host => "on the whole host, less what there was before",
            super::dirty::Asked::Nobody => "by nobody: there is no disk",
        };
        println!("dirty pages on {place} are counted {by}");
    }
}

fn print_goals(report: &Report) {
    let goals = report.goals();
    let heading = ["place", "goal", "wanted", "measured", "reached"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for goal in &goals {
        let Some((measured, reached)) = goal.measured.zip(goal.reached) else {
            continue;
        };
        let sign = if goal.at_least { ">=" } else { "<=" };
        lines.push(vec![
            goal.place.clone(),
            goal.what.clone(),
            format!("{sign} {} {}", goal.limit, goal.unit).trim_end().to_owned(),
            format!("{measured:.3}"),
            if reached { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    println!();
    if lines.len() > 1 {
        for line in aligned(&lines, 2) {
            println!("{line}");
        }
        println!();
    }
    let mut missing: Vec<_> = goals.iter().map(|goal| &goal.what).collect();
    missing.dedup();
    missing.retain(|what| !goals.iter().any(|goal| goal.what == **what && goal.measured.is_some()));
    let mut told: Vec<&String> = Vec::new();
    for what in missing {
        if !told.contains(&what) {
            println!("not measured: {what}");
            told.push(what);
        }
    }
}
