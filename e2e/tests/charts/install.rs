//! The charts on a real API server: dry runs, restricted Pod Security, both charts, and away and back again.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use wayleave::api::names::ADMISSION_POLICIES;
use wayleave_e2e::install::{can_stamp, wait_installed};
use wayleave_e2e::operator::{NAMESPACE, SERVICE_ACCOUNT};
use wayleave_e2e::tenant::text;
use wayleave_e2e::{ControlPlane, InstallOptions, Output, Tool, eventually, install, install_with};

use crate::render::{CHART, POLICIES, chart, for_cluster, objects, of_kind, template};

pub const ENROLLED: &str = "payments";
pub const ELSEWHERE: &str = "elsewhere";
pub const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// The control plane that tests share: the chart is there, and one namespace enrolled by it.
pub async fn cluster() -> Result<&'static ControlPlane> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    let build = || async {
        let cp = ControlPlane::start().await?;
        for namespace in [ENROLLED, ELSEWHERE, "wayleave-restricted"] {
            kubectl(&cp)
                .await?
                .args(["create", "namespace", namespace])
                .run()
                .await?
                .ok()?;
        }
        let values = json!({"replicas": 0, "namespaces": [ENROLLED]});
        install_with(
            &cp,
            InstallOptions {
                values,
                ..InstallOptions::default()
            },
        )
        .await?;
        Ok(cp)
    };
    CLUSTER.get_or_try_init(build).await
}

pub async fn kubectl(cp: &ControlPlane) -> Result<Tool> {
    cp.kubectl(&cp.admin_kubeconfig()).await
}

pub async fn apply(cp: &ControlPlane, arguments: &[&str], objects: &str) -> Result<Output> {
    kubectl(cp)
        .await?
        .args(["apply", "-f", "-"])
        .args(arguments)
        .stdin(objects)
        .run()
        .await
}

async fn helm(cp: &ControlPlane) -> Result<Tool> {
    Ok(cp.helm(&cp.admin_kubeconfig()).await?.env("HELM_NAMESPACE", NAMESPACE))
}

async fn helm_install_policies(cp: &ControlPlane) -> Result<Output> {
    helm(cp)
        .await?
        .args(["upgrade", "--install", POLICIES])
        .arg(chart(POLICIES))
        .run()
        .await
}

