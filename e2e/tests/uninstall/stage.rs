//! A cluster with the chart, an operator, partners, and things of others that nobody may touch.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{ListParams, Patch, PatchParams};
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use wayleave_e2e::install::let_reserved_label_through;
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT, binary};
use wayleave_e2e::tenant::{END, LIMIT, Partner, ROOT, api, condition, create, merge, text};
use wayleave_e2e::{ControlPlane, InstallOptions, Operator, OperatorOptions, Output, Tenant, eventually, install_with};

pub const READER: &str = "reader";
/// Our finalizer.
const FINALIZER: &str = "wayleave.dev/close-access";
/// A replica that is killed keeps its lease for so long. It is renewed a third of it before its end, by whole seconds: two of them.
const LEASE: &str = "--lease-duration=6";
/// On everything that is none of ours.
const FOREIGN: &str = "e2e.example/foreign";
/// Control planes cost memory: so many at once.
static PLACES: Semaphore = Semaphore::const_new(2);

/// A cluster of one test.
pub struct Stage {
    pub cp: ControlPlane,
    pub operator: Operator,
    pub root: Client,
    _place: SemaphorePermit<'static>,
}

impl Stage {
    /// The chart, things of others, and an operator.
    pub async fn new() -> Result<Self> {
        let place = PLACES.acquire().await?;
        let cp = ControlPlane::start().await?;
        let chart = InstallOptions {
            values: json!({
                "replicas": 0, "logLevel": "error", "uninstall": {"timeoutSeconds": 30},
                "leaderElection": {"leaseDurationSeconds": 6},
            }),
            ..InstallOptions::default()
        };
        install_with(&cp, chart).await?;
        let_reserved_label_through(&cp, ROOT).await?;
        let operator = Operator::start(&cp, options()).await?;
        operator.wait_ready().await?;
        let root = cp.user(ROOT, &["system:masters"]).await?;
        create(&root, "Namespace", "", "others", json!({})).await?;
        for namespace in ["others", NAMESPACE, IDENTITY_NAMESPACE] {
            foreign_objects(&root, namespace).await?;
        }
        Ok(Self {
            cp,
            operator,
            root,
            _place: place,
        })
    }

