//! Plain manifests and kustomize bases: what the chart renders, without helm's own marks, and in sync with it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::operator::{NAMESPACE, workspace};
use wayleave_e2e::tools::programs;
use wayleave_e2e::{ControlPlane, Tool, eventually};

use crate::install::{LIMIT, cluster, kubectl};
use crate::render::{CHART, for_cluster, is_as_made};

/// What only helm goes by.
const MARKS: [&str; 2] = ["    app.kubernetes.io/managed-by: Helm\n", "# Source: "];
/// Nor does anything but helm keep what is deleted.
const KEPT: &str =
    "  annotations:\n    # With it would go the identities of live grants.\n    helm.sh/resource-policy: keep\n";
const MADE: &str = "# Made from charts/wayleave by `make manifests`.\n";

/// What each overlay sets of the chart, for a cluster that has what it needs.
const OVERLAYS: [(&str, &str); 2] = [
    ("stamping", r#"{"admission": {"mutating": true}}"#),
    (
        "monitoring",
        r#"{"admission": {"mutating": false}, "metrics": {"serviceMonitor": {"renderMode": "always"}, "prometheusRule": {"renderMode": "always"}}}"#,
    ),
];

/// Kind, namespace and name.
type Name = (String, String, String);

fn name(object: &Value) -> Name {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

fn is_kind(object: &Value) -> bool {
    object["kind"] == "CustomResourceDefinition"
}

/// The objects that helm would install, hooks apart, each as its text and as what that says.
async fn rendered(values: &str) -> Result<Vec<(String, Value)>> {
    let mut values: Value = serde_json::from_str(values)?;
    values["crds"] = json!({"keep": false});
    let helm = for_cluster(CHART, true).await?.arg("--no-hooks");
    let text = helm.stdin(values.to_string()).run().await?.ok()?;
    let namespace = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n"
    );
    let mut objects = Vec::new();
    for text in std::iter::once(namespace.as_str()).chain(text.split("---\n")) {
        let lines = text.split_inclusive('\n');
        let kept = lines.filter(|line| !MARKS.iter().any(|mark| line.contains(mark.trim_end_matches('\n'))));
        let text = kept.collect::<String>().replace(KEPT, "");
        let text = text.trim_matches('\n');
        // A comment before a list of objects stands alone.
        if text.lines().any(|line| !line.starts_with('#')) {
            ensure!(
                !text.contains("helm.sh/") && !text.contains(": Helm"),
                "a mark of helm: {text}"
            );
            objects.push((format!("---\n{text}\n"), serde_saphyr::from_str(text)?));
        }
    }
    Ok(objects)
}

fn texts<'a>(objects: impl Iterator<Item = &'a (String, Value)>) -> String {
    let texts = objects.map(|(text, _)| text.as_str());
    std::iter::once(MADE).chain(texts).collect()
}

/// Every file that is made, below the folder deploy.
async fn files() -> Result<BTreeMap<String, String>> {
    let base = rendered(r#"{"admission": {"mutating": false}}"#).await?;
    let mut files = BTreeMap::new();
    files.insert("install.yaml".to_owned(), texts(base.iter()));
    let operator = texts(base.iter().filter(|(_, object)| !is_kind(object)));
    files.insert("kustomize/base/operator.yaml".to_owned(), operator);
    for (overlay, values) in OVERLAYS {
        let all = rendered(values).await?;
        // What the base has is the same in each: an overlay adds, and takes nothing away.
        ensure!(
            base.iter().all(|object| all.contains(object)),
            "{overlay} changes the base"
        );
        let added = texts(all.iter().filter(|object| !base.contains(object)));
        files.insert(format!("kustomize/overlays/{overlay}/{overlay}.yaml"), added);
    }
    Ok(files)
}

#[tokio::test]
async fn the_manifests_are_what_the_chart_renders() -> Result<()> {
    for (file, wanted) in files().await? {
        is_as_made(&workspace().join("deploy").join(file), &wanted)?;
    }
    Ok(())
}

async fn kustomized(folder: &str) -> Result<BTreeMap<Name, Value>> {
    let kubectl = Tool::new(programs().await?.join("kubectl")).args(["kustomize", folder]);
    let text = kubectl.dir(workspace()).run().await?.ok()?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    Ok(objects.into_iter().map(|it| (name(&it), it)).collect())
}

#[tokio::test]
async fn kustomize_makes_what_helm_makes() -> Result<()> {
    let as_map = |all: Vec<(String, Value)>| -> BTreeMap<Name, Value> {
        all.into_iter().map(|(_, it)| (name(&it), it)).collect()
    };
    let base = as_map(rendered(r#"{"admission": {"mutating": false}}"#).await?);
    ensure!(kustomized("deploy/kustomize/base").await? == base, "the base");
    let kinds = base.into_iter().filter(|(_, it)| is_kind(it));
    ensure!(kustomized("crds").await? == kinds.collect(), "the kinds alone");
    for (overlay, values) in OVERLAYS {
        let wanted = as_map(rendered(values).await?);
        let found = kustomized(&format!("deploy/kustomize/overlays/{overlay}")).await?;
        ensure!(found == wanted, "{overlay}");
    }
    Ok(())
}

#[tokio::test]
async fn the_plain_manifest_installs_what_works() -> Result<()> {
    let cp = ControlPlane::start().await?;
    let file = workspace().join("deploy/install.yaml").display().to_string();
    let apply = async || {
        let apply = kubectl(&cp).await?.args(["apply", "--server-side", "-f", &file]);
        let output = apply.run().await?;
        ensure!(!output.stderr.to_lowercase().contains("warning"), "{}", output.stderr);
        output.ok()
    };
    apply().await?;
    wayleave_e2e::install::wait_installed(&cp).await?;
    // It is the installation that helm would make: the same operator, held by the same policies.
    let allowed = ["auth", "can-i", "list", "accessgrants.wayleave.dev", "-A"];
    let operator = format!("--as=system:serviceaccount:{NAMESPACE}:wayleave");
    kubectl(&cp).await?.args(allowed).arg(&operator).run().await?.ok()?;
    let again = apply().await?;
    ensure!(!again.contains("created"), "applied again: {again}");
    Ok(())
}

#[tokio::test]
async fn every_overlay_is_valid_to_the_api_server() -> Result<()> {
    let cp = cluster().await?;
    let stamps = wayleave_e2e::install::can_stamp_or_says(&cp.admin().await?, "the overlay of stamping").await?;
    let folder = workspace()
        .join("deploy/kustomize/overlays/stamping")
        .display()
        .to_string();
    if stamps {
        let dry = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "-k",
            &folder,
        ];
        eventually("the overlay to be taken", LIMIT, || async {
            kubectl(cp).await?.args(dry).run().await?.ok().map(Some)
        })
        .await?;
    }
    Ok(())
}
