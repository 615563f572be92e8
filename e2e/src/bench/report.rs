//! What was measured, as rows: shown as a table, kept as JSON lines. Knows nothing of clusters.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a row is to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Ours is at least this share of the ruler.
    RatioAtLeast(f64),
    /// Ours is at most so many times the ruler.
    RatioAtMost(f64),
    /// Ours is at most this.
    AtMost(f64),
}

/// One number, ours beside the ruler's where there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is, for programs.
    pub key: String,
    /// What it is, in words.
    pub what: String,
    /// Of how many grants.
    pub grants: usize,
    /// The unit of both numbers.
    pub unit: String,
    /// The raw client's.
    pub ruler: Option<f64>,
    /// Wayleave's: the median where it was measured more than once.
    pub ours: f64,
    /// Ours over the ruler's.
    pub ratio: Option<f64>,
    /// What it is to keep to.
    pub target: Option<Target>,
    /// Each measurement, in order: the ruler's and ours.
    pub rounds: Vec<(Option<f64>, f64)>,
}

impl Row {
    /// Whether it keeps to its target; none where it has none.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        match self.target? {
            Target::RatioAtLeast(least) => Some(self.ratio? >= least),
            Target::RatioAtMost(most) => Some(self.ratio? <= most),
            Target::AtMost(most) => Some(self.ours <= most),
        }
    }
}

/// Everything that one run measured.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// When, where and of what: told before the rows.
    pub facts: BTreeMap<&'static str, Value>,
    rows: Vec<Row>,
}

/// A number that is being reported.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// What it is, for programs.
    pub key: &'a str,
    /// What it is, in words.
    pub what: &'a str,
    /// Of how many grants.
    pub grants: usize,
    /// The unit.
    pub unit: &'a str,
    /// What it is to keep to.
    pub target: Option<Target>,
}

impl Report {
    /// Adds a measurement; one of the same row joins those before it, and the row shows their medians.
    pub fn put(&mut self, of: Measured<'_>, ruler: Option<f64>, ours: f64) {
        let same = |row: &&mut Row| row.key == of.key && row.grants == of.grants;
        if let Some(row) = self.rows.iter_mut().find(same) {
            row.rounds.push((ruler, ours));
            let rulers: Vec<f64> = row.rounds.iter().filter_map(|(ruler, _)| *ruler).collect();
            let all: Vec<f64> = row.rounds.iter().map(|(_, ours)| *ours).collect();
            row.ruler = quantile(&rulers, 0.5);
            row.ours = quantile(&all, 0.5).unwrap_or(ours);
            row.ratio = row.ruler.and_then(|ruler| ratio(row.ours, ruler));
            return;
        }
        self.rows.push(Row {
            key: of.key.to_owned(),
            what: of.what.to_owned(),
            grants: of.grants,
            unit: of.unit.to_owned(),
            ruler,
            ours,
            ratio: ruler.and_then(|ruler| ratio(ours, ruler)),
            target: of.target,
            rounds: vec![(ruler, ours)],
        });
    }

    /// The rows, in the order in which they were first measured.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of a key, of so many grants.
    #[must_use]
    pub fn row(&self, key: &str, grants: usize) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key && row.grants == grants)
    }

    /// The facts as a line, and each row as a line.
    pub fn json_lines(&self) -> Result<String> {
        let mut lines = serde_json::to_string(&json!({ "facts": self.facts }))? + "\n";
        for row in &self.rows {
            let mut line = serde_json::to_value(row)?;
            line.as_object_mut()
                .context("a row is an object")?
                .insert("met".to_owned(), json!(row.is_met()));
            lines += &(line.to_string() + "\n");
        }
        Ok(lines)
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["", "grants", "unit", "ruler", "ours", "ratio", "target", ""]);
        for row in &self.rows {
            let shown = |number: Option<f64>| number.map_or_else(String::new, number_of);
            let met = match row.is_met() {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            table.add_row([
                row.what.clone(),
                row.grants.to_string(),
                row.unit.clone(),
                shown(row.ruler),
                number_of(row.ours),
                row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                row.target.map(target_of).unwrap_or_default(),
                met.to_owned(),
            ]);
        }
        for column in [1, 3, 4, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }
}

/// The target in words.
#[must_use]
pub fn target_of(target: Target) -> String {
    match target {
        Target::RatioAtLeast(least) => format!("ratio >= {least}"),
        Target::RatioAtMost(most) => format!("ratio <= {most}"),
        Target::AtMost(most) => format!("<= {most}"),
    }
}

/// A number with as many digits as say something.
#[must_use]
pub fn number_of(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    match number.abs() {
        large if large >= 100.0 => format!("{number:.0}"),
        some if some >= 1.0 => format!("{number:.1}"),
        _ => format!("{number:.4}"),
    }
}

fn ratio(ours: f64, ruler: f64) -> Option<f64> {
    (ruler > 0.0).then(|| ours / ruler)
}

/// The value below which this share of all lies (nearest rank); none of none.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a few thousand measurements"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Measured<'_> = Measured {
        key: "issue",
        what: "issues",
        grants: 100,
        unit: "1/s",
        target: Some(Target::RatioAtLeast(0.85)),
    };

    #[test]
    fn a_row_shows_the_median_of_its_rounds_and_whether_it_keeps_to_its_target() {
        let mut report = Report::default();
        for (ruler, ours) in [(100.0, 10.0), (100.0, 90.0), (200.0, 95.0)] {
            report.put(OF, Some(ruler), ours);
        }
        let row = report.row("issue", 100).unwrap();
        assert_eq!((row.ruler, row.ours, row.ratio), (Some(100.0), 90.0, Some(0.9)));
        assert_eq!((row.is_met(), row.rounds.len()), (Some(true), 3));
        assert!(report.table().contains("met") && !report.table().contains("MISSED"));
        assert_eq!(report.json_lines().unwrap().lines().count(), 2);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), Some(50.0));
        assert_eq!(quantile(&values, 0.99), Some(99.0));
        assert_eq!(quantile(&values, 1.0), Some(100.0));
        assert_eq!(quantile(&[7.0], 0.01), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
