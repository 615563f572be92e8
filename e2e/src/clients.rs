//! Clients and kubeconfig files for whoever calls. A client belongs to the runtime that it was made in: make one per test.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::control_plane::{Backend, ControlPlane};
use crate::kubeconfig::{self, User};

/// A day: nobody replaces the token of an operator outside of the cluster, and `make demo KEEP=1` leaves one running.
const TOKEN_SECONDS: i64 = 24 * 3600;

impl ControlPlane {
    /// A client that may do everything.
    pub async fn admin(&self) -> Result<Client> {
        kubeconfig::client(&self.cluster, &self.admin).await
    }

    /// A client for a user in these groups, by a client certificate.
    pub async fn user(&self, name: &str, groups: &[&str]) -> Result<Client> {
        kubeconfig::client(&self.cluster, &self.user_entry(name, groups).await?).await
    }

    /// A client for a ServiceAccount that exists, by a token of a day.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        self.with_token(&self.service_account_token(namespace, name).await?)
            .await
    }

    /// A client with this bearer token.
    pub async fn with_token(&self, token: &str) -> Result<Client> {
        kubeconfig::client(&self.cluster, &User::token(token)).await
    }

    /// A client that shows no credential.
    pub async fn anonymous(&self) -> Result<Client> {
        kubeconfig::client(&self.cluster, &User::anonymous()).await
    }

    /// A token of a day for a ServiceAccount that exists.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for ServiceAccount {namespace}/{name}"))?;
        Ok(answer
            .status
            .context("the token request was answered without a status")?
            .token)
    }

    /// The administrator's kubeconfig file.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.workdir.join("admin.kubeconfig")
    }

    /// A kubeconfig file for a user in these groups.
    pub async fn user_kubeconfig(&self, name: &str, groups: &[&str]) -> Result<PathBuf> {
        self.write_kubeconfig(name, &self.user_entry(name, groups).await?)
    }

    /// A kubeconfig file for a ServiceAccount that exists, with a token of a day.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.service_account_token(namespace, name).await?;
        self.write_kubeconfig(name, &User::token(&token))
    }

    /// A kubeconfig file with this bearer token.
    pub fn token_kubeconfig(&self, token: &str) -> Result<PathBuf> {
        self.write_kubeconfig("token", &User::token(token))
    }

    async fn user_entry(&self, name: &str, groups: &[&str]) -> Result<User> {
        let pair = match &self.backend {
            Backend::Own(own) => own.lock_authority().client(name, groups)?,
            Backend::Existing => crate::existing::client_certificate(&self.admin().await?, name, groups).await?,
        };
        Ok(User::certificate(&pair))
    }

    fn write_kubeconfig(&self, name: &str, user: &User) -> Result<PathBuf> {
        let readable: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let path = self
            .workdir
            .join(format!("{readable}-{}.kubeconfig", self.next_number()));
        kubeconfig::write(&path, &self.cluster, user)?;
        Ok(path)
    }
}
