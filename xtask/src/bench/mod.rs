//! `cargo xtask bench`: every row of the budget table, measured on this machine; fails when one is over its budget.
//!
//! Clusters run in network namespaces of their own, started by the tests' harness from the release binary. `rows` is
//! the table, each other file measures a few of its rows. docs/benchmarks.md says how to read the figures.

mod api;
mod apply;
mod disk;
mod dns;
mod drain;
mod everywhere;
mod floor;
mod hundred;
mod idle;
mod inside;
mod kernel;
mod many;
mod memory;
mod nodes;
mod path;
mod programmed;
mod rates;
mod report;
mod rows;
mod start;
mod stats;
mod throughput;
mod tutorial;
mod watchers;
mod withdrawal;
mod wrk;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use report::{Outcome, Report};
use rows::ROWS;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The binary to measure [default: target/release/sampan of this repository].
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Write the JSON here instead of printing it after the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these rows.
    #[arg(long, value_name = "ROW,...", value_delimiter = ',')]
    only: Vec<String>,
}

/// What every row is measured with.
struct Setting {
    binary: PathBuf,
}

impl Setting {
    fn options(&self, options: harness::Options) -> harness::Options {
        harness::Options { binary: Some(self.binary.clone()), quiet: true, ..options }
    }
}

type Measure = fn(&Setting, &mut Report) -> Result<()>;

/// Rows that are measured together, cheapest first; each has clusters of its own.
const GROUPS: &[(&[&str], Measure)] = &[
    (&["binary"], binary),
    (&["service-change", "service-load", "service-flat", "service-load-10", "service-memory"], kernel::measure),
    (&["readyz", "node-ready"], start::measure),
    (&["idle-memory", "idle-cpu", "idle-wakeups"], idle::measure),
    (&["apply-ready", "apply-answer"], apply::two),
    (&["deploy-30"], apply::thirty),
    (
        &[
            "pods-100",
            "pods-100-p50",
            "pods-100-p99",
            "pods-100-memory",
            "shim-memory",
            "pods-100-cpu",
            "pods-100-stop",
        ],
        hundred::measure,
    ),
    (&["exec", "log-rate"], hundred::streams),
    (&["get", "list", "create"], rates::measure),
    (&["watch-1", "watch-50"], watchers::few),
    (&["watchers-memory", "watchers-p99", "watchers-last"], watchers::thousand),
    (&["list-pods", "list-pods-bytes", "list-pods-memory"], many::measure),
    (&["withdrawal"], withdrawal::measure),
    (&["drain"], drain::measure),
    (&["up-3"], nodes::up),
    (&["node-gone"], nodes::gone),
    (&["service-programmed"], programmed::measure),
    (&["programmed-3"], everywhere::measure),
    (&["throughput-node", "throughput-tunnel"], throughput::measure),
    (&["service-path", "service-path-ebpf", "service-rate", "service-rate-ebpf"], path::measure),
    (&["dns-queries", "dns-p99"], dns::measure),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    for name in &options.only {
        ensure!(ROWS.iter().any(|row| row.name == name), "there is no row {name:?}; there are {}", names());
    }
    if cfg!(debug_assertions) {
        return again_in_release();
    }
    let binary = options.binary.clone().unwrap_or_else(|| harness::repository().join("target/release/sampan"));
    let binary = binary.canonicalize().with_context(|| format!("finding the binary {}", binary.display()))?;
    let setting = Setting { binary };
    let mut report = Report::default();
    for (rows, measure) in GROUPS {
        let wanted: Vec<_> =
            rows.iter().filter(|row| options.only.is_empty() || options.only.iter().any(|name| name == *row)).collect();
        if wanted.is_empty() {
            continue;
        }
        eprintln!("measuring {}", rows.join(", "));
        // The harness asserts: one row's panic must not take the others' figures along.
        let result = catch_unwind(AssertUnwindSafe(|| measure(&setting, &mut report)))
            .unwrap_or_else(|panic| Err(anyhow!("{}", message(panic.as_ref()))));
        let outcome = match result {
            Ok(()) => Outcome::Failed("was not measured".into()),
            Err(error) => error.into(),
        };
        for row in wanted {
            report.record(row, outcome.clone());
        }
    }
    if !options.only.is_empty() {
        report.keep(&options.only);
    }
    print(&report, &setting.binary, options.json.as_deref())?;
    let misses = report.misses();
    ensure!(misses.is_empty(), "over budget or not measured: {}", misses.join(", "));
    Ok(())
}

fn print(report: &Report, binary: &Path, json: Option<&Path>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    report.table(&mut out)?;
    let text = serde_json::to_string_pretty(&report.json(binary))?;
    match json {
        Some(path) => std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display())),
        None => writeln!(out, "\n{text}").context("printing"),
    }
}

fn names() -> String {
    ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".into())
}

/// The load generators and the data plane's writer are part of what is measured: they must be optimised too.
fn again_in_release() -> Result<()> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(std::env::args_os().skip(1));
    Err(cargo.exec()).context("starting the release build of this program")
}

fn binary(setting: &Setting, report: &mut Report) -> Result<()> {
    let bytes = std::fs::metadata(&setting.binary).context("reading the binary's size")?.len();
    report.measured("binary", bytes as f64 / 1e6, format!("{bytes} bytes"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_measured_by_one_group() {
        let mut measured: Vec<&str> = GROUPS.iter().flat_map(|(rows, _)| rows.iter().copied()).collect();
        measured.sort_unstable();
        let mut rows: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        rows.sort_unstable();
        assert_eq!(measured, rows);
    }
}
