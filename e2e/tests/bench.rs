//! The benchmark at its smallest: every row is there and says something that can be. Of speed nothing is asserted: whatever
//! else runs on the machine decides about that.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use wayleave_e2e::bench::report::{Row, Target};
use wayleave_e2e::bench::{Part, Report, Sizes, picture, run};

const FEW: usize = 5;
const MANY: usize = 20;
const LOAD: usize = 50;

/// Rows that the ruler has too, of one, few and many.
const BESIDE_THE_RULER: [(&str, usize); 14] = [
    ("usable-p50", 1),
    ("usable-p99", 1),
    ("refused-p50", 1),
    ("refused-p99", 1),
    ("issue", FEW),
    ("issue", MANY),
    ("issue-bare", FEW),
    ("issue-bare", MANY),
    ("deny", FEW),
    ("deny", MANY),
    ("deny-p50", FEW),
    ("deny-p50", MANY),
    ("deny-p99", FEW),
    ("deny-p99", MANY),
];
const OURS_ALONE: [(&str, usize); 24] = [
    ("cpu-issue", FEW),
    ("cpu-issue", MANY),
    ("calls-issue", FEW),
    ("calls-issue", MANY),
    ("calls-rotate", MANY),
    ("calls-revoke", FEW),
    ("calls-revoke", MANY),
    ("deny-refused", FEW),
    ("deny-refused", MANY),
    ("storm-p50", MANY),
    ("storm-p99", MANY),
    ("storm-refused", MANY),
    ("killed-p50", MANY),
    ("killed-p99", MANY),
    ("killed-refused", MANY),
    ("owner-p50", MANY),
    ("owner-p99", MANY),
    ("owner-refused", MANY),
    ("owner-all", MANY),
    ("memory-after-issuing", LOAD),
    ("memory-after-a-restart", LOAD),
    ("memory-after-listing-anew", LOAD),
    ("memory-peak", LOAD),
    ("restart", LOAD),
];
/// What may not be at all, whatever else the machine does.
const NOTHING: [(&str, usize); 3] = [("calls-idle", MANY), ("restart-writes", LOAD), ("restart-gets", LOAD)];

fn row<'r>(report: &'r Report, (key, grants): (&str, usize)) -> Result<&'r Row> {
    report
        .row(key, grants)
        .with_context(|| format!("no row {key} of {grants} grants in\n{}", report.table()))
}

#[tokio::test]
#[ignore = "takes minutes, and was not yet seen to pass after a merge"]
async fn the_benchmark_measures_every_row() -> Result<()> {
    let sizes = Sizes {
        grants: FEW,
        many: MANY,
        load: LOAD,
        singles: 2,
        rounds: 1,
        idle: Duration::from_secs(3),
    };
    let report = run(sizes, &Part::ALL).await?;
    for of in BESIDE_THE_RULER {
        let row = row(&report, of)?;
        let ratio = row.ratio.with_context(|| format!("{row:?} has no ratio"))?;
        ensure!(row.ours > 0.0 && ratio > 0.0 && ratio.is_finite(), "{row:?}");
    }
    for of in OURS_ALONE {
        let row = row(&report, of)?;
        ensure!(row.ours > 0.0 && row.ours.is_finite(), "{row:?}");
    }
    for of in NOTHING {
        let row = row(&report, of)?;
        ensure!(
            row.ours == 0.0 && row.is_met() == Some(true),
            "{row:?}\n{:?}",
            report.facts
        );
    }
    // Calls are counted, not timed: they keep to their targets on any machine.
    for key in ["calls-issue", "calls-rotate", "calls-revoke"] {
        let row = row(&report, (key, MANY))?;
        ensure!(row.is_met() == Some(true), "{row:?}\n{:?}", report.facts);
    }
    kept_and_drawn(&report)
}

fn kept_and_drawn(report: &Report) -> Result<()> {
    let kept = report.json_lines()?;
    let mut lines = kept.lines();
    let facts: serde_json::Value = serde_json::from_str(lines.next().context("nothing is kept")?)?;
    ensure!(
        facts["facts"]["kubernetes"].is_string() && facts["facts"]["at"].is_string(),
        "{facts}"
    );
    let rows: Vec<Row> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    // The last digit of a number may get lost.
    let is_same = |(kept, row): (&Row, &Row)| {
        let near = (kept.ours - row.ours).abs() <= row.ours.abs() * 1e-9;
        (&kept.key, kept.grants, kept.target) == (&row.key, row.grants, row.target) && near
    };
    ensure!(
        rows.len() == report.rows().len() && rows.iter().zip(report.rows()).all(is_same),
        "what is kept is not what was measured"
    );
    let bars = rows.iter().filter(|row| row.target.is_some()).count();
    let zero = rows
        .iter()
        .filter(|row| row.target == Some(Target::AtMost(0.0)))
        .count();
    ensure!(zero >= NOTHING.len(), "{zero} rows may only be nothing");
    let svg = picture::draw(report, "a smoke run");
    ensure!(svg.matches("<rect x=").count() == bars, "not every target is drawn");
    ensure!(!kept.contains("eyJ") && !svg.contains("eyJ"), "a token is kept");
    Ok(())
}
