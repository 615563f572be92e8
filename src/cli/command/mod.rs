//! One file a command: each reads its arguments, speaks to the cluster, and writes its result.

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};

use super::decision::{Draft, build, groups_stated, verb};
use super::{Io, Session, output};
use crate::api::v1alpha1::{AccessDecision, AccessGrant};

pub mod approve;
pub mod deny;
pub mod kubeconfig;
pub mod list;
pub mod owner;
pub mod revoke;
pub mod rotate;
pub mod stop;
pub mod version;

/// HTTP status of a forbidden request.
const FORBIDDEN: u16 = 403;

/// Reads a grant.
async fn grant(session: &Session, name: &str) -> anyhow::Result<AccessGrant> {
    let found = Api::<AccessGrant>::namespaced(session.client.clone(), &session.namespace)
        .get_opt(name)
        .await
        .with_context(|| format!("reading grant {}/{name}", session.namespace))?;
    found.ok_or_else(|| {
        anyhow!(
            "no grant {name} in namespace {}: see kubectl wayleave list --all-namespaces",
            session.namespace
        )
    })
}

/// The user whom the API server takes the caller for.
struct Caller {
    name: String,
    groups: Vec<String>,
}

impl Caller {
    /// The groups that a decision states where none were chosen.
    fn groups_stated(&self) -> Vec<String> {
        groups_stated(&self.groups)
    }
}

/// Asks the API server whom it takes the caller for.
async fn who_am_i(client: &Client) -> anyhow::Result<Caller> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .context("asking the API server who you are")?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    let name = user.username.unwrap_or_default();
    anyhow::ensure!(!name.is_empty(), "the API server doesn't say who you are");
    Ok(Caller {
        name,
        groups: user.groups.unwrap_or_default(),
    })
}

/// Creates a decision and writes it.
async fn decide(draft: &Draft<'_>, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let made = Api::<AccessDecision>::namespaced(session.client.clone(), draft.namespace)
        .create(&PostParams::default(), &build(draft, io.now))
        .await
        .with_context(|| {
            format!(
                "the API server did not take the decision to {} {}/{}",
                verb(draft.decision),
                draft.namespace,
                draft.grant
            )
        })?;
    let text = format!("accessdecision/{} created in {}", made.name_any(), draft.namespace);
    output::write(io.out, session.output, &made, &text)
}

/// Whether the API server forbade a request.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == FORBIDDEN)
}
