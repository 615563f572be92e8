//! `owner leaving`: integrations whose owner leaves soon, or is gone.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use serde::Serialize;

use super::{integrations, owners};
use crate::api::v1alpha1::{AccessOwner, Instant, PartnerIntegration};
use crate::cli::args::{Leaving, OutputFormat};
use crate::cli::handover::{Role, unfit};
use crate::cli::{Io, Session, output};

const DAY: i64 = 86_400;
const HEADER: [&str; 8] = [
    "NAMESPACE",
    "INTEGRATION",
    "PARTNER",
    "OWNER",
    "ROLE",
    "LEAVES",
    "DAYS",
    "GRANTS",
];

/// An integration and one of its owners.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    integration: String,
    partner: String,
    owner: String,
    role: &'static str,
    /// When; none of who is gone.
    until: Option<Instant>,
    /// Why nobody is there now.
    gone: Option<String>,
    active_grants: i64,
    grants: i64,
}

/// Lists them.
///
/// # Errors
///
/// When integrations or owners can't be read.
pub async fn run(args: &Leaving, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let namespace = (!args.all_namespaces).then_some(session.namespace.as_str());
    let integrations = integrations(session, namespace).await?;
    let owners = owners(session).await?;
    if owners.is_none() {
        writeln!(
            io.err,
            "note: you may not list AccessOwners, so this is what the operator says: who leaves within 30 days"
        )?;
    }
    let now = Instant::new(io.now);
    let rows: Vec<Row> = integrations
        .iter()
        .flat_map(|it| rows(it, owners.as_ref(), args.within.as_seconds(), now))
        .collect();
    if rows.is_empty() && session.output == OutputFormat::Table {
        writeln!(io.err, "no owner leaves within {}", args.within)?;
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row, now)).collect();
    output::write(io.out, session.output, &rows, &output::table(&HEADER, &cells))
}

fn rows(
    integration: &PartnerIntegration,
    owners: Option<&BTreeMap<String, AccessOwner>>,
    within: i64,
    now: Instant,
) -> Vec<Row> {
    let status = integration.status.clone().unwrap_or_default();
    let each = Role::BOTH.into_iter().filter_map(|role| {
        let name = role.of(integration);
        let (until, gone) = match owners {
            Some(owners) => match owners.get(name) {
                None => (None, Some(format!("AccessOwner {name} does not exist"))),
                Some(owner) => (owner.spec.until, unfit(owner, now)),
            },
            None => (
                status.leaving.iter().find(|it| it.owner == name).map(|it| it.until),
                None,
            ),
        };
        let is_soon = until.is_some_and(|until| until.seconds_since(now) <= within);
        (gone.is_some() || is_soon).then(|| Row {
            namespace: integration.namespace().unwrap_or_default(),
            integration: integration.name_any(),
            partner: integration.spec.partner.id.0.clone(),
            owner: name.to_owned(),
            role: role.as_str(),
            until: until.filter(|_| gone.is_none()),
            gone,
            active_grants: status.grants.active,
            grants: status.grants.total,
        })
    });
    each.collect()
}

fn cells(row: &Row, now: Instant) -> Vec<String> {
    let (leaves, days) = match (row.until, &row.gone) {
        (Some(until), _) => (until.to_string(), (until.seconds_since(now) / DAY).to_string()),
        (None, gone) => (gone.clone().unwrap_or_default(), "gone".to_owned()),
    };
    vec![
        row.namespace.clone(),
        row.integration.clone(),
        row.partner.clone(),
        row.owner.clone(),
        row.role.to_owned(),
        leaves,
        days,
        format!("{}/{}", row.active_grants, row.grants),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{LeavingOwner, PartnerIntegrationStatus};
    use crate::domain::fixtures::{at, integration, owner};

    #[test]
    fn who_leaves_soon_and_who_is_gone_is_listed_and_nobody_else() {
        let now = at("2026-12-02T00:00:00Z");
        let (mut alice, mut bob) = (owner("alice"), owner("bob"));
        let ask = |alice: &AccessOwner, bob: &AccessOwner, within: i64| {
            let owners = [("alice".to_owned(), alice.clone()), ("bob".to_owned(), bob.clone())].into();
            rows(&integration(), Some(&owners), within * DAY, now)
        };
        assert!(ask(&alice, &bob, 30).is_empty());
        alice.spec.until = Some(now.plus(20 * DAY));
        assert!(ask(&alice, &bob, 7).is_empty());
        let found = ask(&alice, &bob, 30);
        assert_eq!(
            cells(&found[0], now)[3..7],
            ["alice", "business", "2026-12-22T00:00:00Z", "20"]
        );
        bob.spec.active = false;
        let found = ask(&alice, &bob, 7);
        assert_eq!(
            cells(&found[0], now)[3..7],
            ["bob", "technical", "AccessOwner bob is inactive", "gone"]
        );
    }

    #[test]
    fn without_a_right_to_owners_the_status_speaks() {
        let now = at("2026-12-02T00:00:00Z");
        let mut integration = integration();
        integration.status = Some(PartnerIntegrationStatus {
            leaving: vec![LeavingOwner {
                owner: "bob".to_owned(),
                until: now.plus(DAY),
                within_days: 1,
            }],
            ..PartnerIntegrationStatus::default()
        });
        let found = rows(&integration, None, 30 * DAY, now);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].owner.as_str(), found[0].until), ("bob", Some(now.plus(DAY))));
    }
}
