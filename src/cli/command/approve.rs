//! `approve`: shows what is approved, and pins the approval to exactly that.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail, ensure};
use kube::Api;

use super::digest::of_files;
use super::namespaces::Namespaces;
use super::{decide, documents, grant, roles, sound, who_am_i};
use crate::api::v1alpha1::{AccessGrant, Decision, PartnerIntegration, ResolvedClusterRole, SubjectKind};
use crate::cli::access::Roles;
use crate::cli::args::Approve;
use crate::cli::decision::{Draft, describe, digest_to_approve, groups_left_out, involvement};
use crate::cli::world::integration_key;
use crate::cli::{Io, Session, carried, output};

/// What is to be approved.
struct Subject {
    /// The grant, as it stands or as it is to be; none where all that is known of it is the digest.
    shown: Option<(PartnerIntegration, AccessGrant)>,
    digest: String,
    /// It is yet to come: what stands there now is another.
    proposed: Option<Proposed>,
}

/// How what is yet to come differs from what stands there.
struct Proposed {
    current: String,
    changed: Vec<String>,
}

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
    let subject = subject(args, io, session, &grant, &integration).await?;
    if let Some((integration, grant)) = &subject.shown
        && let Some(involvement) = involvement(integration, grant, &user.name)
    {
        bail!("not approved: {involvement}");
    }
    let shown = subject.shown.as_ref().map_or(&grant, |(_, grant)| grant);
    warn(io, &grant, shown)?;
    let groups = user.groups_chosen(&args.groups)?;
    if args.groups.is_empty()
        && let Some(left_out) = groups_left_out(&user.groups, &groups)
    {
        writeln!(io.err, "note: {}", output::escape(&left_out))?;
    }
    let mut known = Roles::new();
    roles::read(&mut known, subject.shown.as_ref().map(|(_, grant)| grant), session).await?;
    let approved = grant.status.as_ref().map(|status| status.resolved_rules.as_slice());
    show(io, &user.name, &subject, &known, approved.unwrap_or_default())?;
    let question = if subject.proposed.is_some() {
        "approve what is yet to come?"
    } else {
        "approve?"
    };
    if !args.yes {
        match io.confirm(question)? {
            Some(true) => {}
            Some(false) => bail!("not approved"),
            None => bail!("not approved: there is no terminal to ask on; give --yes"),
        }
    }
    let mut beyond = shown.target_namespaces();
    beyond.retain(|name| *name != session.namespace);
    let draft = Draft {
        namespace: &session.namespace,
        kind: SubjectKind::AccessGrant,
        name: &args.grant,
        uid: Some(uid),
        decision: Decision::Approve,
        digest: Some(&subject.digest),
        grants: &[],
        targets: &beyond,
        user: &user.name,
        groups: &groups,
        valid_until: args.valid_until,
        reason: &args.reason,
    };
    decide(&draft, io, session).await
}

fn warn(io: &mut Io<'_>, grant: &AccessGrant, shown: &AccessGrant) -> anyhow::Result<()> {
    if grant.status.as_ref().is_none_or(|status| status.digest.is_none()) {
        writeln!(io.err, "warning: the operator has not looked at this grant yet")?;
    }
    let end = shown.spec.expires_at;
    if end.timestamp() <= io.now {
        writeln!(
            io.err,
            "warning: spec.expiresAt ({end}) has passed: an approval gives no access"
        )?;
    }
    Ok(())
}

/// Shows what is approved; what is yet to come is called so.
fn show(
    io: &mut Io<'_>,
    user: &str,
    subject: &Subject,
    roles: &Roles,
    approved: &[ResolvedClusterRole],
) -> anyhow::Result<()> {
    let user = output::escape(user);
    match &subject.proposed {
        None => writeln!(io.err, "approving as {user}:")?,
        Some(_) => writeln!(
            io.err,
            "approving as {user} what is PROPOSED, and not what stands in the cluster now:"
        )?,
    }
    match &subject.shown {
        Some((integration, grant)) => {
            let text = describe(integration, grant, &subject.digest, roles, approved);
            write!(io.err, "{text}")?;
        }
        None => writeln!(
            io.err,
            "  digest      {}\n  its content is not known here: give --file to see it",
            subject.digest
        )?,
    }
    if let Some(proposed) = &subject.proposed {
        writeln!(io.err, "  now         {}", output::escape(&proposed.current))?;
        if !proposed.changed.is_empty() {
            writeln!(io.err, "  changes     {}", output::escape(&proposed.changed.join(", ")))?;
        }
    }
    Ok(())
}

/// What is to be approved: of the files, else what stands there, else no more than a digest.
async fn subject(
    args: &Approve,
    io: &mut Io<'_>,
    session: &Session,
    grant: &AccessGrant,
    integration: &PartnerIntegration,
) -> anyhow::Result<Subject> {
    let current = grant.status.as_ref().and_then(|status| status.digest.clone());
    let proposed = |digest: &str, changed: Vec<String>| {
        (current.as_deref() != Some(digest)).then(|| Proposed {
            current: current.clone().unwrap_or_else(|| "no digest yet".to_owned()),
            changed,
        })
    };
    if !args.files.is_empty() {
        let found = documents(&args.files, &session.namespace)?;
        sound(&found, io)?;
        let at = (session.namespace.clone(), args.grant.clone());
        let mut coming = found.grants.get(&at).unwrap_or(grant).clone();
        let is_there = found.grants.contains_key(&at) || found.integrations.contains_key(&integration_key(grant));
        ensure!(
            is_there,
            "--file: neither grant {}/{} nor its integration is in the files",
            at.0,
            at.1
        );
        let (mut proposal, computed) = of_files(session, &found, &coming, Some(grant), &BTreeMap::new()).await?;
        carried::asked_for_grant(&mut coming, grant);
        carried::asked_for_integration(&mut proposal, integration);
        if let Some(digest) = args.digest.as_ref().filter(|digest| **digest != computed.digest) {
            bail!(
                "not approved: what the files hold has the digest {}, --digest is {digest}",
                computed.digest
            );
        }
        let known = grant.status.as_ref().map(|status| &status.digest_sections);
        let changed = known.map(|known| computed.changed_since(known)).unwrap_or_default();
        return Ok(Subject {
            proposed: proposed(&computed.digest, changed),
            digest: computed.digest,
            shown: Some((proposal, coming)),
        });
    }
    let targets = Namespaces::default().of(session, grant, io).await?;
    let standing = digest_to_approve(integration, grant, targets.as_ref());
    match (&args.digest, standing) {
        (Some(digest), standing) if standing.as_ref() != Ok(digest) => Ok(Subject {
            proposed: proposed(digest, Vec::new()),
            digest: digest.clone(),
            shown: None,
        }),
        (_, standing) => Ok(Subject {
            digest: standing.map_err(|refusal| anyhow!("not approved: {refusal}"))?,
            shown: Some((integration.clone(), grant.clone())),
            proposed: None,
        }),
    }
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
