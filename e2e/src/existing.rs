//! A cluster that runs already, named by `WAYLEAVE_E2E_KUBECONFIG`. Its administrator must be able to approve
//! certificate signing requests.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::eventually::eventually;
use crate::kubeconfig::{Cluster, User};
use crate::pki::{self, Pair};

/// Names the kubeconfig file of a cluster to use instead of starting one.
pub const KUBECONFIG_VARIABLE: &str = "WAYLEAVE_E2E_KUBECONFIG";

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const CERTIFICATE_SECONDS: i32 = 24 * 3600;
const SIGNING_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of the cluster.
#[derive(Debug)]
pub struct Existing {
    /// How to reach it.
    pub cluster: Cluster,
    /// Its administrator.
    pub admin: User,
    /// The URL of its API server.
    pub server: String,
    /// Its certificate authority, PEM; empty if the kubeconfig names none.
    pub ca_pem: String,
}

impl Existing {
    /// Reads the current context of a kubeconfig file.
    pub fn open(path: &Path) -> Result<Self> {
        let config = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
        let current = config
            .current_context
            .context("the kubeconfig has no current context")?;
        let contexts = config.contexts.into_iter();
        let context = contexts
            .filter(|entry| entry.name == current)
            .find_map(|entry| entry.context);
        let context = context.with_context(|| format!("the kubeconfig has no context {current}"))?;
        let clusters = config.clusters.into_iter();
        let cluster = clusters
            .filter(|entry| entry.name == context.cluster)
            .find_map(|entry| entry.cluster);
        let cluster = cluster.with_context(|| format!("the kubeconfig has no cluster {}", context.cluster))?;
        let users = config.auth_infos.into_iter();
        let user = users
            .filter(|entry| Some(&entry.name) == context.user.as_ref())
            .find_map(|entry| entry.auth_info);
        let user = user.context("the kubeconfig has no user for its current context")?;
        let server = cluster.server.clone().context("the kubeconfig names no server")?;
        let ca_pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) => {
                let bytes: ByteString = serde_json::from_value(json!(data))?;
                String::from_utf8(bytes.0)?
            }
            (None, Some(file)) => std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?,
            (None, None) => String::new(),
        };
        let cluster = Cluster(serde_json::to_value(cluster)?);
        let admin = User(serde_json::to_value(user)?);
        Ok(Self {
            cluster,
            admin,
            server,
            ca_pem,
        })
    }
}

/// A client certificate for a user in these groups, signed by the cluster.
pub async fn client_certificate(admin: &Client, name: &str, groups: &[&str]) -> Result<Pair> {
    let requests: Api<CertificateSigningRequest> = Api::all(admin.clone());
    let request = pki::signing_request(name, groups)?;
    let created = requests
        .create(
            &PostParams::default(),
            &CertificateSigningRequest {
                metadata: ObjectMeta {
                    generate_name: Some("wayleave-e2e-".to_owned()),
                    ..ObjectMeta::default()
                },
                spec: CertificateSigningRequestSpec {
                    request: ByteString(request.public.into_bytes()),
                    signer_name: SIGNER.to_owned(),
                    usages: Some(vec!["client auth".to_owned()]),
                    expiration_seconds: Some(CERTIFICATE_SECONDS),
                    ..CertificateSigningRequestSpec::default()
                },
                status: None,
            },
        )
        .await
        .context("cannot request a client certificate")?;
    let id = created.name_any();
    let approval = json!({ "status": { "conditions": [{
        "type": "Approved", "status": "True", "reason": "EndToEndTest", "message": "a user of the end-to-end tests",
    }] } });
    requests
        .patch_approval(&id, &PatchParams::default(), &Patch::Merge(approval))
        .await
        .context("cannot approve a client certificate")?;
    let certificate = eventually(&format!("the certificate of {name}"), SIGNING_TIMEOUT, || async {
        Ok(requests.get(&id).await?.status.and_then(|status| status.certificate))
    })
    .await?;
    Ok(Pair {
        key: request.key,
        public: String::from_utf8(certificate.0)?,
    })
}