    /// A tenant with things of others beside its own.
    pub async fn tenant(&self, ns: &str) -> Result<Tenant<'_>> {
        let tenant = Tenant::new(&self.cp, ns).await?;
        foreign_objects(&self.root, ns).await?;
        Ok(tenant)
    }

    /// `wayleave uninstall` as the user of a kubeconfig file.
    pub async fn uninstall_as(&self, kubeconfig: &std::path::Path, more: &[&str]) -> Result<Output> {
        let tool = self.cp.tool(binary().await?, kubeconfig);
        let tool = tool.args(["uninstall", LEASE, "--log-format=text", "--log-level=error"]);
        tool.args(more).run().await
    }

    /// The same as the operator's ServiceAccount, as in the hook's pod.
    pub async fn uninstall(&self, more: &[&str]) -> Result<Output> {
        let kubeconfig = self.cp.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT).await?;
        self.uninstall_as(&kubeconfig, more).await
    }

    /// `helm uninstall`.
    pub async fn helm_uninstall(&self, more: &[&str]) -> Result<Output> {
        let helm = self.cp.helm(&self.cp.admin_kubeconfig()).await?;
        let helm = helm.args(["uninstall", "wayleave", "--namespace", NAMESPACE, "--wait"]);
        helm.args(more).run().await
    }

    /// `helm uninstall` with its hook. There is no node here: in place of the kubelet and the Job's controller this runs the
    /// hook's command with the arguments and as the ServiceAccount of the Job, and writes into the Job's status what came of it.
    /// The image, and how a pod gets its token, are not tried.
    pub async fn helm_uninstall_by_hook(&self) -> Result<(Output, String)> {
        let (helm, hook) = self.helm_uninstall_and_its_hook().await?;
        let said = done(&hook)?;
        Ok((helm, said))
    }

    /// The same, whatever becomes of the hook.
    pub async fn helm_uninstall_and_its_hook(&self) -> Result<(Output, Output)> {
        let (helm, hook) = tokio::join!(self.helm_uninstall(&[]), self.stand_in());
        Ok((helm?, hook?))
    }

    async fn stand_in(&self) -> Result<Output> {
        let jobs = api(&self.root, "Job", NAMESPACE);
        let job = eventually("helm to make the hook's Job", LIMIT, || async {
            Ok(jobs.get_opt("wayleave-uninstall").await?)
        })
        .await?;
        let pod = &job.data["spec"]["template"]["spec"];
        let account = text(&pod["serviceAccountName"]);
        let arguments = pod["containers"][0]["args"].as_array().cloned().unwrap_or_default();
        let arguments = arguments
            .iter()
            .map(|argument| text(argument).replace("$(POD_NAMESPACE)", NAMESPACE));
        let kubeconfig = self.cp.service_account_kubeconfig(NAMESPACE, &account).await?;
        let tool = self.cp.tool(binary().await?, &kubeconfig);
        let output = tool.args(arguments).run().await?;
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())?.to_string();
        let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": "StandIn", "message": "", "lastProbeTime": now, "lastTransitionTime": now});
        let status = if output.status.success() {
            json!({
                "startTime": now, "completionTime": now, "succeeded": 1, "uncountedTerminatedPods": {},
                "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
            })
        } else {
            json!({"startTime": now, "failed": 1, "conditions": [condition("FailureTarget"), condition("Failed")]})
        };
        let patch = Patch::Merge(json!({"status": status}));
        jobs.patch_status("wayleave-uninstall", &PatchParams::default(), &patch)
            .await
            .context("writing the Job's status")?;
        Ok(output)
    }

    /// Deletes our kinds, and waits until they are gone.
    pub async fn delete_kinds(&self) -> Result<()> {
        let kubectl = self.cp.kubectl(&self.cp.admin_kubeconfig()).await?;
        let kinds = [
            "accessgrants",
            "accessdecisions",
            "accessowners",
            "accesspolicies",
            "accessrecords",
            "partnerintegrations",
        ]
        .map(|kind| format!("{kind}.wayleave.dev"));
        let delete = kubectl
            .args(["delete", "crd", "--timeout=60s", "--ignore-not-found"])
            .args(kinds);
        delete.run().await?.ok()?;
        Ok(())
    }

    /// Deletes a namespace, and waits until it is gone.
    pub async fn delete_namespace(&self, ns: &str) -> Result<()> {
        let kubectl = self.cp.kubectl(&self.cp.admin_kubeconfig()).await?;
        let delete = kubectl.args(["delete", "namespace", ns, "--timeout=60s"]);
        delete.run().await?.ok()?;
        Ok(())
    }

    /// Everything that is none of ours, as it is.
    pub async fn foreign(&self) -> Result<BTreeMap<String, Value>> {
        let mut all = BTreeMap::new();
        let marked = ListParams::default().labels(FOREIGN);
        for kind in ["ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding"] {
            for object in api(&self.root, kind, "").list(&marked).await? {
                let key = format!(
                    "{kind} {}/{}",
                    object.namespace().unwrap_or_default(),
                    object.name_any()
                );
                all.insert(key, serde_json::to_value(object)?);
            }
        }
        ensure!(!all.is_empty(), "nothing of others is there");
        Ok(all)
    }

    /// No finalizer of ours on anything that can be listed, nothing of a reserved name, no delivered credential, no partner who
    /// gets in, and things of others as they were. Those of namespaces that are gone by now are not asked for.
    pub async fn nothing_is_left(&self, partners: &[&Partner], foreign: &BTreeMap<String, Value>) -> Result<()> {
        for partner in partners {
            partner.refused_within(Instant::now(), END).await?;
        }
        nothing_held(&self.root).await?;
        for kind in ["RoleBinding", "Role", "ServiceAccount", "Secret"] {
            let all = api(&self.root, kind, "").list(&ListParams::default()).await?;
            let ours = all.iter().filter(|object| {
                object.name_any().starts_with("wlg-") || object.data["type"] == "wayleave.dev/credential"
            });
            let ours: Vec<String> = ours
                .map(|object| {
                    format!(
                        "{kind} {}/{}",
                        object.namespace().unwrap_or_default(),
                        object.name_any()
                    )
                })
                .collect();
            ensure!(ours.is_empty(), "left: {ours:?}");
        }
        for partner in partners {
            partner.wait_unauthorized().await?;
        }
        let after = self.foreign().await?;
        for (key, before) in foreign {
            let namespace = text(&before["metadata"]["namespace"]);
            let is_there = api(&self.root, "Namespace", "").get_opt(&namespace).await?.is_some();
            ensure!(
                !is_there || after.get(key) == Some(before),
                "{key} was touched: {before} is now {:?}",
                after.get(key)
            );
        }
        Ok(())
    }
}

