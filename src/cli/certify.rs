//! What a recertification is about, in words, and what can be renewed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use serde::Deserialize;

use super::access::{self, Roles};
use super::args::line;
use super::decision::{digest_to_approve, findings, involvement, listed, relationship, verb};
use crate::api::conditions::{Reason, types};
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, CountedApproval, Decision, Instant, PartnerIntegration, ReviewedGrant, SubjectKind,
};
use crate::domain::conditions::find;

/// What is to be done with the grants of one integration.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wish {
    /// Its namespace; the session's when left out.
    pub namespace: Option<String>,
    /// The integration's name.
    pub integration: String,
    /// Grants to renew.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Grants to revoke.
    #[serde(default)]
    pub revoke: Vec<String>,
    /// Why.
    pub reason: String,
}

impl Wish {
    /// What is wrong with it, before anything was read.
    ///
    /// # Errors
    ///
    /// The fault in words.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.integration;
        line(&self.reason).map_err(|fault| format!("{name}: reason {fault}"))?;
        let mut seen = BTreeSet::new();
        let all = self.keep.iter().chain(&self.revoke);
        match all.into_iter().find(|grant| !seen.insert(*grant)) {
            Some(twice) => Err(format!("{name}: {twice} is named twice: keep it or revoke it")),
            None => Ok(()),
        }
    }
}

/// Reads a campaign: a list of wishes, in YAML or JSON.
///
/// # Errors
///
/// The fault in words.
pub fn campaign(text: &str) -> Result<Vec<Wish>, String> {
    let wishes: Vec<Wish> = serde_saphyr::from_str(text).map_err(|error| {
        let first = error.to_string();
        format!(
            "not a list of {{namespace, integration, keep: [...], revoke: [...], reason}}: {}",
            first.lines().next().unwrap_or_default()
        )
    })?;
    if wishes.is_empty() {
        return Err("nothing is listed".to_owned());
    }
    for wish in &wishes {
        wish.check()?;
        if wish.keep.is_empty() && wish.revoke.is_empty() {
            return Err(format!("{}: keep and revoke name no grant", wish.integration));
        }
    }
    Ok(wishes)
}

/// The grant as a review lists it, or why it can't be renewed. `targets` as for [`digest_to_approve`].
///
/// # Errors
///
/// The reason in words.
pub fn renewal(
    integration: &PartnerIntegration,
    grant: &AccessGrant,
    targets: Option<&BTreeMap<String, String>>,
    user: &str,
    now: Instant,
) -> Result<ReviewedGrant, String> {
    let name = grant.name_any();
    if grant.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    if let Some(involvement) = involvement(integration, grant, user) {
        return Err(involvement);
    }
    let status = grant.status.clone().unwrap_or_default();
    if status.digest.is_none() {
        return Err("the operator has not looked at it yet".to_owned());
    }
    let digest = digest_to_approve(integration, grant, targets)?;
    let approve = format!("approve it: kubectl wayleave approve {name}");
    let Some(end) = status.approvals.iter().map(|approval| approval.valid_until).max() else {
        return Err(format!("no approval of it counts, and a review gives none; {approve}"));
    };
    if end <= now {
        return Err(format!("its approval lapsed at {end}; {approve}"));
    }
    Ok(ReviewedGrant {
        name: name.as_str().into(),
        uid: grant.metadata.uid.as_deref().unwrap_or_default().into(),
        digest: digest.as_str().into(),
    })
}

/// The integration, in words for a terminal.
#[must_use]
pub fn describe_integration(integration: &PartnerIntegration) -> String {
    let spec = &integration.spec;
    let grace = spec
        .review
        .grace
        .map_or_else(String::new, |grace| format!(", {grace} of grace"));
    let due = integration
        .status
        .as_ref()
        .and_then(|status| status.next_review_at)
        .map_or_else(|| "nothing is due".to_owned(), |due| format!("due at {due}"));
    let mut lines = relationship(integration).to_vec();
    lines.push(("review", format!("every {}{grace}; {due}", spec.review.interval)));
    listed(&lines)
}

