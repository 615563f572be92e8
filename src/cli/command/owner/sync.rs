//! `owner sync`: AccessOwners from a directory's export.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{grants, integrations, is_of};
use crate::api::v1alpha1::{AccessGrant, AccessOwner, Instant, PartnerIntegration};
use crate::cli::args::{ExportFormat, OutputFormat, Sync};
use crate::cli::directory::{Change, Diff, Person, Problem, compare, read_csv, read_scim, with_prefix};
use crate::cli::handover::Role;
use crate::cli::{Io, Session, failure, output};
use crate::domain::verdict::is_active;

/// The largest export that is read, in bytes.
const LARGEST: u64 = 64 << 20;
/// So many bad rows are told of.
const MOST_TOLD: usize = 50;

/// Compares, shows, asks and writes.
///
/// # Errors
///
/// When any row is bad, somebody says no, or the API server refuses; [`failure::Incomplete`] where some objects were
/// written and some not.
pub async fn run(args: &Sync, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let now = Instant::new(io.now);
    let people = match read(args)? {
        Ok(people) => people,
        Err(problems) => return refuse(args, io, &problems),
    };
    let api = Api::<AccessOwner>::all(session.client.clone());
    let owners = api.list(&ListParams::default()).await.context("listing owners")?.items;
    let diff = match compare(&people, &owners, &args.source, args.deactivate_missing, now) {
        Ok(diff) => diff,
        Err(problems) => return refuse(args, io, &problems),
    };
    warn(io, session, &diff, now).await?;
    if args.dry_run {
        return show(io, session, &diff);
    }
    if session.output == OutputFormat::Table {
        show(io, session, &diff)?;
    }
    if diff.changes.is_empty() {
        return if session.output == OutputFormat::Table {
            Ok(())
        } else {
            show(io, session, &diff)
        };
    }
    if !args.yes {
        match io.confirm("write this?")? {
            Some(true) => {}
            Some(false) => bail!("nothing was written"),
            None => bail!("nothing was written: there is no terminal to ask on; give --yes"),
        }
    }
    write(io, session, &api, &diff).await
}

fn read(args: &Sync) -> anyhow::Result<Result<Vec<Person>, Vec<Problem>>> {
    let path = &args.file;
    let format = match args.format.or_else(|| format_of(path)) {
        Some(format) => format,
        None => bail!("{}: neither .csv nor .json: give --format", path.display()),
    };
    let size = std::fs::metadata(path)
        .with_context(|| format!("reading {}", path.display()))?
        .len();
    ensure!(
        size <= LARGEST,
        "{} has {size} bytes, at most {LARGEST}",
        path.display()
    );
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("reading {}: it is not UTF-8", path.display()))?;
    let people = match format {
        ExportFormat::Csv => read_csv(&text),
        ExportFormat::Scim => read_scim(&text),
    };
    Ok(match &args.username_prefix {
        Some(prefix) => people.and_then(|people| with_prefix(people, prefix)),
        None => people,
    })
}

fn format_of(path: &Path) -> Option<ExportFormat> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(ExportFormat::Csv),
        "json" => Some(ExportFormat::Scim),
        _ => None,
    }
}

fn refuse(args: &Sync, io: &mut Io<'_>, problems: &[Problem]) -> anyhow::Result<()> {
    let file = args.file.display().to_string();
    for problem in problems.iter().take(MOST_TOLD) {
        writeln!(io.err, "{}", output::escape(&format!("{file}: {problem}")))?;
    }
    if problems.len() > MOST_TOLD {
        writeln!(io.err, "and {} more", problems.len() - MOST_TOLD)?;
    }
    bail!(
        "nothing was written: {} things in {file} must be mended first",
        problems.len()
    )
}

/// Says which integrations lose an owner, before it is done.
async fn warn(io: &mut Io<'_>, session: &Session, diff: &Diff, now: Instant) -> anyhow::Result<()> {
    let going = diff.changes.iter().filter(|change| change.is_removal(now));
    let going: BTreeSet<&str> = going.map(Change::name).collect();
    if !diff.missing.is_empty() {
        let names = output::escape(&diff.missing.join(", "));
        writeln!(
            io.err,
            "note: not in the export, and left alone without --deactivate-missing: {names}"
        )?;
    }
    if going.is_empty() {
        return Ok(());
    }
    let all = match integrations(session, None).await {
        Ok(all) => all,
        Err(error) => {
            let text = output::escape(&failure::explain(&error).message);
            writeln!(
                io.err,
                "warning: it is not known which integrations lose an owner: {text}"
            )?;
            return Ok(());
        }
    };
    // The status of an integration counts a moment later.
    let grants = grants(session, None).await.ok();
    for integration in &all {
        for role in Role::BOTH {
            let owner = role.of(integration);
            if going.contains(owner) {
                let active = match &grants {
                    Some(grants) => format!("{} active grants end", count_active(grants, integration)),
                    None => "its grants end".to_owned(),
                };
                let words = format!(
                    "warning: {}/{} (partner {}) loses its {} owner {owner}, and {active}: \
                     kubectl wayleave owner handover {owner} NEW-OWNER -n {0}",
                    integration.namespace().unwrap_or_default(),
                    integration.name_any(),
                    integration.spec.partner.id,
                    role.as_str(),
                );
                writeln!(io.err, "{}", output::escape(&words))?;
            }
        }
    }
    Ok(())
}

fn count_active(grants: &[AccessGrant], integration: &PartnerIntegration) -> usize {
    let own = grants.iter().filter(|grant| is_of(grant, integration));
    own.filter(|grant| is_active(grant)).count()
}

fn show(io: &mut Io<'_>, session: &Session, diff: &Diff) -> anyhow::Result<()> {
    let count = |wanted: fn(&Change) -> bool| diff.changes.iter().filter(|it| wanted(it)).count();
    let mut text: String = diff
        .changes
        .iter()
        .map(|change| format!("{}\n", output::escape(&change.describe())))
        .collect();
    text.push_str(&format!(
        "{} to create, {} to change, {} to deactivate, {} unchanged",
        count(|it| matches!(it, Change::Create { .. })),
        count(|it| matches!(it, Change::Change { .. })),
        count(|it| matches!(it, Change::Deactivate { .. })),
        diff.unchanged
    ));
    output::write(io.out, session.output, &as_json(diff, &[]), &text)
}

fn as_json(diff: &Diff, failed: &[String]) -> serde_json::Value {
    let changes: Vec<_> = diff.changes.iter().map(Change::as_json).collect();
    json!({"changes": changes, "unchanged": diff.unchanged, "missing": diff.missing, "failed": failed})
}

async fn write(io: &mut Io<'_>, session: &Session, api: &Api<AccessOwner>, diff: &Diff) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for change in &diff.changes {
        let done = match (change, change.patch()) {
            (Change::Create { owner, .. }, _) => api.create(&PostParams::default(), owner).await,
            (_, Some(patch)) => {
                let patch = Patch::Merge(patch);
                api.patch(change.name(), &PatchParams::default(), &patch).await
            }
            (_, None) => continue,
        };
        if let Err(error) = done {
            failed.push(format!("{}: {}", change.name(), failure::of_client(&error).message));
        }
    }
    let written = diff.changes.len() - failed.len();
    if session.output == OutputFormat::Table {
        writeln!(io.out, "{written} written").context("writing the result")?;
    } else {
        output::write(io.out, session.output, &as_json(diff, &failed), "")?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let words = failed.join("; ");
    if written == 0 {
        bail!("nothing was written: {words}");
    }
    Err(failure::Incomplete(format!("not all was written: {words}")).into())
}