/// How every operator here runs.
pub fn options() -> OperatorOptions {
    OperatorOptions {
        args: vec![LEASE.into()],
        ..OperatorOptions::default()
    }
}

/// Lists whatever can be listed.
async fn nothing_held(root: &Client) -> Result<()> {
    let discovery = Discovery::new(root.clone()).run().await?;
    let mut kinds = 0;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            kinds += 1;
            let all: Api<kube::api::DynamicObject> = Api::all_with(root.clone(), &resource);
            // After a start the API server asks for patience, as with 429 while it fills the cache of a kind.
            let what = format!("{} to be listed", resource.plural);
            let list = eventually(&what, LIMIT, || async {
                match all.list_metadata(&ListParams::default()).await {
                    Ok(list) => Ok(Some(list.items)),
                    // A kind that went a moment ago.
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(Vec::new())),
                    Err(error) => Err(error.into()),
                }
            });
            for object in list.await? {
                let held = object.finalizers().iter().any(|name| name.contains("wayleave.dev"));
                ensure!(
                    !held,
                    "{} {}/{} is held by {FINALIZER}",
                    resource.kind,
                    object.namespace().unwrap_or_default(),
                    object.name_any()
                );
            }
        }
    }
    ensure!(kinds > 30, "only {kinds} kinds were looked at");
    Ok(())
}

/// Things of others, some of which look like ours.
async fn foreign_objects(root: &Client, namespace: &str) -> Result<()> {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "foreign"});
    let subjects = json!([{"kind": "ServiceAccount", "name": "foreign", "namespace": namespace}]);
    let marked = json!({"metadata": {"labels": {FOREIGN: "yes", "wayleave.dev/managed": "true"}}});
    for (kind, body) in [
        ("ConfigMap", json!({"data": {"a": "b"}})),
        ("Secret", json!({"stringData": {"a": "b"}})),
        ("ServiceAccount", json!({})),
        ("Role", json!({"rules": rules})),
        ("RoleBinding", json!({"roleRef": role, "subjects": subjects})),
    ] {
        let mut body = body;
        merge(&mut body, marked.clone());
        create(root, kind, namespace, "foreign", body).await?;
    }
    Ok(())
}

/// The grant says that Wayleave is being uninstalled, and is held by nothing of ours.
pub async fn let_go(tenant: &Tenant<'_>, name: &str) -> Result<()> {
    tenant.wait_reason(name, "Uninstalling").await?;
    eventually("the grant to be let go", LIMIT, || async {
        let grant = tenant.get_grant(name).await?;
        let finalizers = &grant["metadata"]["finalizers"];
        ensure!(!finalizers.to_string().contains(FINALIZER), "{finalizers}");
        let (ready, stalled) = (condition(&grant, "Ready"), condition(&grant, "Stalled"));
        ensure!(ready["status"] == "False" && stalled["status"] == "True", "{grant}");
        let said = text(&ready["message"]);
        ensure!(said.contains("wayleave-drain") && said.contains("--undo"), "{said}");
        ensure!(grant["status"]["identity"].is_null(), "{grant}");
        Ok(Some(()))
    })
    .await
}

/// What a command said, where it did what it should.
pub fn done(output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!("{}: {}\n{}", output.command, output.stdout, output.stderr);
    }
    Ok(output.stdout.clone())
}

/// The time that a namespace or a kind may take to go.
pub const GONE: Duration = Duration::from_secs(60);
