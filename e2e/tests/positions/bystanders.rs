//! Objects that are nobody's business: some are named and labelled like ours. Whatever goes wrong, they stay as they are, to the
//! last byte.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{api, create, text};
use wayleave_e2e::{ControlPlane, Tenant};

/// Made before the chart, when nobody held its names back yet.
const ELDERS: &str = "elders";
/// As a name of ours is made, for a grant that never was.
const ELDER: &str = "wlg-0123456789abcdef-1";
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

/// What is around the grants of a namespace, as it is now.
pub async fn around(tenant: &Tenant<'_>, grant_uid: &str) -> Result<Vec<Bystander>> {
    let root = &tenant.root;
    for kind in KINDS {
        let ours = body(kind, &tenant.ns, "reader", grant_uid);
        create(root, kind, &tenant.ns, "reader-credential-copy", ours).await?;
        create(root, kind, &tenant.ns, "bystander", body(kind, &tenant.ns, "", "")).await?;
    }
    for kind in ["ServiceAccount", "Secret"] {
        let ours = body(kind, &tenant.ns, "reader", grant_uid);
        create(root, kind, IDENTITY_NAMESPACE, &format!("copy-of-{}", tenant.ns), ours).await?;
    }
    let mut all = Vec::new();
    for kind in KINDS {
        all.push(seen(tenant, kind, ELDERS, ELDER).await?);
        all.push(seen(tenant, kind, &tenant.ns, "reader-credential-copy").await?);
        all.push(seen(tenant, kind, &tenant.ns, "bystander").await?);
    }
    for kind in ["ServiceAccount", "Secret"] {
        all.push(seen(tenant, kind, IDENTITY_NAMESPACE, &format!("copy-of-{}", tenant.ns)).await?);
    }
    Ok(all)
}

async fn seen(tenant: &Tenant<'_>, kind: &'static str, namespace: &str, name: &str) -> Result<Bystander> {
    let object = api(&tenant.root, kind, namespace).get(name).await?;
    Ok(Bystander {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        before: serde_json::to_value(object)?,
    })
}

/// All are as they were; those of a namespace that was deleted went with it.
pub async fn unchanged(tenant: &Tenant<'_>, all: &[Bystander], is_deleted: bool) -> Result<()> {
    for bystander in all {
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
        let now = serde_json::to_value(now)?;
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
