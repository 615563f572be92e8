//! `check`: what would be said of grants in files, before anything is applied.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{documents, sound};
use crate::api::v1alpha1::{AccessGrant, Instant};
use crate::cli::args::{Check, Global, OutputFormat};
use crate::cli::checked::{self, Checked};
use crate::cli::documents::Documents;
use crate::cli::reader::Reader;
use crate::cli::world::{Missing, World, integration_key, reached};
use crate::cli::{Answer, Io, Session, output};
use crate::domain::verdict::Namespace;

/// Where objects without a namespace go where no cluster is asked.
const DEFAULT_NAMESPACE: &str = "default";

/// Checks files by what they hold alone.
///
/// # Errors
///
/// When they can't be read, or hold something wrong.
pub fn offline(args: &Check, global: &Global, io: &mut Io<'_>) -> anyhow::Result<Answer> {
    let namespace = global.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let mut found = documents(&args.files, namespace)?;
    let policies = documents(&args.policies, namespace)?;
    sound(&policies, io)?;
    found.policies.extend(policies.policies);
    // A file of policies may hold what goes with them.
    found.namespaces.extend(policies.namespaces);
    found.cluster_roles.extend(policies.cluster_roles);
    found.owners.extend(policies.owners);
    let mut world = prepare(&found, args, io)?;
    for grant in found.grants.values() {
        without_cluster(&mut world, grant);
    }
    if found.owners.is_empty() {
        world.lacks(Missing::Owners, "", "no AccessOwner is in the files".to_owned());
    }
    conclude(&world, &found, io, global.output)
}

/// Checks files by what they hold and what the cluster has.
///
/// # Errors
///
/// When they can't be read, hold something wrong, or the cluster doesn't answer.
pub async fn run(args: &Check, io: &mut Io<'_>, session: &Session) -> anyhow::Result<Answer> {
    let found = documents(&args.files, &session.namespace)?;
    let mut world = prepare(&found, args, io)?;
    let mut reader = Reader::new(session.client.clone());
    reader.cluster_wide(&mut world).await?;
    let mut there = World::default();
    let namespaces: BTreeSet<String> = found.grants.keys().map(|(namespace, _)| namespace.clone()).collect();
    for namespace in &namespaces {
        reader.namespace_wide(&mut there, namespace).await?;
    }
    reader
        .standing_integrations(&mut there, found.integrations.keys())
        .await?;
    world.goes_on_with(there);
    for grant in found.grants.values() {
        reader.of_grant(&mut world, grant).await?;
    }
    conclude(&world, &found, io, session.output)
}

/// The world of the files; grants begin now unless they say otherwise.
fn prepare(found: &Documents, args: &Check, io: &mut Io<'_>) -> anyhow::Result<World> {
    sound(found, io)?;
    ensure!(
        !found.grants.is_empty(),
        "no AccessGrant is in the files: nothing to check"
    );
    let mut world = World::of(found);
    for grant in world.grants.values_mut() {
        grant.metadata.creation_timestamp = Some(Time(Instant::new(io.now).timestamp()));
    }
    for (name, labels) in &args.namespace_labels {
        let namespace = world.namespaces.entry(name.clone()).or_insert_with(|| Namespace {
            enrolled: true,
            ..Namespace::default()
        });
        namespace.labels.extend(labels.clone());
    }
    Ok(world)
}

/// Notes what a grant needs and the files don't hold.
fn without_cluster(world: &mut World, grant: &AccessGrant) {
    for name in reached(grant) {
        if !world.namespaces.contains_key(&name) {
            let why = format!("namespace {name} is not in the files: give --namespace-labels {name}=KEY=VALUE,...");
            world.lacks(Missing::Namespace, &name, why);
        }
    }
    for name in grant.cluster_roles() {
        if !world.cluster_roles.contains_key(&name) {
            let why = format!("ClusterRole {name} is not in the files, so it is unknown");
            world.lacks(Missing::ClusterRole, &name, why);
        }
    }
    let (namespace, name) = integration_key(grant);
    if !world.integrations.contains_key(&(namespace.clone(), name.clone())) {
        let why = format!("PartnerIntegration {namespace}/{name} is not in the files");
        world.lacks(Missing::Integration, &name, why);
    }
}

fn conclude(world: &World, found: &Documents, io: &mut Io<'_>, format: OutputFormat) -> anyhow::Result<Answer> {
    let now = Instant::new(io.now);
    let grants = found.grants.keys().map(|key| world.grants.get(key));
    let grants: Vec<&AccessGrant> = grants.collect::<Option<_>>().context("a grant was lost")?;
    let checked: Vec<Checked> = grants
        .into_iter()
        .map(|grant| Checked::of(&world.judge(grant, now)))
        .collect();
    let value = serde_json::json!({"grants": checked});
    output::write(io.out, format, &value, &checked::text(&checked))?;
    Ok(checked::answer(&checked))
}
