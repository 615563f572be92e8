//! `digest`: of grants as files have them, beside what stands in the cluster.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use kube::Api;
use serde::Serialize;

use super::{documents, is_forbidden, sound};
use crate::api::v1alpha1::{AccessGrant, PartnerIntegration};
use crate::cli::args::{DigestOf, Global, OutputFormat};
use crate::cli::documents::{Documents, Key};
use crate::cli::explanation::Text;
use crate::cli::reader::Reader;
use crate::cli::world::{integration_key, key};
use crate::cli::{Io, Session, output};
use crate::domain::digest::{GrantDigest, TARGETS, digest};

/// The digest of one grant.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Computed {
    namespace: String,
    grant: String,
    digest: String,
    sections: BTreeMap<String, String>,
    /// The digest in the cluster, where it can be read.
    current: Option<String>,
    /// The sections in which it differs from that.
    changed: Vec<String>,
}

/// Computes digests by what the files hold alone.
///
/// # Errors
///
/// When they can't be read, hold something wrong, or lack something.
pub fn offline(args: &DigestOf, global: &Global, io: &mut Io<'_>) -> anyhow::Result<()> {
    let found = prepare(args, global.namespace.as_deref().unwrap_or("default"), io)?;
    let mut all = Vec::new();
    for grant in found.grants.values() {
        let integration = found.integrations.get(&integration_key(grant)).with_context(|| {
            let (namespace, name) = integration_key(grant);
            format!("PartnerIntegration {namespace}/{name} is not in the files")
        })?;
        let known = uids(args, &found);
        let mut targets = BTreeMap::new();
        for name in grant.target_namespaces() {
            let uid = known.get(&name).with_context(|| {
                format!("the UID of namespace {name} is not known: give --namespace-uid {name}=UID")
            })?;
            targets.insert(name, uid.clone());
        }
        all.push(Computed::of(grant, digest(integration, grant, &targets), None));
    }
    write(&all, args, io, global.output)
}

/// Computes digests by what the files hold and what the cluster has.
///
/// # Errors
///
/// When they can't be read, hold something wrong, or the cluster doesn't answer.
pub async fn run(args: &DigestOf, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let found = prepare(args, &session.namespace, io)?;
    let mut all = Vec::new();
    for (at, grant) in &found.grants {
        let there = there(session, at, io).await?;
        let (_, computed) = of_files(session, &found, grant, there.as_ref(), &uids(args, &found)).await?;
        all.push(Computed::of(grant, computed, there.as_ref()));
    }
    write(&all, args, io, session.output)
}

fn prepare(args: &DigestOf, namespace: &str, io: &mut Io<'_>) -> anyhow::Result<Documents> {
    let found = documents(&args.files, namespace)?;
    sound(&found, io)?;
    ensure!(!found.grants.is_empty(), "no AccessGrant is in the files");
    Ok(found)
}

/// UIDs of namespaces that were given.
fn uids(args: &DigestOf, found: &Documents) -> BTreeMap<String, String> {
    let from_files = found.namespaces.iter();
    let mut uids: BTreeMap<String, String> = from_files
        .filter_map(|(name, namespace)| Some((name.clone(), namespace.metadata.uid.clone()?)))
        .collect();
    uids.extend(args.namespace_uid.iter().cloned());
    uids
}

/// The grant as it is in the cluster; none where it isn't there or may not be read.
async fn there(session: &Session, (namespace, name): &Key, io: &mut Io<'_>) -> anyhow::Result<Option<AccessGrant>> {
    let api: Api<AccessGrant> = Api::namespaced(session.client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(found) => Ok(found),
        Err(error) if is_forbidden(&error) => {
            writeln!(
                io.err,
                "note: you may not get grant {}/{}, so nothing is compared",
                output::escape(namespace),
                output::escape(name)
            )?;
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("reading grant {namespace}/{name}")),
    }
}

/// The digest of a grant as files have it, with its integration as it will be: of the files, else of the cluster.
///
/// UIDs of namespaces are those given, else the cluster's. Where they may not be read, the status' word is taken for them,
/// as long as the same namespaces are reached.
pub(super) async fn of_files(
    session: &Session,
    found: &Documents,
    grant: &AccessGrant,
    there: Option<&AccessGrant>,
    given: &BTreeMap<String, String>,
) -> anyhow::Result<(PartnerIntegration, GrantDigest)> {
    let reader = Reader::new(session.client.clone());
    let at = integration_key(grant);
    let integration = match found.integrations.get(&at) {
        Some(integration) => integration.clone(),
        None => reader.integration(&at).await?.with_context(|| {
            format!(
                "PartnerIntegration {}/{} is neither in the files nor in the cluster",
                at.0, at.1
            )
        })?,
    };
    let mut targets = BTreeMap::new();
    for name in grant.target_namespaces() {
        if let Some(uid) = given.get(&name) {
            targets.insert(name, uid.clone());
            continue;
        }
        let found = reader.namespace_uid(&name).await?;
        // What the digest has in place of one that doesn't exist is the operator's to know.
        match found.and_then(|uid| uid.ok_or_else(|| format!("there is no namespace {name}"))) {
            Ok(uid) => drop(targets.insert(name, uid)),
            Err(why) => {
                let known = there
                    .filter(|there| there.target_namespaces() == grant.target_namespaces())
                    .and_then(|there| there.status.as_ref()?.digest_sections.get(TARGETS));
                let Some(known) = known else {
                    bail!("{why}: give its UID by --namespace-uid {name}=UID");
                };
                let mut sections = digest(&integration, grant, &BTreeMap::new()).sections;
                sections.insert(TARGETS.to_owned(), known.clone());
                return Ok((integration, GrantDigest::of_sections(sections)));
            }
        }
    }
    let computed = digest(&integration, grant, &targets);
    Ok((integration, computed))
}

impl Computed {
    fn of(grant: &AccessGrant, computed: GrantDigest, there: Option<&AccessGrant>) -> Self {
        let (namespace, name) = key(grant);
        let status = there.and_then(|there| there.status.as_ref());
        let current = status.and_then(|status| status.digest.clone());
        let changed = match (&current, status) {
            (Some(current), Some(status)) if *current != computed.digest => {
                computed.changed_since(&status.digest_sections)
            }
            _ => Vec::new(),
        };
        Self {
            namespace,
            grant: name,
            digest: computed.digest,
            sections: computed.sections,
            current,
            changed,
        }
    }
}

fn write(all: &[Computed], args: &DigestOf, io: &mut Io<'_>, format: OutputFormat) -> anyhow::Result<()> {
    let mut out = Text(String::new());
    for it in all {
        out.line(0, &format!("{}/{} {}", it.namespace, it.grant, it.digest));
        if args.sections {
            for (name, hash) in &it.sections {
                out.line(1, &format!("{name:<20} {hash}"));
            }
        }
        match &it.current {
            None => {}
            Some(current) if *current == it.digest => out.line(1, "as in the cluster"),
            Some(current) => {
                out.line(1, &format!("in the cluster {current}"));
                out.line(1, &format!("changed: {}", it.changed.join(", ")));
            }
        }
    }
    let value = serde_json::json!({"grants": all});
    output::write(io.out, format, &value, out.0.trim_end())
}
