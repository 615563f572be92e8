//! The alerts, judged by Prometheus' own tool, where there is one. What they ask for is looked at by the operator's own tests.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::operator::workspace;
use wayleave_e2e::{Tool, progress};

use crate::render::{CHART, chart, objects, of_kind};

const TESTS: &str = "e2e/tests/charts/rules_test.yaml";

/// promtool in the workspace; none where it isn't installed, which is said.
async fn promtool(untested: &str) -> Option<Tool> {
    let tool = Tool::new("promtool").dir(workspace());
    let answer = tool.clone().arg("--version").run().await;
    if answer.is_err() {
        progress(&format!(
            "skipped: {untested}: promtool is not installed (Debian: apt-get install prometheus)"
        ));
    }
    answer.is_ok().then_some(tool)
}

#[tokio::test]
async fn every_alert_fires_when_it_should_and_not_before() -> Result<()> {
    if let Some(promtool) = promtool("the tests of the alerts").await {
        promtool.args(["test", "rules", TESTS]).run().await?.ok()?;
    }
    Ok(())
}

#[tokio::test]
async fn what_the_chart_makes_of_the_alerts_is_good_to_prometheus() -> Result<()> {
    let Some(promtool) = promtool("the check of the PrometheusRule").await else {
        return Ok(());
    };
    let values = json!({"metrics": {"prometheusRule": {"renderMode": "always"}}});
    let all = objects(CHART, &values).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rules.json");
    std::fs::write(&file, of_kind(&all, "PrometheusRule")[0]["spec"].to_string())?;
    let check = promtool
        .args(["check", "rules", "--lint=all", "--lint-fatal"])
        .arg(file);
    check.run().await?.ok()?;
    Ok(())
}

#[test]
fn no_alert_is_without_a_test() -> Result<()> {
    let read = |text: String| serde_saphyr::from_str::<Value>(&text);
    let rules = read(std::fs::read_to_string(chart(CHART).join("files/rules.yaml"))?)?;
    let tests = read(std::fs::read_to_string(workspace().join(TESTS))?)?;
    let groups = rules["groups"].as_array().context("no groups")?.iter();
    let rules = groups.flat_map(|group| group["rules"].as_array()).flatten();
    let alerts: BTreeSet<&str> = rules.filter_map(|rule| rule["alert"].as_str()).collect();
    let mut tested = BTreeSet::new();
    for test in tests["tests"].as_array().context("no tests")? {
        let name = test["name"].as_str().context("a test has no name")?;
        let looks = test["alert_rule_test"].as_array().context("nothing is looked at")?;
        let fires = |look: &&Value| look["exp_alerts"].as_array().is_some_and(|all| !all.is_empty());
        ensure!(
            looks.iter().all(|look| look["alertname"] == name),
            "{name}: of another alert"
        );
        ensure!(
            looks.iter().any(|look| fires(&look)) && !looks.iter().all(|look| fires(&look)),
            "{name}: it is not seen both to fire and to be quiet"
        );
        tested.insert(name);
    }
    ensure!(alerts == tested, "alerts {alerts:?}, tested {tested:?}");
    Ok(())
}
