//! What was measured, as one table and as JSON.

use std::fmt;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::rows::{ROWS, Row};

/// The median of several runs, in the row's unit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measurement {
    pub(super) value: f64,
    /// Spread and anything a reader needs to judge the figure.
    pub(super) detail: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Measured(Measurement),
    /// The feature does not exist yet.
    Absent(String),
    Failed(String),
}

/// An error that says that a feature does not exist, not that it is broken.
#[derive(Debug)]
pub(super) struct Absent(pub(super) String);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not there", self.0)
    }
}

impl std::error::Error for Absent {}

impl From<anyhow::Error> for Outcome {
    fn from(error: anyhow::Error) -> Self {
        match error.chain().find_map(|cause| cause.downcast_ref::<Absent>()) {
            Some(absent) => Self::Absent(absent.to_string()),
            None => Self::Failed(format!("{error:#}")),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Report {
    outcomes: Vec<(&'static Row, Outcome)>,
}

impl Report {
    /// Keeps the first outcome of a row.
    pub(super) fn record(&mut self, name: &str, outcome: Outcome) {
        let Some(row) = ROWS.iter().find(|row| row.name == name) else { return };
        if !self.has(name) {
            self.outcomes.push((row, outcome));
        }
    }

    pub(super) fn measured(&mut self, name: &str, value: f64, detail: impl Into<String>) {
        self.record(name, Outcome::Measured(Measurement { value, detail: detail.into() }));
    }

    fn has(&self, name: &str) -> bool {
        self.outcomes.iter().any(|(row, _)| row.name == name)
    }

    /// Forgets all other rows: some are measured together.
    pub(super) fn keep(&mut self, names: &[String]) {
        self.outcomes.retain(|(row, _)| names.iter().any(|name| name == row.name));
    }

    /// The names of rows that are over budget or could not be measured.
    pub(super) fn misses(&self) -> Vec<&'static str> {
        let missed = self.outcomes.iter().filter(|(row, outcome)| matches!(status(row, outcome), "over" | "failed"));
        missed.map(|(row, _)| row.name).collect()
    }

    pub(super) fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = vec![["row", "what", "measured", "budget", "upstream", "", "command"].map(str::to_owned)];
        for (row, outcome) in self.in_order() {
            let measured = match outcome {
                Outcome::Measured(measurement) => row.unit.print(measurement.value),
                Outcome::Absent(_) => "absent".into(),
                Outcome::Failed(_) => "failed".into(),
            };
            let verdict = if status(row, outcome) == "over" { "OVER" } else { "" };
            let budget = row.budget.print(row.unit);
            lines.push([row.name, row.what, &measured, &budget, row.upstream, verdict, row.command].map(str::to_owned));
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(out, "{}  {}", cells.join("  "), line[6])?;
        }
        writeln!(out)?;
        for (row, outcome) in self.in_order() {
            writeln!(out, "{}: {}", row.name, detail(outcome))?;
        }
        Ok(())
    }

    pub(super) fn json(&self, binary: &std::path::Path) -> Value {
        let rows: Vec<Value> = self
            .in_order()
            .map(|(row, outcome)| {
                let value = match outcome {
                    Outcome::Measured(measurement) => json!(measurement.value),
                    _ => Value::Null,
                };
                json!({
                    "row": row.name, "what": row.what, "measured": value, "unit": row.unit.symbol().trim(),
                    "budget": row.budget.print(row.unit), "upstream": row.upstream, "status": status(row, outcome),
                    "detail": detail(outcome), "command": row.command,
                })
            })
            .collect();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        json!({"cores": cores, "kernel": kernel.trim(), "binary": binary, "rows": rows})
    }

    fn in_order(&self) -> impl Iterator<Item = (&'static Row, &Outcome)> {
        ROWS.iter().filter_map(|row| {
            let (_, outcome) = self.outcomes.iter().find(|(recorded, _)| recorded.name == row.name)?;
            Some((row, outcome))
        })
    }
}

fn status(row: &Row, outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Measured(measurement) if row.budget.holds(measurement.value) => "within",
        Outcome::Measured(_) => "over",
        Outcome::Absent(_) => "absent",
        Outcome::Failed(_) => "failed",
    }
}

fn detail(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Measured(Measurement { detail, .. }) | Outcome::Absent(detail) | Outcome::Failed(detail) => detail,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_over_budget_or_failed_are_misses() {
        let mut report = Report::default();
        report.measured("binary", 41.0, "");
        report.measured("binary", 1.0, "a second outcome is ignored");
        report.measured("readyz", 0.1, "");
        report.record("list", anyhow::Error::from(Absent("/api".into())).context("listing").into());
        report.record("get", anyhow::anyhow!("refused").into());
        report.measured("no such row", 0.0, "");
        assert_eq!(report.misses(), ["binary", "get"]);
        let json = report.json("sampan".as_ref());
        let statuses: Vec<_> = json["rows"].as_array().unwrap().iter().map(|row| row["status"].clone()).collect();
        assert_eq!(statuses, ["within", "failed", "absent", "over"], "in the table's order");
        let mut table = Vec::new();
        report.table(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("OVER") && table.contains("absent"), "{table}");
    }
}