/// A grant, in words for a terminal: what is about to be renewed, on whose word it rests, and what became of it since.
#[must_use]
pub fn describe_grant(
    grant: &AccessGrant,
    decisions: &[AccessDecision],
    roles: &Roles,
    cannot: Option<&str>,
) -> String {
    let status = grant.status.clone().unwrap_or_default();
    let active = find(&status.conditions, types::ACTIVE);
    let mut lines = vec![
        ("grant", grant.name_any()),
        (
            "state",
            match active {
                None => "not judged yet".to_owned(),
                // Which rights were added stands in the message alone where the reviewer may not read the ClusterRole.
                Some(active) if active.reason == Reason::RoleGrew.as_str() => {
                    format!("{}: {}", active.reason, active.message)
                }
                Some(active) => active.reason.clone(),
            },
        ),
    ];
    if let Some(ticket) = &grant.spec.ticket {
        lines.push(("ticket", ticket.to_string()));
    }
    lines.extend(access::lines(grant, roles, &status.resolved_rules));
    // What is to be put up with for another term.
    lines.extend(findings(grant).map(|words| ("found", words)));
    let about: Vec<&AccessDecision> = decisions.iter().filter(|it| is_about(it, grant)).collect();
    match status.approvals.as_slice() {
        [] => lines.push(("approved", "no approval counts".to_owned())),
        all => lines.extend(all.iter().map(|approval| ("approved", describe_approval(approval)))),
    }
    let due = status
        .next_review_at
        .map_or_else(|| "nothing is due".to_owned(), |due| due.to_string());
    lines.push(("review due", due));
    lines.push((
        "ends",
        match (status.active_until, &status.ends_because) {
            (Some(until), Some(why)) if why == Reason::ApprovalEnded.as_str() => {
                format!("{until} ({why}): no review goes past it; approve it again")
            }
            (Some(until), Some(why)) => format!("{until} ({why})"),
            (Some(until), None) => until.to_string(),
            (None, _) => format!("{} (spec.expiresAt)", grant.spec.expires_at),
        },
    ));
    let last = about.iter().max_by_key(|it| (created(it), it.name_any()));
    lines.push((
        "decision",
        last.map_or_else(|| "none yet".to_owned(), |last| describe_decision(last)),
    ));
    lines.push(("changed", changed(grant, &about)));
    // Its place, once it is known: of a static credential the day is among what was found.
    if grant.static_credential().is_none() {
        lines.push(("last use", "not known yet".to_owned()));
    }
    if let Some(digest) = &status.digest {
        lines.push(("digest", digest.clone()));
    }
    if let Some(why) = cannot {
        lines.push(("no renewal", why.to_owned()));
    }
    listed(&lines)
}

fn describe_approval(approval: &CountedApproval) -> String {
    let mut words = format!("by {} at {} ({})", approval.by, approval.at, approval.decision_ref);
    if let Some(renewal) = approval.renewed_by.last() {
        words.push_str(&format!(
            ", renewed by {} at {} ({})",
            renewal.by, renewal.at, renewal.decision_ref
        ));
    }
    words.push_str(&format!(", good until {}", approval.valid_until));
    words
}

fn describe_decision(decision: &AccessDecision) -> String {
    let by = decision.spec.decided_by.as_ref().map_or("somebody", |by| by.0.as_str());
    let when = created(decision).map_or_else(String::new, |at| format!(" at {at}"));
    format!(
        "{} by {by}{when} ({}): {}",
        verb(decision.spec.decision),
        decision.name_any(),
        decision.spec.reason
    )
}

/// The sections that were changed since the last approval, one that counts or not.
fn changed(grant: &AccessGrant, about: &[&AccessDecision]) -> String {
    let status = grant.status.clone().unwrap_or_default();
    let counted = status.approvals.iter().map(|approval| approval.at);
    let approved = about.iter().filter(|it| it.spec.decision == Decision::Approve);
    let Some(since) = counted.chain(approved.filter_map(|it| created(it))).max() else {
        return "never approved".to_owned();
    };
    let later = status.replaced_digests.iter().filter(|it| it.at >= since);
    let sections: BTreeSet<&str> = later.flat_map(|it| it.changed.iter().map(String::as_str)).collect();
    if sections.is_empty() {
        return format!("nothing since the approval at {since}");
    }
    let sections: Vec<&str> = sections.into_iter().collect();
    format!("{} since the approval at {since}", sections.join(", "))
}

