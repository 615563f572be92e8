//! Kubeconfig files, and clients from the same content.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::pki::{Pair, base64};

const OWNER_ONLY: u32 = 0o600;

/// Who a kubeconfig speaks as: the `user` entry of the file.
#[derive(Debug, Clone)]
pub struct User(pub Value);

impl User {
    /// By a client certificate.
    pub fn certificate(pair: &Pair) -> Self {
        Self(json!({
            "client-certificate-data": base64(pair.public.as_bytes()),
            "client-key-data": base64(pair.key.as_bytes()),
        }))
    }

    /// By a bearer token.
    pub fn token(token: &str) -> Self {
        Self(json!({ "token": token }))
    }

    /// Nobody.
    pub fn anonymous() -> Self {
        Self(json!({}))
    }
}

/// The `cluster` entry of a kubeconfig file.
#[derive(Debug, Clone)]
pub struct Cluster(pub Value);

impl Cluster {
    /// A server that shows a certificate of this authority.
    pub fn new(server: &str, ca_pem: &str) -> Self {
        Self(json!({ "server": server, "certificate-authority-data": base64(ca_pem.as_bytes()) }))
    }
}

/// The content of a kubeconfig file.
pub fn content(cluster: &Cluster, user: &User) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "e2e", "cluster": cluster.0 }],
        "users": [{ "name": "e2e", "user": user.0 }],
        "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "e2e" } }],
        "current-context": "e2e",
    })
}

/// Writes a kubeconfig file that only its owner can read.
pub fn write(path: &Path, cluster: &Cluster, user: &User) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(OWNER_ONLY)
        .open(path)
        .with_context(failed)?;
    // JSON is YAML.
    file.write_all(&serde_json::to_vec_pretty(&content(cluster, user))?)
        .with_context(failed)
}

/// A client for the runtime that this is called in. It never tries a call again: tests must see the first answer.
pub async fn client(cluster: &Cluster, user: &User) -> Result<Client> {
    let kubeconfig: kube::config::Kubeconfig = serde_json::from_value(content(cluster, user))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}
