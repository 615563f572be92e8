//! The page for auditors, taken at its word: its roles suffice for its commands, and less doesn't.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wayleave_e2e::operator::program;
use wayleave_e2e::plugin::has;
use wayleave_e2e::tenant::LIMIT;
use wayleave_e2e::tools::programs;
use wayleave_e2e::{Output, Tenant, eventually};

use super::cluster;

const PAGE: &str = include_str!("../../../docs/auditors.md");

/// The lines of the blocks of one language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let blocks = text.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.collect()
}

fn lines<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    blocks(text, language).into_iter().flat_map(str::lines).collect()
}

/// Somebody types a line into a shell that finds kubectl and the plugin.
async fn types(kubeconfig: &Path, bin: &Path, line: &str) -> Result<Output> {
    let mut path = bin.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let shell = cluster().await?.cp.tool("/bin/sh", kubeconfig);
    shell.args(["-c", line]).env("PATH", path).run().await
}

#[tokio::test]
async fn the_roles_of_the_page_suffice_for_its_commands_and_less_does_not() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let cp = &cluster().await?.cp;
    let bin = tempfile::tempdir()?;
    symlink(programs().await?.join("kubectl"), bin.path().join("kubectl"))?;
    symlink(program("kubectl-wayleave").await?, bin.path().join("kubectl-wayleave"))?;
    // The names that the page goes by.
    let tenant = Tenant::new(cp, "payments").await?;
    tenant.live("acme-invoices-reader", json!({})).await?;
    let auditor = cp.user_kubeconfig("audit@corp.example", &["auditors"]).await?;
    let (reading, roles) = PAGE.split_once("## The roles").context("no roles in the page")?;
    let (reading, bindings) = (lines(reading, "console"), lines(roles, "console"));
    ensure!(reading.len() >= 7 && bindings.len() == 4, "{reading:?} {bindings:?}");
    let admin = cp.admin_kubeconfig();
    for manifest in blocks(roles, "yaml") {
        let kubectl = cp.kubectl(&admin).await?;
        kubectl.args(["apply", "-f", "-"]).stdin(manifest).run().await?.ok()?;
    }
    let find = |words: &str| reading.iter().copied().find(|line| line.contains(words));
    let list = find("wayleave list").context("no list")?;
    let explain = find("wayleave explain").context("no explain")?;
    let refused = ["get rolebindings", "get configmap"];

    let before = types(&auditor, bin.path(), list).await?;
    ensure!(before.status.code() == Some(1), "{before:?}");
    types(&admin, bin.path(), bindings[0]).await?.ok()?;
    eventually("the viewer's right", LIMIT, || async {
        let listed = types(&auditor, bin.path(), list).await?.ok()?;
        has(&listed, &["acme-invoices-reader"])?;
        Ok(Some(()))
    })
    .await?;
    let viewed = types(&auditor, bin.path(), explain).await?.ok()?;
    has(&viewed, &["incomplete: ", "namespace"])?;
    for words in refused {
        let line = find(words).context(words)?;
        let output = types(&auditor, bin.path(), line).await?;
        has(&output.stderr, &["Forbidden"]).context(line)?;
    }

    for line in &bindings[1..] {
        types(&admin, bin.path(), line).await?.ok()?;
    }
    for line in &reading {
        let told = eventually("what the page says", LIMIT, || async {
            let told = types(&auditor, bin.path(), line).await?.ok()?;
            ensure!(!told.contains("incomplete"), "{told}");
            Ok(Some(told))
        })
        .await
        .with_context(|| (*line).to_owned())?;
        let part = match *line {
            line if line.contains("wayleave digest") => "as in the cluster",
            line if line.contains("get rolebindings") => "wlg-",
            line if line.contains("get configmap") => "wayleave-admission-proofs",
            _ => "acme-invoices-reader",
        };
        has(&told, &[part]).with_context(|| (*line).to_owned())?;
    }
    Ok(())
}
