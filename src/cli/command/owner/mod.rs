//! `owner`: who is accountable, who leaves, and who takes over.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::is_forbidden;
use crate::api::v1alpha1::{AccessGrant, AccessOwner, PartnerIntegration};
use crate::cli::args::{Owner, OwnerCommand};
use crate::cli::{Io, Session};

pub mod handover;
pub mod leaving;
pub mod sync;

/// Runs one of them.
///
/// # Errors
///
/// Those of the command.
pub async fn run(args: &Owner, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    match &args.command {
        OwnerCommand::Leaving(args) => leaving::run(args, io, session).await,
        OwnerCommand::Handover(args) => handover::run(args, io, session).await,
        OwnerCommand::Sync(args) => sync::run(args, io, session).await,
    }
}

/// Every AccessOwner by name; none where they may not be read.
async fn owners(session: &Session) -> anyhow::Result<Option<BTreeMap<String, AccessOwner>>> {
    let api = Api::<AccessOwner>::all(session.client.clone());
    match api.list(&ListParams::default()).await {
        Ok(found) => Ok(Some(
            found.items.into_iter().map(|owner| (owner.name_any(), owner)).collect(),
        )),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error).context("listing owners"),
    }
}

/// The integrations of one namespace or, where none is named, of all; sorted.
async fn integrations(session: &Session, namespace: Option<&str>) -> anyhow::Result<Vec<PartnerIntegration>> {
    let client = session.client.clone();
    let api: Api<PartnerIntegration> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let found = api.list(&ListParams::default()).await.context("listing integrations")?;
    let mut found = found.items;
    found.sort_by_key(|it| (it.namespace(), it.name_any()));
    Ok(found)
}

/// The grants of one namespace or, where none is named, of all; sorted.
async fn grants(session: &Session, namespace: Option<&str>) -> anyhow::Result<Vec<AccessGrant>> {
    let client = session.client.clone();
    let api: Api<AccessGrant> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let found = api.list(&ListParams::default()).await.context("listing grants")?;
    let mut found = found.items;
    found.sort_by_key(|it| (it.namespace(), it.name_any()));
    Ok(found)
}

/// Whether a grant is one of an integration.
fn is_of(grant: &AccessGrant, integration: &PartnerIntegration) -> bool {
    grant.metadata.namespace == integration.metadata.namespace
        && Some(&grant.spec.integration_ref.name.0) == integration.metadata.name.as_ref()
}
