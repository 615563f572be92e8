//! `approve`: shows what is approved, and pins the approval to exactly that.

use anyhow::{Context as _, anyhow, bail, ensure};
use kube::Api;

use super::namespaces::Namespaces;
use super::{decide, grant, who_am_i};
use crate::api::v1alpha1::{AccessGrant, Decision, PartnerIntegration, SubjectKind};
use crate::cli::args::Approve;
use crate::cli::decision::{Draft, describe, digest_to_approve, involvement};
use crate::cli::{Io, Session, output};

/// Approves a grant.
///
/// # Errors
///
/// When it can't be read, isn't what the operator saw, isn't confirmed, or the API server refuses.
pub async fn run(args: &Approve, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    if let Some(until) = args.valid_until {
        ensure!(until.timestamp() > io.now, "--valid-until {until} has passed");
    }
    let grant = grant(session, &args.grant).await?;
    let uid = grant.metadata.uid.as_deref().context("the grant has no UID")?;
    let integration = integration(session, &grant).await?;
    let user = who_am_i(&session.client).await?;
    if let Some(involvement) = involvement(&integration, &grant, &user.name) {
        bail!("not approved: {involvement}");
    }
    let targets = Namespaces::default().of(session, &grant, io).await?;
    let digest = digest_to_approve(&integration, &grant, targets.as_ref())
        .map_err(|refusal| anyhow!("not approved: {refusal}"))?;
    if grant.status.as_ref().is_none_or(|status| status.digest.is_none()) {
        writeln!(io.err, "warning: the operator has not looked at this grant yet")?;
    }
    let end = grant.spec.expires_at;
    if end.timestamp() <= io.now {
        writeln!(
            io.err,
            "warning: spec.expiresAt ({end}) has passed: an approval gives no access"
        )?;
    }
    let groups = user.groups_chosen(&args.groups)?;
    write!(
        io.err,
        "approving as {}:\n{}",
        output::escape(&user.name),
        describe(&integration, &grant, &digest)
    )?;
    if !args.yes {
        match io.confirm("approve?")? {
            Some(true) => {}
            Some(false) => bail!("not approved"),
            None => bail!("not approved: there is no terminal to ask on; give --yes"),
        }
    }
    let mut beyond = grant.target_namespaces();
    beyond.retain(|name| *name != session.namespace);
    let draft = Draft {
        namespace: &session.namespace,
        kind: SubjectKind::AccessGrant,
        name: &args.grant,
        uid: Some(uid),
        decision: Decision::Approve,
        digest: Some(&digest),
        grants: &[],
        targets: &beyond,
        user: &user.name,
        groups: &groups,
        valid_until: args.valid_until,
        reason: &args.reason,
    };
    decide(&draft, io, session).await
}

async fn integration(session: &Session, grant: &AccessGrant) -> anyhow::Result<PartnerIntegration> {
    let name = &grant.spec.integration_ref.name.0;
    Api::<PartnerIntegration>::namespaced(session.client.clone(), &session.namespace)
        .get_opt(name)
        .await
        .with_context(|| format!("reading integration {}/{name}", session.namespace))?
        .with_context(|| {
            format!(
                "no integration {name} in namespace {}: create it first",
                session.namespace
            )
        })
}
