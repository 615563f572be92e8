//! Installs the chart as a platform team would, and waits until the cluster acts on it. Once per control plane: helm does
//! not install one release twice at a time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, ObjectMeta, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Error, ResourceExt as _};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::eventually::eventually;
use crate::operator::{NAMESPACE, workspace};
use crate::progress;

/// The API group of our kinds.
pub const GROUP: &str = "wayleave.dev";
/// The name of the release.
pub const RELEASE: &str = "wayleave";

/// On everything that the operator makes for partners; nobody else puts it on.
const RESERVED_LABEL: &str = "wayleave.dev/managed";
/// The policy that holds it.
const LABEL_POLICY: &str = "wayleave-reserved-label";
const PROBE_NAMESPACE: &str = "default";
/// A name that admission policies reserve for the operator.
const RESERVED_NAME: &str = "wlg-e2e-probe";
/// A fresh kind can be stamped once its schema is in `/openapi/v3`, which admission reads every five seconds: three to ten
/// seconds after helm is done. Where the API server's first reading of the schemas failed, the next is a minute later.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The operator counts no decision that was made sooner after the admission policies were written.
const SETTLED: Duration = Duration::from_secs(4);
/// Kinds that are stamped with their writer, and the field that says so.
const STAMPED: [(&str, &str); 3] = [
    ("PartnerIntegration", "requestedBy"),
    ("AccessGrant", "requestedBy"),
    ("AccessDecision", "decidedBy"),
];

/// What to install.
#[derive(Debug, Clone)]
pub struct InstallOptions {
    /// The chart's folder.
    pub chart: PathBuf,
    /// Its values.
    pub values: Value,
}

impl Default for InstallOptions {
    /// The chart of this workspace, without pods: there is no node to run them.
    fn default() -> Self {
        Self {
            chart: workspace().join("charts/wayleave"),
            values: json!({ "replicas": 0 }),
        }
    }
}

/// Installs the chart of this workspace and waits until the kinds are served and the admission policies hold.
pub async fn install(cp: &ControlPlane) -> Result<()> {
    install_with(cp, InstallOptions::default()).await
}

/// Installs a chart, or upgrades it to other values, and waits as [`install`] does.
pub async fn install_with(cp: &ControlPlane, options: InstallOptions) -> Result<()> {
    helm_upgrade(cp, &options.chart, &options.values).await?;
    wait_installed(cp).await
}

async fn helm_upgrade(cp: &ControlPlane, chart: &Path, values: &Value) -> Result<()> {
    let helm = cp.helm(&cp.admin_kubeconfig()).await?;
    let helm = helm.args(["upgrade", "--install", RELEASE]).arg(chart);
    let helm = helm.args(["--namespace", NAMESPACE, "--create-namespace", "--values", "-"]);
    helm.stdin(values.to_string()).run().await?.ok()?;
    Ok(())
}

