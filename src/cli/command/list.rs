//! `list`: grants with partner, owners, purpose, approver, state and end.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::api::conditions::types;
use crate::api::v1alpha1::{AccessGrant, PartnerIntegration};
use crate::cli::args::List;
use crate::cli::{Io, Session, failure, output};

const HEADER: [&str; 8] = [
    "NAMESPACE",
    "NAME",
    "PARTNER",
    "OWNERS",
    "PURPOSE",
    "APPROVER",
    "STATE",
    "ENDS",
];

/// Lists grants.
///
/// # Errors
///
/// When the grants can't be read.
pub async fn run(args: &List, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let client = session.client.clone();
    let (grants, integrations): (Api<AccessGrant>, Api<PartnerIntegration>) = if args.all_namespaces {
        (Api::all(client.clone()), Api::all(client))
    } else {
        (
            Api::namespaced(client.clone(), &session.namespace),
            Api::namespaced(client, &session.namespace),
        )
    };
    let mut grants = grants
        .list(&ListParams::default())
        .await
        .context("listing grants")?
        .items;
    grants.sort_by_key(|grant| (grant.namespace(), grant.name_any()));
    for grant in &mut grants {
        grant.metadata.managed_fields = None;
    }
    let mut purposes = BTreeMap::new();
    match integrations.list(&ListParams::default()).await {
        Ok(found) => {
            for integration in found.items {
                let key = (integration.namespace(), integration.name_any());
                purposes.insert(key, integration.spec.purpose.0);
            }
        }
        Err(error) => {
            let text = output::escape(&failure::of_client(&error).message);
            writeln!(
                io.err,
                "warning: purposes are left out, integrations can't be listed: {text}"
            )?;
        }
    }
    if grants.is_empty() && session.output == crate::cli::args::OutputFormat::Table {
        let place = if args.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {}", output::escape(&session.namespace))
        };
        writeln!(io.err, "no grants in {place}")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = grants.iter().map(|grant| row(grant, &purposes)).collect();
    let value = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": grants});
    output::write(io.out, session.output, &value, &output::table(&HEADER, &rows))
}

fn row(grant: &AccessGrant, purposes: &BTreeMap<(Option<String>, String), String>) -> Vec<String> {
    let status = grant.status.clone().unwrap_or_default();
    let summary = status.summary.unwrap_or_default();
    let key = (grant.namespace(), grant.spec.integration_ref.name.0.clone());
    let state = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == types::ACTIVE);
    vec![
        grant.namespace().unwrap_or_default(),
        grant.name_any(),
        summary.partner,
        summary.owners,
        purposes.get(&key).cloned().unwrap_or_default(),
        summary.approved_by,
        state.map(|condition| condition.reason.clone()).unwrap_or_default(),
        status.active_until.unwrap_or(grant.spec.expires_at).to_string(),
    ]
}
