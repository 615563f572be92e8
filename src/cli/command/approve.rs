//! `approve`: shows what is approved, and pins the approval to exactly that.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::{decide, grant, is_forbidden, who_am_i};
use crate::api::v1alpha1::{AccessGrant, Decision, PartnerIntegration};
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
    let targets = namespaces(session, &grant, io).await?;
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
    for group in &args.groups {
        ensure!(
            user.groups.contains(group),
            "--group {group}: {} is not in it; groups: {}",
            user.name,
            user.groups.join(", ")
        );
    }
    let groups = if args.groups.is_empty() {
        user.groups_stated()
    } else {
        args.groups.clone()
    };
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
        grant: &args.grant,
        uid: Some(uid),
        decision: Decision::Approve,
        digest: Some(&digest),
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

/// UIDs of the namespaces that the access reaches; none where they may not be read.
async fn namespaces(
    session: &Session,
    grant: &AccessGrant,
    io: &mut Io<'_>,
) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let api = Api::<Namespace>::all(session.client.clone());
    let mut targets = BTreeMap::new();
    for name in grant.target_namespaces() {
        match api.get_opt(&name).await {
            Ok(Some(namespace)) => {
                let uid = namespace.metadata.uid.context("a namespace has no UID")?;
                targets.insert(name, uid);
            }
            Ok(None) => writeln!(io.err, "warning: namespace {} does not exist", output::escape(&name))?,
            Err(error) if is_forbidden(&error) => {
                writeln!(
                    io.err,
                    "note: you may not get namespace {}, so its UID is taken from the status of the grant",
                    output::escape(&name)
                )?;
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("reading namespace {name}")),
        }
    }
    Ok(Some(targets))
}
