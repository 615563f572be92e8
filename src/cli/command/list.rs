//! `list`: grants with partner, owners, purpose, approver, state and end.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::api::v1alpha1::{AccessGrant, CredentialType, Instant, PartnerIntegration};
use crate::cli::args::List;
use crate::cli::{Io, Session, failure, output};
use crate::domain::conditions::active;
use crate::domain::ownership;

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
    grants.retain(|grant| !args.static_credentials || grant.spec.credential.type_ == CredentialType::Static);
    grants.sort_by_key(|grant| (grant.namespace(), grant.name_any()));
    for grant in &mut grants {
        grant.metadata.managed_fields = None;
    }
    let mut found_integrations = BTreeMap::new();
    match integrations.list(&ListParams::default()).await {
        Ok(found) => {
            for integration in found.items {
                let key = (integration.namespace(), integration.name_any());
                found_integrations.insert(key, integration);
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
        let what = if args.static_credentials {
            "grants of static credentials"
        } else {
            "grants"
        };
        writeln!(io.err, "no {what} in {place}")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = grants
        .iter()
        .map(|grant| row(grant, found_integrations.get(&integration_key(grant))))
        .collect();
    let value = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": grants});
    output::write(io.out, session.output, &value, &output::table(&HEADER, &rows))
}

/// Namespace and name of a grant's integration.
fn integration_key(grant: &AccessGrant) -> (Option<String>, String) {
    (grant.namespace(), grant.spec.integration_ref.name.0.clone())
}

/// A grant's row. Where the operator has not written its words yet, the integration's own stand for them.
fn row(grant: &AccessGrant, integration: Option<&PartnerIntegration>) -> Vec<String> {
    let summary = grant.status.as_ref().and_then(|status| status.summary.clone());
    let mut summary = summary.unwrap_or_default();
    if let Some(integration) = integration
        && summary.partner.is_empty()
    {
        integration.spec.partner.id.0.clone_into(&mut summary.partner);
        summary.owners = ownership::names(integration).join(", ");
    }
    vec![
        grant.namespace().unwrap_or_default(),
        grant.name_any(),
        summary.partner,
        summary.owners,
        integration.map_or_else(String::new, |integration| integration.spec.purpose.0.clone()),
        summary.approved_by,
        active(grant)
            .map(|condition| condition.reason.clone())
            .unwrap_or_default(),
        end(grant),
    ]
}

/// Until when there is access; of access that is over, since when; of access that never was, until when it is asked for.
fn end(grant: &AccessGrant) -> String {
    let status = grant.status.as_ref();
    let was_active = status.is_some_and(|status| status.activations > 0);
    match active(grant) {
        Some(active) if active.status == "False" && was_active => {
            format!("ended {}", Instant::new(active.last_transition_time.0))
        }
        _ => status
            .and_then(|status| status.active_until)
            .unwrap_or(grant.spec.expires_at)
            .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::AccessGrantStatus;
    use crate::domain::fixtures::{grant, integration};

    fn with_active(state: &str, activations: i64, until: Option<&str>) -> AccessGrant {
        let conditions = serde_json::json!([{
            "type": "Active", "status": state, "reason": "OwnerRemoved", "message": "",
            "lastTransitionTime": "2026-11-24T10:43:02Z",
        }]);
        let mut grant = grant();
        grant.status = Some(AccessGrantStatus {
            conditions: serde_json::from_value(conditions).unwrap(),
            activations,
            active_until: until.map(|until| serde_json::from_value(until.into()).unwrap()),
            ..AccessGrantStatus::default()
        });
        grant
    }

    #[test]
    fn the_end_is_that_of_the_access_and_not_of_the_wish_alone() {
        let live = with_active("True", 1, Some("2026-12-01T00:00:00Z"));
        assert_eq!(end(&live), "2026-12-01T00:00:00Z");
        assert_eq!(end(&with_active("False", 1, None)), "ended 2026-11-24T10:43:02Z");
        assert_eq!(end(&with_active("False", 0, None)), grant().spec.expires_at.to_string());
        assert_eq!(end(&grant()), grant().spec.expires_at.to_string());
    }

    #[test]
    fn a_grant_that_the_operator_has_not_looked_at_has_its_partner_and_owners_too() {
        let row = row(&grant(), Some(&integration()));
        assert_eq!(row[2..4], ["acme", "alice, bob"].map(str::to_owned));
        assert!(!row[4].is_empty());
    }
}
