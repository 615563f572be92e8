//! Runs `helm template` without a cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use wayleave_e2e::operator::{NAMESPACE, workspace};
use wayleave_e2e::tools::programs;
use wayleave_e2e::{Output, Tool};

pub const CHART: &str = "wayleave";
pub const POLICIES: &str = "wayleave-policies";

/// Set to write the files that are made anew; then read what has changed.
pub const UPDATE: &str = "UPDATE_GOLDEN";

/// A file that is made from the chart is as it is made now; or written so.
pub fn is_as_made(path: &Path, made: &str) -> Result<()> {
    if std::env::var_os(UPDATE).is_some() {
        return Ok(std::fs::write(path, made)?);
    }
    let found = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let line = made.lines().find(|line| !found.contains(*line));
    ensure!(
        found == made,
        "{} is behind the chart: {}; run `make manifests`",
        path.display(),
        line.unwrap_or("a line too many")
    );
    Ok(())
}

/// helm in the folder of the charts.
pub async fn helm() -> Result<Tool> {
    // Nothing is read from a cluster that happens to be there.
    Ok(Tool::new(programs().await?.join("helm")).env("KUBECONFIG", "/dev/null"))
}

pub fn chart(name: &str) -> PathBuf {
    workspace().join("charts").join(name)
}

/// The outcome of rendering a chart with these values for a cluster that stamps.
pub async fn template(name: &str, values: &Value) -> Result<Output> {
    for_cluster(name, true).await?.stdin(values.to_string()).run().await
}

/// Renders a chart, with the values on standard input, for a cluster that stamps or one that does not.
pub async fn for_cluster(name: &str, stamps: bool) -> Result<Tool> {
    let helm = helm().await?.args(["template", "wayleave"]).arg(chart(name));
    let version = if stamps { "v1.37.0" } else { "v1.35.0" };
    let helm = helm.args(["--namespace", NAMESPACE, "--kube-version", version, "--values", "-"]);
    let served = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    Ok(if stamps {
        helm.args(["--api-versions", served])
    } else {
        helm
    })
}

/// The objects that a chart renders with these values.
pub async fn objects(name: &str, values: &Value) -> Result<Vec<Value>> {
    let text = template(name, values).await?.ok()?;
    serde_saphyr::from_multiple(&text).context("the chart renders what is no YAML")
}

/// The object of this kind and name.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|it| it["kind"] == kind && it["metadata"]["name"] == name)
}

pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|it| it["kind"] == kind).collect()
}
