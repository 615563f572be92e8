//! Installs the chart as a platform team would, and waits until the cluster acts on it. Once per control plane: helm does
//! not install one release twice at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, ObjectMeta, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Error, ResourceExt as _};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::eventually::eventually;
use crate::operator::{NAMESPACE, workspace};

/// The API group of our kinds.
pub const GROUP: &str = "wayleave.dev";
/// The name of the release.
pub const RELEASE: &str = "wayleave";

const PROBE_NAMESPACE: &str = "default";
/// A name that admission policies reserve for the operator.
const RESERVED_NAME: &str = "wlg-e2e-probe";
/// Admission of a fresh kind has been seen to answer 503 for up to a minute.
const TIMEOUT: Duration = Duration::from_secs(120);

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
    }
    Ok(())
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
