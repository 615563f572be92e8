//! `owner handover`: another owner for every integration of one who leaves, as YAML for Git or at once.

use anyhow::{Context as _, bail, ensure};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};

use super::{grants, integrations, is_of, owners};
use crate::api::v1alpha1::{Instant, PartnerIntegration};
use crate::cli::args::{Handover, OutputFormat};
use crate::cli::command::who_am_i;
use crate::cli::handover::{Change, changes, digest_after, one_person, unfit};
use crate::cli::{Io, Session, failure, output};

const HEADER: [&str; 4] = ["NAMESPACE", "INTEGRATION", "ROLE", "DONE"];
const HEADER_GRANTS: [&str; 5] = ["NAMESPACE", "GRANT", "INTEGRATION", "DIGEST NOW", "DIGEST AFTER"];

/// Prepares or makes the change.
///
/// # Errors
///
/// When both owners of an integration would be one person, the new owner can't take over, or the API server refuses;
/// [`failure::Incomplete`] where some were changed and some not.
pub async fn run(args: &Handover, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    ensure!(args.from != args.to, "FROM and TO are the same: {}", args.from);
    let namespace = (!args.all_namespaces).then_some(session.namespace.as_str());
    let found = changes(integrations(session, namespace).await?, &args.from, &args.to, args.role);
    let place = namespace.map_or("any namespace".to_owned(), |ns| format!("namespace {ns}"));
    if found.is_empty() {
        bail!(
            "{} owns no integration in {place}: see kubectl get partnerintegrations -A",
            args.from
        );
    }
    check(args, io, session, &found).await?;
    explain(io, session, namespace, &found).await?;
    if args.apply {
        return apply(args, io, session, &found).await;
    }
    let manifests: Vec<_> = found.iter().map(Change::manifest).collect();
    if session.output == OutputFormat::Json {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        return output::write(io.out, session.output, &list, "");
    }
    for manifest in &manifests {
        write!(io.out, "---\n{}", output::yaml(manifest)?).context("writing the result")?;
    }
    writeln!(
        io.err,
        "nothing was changed: commit this, or give --apply. Whoever applies it themselves is added to spec.contributors"
    )?;
    Ok(())
}

/// Refuses what can't be; nothing was written before.
async fn check(args: &Handover, io: &mut Io<'_>, session: &Session, found: &[Change]) -> anyhow::Result<()> {
    let owners = owners(session).await?;
    match &owners {
        None => writeln!(
            io.err,
            "note: you may not list AccessOwners, so nobody looked whether {} is there and active",
            output::escape(&args.to)
        )?,
        Some(owners) => {
            let now = Instant::new(io.now);
            let to = owners.get(&args.to);
            let to = to.with_context(|| format!("no AccessOwner {}: create it first", args.to))?;
            if let Some(why) = unfit(to, now) {
                bail!("{why}: name somebody who stays");
            }
            if let Some(until) = to.spec.until {
                writeln!(
                    io.err,
                    "warning: AccessOwner {} leaves at {until}",
                    output::escape(&args.to)
                )?;
            }
        }
    }
    let find = |name: &str| owners.as_ref().and_then(|owners| owners.get(name).cloned());
    let same: Vec<String> = found.iter().filter_map(|change| one_person(change, find)).collect();
    ensure!(
        same.is_empty(),
        "nothing was handed over, for both owners of an integration must be two people: {}; name somebody else, or leave it out with \
         --role or --namespace",
        same.join("; ")
    );
    Ok(())
}

/// Says what follows: every approval is void once the owners change, and can be given ahead.
async fn explain(io: &mut Io<'_>, session: &Session, namespace: Option<&str>, found: &[Change]) -> anyhow::Result<()> {
    let all = match grants(session, namespace).await {
        Ok(all) => all,
        Err(error) => {
            let text = output::escape(&failure::explain(&error).message);
            writeln!(io.err, "warning: it is not known which approvals become void: {text}")?;
            return Ok(());
        }
    };
    let mut rows = Vec::new();
    for change in found {
        let own = all.iter().filter(|grant| is_of(grant, &change.after));
        rows.extend(own.map(|grant| {
            let now = grant.status.as_ref().and_then(|status| status.digest.clone());
            vec![
                grant.namespace().unwrap_or_default(),
                grant.name_any(),
                change.after.name_any(),
                now.unwrap_or_default(),
                digest_after(change, grant).unwrap_or_default(),
            ]
        }));
    }
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        io.err,
        "the approvals of these grants become void with the change, and their access ends. An approval of the digest after it, \
         written before, counts from then on, so that there is no gap. Somebody who is no part of the change gives it: \
         kubectl wayleave approve GRANT -n NAMESPACE --file FILE --digest DIGEST --reason WHY\n{}",
        output::table(&HEADER_GRANTS, &rows)
    )?;
    Ok(())
}

async fn apply(args: &Handover, io: &mut Io<'_>, session: &Session, found: &[Change]) -> anyhow::Result<()> {
    if !args.yes {
        let question = format!(
            "hand {} integrations over from {} to {}?",
            found.len(),
            args.from,
            args.to
        );
        match io.confirm(&question)? {
            Some(true) => {}
            Some(false) => bail!("nothing was handed over"),
            None => bail!("nothing was handed over: there is no terminal to ask on; give --yes"),
        }
    }
    let user = who_am_i(&session.client).await?;
    let (mut rows, mut items, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for change in found {
        let (namespace, name) = (change.after.namespace().unwrap_or_default(), change.after.name_any());
        let api = Api::<PartnerIntegration>::namespaced(session.client.clone(), &namespace);
        let patch = Patch::Merge(change.patch(&user.name));
        let done = match api.patch(&name, &PatchParams::default(), &patch).await {
            Ok(mut patched) => {
                patched.metadata.managed_fields = None;
                items.push(patched);
                "yes"
            }
            Err(error) => {
                failed.push(format!("{namespace}/{name}: {}", failure::of_client(&error).message));
                "NO"
            }
        };
        rows.push(vec![namespace, name, change.role.as_str().to_owned(), done.to_owned()]);
    }
    if items.is_empty() {
        bail!("nothing was handed over: {}", failed.join("; "));
    }
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    output::write(io.out, session.output, &list, &output::table(&HEADER, &rows))?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(failure::Incomplete(format!("not all was handed over: {}", failed.join("; "))).into())
}
