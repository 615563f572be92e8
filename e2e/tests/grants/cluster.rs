//! The cluster that these tests share.

use anyhow::Result;
use serde_json::json;
use tokio::sync::OnceCell;
use wayleave_e2e::tenant::create;
use wayleave_e2e::{ControlPlane, InstallOptions, Operator, Tenant, Tokens, install_with, tenant};

/// A ClusterRole of one test, which grows.
pub const GROWING: &str = "growing-role";
/// Another, which others are added to.
pub const AGGREGATED: &str = "aggregated-role";
/// And one that stays as it is.
pub const READING: &str = "reading-role";
/// One that changes, under a policy which has that told and no more.
pub const REPORTED: &str = "reported-role";
/// A ClusterRole that enrols as the chart's does.
pub const OTHER_ENROLMENT: &str = "other-enrolment";
/// Where the ServiceAccounts of a GitOps controller are.
pub const GITOPS: &str = "gitops";
/// The one that may write requests for others, and the one that may write decisions too.
pub const REQUESTS: &str = "requests";
pub const DECISIONS: &str = "decisions";

/// The control plane with the chart and a running operator.
pub struct Cluster {
    pub cp: &'static ControlPlane,
    pub operator: Operator,
    /// Every token that was delivered.
    pub tokens: Tokens,
}

pub async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(|| async {
            // For the life of the process, whose end ends it.
            let cp: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await?));
            let ceiling = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]);
            let options = InstallOptions {
                values: json!({
                    "replicas": 0,
                    "ceiling": {"rules": ceiling, "clusterRoles": [GROWING, AGGREGATED, READING, REPORTED], "staticCredentials": true},
                    "enrolment": {"otherClusterRoles": [OTHER_ENROLMENT]},
                    "admission": {"delegates": {
                        "requests": [delegate(REQUESTS), delegate(DECISIONS)],
                        "decisions": [delegate(DECISIONS)],
                    }},
                }),
                ..InstallOptions::default()
            };
            install_with(cp, options).await?;
            let root = cp.admin().await?;
            create(&root, "Namespace", "", GITOPS, json!({})).await?;
            for name in [REQUESTS, DECISIONS] {
                create(&root, "ServiceAccount", GITOPS, name, json!({})).await?;
            }
            let tokens = Tokens::watch(cp)?;
            let operator = Operator::ready(cp).await?;
            Ok(Cluster { cp, operator, tokens })
        })
        .await
}

/// The user name of a ServiceAccount of the GitOps controller.
pub fn delegate(name: &str) -> String {
    format!("system:serviceaccount:{GITOPS}:{name}")
}

/// A tenant of its own.
pub async fn tenant(ns: &str) -> Result<Tenant<'static>> {
    tenant::Tenant::new(cluster().await?.cp, ns).await
}