/// Waits until our kinds are served and the admission policies hold.
pub async fn wait_installed(cp: &ControlPlane) -> Result<()> {
    let written = Instant::now();
    let client = cp.admin().await?;
    let kinds = eventually("our kinds to be established", TIMEOUT, || established(&client)).await?;
    eventually("admission of our kinds", TIMEOUT, || async {
        for kind in &kinds {
            admission_answers(&client, kind).await?;
        }
        Ok(Some(()))
    })
    .await?;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let bindings = bindings.list(&ListParams::default()).await?.items;
    if bindings.iter().any(|binding| binding.name_any().starts_with(RELEASE)) {
        eventually("the admission policies to hold", TIMEOUT, || {
            reserved_name_is_refused(&client)
        })
        .await?;
        eventually(
            "the admission policies to be old enough to be counted on",
            TIMEOUT,
            || async { Ok((written.elapsed() > SETTLED).then_some(())) },
        )
        .await?;
        let stamps = stamping_policies(&client).await?;
        eventually("objects to carry their writer's name", TIMEOUT, || async {
            for (kind, field) in STAMPED {
                writer_is_known(&client, kind, field, stamps).await?;
            }
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// Lets one user put the label on that marks what is made for partners, as everybody could before there was a chart: what others
/// labelled then must stay as it is, whatever it looks like. To be called before an operator starts, which watches the policies.
pub async fn let_reserved_label_through(cp: &ControlPlane, user: &str) -> Result<()> {
    let client = cp.admin().await?;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
    let mut policy = policies.get(LABEL_POLICY).await?;
    let exempt = MatchCondition {
        name: "by-whom-the-test-exempts".to_owned(),
        expression: format!("request.userInfo.username != '{user}'"),
    };
    let spec = policy.spec.get_or_insert_default();
    spec.match_conditions.get_or_insert_default().push(exempt);
    let written = Instant::now();
    policies.replace(LABEL_POLICY, &PostParams::default(), &policy).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cp.user(user, &["system:masters"]).await?, PROBE_NAMESPACE);
    let metadata = ObjectMeta {
        name: Some("e2e-probe".to_owned()),
        labels: Some([(RESERVED_LABEL.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount {
        metadata,
        ..ServiceAccount::default()
    };
    eventually("the label to be let through", TIMEOUT, || async {
        accounts.create(&dry_run(), &account).await?;
        Ok((written.elapsed() > SETTLED).then_some(()))
    })
    .await
}

/// Whether this cluster can stamp objects with their writer's name: Kubernetes 1.36 and newer can.
pub async fn can_stamp(client: &Client) -> Result<bool> {
    let served = client
        .list_api_group_resources("admissionregistration.k8s.io/v1")
        .await?;
    Ok(served
        .resources
        .iter()
        .any(|resource| resource.name == "mutatingadmissionpolicies"))
}

/// The same, before a test of stamping: where there is none, says what is not tested.
pub async fn can_stamp_or_says(client: &Client, untested: &str) -> Result<bool> {
    let can = can_stamp(client).await?;
    if !can {
        progress(&format!(
            "skipped: {untested}: this cluster serves no MutatingAdmissionPolicy v1 (Kubernetes 1.36)"
        ));
    }
    Ok(can)
}

/// Whether the chart brought policies that stamp.
async fn stamping_policies(client: &Client) -> Result<bool> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding");
    let bindings: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    match bindings.list(&ListParams::default()).await {
        Ok(list) => Ok(list.items.iter().any(|binding| binding.name_any().starts_with(RELEASE))),
        Err(Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A dry run of an object without its writer's name: it is stamped, or refused where nothing stamps. That admission answers
/// at all shows neither: a policy that the API server has not read yet lets everything through.
async fn writer_is_known(client: &Client, kind: &str, field: &str, stamps: bool) -> Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1alpha1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), PROBE_NAMESPACE, &resource);
    let object = DynamicObject::new("e2e-probe", &resource).data(json!({ "spec": probe_spec(kind) }));
    match api.create(&dry_run(), &object).await {
        Ok(answer) if stamps && answer.data["spec"][field].is_string() => Ok(()),
        Ok(_) => bail!("{kind}: let through without spec.{field}"),
        Err(Error::Api(status)) if !stamps && status.message.contains(&format!("spec.{field} must be you")) => Ok(()),
        Err(error) => Err(anyhow::Error::from(error).context(format!("dry run of {kind}"))),
    }
}

fn probe_spec(kind: &str) -> Value {
    match kind {
        "PartnerIntegration" => json!({
            "partner": {"id": "probe", "name": "Probe", "contact": "probe@probe.example"},
            "purpose": "a probe",
            "owners": {"businessRef": {"name": "one"}, "technicalRef": {"name": "two"}},
            "agreement": {"reference": "none"},
            "dataClassification": "Public",
            "environment": "NonProduction",
            "review": {"interval": "90d"}
        }),
        "AccessGrant" => json!({
            "integrationRef": {"name": "probe"},
            "access": [{"clusterRoleRef": {"name": "none"}}],
            "credential": {"type": "Token", "token": {"lifetime": "1h"}},
            "expiresAt": "2999-01-01T00:00:00Z"
        }),
        _ => json!({
            "subject": {"kind": "AccessGrant", "name": "probe"},
            "decision": "Deny",
            "reason": "a probe"
        }),
    }
}

async fn established(client: &Client) -> Result<Option<Vec<CustomResourceDefinition>>> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut ours = definitions.list(&ListParams::default()).await?.items;
    ours.retain(|definition| definition.spec.group == GROUP);
    let pending: Vec<String> = ours
        .iter()
        .filter(|kind| !is_established(kind))
        .map(|kind| kind.name_any())
        .collect();
    if ours.is_empty() {
        bail!("there is no kind of {GROUP}");
    }
    if !pending.is_empty() {
        bail!("not yet: {}", pending.join(", "));
    }
    Ok(Some(ours))
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Established" && c.status == "True"))
}

/// Creates next to nothing, as a dry run. Mutating admission comes before the schema: a refusal of any kind but "not yet"
/// shows that it works.
async fn admission_answers(client: &Client, definition: &CustomResourceDefinition) -> Result<()> {
    let Some(version) = definition.spec.versions.iter().find(|version| version.storage) else {
        bail!("{} stores no version", definition.name_any());
    };
    let names = &definition.spec.names;
    let kind = GroupVersionKind::gvk(GROUP, &version.name, &names.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
    let api: Api<DynamicObject> = match definition.spec.scope.as_str() {
        "Namespaced" => Api::namespaced_with(client.clone(), PROBE_NAMESPACE, &resource),
        _ => Api::all_with(client.clone(), &resource),
    };
    let object = DynamicObject::new("e2e-probe", &resource);
    match api.create(&dry_run(), &object).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if matches!(status.code, 400..=499) && !matches!(status.code, 404 | 429) => Ok(()),
        Err(error) => Err(anyhow::Error::from(error).context(format!("dry run of {}", names.kind))),
    }
}

async fn reserved_name_is_refused(client: &Client) -> Result<Option<()>> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), PROBE_NAMESPACE);
    let metadata = ObjectMeta {
        name: Some(RESERVED_NAME.to_owned()),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount {
        metadata,
        ..ServiceAccount::default()
    };
    match accounts.create(&dry_run(), &account).await {
        Ok(_) => bail!("a ServiceAccount with a reserved name was let through"),
        Err(Error::Api(status)) if matches!(status.code, 403 | 422) => Ok(Some(())),
        Err(error) => Err(error.into()),
    }
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}
