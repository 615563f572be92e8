//! Objects that are nobody's business: some are named and labelled like ours. Whatever goes wrong, they stay as they are, to the
//! last byte.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{api, create, text};
use wayleave_e2e::{ControlPlane, Tenant};

use super::scenario::Prepared;

/// Made before the chart, when nobody held its names back yet.
const ELDERS: &str = "elders";
/// As a name of ours is made, for a grant that never was.
const ELDER: &str = "wlg-0123456789abcdef-1";
/// By Kubernetes, on the Secret of a static token.
const LABEL_LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const KINDS: [&str; 4] = ["ServiceAccount", "Role", "RoleBinding", "Secret"];

/// Where one is, and how it was: to be compared.
pub struct Bystander {
    kind: &'static str,
    namespace: String,
    name: String,
    before: Value,
}

/// Objects of names that the chart reserves for the operator.
pub async fn make_elders(cp: &ControlPlane) -> Result<()> {
    let root = cp.admin().await?;
    create(&root, "Namespace", "", ELDERS, json!({})).await?;
    for kind in KINDS {
        create(&root, kind, ELDERS, ELDER, body(kind, ELDERS, "elder", "")).await?;
    }
    Ok(())
}

/// Whether it is one of them.
pub fn is_elder(object: &DynamicObject) -> bool {
    object.namespace().as_deref() == Some(ELDERS)
}

/// What is around the grant of a tenant, as it is now, in every namespace that it reaches.
pub async fn around(prepared: &Prepared<'_>, grant_uid: &str) -> Result<Vec<Bystander>> {
    let (tenant, root) = (&prepared.tenant, &prepared.tenant.root);
    let mut all = Vec::new();
    for kind in KINDS {
        let ours = || body(kind, &tenant.ns, "reader", grant_uid);
        for namespace in prepared.namespaces() {
            create(root, kind, &namespace, "reader-credential-copy", ours()).await?;
            create(root, kind, &namespace, "bystander", body(kind, &namespace, "", "")).await?;
            for name in ["reader-credential-copy", "bystander"] {
                all.push(seen(tenant, kind, &namespace, name).await?);
            }
        }
        if matches!(kind, "ServiceAccount" | "Secret") {
            let copy = format!("copy-of-{}", tenant.ns);
            create(root, kind, IDENTITY_NAMESPACE, &copy, ours()).await?;
            all.push(seen(tenant, kind, IDENTITY_NAMESPACE, &copy).await?);
        }
        all.push(seen(tenant, kind, ELDERS, ELDER).await?);
    }
    for (kind, name) in prepared.shape.declared() {
        all.push(seen(tenant, kind, &tenant.ns, name).await?);
    }
    Ok(all)
}

async fn seen(tenant: &Tenant<'_>, kind: &'static str, namespace: &str, name: &str) -> Result<Bystander> {
    Ok(Bystander {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        before: whole(api(&tenant.root, kind, namespace).get(name).await?)?,
    })
}

/// All of an object, but for the day on which Kubernetes saw its token used, and the traces of its noting that.
fn whole(mut object: DynamicObject) -> Result<Value> {
    if object.labels_mut().remove(LABEL_LAST_USED).is_some() {
        (object.metadata.resource_version, object.metadata.managed_fields) = (None, None);
    }
    Ok(serde_json::to_value(object)?)
}

/// All are as they were; those of a namespace that was deleted went with it.
pub async fn unchanged(prepared: &Prepared<'_>, is_deleted: bool) -> Result<()> {
    let tenant = &prepared.tenant;
    for bystander in &prepared.bystanders {
        let Bystander {
            kind,
            namespace,
            name,
            before,
        } = bystander;
        if is_deleted && *namespace == tenant.ns {
            continue;
        }
        let now = api(&tenant.root, kind, namespace).get(name).await;
        let now = now.with_context(|| format!("{kind} {namespace}/{name} is none of ours and is gone"))?;
        let now = whole(now)?;
        // Not the objects: one of them is a Secret.
        ensure!(
            now == *before,
            "{kind} {namespace}/{name} is none of ours and was written to"
        );
    }
    Ok(())
}

fn body(kind: &str, namespace: &str, grant: &str, grant_uid: &str) -> Value {
    let mut body = match kind {
        "Role" => {
            json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["feed"]}]})
        }
        "RoleBinding" => json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bystander"},
            "subjects": [{"kind": "ServiceAccount", "name": "bystander", "namespace": namespace}],
        }),
        "Secret" => json!({"stringData": {"token": "none", "key": "nobody's"}}),
        _ => json!({}),
    };
    if !grant.is_empty() {
        body["metadata"] = json!({
            "labels": {"wayleave.dev/managed": "true"},
            "annotations": {
                "wayleave.dev/grant": format!("{namespace}/{grant}"),
                "wayleave.dev/grant-uid": if grant_uid.is_empty() { "5d0c6a7e-0000-4000-8000-000000000001" } else { grant_uid },
            },
        });
    }
    body
}

/// The UID of the grant, where it is there.
pub async fn uid_of_grant(tenant: &Tenant<'_>) -> Result<String> {
    let grant = api(&tenant.root, "AccessGrant", &tenant.ns).get_opt("reader").await?;
    let uid = grant
        .map(|grant| serde_json::to_value(grant.metadata.uid))
        .transpose()?;
    Ok(text(&uid.unwrap_or_default()))
}