#[tokio::test]
async fn what_is_rendered_is_valid_to_the_api_server() -> Result<()> {
    let cp = cluster().await?;
    let stamps = can_stamp(&cp.admin().await?).await?;
    for values in [
        json!({}),
        json!({
            "podDisruptionBudget": {"enabled": false},
            "commonLabels": {"team": "security"},
            "hostUsers": false,
            "networkPolicy": {"enabled": true},
            "extraEnv": [{"name": "A", "value": "b"}],
            "extraVolumes": [{"name": "a", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "a", "mountPath": "/a"}],
            "strategy": {"rollingUpdate": {"maxUnavailable": 1}},
            "dnsConfig": {"nameservers": ["192.0.2.1"]},
            "namespaces": [ENROLLED],
            "admission": {"requirePodOperator": true, "delegates": {"requests": ["system:serviceaccount:gitops:bot"], "decisions": ["bot"]}},
            "enrolment": {"otherClusterRoles": ["wide"]}
        }),
    ] {
        let helm = for_cluster(CHART, stamps).await?.stdin(values.to_string());
        let text = helm.run().await?.ok()?;
        let output = apply(cp, &["--server-side", "--force-conflicts", "--dry-run=server"], &text).await?;
        ensure!(!output.stderr.to_lowercase().contains("warning"), "{}", output.stderr);
        output.ok()?;
    }
    let text = template(POLICIES, &json!({})).await?.ok()?;
    apply(cp, &["--dry-run=server"], &text).await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn every_admission_policy_passes_the_type_check() -> Result<()> {
    let cp = cluster().await?;
    let names = "go-template={{range .items}}{{.metadata.name}} {{.metadata.generation}} {{.status}}{{\"\\n\"}}{{end}}";
    eventually("the policies to be checked", LIMIT, || async {
        let output = kubectl(cp)
            .await?
            .args(["get", "validatingadmissionpolicies", "-o", names])
            .run()
            .await?
            .ok()?;
        let policies: Vec<&str> = output.lines().collect();
        ensure!(policies.len() > 15, "{output}");
        ensure!(
            policies.iter().all(|it| it.contains("typeChecking")),
            "not yet: {output}"
        );
        Ok(Some(()))
    })
    .await?;
    let output = kubectl(cp)
        .await?
        .args(["get", "validatingadmissionpolicies", "-o", "json"])
        .run()
        .await?
        .ok()?;
    let list: Value = serde_json::from_str(&output)?;
    for policy in list["items"].as_array().into_iter().flatten() {
        let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
        ensure!(warnings.is_null(), "{}: {warnings}", policy["metadata"]["name"]);
    }
    // The operator misses each of them, and knows none that isn't there.
    let installed = list["items"].as_array().into_iter().flatten();
    let installed: BTreeSet<String> = installed
        .map(|policy| text(&policy["metadata"]["labels"]["app.kubernetes.io/component"]))
        .collect();
    let known: BTreeSet<String> = ADMISSION_POLICIES.map(str::to_owned).into();
    ensure!(installed == known, "installed {installed:?}, known {known:?}");
    Ok(())
}

#[tokio::test]
async fn the_deployment_runs_under_restricted_pod_security() -> Result<()> {
    let cp = cluster().await?;
    let namespace = "wayleave-restricted";
    for level in ["enforce", "warn"] {
        let label = format!("pod-security.kubernetes.io/{level}=restricted");
        kubectl(cp)
            .await?
            .args(["label", "namespace", namespace, &label])
            .run()
            .await?
            .ok()?;
    }
    let all = objects(CHART, &json!({})).await?;
    let [mut deployment, mut job] = ["Deployment", "Job"].map(|kind| of_kind(&all, kind)[0].clone());
    deployment["metadata"]["namespace"] = json!(namespace);
    job["metadata"]["namespace"] = json!(namespace);
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("one");
    pod["metadata"]["namespace"] = json!(namespace);
    pod["spec"]["serviceAccountName"] = json!("default");
    for object in [deployment, job, pod.clone()] {
        let output = apply(cp, &["--dry-run=server"], &object.to_string()).await?;
        ensure!(!output.stderr.contains("Warning"), "{}", output.stderr);
        output.ok()?;
    }
    // The namespace does enforce.
    pod["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    pod["spec"]["securityContext"]["runAsUser"] = json!(0);
    let output = apply(cp, &["--dry-run=server"], &pod.to_string()).await?;
    ensure!(output.stderr.contains("violates PodSecurity"), "{}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn the_policies_come_second() -> Result<()> {
    let cp = cluster().await?;
    helm_install_policies(cp).await?.ok()?;
    let get = async |what: &[&str]| kubectl(cp).await?.args(["get"]).args(what).run().await?.ok();
    get(&["accesspolicy", "read-only-partners"]).await?;
    get(&["clusterrole", "wayleave-read"]).await?;
    // Again, and away: the first chart does not mind.
    helm_install_policies(cp).await?.ok()?;
    helm(cp)
        .await?
        .args(["uninstall", POLICIES, "--wait"])
        .run()
        .await?
        .ok()?;
    ensure!(
        get(&["accesspolicy", "-o", "name"]).await?.trim().is_empty(),
        "the policy is gone"
    );
    Ok(())
}

#[tokio::test]
async fn away_and_back_again_keeps_the_kinds_and_what_people_wrote() -> Result<()> {
    let cp = ControlPlane::start().await?;
    let first = helm_install_policies(&cp).await?;
    ensure!(
        first.stderr.contains("AccessPolicy"),
        "without the kinds the second chart says what is missing: {}",
        first.stderr
    );
    install(&cp).await?;
    let owner = json!({
        "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessOwner", "metadata": {"name": "alice"},
        "spec": {"displayName": "Alice", "email": "alice@corp.example", "active": true}
    });
    apply(&cp, &[], &owner.to_string()).await?.ok()?;
    let get = async |what: &[&str]| {
        kubectl(&cp)
            .await?
            .args(["get", "-o", "jsonpath={.metadata.uid}"])
            .args(what)
            .run()
            .await?
            .ok()
    };
    let kept = async || {
        anyhow::Ok([
            get(&["crd", "accessowners.wayleave.dev"]).await?,
            get(&["namespace", "wayleave-identities"]).await?,
            get(&["accessowner", "alice"]).await?,
        ])
    };
    let before = kept().await?;
    helm(&cp)
        .await?
        // Nothing was issued, and there is no node to run the hook.
        .args(["uninstall", "wayleave", "--wait", "--no-hooks"])
        .run()
        .await?
        .ok()?;
    ensure!(kept().await? == before, "kinds, identities and owners stay");
    let mut left =
        "validatingadmissionpolicies,clusterroles,clusterrolebindings,roles,rolebindings,deployments,services,\
        serviceaccounts,poddisruptionbudgets,flowschemas,prioritylevelconfigurations"
            .to_owned();
    if can_stamp(&cp.admin().await?).await? {
        left.push_str(",mutatingadmissionpolicies");
    }
    let left = kubectl(&cp)
        .await?
        .args([
            "get",
            &left,
            "-A",
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/name=wayleave",
        ])
        .run()
        .await?
        .ok()?;
    ensure!(left.trim().is_empty(), "nothing else stays: {left}");
    install(&cp).await?;
    ensure!(kept().await? == before, "the same objects");
    Ok(())
}

#[tokio::test]
async fn the_chart_takes_no_enrolment_from_a_live_grant() -> Result<()> {
    let cp = ControlPlane::start().await?;
    kubectl(&cp)
        .await?
        .args(["create", "namespace", ENROLLED])
        .run()
        .await?
        .ok()?;
    let release = |namespaces: &[&str]| InstallOptions {
        values: json!({"replicas": 0, "namespaces": namespaces}),
        ..InstallOptions::default()
    };
    install_with(&cp, release(&[ENROLLED])).await?;
    let grant = json!({
        "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessGrant", "metadata": {"name": "reader", "namespace": ENROLLED},
        "spec": {
            "requestedBy": "e2e-admin",
            "integrationRef": {"name": "acme"},
            "access": [{"clusterRoleRef": {"name": "wayleave-read"}}],
            "credential": {"type": "Token", "token": {"lifetime": "1h"}},
            "expiresAt": "2999-01-01T00:00:00Z"
        }
    });
    apply(&cp, &[], &grant.to_string()).await?.ok()?;
    let operator = cp.service_account(NAMESPACE, SERVICE_ACCOUNT).await?;
    let kind = GroupVersionKind::gvk("wayleave.dev", "v1alpha1", "AccessGrant");
    let grants: Api<DynamicObject> = Api::namespaced_with(operator, ENROLLED, &ApiResource::from_gvk(&kind));
    let set_active = async |status: &str| {
        let condition = json!({
            "type": "Active", "status": status, "reason": "Issued", "message": "a test",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1
        });
        let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        grants.patch_status("reader", &PatchParams::default(), &patch).await
    };
    set_active("True").await?;
    let binding = async || {
        let get = kubectl(&cp)
            .await?
            .args(["get", "rolebinding", "wayleave-enrolment", "-n", ENROLLED, "-o", "name"]);
        anyhow::Ok(get.run().await?.status.success())
    };
    let says = "AccessGrant reader is active in this namespace";
    let delete = async |more: &[&str]| {
        let delete = kubectl(&cp)
            .await?
            .args(["delete", "rolebinding", "wayleave-enrolment", "-n", ENROLLED]);
        delete.args(more).run().await
    };
    eventually("the live grant to be seen", LIMIT, || async {
        let output = delete(&["--dry-run=server"]).await?;
        ensure!(output.stderr.contains(says), "{}", output.stderr);
        Ok(Some(()))
    })
    .await?;
    let Err(refused) = install_with(&cp, release(&[])).await else {
        anyhow::bail!("the enrolment of a live grant was taken away");
    };
    ensure!(refused.to_string().contains(says), "helm says why: {refused:#}");
    ensure!(binding().await?, "the enrolment is still there");
    set_active("False").await?;
    eventually("the end of the grant to be seen", LIMIT, || async {
        delete(&["--dry-run=server"]).await?.ok().map(Some)
    })
    .await?;
    install_with(&cp, release(&[])).await?;
    ensure!(!binding().await?, "the enrolment is gone");
    Ok(())
}

#[tokio::test]
async fn an_upgrade_puts_back_what_an_emergency_took_off() -> Result<()> {
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let forge = async || {
        let create = kubectl(&cp)
            .await?
            .args(["create", "serviceaccount", "wlg-forged", "--dry-run=server"]);
        create.run().await
    };
    let refused = async || {
        let output = forge().await?;
        ensure!(
            output.stderr.contains("reserved for the operator"),
            "let through: {}",
            output.stdout
        );
        Ok(Some(()))
    };
    let binding = "validatingadmissionpolicybinding";
    let delete = kubectl(&cp).await?.args(["delete", binding, "wayleave-reserved-names"]);
    delete.run().await?.ok()?;
    eventually("the policy to hold no more", LIMIT, || async {
        forge().await?.ok().map(Some)
    })
    .await?;
    install(&cp).await?;
    eventually("the policy to hold again", LIMIT, refused).await
}

#[tokio::test]
async fn a_rollback_gives_back_what_was_there() -> Result<()> {
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let get = async |what: &[&str]| kubectl(&cp).await?.args(["get"]).args(what).run().await?.ok();
    let uid = "jsonpath={.metadata.uid}";
    let before = get(&["crd", "accessgrants.wayleave.dev", "-o", uid]).await?;
    let labelled = [
        "validatingadmissionpolicies,deployments",
        "-A",
        "-l",
        "team=security",
        "-o",
        "name",
    ];
    let flow = ["flowschema,prioritylevelconfiguration", "-o", "name"];
    ensure!(get(&flow).await?.contains("wayleave-partners"));

    let values = json!({"replicas": 0, "commonLabels": {"team": "security"}, "flowControl": {"enabled": false}});
    let other = InstallOptions {
        values,
        ..InstallOptions::default()
    };
    install_with(&cp, other).await?;
    ensure!(!get(&flow).await?.contains("wayleave-partners") && get(&labelled).await?.lines().count() > 15);

    helm(&cp).await?.args(["rollback", "wayleave", "1"]).run().await?.ok()?;
    wait_installed(&cp).await?;
    ensure!(get(&flow).await?.contains("wayleave-partners") && get(&labelled).await?.is_empty());
    ensure!(
        get(&["crd", "accessgrants.wayleave.dev", "-o", uid]).await? == before,
        "the same kinds"
    );
    Ok(())
}

#[tokio::test]
async fn a_second_installation_is_refused_with_the_name_of_the_first() -> Result<()> {
    let cp = cluster().await?;
    let again = async |release: &str, namespace: &str, more: &[&str]| {
        let helm = cp.helm(&cp.admin_kubeconfig()).await?;
        let helm = helm.args(["upgrade", "--install", release]).arg(chart(CHART));
        let helm = helm.args(["--namespace", namespace, "--dry-run=server", "--set", "replicas=0"]);
        helm.args(more).run().await
    };
    let first = "Wayleave is in this cluster already, as release wayleave in namespace wayleave-system";
    for (release, namespace) in [("other", NAMESPACE), ("wayleave", ELSEWHERE), ("other", ELSEWHERE)] {
        let apart = "crds.enabled=false,identityNamespace.name=others,enrolment.name=other";
        for more in [&[][..], &["--set", apart][..]] {
            let output = again(release, namespace, more).await?;
            ensure!(
                !output.status.success() && output.stderr.contains(first),
                "{release} in {namespace}: {}",
                output.stderr
            );
        }
    }
    // Nor does the first change whose rights and policies these are, and leave what it holds behind.
    let renamed = again("wayleave", NAMESPACE, &["--set", "serviceAccount.name=other"]).await?;
    let says = "already, with the operator wayleave-system/wayleave: keep its namespace and name";
    ensure!(renamed.stderr.contains(says), "{}", renamed.stderr);
    again("wayleave", NAMESPACE, &[]).await?.ok()?;
    Ok(())
}

/// What helm says after an installation, as if it had been done.
async fn notes(cp: Option<&ControlPlane>, values: Value) -> Result<String> {
    let helm = match cp {
        Some(cp) => helm(cp).await?.args(["upgrade", "--install", "--dry-run=server"]),
        None => crate::render::helm().await?.args(["install", "--dry-run=client"]),
    };
    let helm = helm.arg("wayleave").arg(chart(CHART));
    let helm = helm.args(["--namespace", NAMESPACE, "--values", "-"]);
    let text = helm.stdin(values.to_string()).run().await?.ok()?;
    let notes = text.split_once("\nNOTES:\n").map(|(_, notes)| notes.to_owned());
    notes.context("helm says nothing")
}

#[tokio::test]
async fn the_notes_tell_the_next_step_and_what_is_missing() -> Result<()> {
    let plain = notes(None, json!({})).await?;
    for said in [
        "kubectl rollout status deployment/wayleave --namespace wayleave-system",
        "come with the chart wayleave-policies",
        "kubectl create rolebinding wayleave-enrolment --namespace NAMESPACE",
        "Bind wayleave-requester",
    ] {
        ensure!(plain.contains(said), "{said}: {plain}");
    }
    ensure!(!plain.contains("WARNING"), "nobody was asked: {plain}");
    for (values, said) in [
        (json!({"replicas": 0}), "replicas is 0"),
        (json!({"replicas": 1}), "there is one replica"),
        (
            json!({"uninstall": {"hook": false}}),
            "the hook that ends all access is off",
        ),
        (
            json!({"admission": {"enabled": false}}),
            "the admission policies are off",
        ),
        (json!({"rbac": {"create": false}}), "rbac.create is off"),
        (
            json!({"metrics": {"podMonitor": {"renderMode": "auto"}}}),
            "No PodMonitor was made",
        ),
    ] {
        let notes = notes(None, values).await?;
        ensure!(notes.contains(said) && !plain.contains(said), "{said}: {notes}");
    }
    let cp = ControlPlane::start().await?;
    for (values, said) in [
        (json!({"crds": {"enabled": false}}), "the kinds are missing"),
        (
            json!({"serviceAccount": {"create": false, "name": "mine"}}),
            "the ServiceAccount mine is missing",
        ),
        (
            json!({"priorityClassName": "mine"}),
            "the PriorityClass mine is missing",
        ),
    ] {
        let notes = notes(Some(&cp), values).await?;
        ensure!(notes.contains(said) && !plain.contains(said), "{said}: {notes}");
    }
    install(&cp).await?;
    let there = json!({"crds": {"enabled": false}, "priorityClassName": "system-cluster-critical"});
    let without = notes(Some(&cp), there.clone()).await?;
    ensure!(without.contains("come with the chart wayleave-policies"), "{without}");
    ensure!(!without.contains("missing"), "{without}");
    helm_install_policies(&cp).await?.ok()?;
    let with = notes(Some(&cp), there).await?;
    ensure!(!with.contains("come with the chart wayleave-policies"), "{with}");
    Ok(())
}
