//! `revoke`: takes a grant's access away.

use anyhow::ensure;
use kube::Api;

use super::{decide, who_am_i};
use crate::api::v1alpha1::{AccessGrant, Decision, SubjectKind};
use crate::cli::args::Revoke;
use crate::cli::decision::Draft;
use crate::cli::{Io, Session, failure, output};

/// Revokes a grant. Only a terminal is asked, and a grant that can't be read is revoked by its name.
///
/// # Errors
///
/// When the grant doesn't exist, somebody says no, or the API server refuses.
pub async fn run(args: &Revoke, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let api = Api::<AccessGrant>::namespaced(session.client.clone(), &session.namespace);
    let grant = match api.get_opt(&args.grant).await {
        Ok(found) => {
            ensure!(
                found.is_some(),
                "no grant {} in namespace {}: see kubectl wayleave list --all-namespaces",
                args.grant,
                session.namespace
            );
            found
        }
        Err(error) => {
            let text = output::escape(&failure::of_client(&error).message);
            writeln!(
                io.err,
                "warning: the grant can't be read, it is revoked by its name: {text}"
            )?;
            None
        }
    };
    if !args.yes {
        let question = format!("revoke {}/{}?", session.namespace, args.grant);
        ensure!(io.confirm(&question)? != Some(false), "not revoked");
    }
    let user = who_am_i(&session.client).await?;
    let draft = Draft {
        namespace: &session.namespace,
        kind: SubjectKind::AccessGrant,
        name: &args.grant,
        uid: grant.as_ref().and_then(|grant| grant.metadata.uid.as_deref()),
        decision: Decision::Revoke,
        digest: None,
        grants: &[],
        // A no needs no right anywhere else.
        targets: &[],
        user: &user.name,
        groups: &user.groups_stated(),
        valid_until: None,
        reason: &args.reason,
    };
    decide(&draft, io, session).await
}