/// A decision on the grant, on all of its integration's, or a review that lists it.
fn is_about(decision: &AccessDecision, grant: &AccessGrant) -> bool {
    let (subject, name) = (&decision.spec.subject, grant.name_any());
    match (subject.kind, &decision.spec.grants) {
        (SubjectKind::AccessGrant, _) => subject.name.0 == name,
        (SubjectKind::PartnerIntegration, _) if subject.name != grant.spec.integration_ref.name => false,
        (SubjectKind::PartnerIntegration, Some(listed)) => listed.iter().any(|it| it.name.0 == name),
        (SubjectKind::PartnerIntegration, None) => decision.spec.decision != Decision::Review,
    }
}

fn created(decision: &AccessDecision) -> Option<Instant> {
    let created = decision.metadata.creation_timestamp.as_ref();
    created.map(|time| Instant::new(time.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{AccessGrantStatus, Renewal, ReplacedDigest, Term};
    use crate::domain::digest::digest;
    use crate::domain::fixtures::{GRANT_UID, at, decision, grant, integration};

    const NOW: &str = "2026-12-20T00:00:00Z";

    fn targets() -> BTreeMap<String, String> {
        [("payments".to_owned(), "11111111-1111-1111-1111-111111111111".to_owned())].into()
    }

    fn approved(valid_until: &str) -> AccessGrant {
        let mut grant = grant();
        let found = digest(&integration(), &grant, &targets());
        let term = Term {
            review_due: at(valid_until),
            valid_until: at(valid_until),
        };
        let approval = CountedApproval {
            decision_ref: "one".to_owned(),
            uid: "uid-of-one".to_owned(),
            by: "dave@corp.example".to_owned(),
            groups: Vec::new(),
            at: at("2026-12-01T00:00:00Z"),
            valid_until: at(valid_until),
            digest: found.digest.clone(),
            roles_digest: String::new(),
            owner_uids: Vec::new(),
            review_due: Some(at(valid_until)),
            renewed_by: vec![Renewal {
                decision_ref: "two".to_owned(),
                uid: "uid-of-two".to_owned(),
                by: "erin\u{1b}[2J".to_owned(),
                at: at("2026-12-02T00:00:00Z"),
                term,
            }],
            unrenewed: None,
            reviews_forgotten: None,
        };
        grant.status = Some(AccessGrantStatus {
            digest: Some(found.digest),
            digest_sections: found.sections,
            approvals: vec![approval],
            next_review_at: Some(at(valid_until)),
            ..AccessGrantStatus::default()
        });
        grant
    }

    fn can(grant: &AccessGrant, user: &str) -> Result<ReviewedGrant, String> {
        renewal(&integration(), grant, Some(&targets()), user, at(NOW))
    }

    #[test]
    fn what_is_in_force_and_as_shown_can_be_renewed_by_somebody_else() {
        let grant = approved("2027-01-01T00:00:00Z");
        let listed = can(&grant, "erin@corp.example").unwrap();
        assert_eq!(
            (listed.name.0.as_str(), listed.uid.0.as_str()),
            ("acme-billing-reader", GRANT_UID)
        );
        assert_eq!(Some(listed.digest.0), grant.status.as_ref().unwrap().digest);
        assert!(
            can(&grant, "carol@corp.example")
                .unwrap_err()
                .contains("requested this grant")
        );
        let mut changed = grant.clone();
        changed.spec.ticket = Some("CHG-1".into());
        assert!(can(&changed, "erin").unwrap_err().contains("changed sections: ticket"));
        let lapsed = can(&approved(NOW), "erin").unwrap_err();
        assert!(lapsed.contains("lapsed at") && lapsed.contains("kubectl wayleave approve acme-billing-reader"));
        let mut never = grant.clone();
        never.status.as_mut().unwrap().approvals.clear();
        assert!(can(&never, "erin").unwrap_err().contains("a review gives none"));
        never.status = None;
        assert!(can(&never, "erin").unwrap_err().contains("not looked at it"));
    }

    #[test]
    fn a_grant_is_shown_with_whose_word_it_rests_on_and_what_changed() {
        let mut grant = approved("2027-01-01T00:00:00Z");
        let made = |name, word, when| decision(name, word, "dave@corp.example", "sha256:0", when);
        let mut elsewhere = made("three", "Deny", "2026-12-05T00:00:00Z");
        elsewhere.spec.subject.name = "another".into();
        let all = [made("one", "Approve", "2026-12-01T00:00:00Z"), elsewhere];
        let text = describe_grant(&grant, &all, &Roles::new(), Some("it is not to be"));
        for part in [
            "  grant       acme-billing-reader\n",
            "  access      get configmaps (core) named invoice-feed in payments\n",
            "  approved    by dave@corp.example at 2026-12-01T00:00:00Z (one), renewed by erin\\u{1b}[2J at 2026-12-02T00:00:00Z (two), good until 2027-01-01T00:00:00Z\n",
            "  review due  2027-01-01T00:00:00Z\n",
            "  decision    approve by dave@corp.example at 2026-12-01T00:00:00Z (one): as agreed\n",
            "  changed     nothing since the approval at 2026-12-01T00:00:00Z\n",
            "  last use    not known yet\n",
            "  no renewal  it is not to be\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let status = grant.status.as_mut().unwrap();
        status.approvals.clear();
        status.replaced_digests = vec![ReplacedDigest {
            digest: "sha256:1".to_owned(),
            at: at("2026-12-03T00:00:00Z"),
            changed: vec!["ticket".to_owned(), "access".to_owned()],
        }];
        let text = describe_grant(&grant, &all, &Roles::new(), None);
        assert!(
            text.contains("  changed     access, ticket since the approval at"),
            "{text}"
        );
        assert!(describe_grant(&grant, &[], &Roles::new(), None).contains("  changed     never approved"));
        let status = grant.status.as_mut().unwrap();
        status.active_until = Some(at("2027-01-01T00:00:00Z"));
        status.ends_because = Some("ApprovalEnded".to_owned());
        let text = describe_grant(&grant, &all, &Roles::new(), None);
        assert!(
            text.contains(
                "  ends        2027-01-01T00:00:00Z (ApprovalEnded): no review goes past it; approve it again\n"
            ),
            "{text}"
        );
        let text = describe_integration(&integration());
        assert!(
            text.contains("  review      every 90d, 7d of grace; nothing is due\n"),
            "{text}"
        );
    }

    #[test]
    fn a_campaign_is_read_from_yaml_and_json_and_its_faults_are_named() {
        let yaml = "- {namespace: payments, integration: acme, keep: [a, b], revoke: [c], reason: Q4}\n- integration: beta\n  revoke: [d]\n  reason: it went\n";
        let read = campaign(yaml).unwrap();
        assert_eq!(
            (read.len(), read[0].keep.len(), read[1].namespace.clone()),
            (2, 2, None)
        );
        let json = r#"[{"integration": "acme", "keep": ["a"], "reason": "Q4"}]"#;
        assert_eq!(campaign(json).unwrap()[0].keep, ["a"]);
        for (text, words) in [
            ("[]", "nothing is listed"),
            ("integration: acme", "not a list of"),
            (
                "- {integration: acme, keep: [a], reason: Q4, renew: [b]}",
                "not a list of",
            ),
            ("- {integration: acme, keep: [a]}", "not a list of"),
            (
                "- {integration: acme, reason: Q4}",
                "acme: keep and revoke name no grant",
            ),
            (
                "- {integration: acme, keep: [a], revoke: [a], reason: Q4}",
                "acme: a is named twice",
            ),
            (
                "- {integration: acme, keep: [a], reason: \" \"}",
                "acme: reason must be",
            ),
        ] {
            let fault = campaign(text).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }
}
