//! Builds decisions, and checks and words what is approved. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};

use super::access::{self, Roles, words};
use super::output::escape;
use crate::api::v1alpha1::{
    AccessDecision, AccessDecisionSpec, AccessGrant, Decision, Digest, Instant, Line, Name, PartnerIntegration,
    Principal, ResolvedClusterRole, ReviewedGrant, SubjectKind, Uid,
};
use crate::api::v1alpha1::{DecisionSubject, Delivery};
use crate::domain::conditions;
use crate::domain::digest::{self, GrantDigest, TARGETS};

/// Longest name of a decision.
const NAME_LENGTH: usize = 63;
/// Digits at the end of a decision's name.
const NAME_DIGITS: usize = 8;

/// Most groups that a decision states.
const MOST_GROUPS: usize = 32;
/// Longest name of a group.
const GROUP_LENGTH: usize = 253;

/// Who decides, and what about.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Namespace of the subject.
    pub namespace: &'a str,
    /// Kind of the subject.
    pub kind: SubjectKind,
    /// Name of the subject.
    pub name: &'a str,
    /// UID of the subject, where it is known.
    pub uid: Option<&'a str>,
    /// The decision.
    pub decision: Decision,
    /// Digest of what was shown; for an approval.
    pub digest: Option<&'a str>,
    /// The grants that are renewed; for a review.
    pub grants: &'a [ReviewedGrant],
    /// Namespaces beyond the subject's own in which the right to decide is to be checked; for an approval and a review.
    pub targets: &'a [String],
    /// The user who decides.
    pub user: &'a str,
    /// Groups of the user that the decision is made for.
    pub groups: &'a [String],
    /// Until when an approval is good, or what a review renews.
    pub valid_until: Option<Instant>,
    /// Why.
    pub reason: &'a str,
}

/// The decision as it is to be created.
#[must_use]
pub fn build(draft: &Draft<'_>, now: Timestamp) -> AccessDecision {
    let spec = AccessDecisionSpec {
        subject: DecisionSubject {
            kind: draft.kind,
            name: draft.name.into(),
            uid: draft.uid.map(Uid::from),
        },
        decision: draft.decision,
        digest: draft.digest.map(Digest::from),
        grants: (!draft.grants.is_empty()).then(|| draft.grants.to_vec()),
        target_namespaces: draft.targets.iter().map(|name| Name(name.clone())).collect(),
        decided_by: Some(draft.user.into()),
        decided_by_groups: draft.groups.iter().map(|group| Principal(group.clone())).collect(),
        submitted_by: Some(draft.user.into()),
        decided_at: None,
        valid_until: draft.valid_until,
        reason: Line(draft.reason.to_owned()),
    };
    let metadata = ObjectMeta {
        namespace: Some(draft.namespace.to_owned()),
        name: Some(name(draft, now)),
        ..ObjectMeta::default()
    };
    AccessDecision {
        metadata,
        spec,
        status: None,
    }
}

/// `<subject>-<decision>-<8 digits>`; a long subject's name is cut.
fn name(draft: &Draft<'_>, now: Timestamp) -> String {
    let grants: Vec<&str> = draft.grants.iter().map(|grant| grant.uid.0.as_str()).collect();
    let seed = format!(
        "{}\n{}\n{}\n{}",
        draft.uid.unwrap_or_default(),
        draft.digest.unwrap_or_default(),
        grants.join(" "),
        now.as_nanosecond()
    );
    let mut digits = hex::encode(Sha256::digest(seed.as_bytes()));
    digits.truncate(NAME_DIGITS);
    let end = format!("-{}-{digits}", verb(draft.decision));
    let start: String = draft.name.chars().take(NAME_LENGTH - end.len()).collect();
    format!("{}{end}", start.trim_end_matches('-'))
}

/// The groups that a decision states where none were chosen: all but the system's, as the cluster stamps them where it can.
#[must_use]
pub fn groups_stated(of_user: &[String]) -> Vec<String> {
    let named = of_user
        .iter()
        .filter(|group| !group.starts_with("system:") && group.len() <= GROUP_LENGTH);
    named.take(MOST_GROUPS).cloned().collect()
}

/// What is said where a decision has no room for all groups of its writer; none where it has. A policy may ask for one of those
/// left out.
#[must_use]
pub fn groups_left_out(of_user: &[String], stated: &[String]) -> Option<String> {
    let named = of_user.iter().filter(|group| !group.starts_with("system:"));
    let left: Vec<&str> = named
        .filter(|group| !stated.contains(group))
        .map(String::as_str)
        .collect();
    (!left.is_empty()).then(|| {
        format!(
            "an approval states at most {MOST_GROUPS} groups; left out: {}. Where one of them is asked for, name it with --group",
            left.join(", ")
        )
    })
}

/// Why this user's approval would never count: who asked for access, or changed what was asked for, doesn't approve it.
#[must_use]
pub fn involvement(integration: &PartnerIntegration, grant: &AccessGrant, user: &str) -> Option<String> {
    let is_user = |principal: &Principal| principal.0 == user;
    let role = |requested_by: &Option<Principal>, contributors: &[Principal]| {
        if requested_by.as_ref().is_some_and(is_user) {
            Some("requested")
        } else if contributors.iter().any(is_user) {
            Some("changed")
        } else {
            None
        }
    };
    let (asked, agreed) = (&grant.spec, &integration.spec);
    let (did, what) = match role(&asked.requested_by, &asked.contributors) {
        Some(did) => (did, "grant"),
        None => (role(&agreed.requested_by, &agreed.contributors)?, "integration"),
    };
    Some(format!(
        "you ({user}) {did} this {what}, and nobody approves their own request: ask somebody else who may approve"
    ))
}

/// The decision as a verb.
#[must_use]
pub fn verb(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::Deny => "deny",
        Decision::Revoke => "revoke",
        Decision::Review => "review",
    }
}

/// The digest of what is shown, or why it can't be approved.
///
/// `targets` holds the UIDs of the namespaces; none where they could not be read, and then the status' word is taken for
/// them and for nothing else.
///
/// # Errors
///
/// The reason for the refusal, with the sections in which the status differs.
pub fn digest_to_approve(
    integration: &PartnerIntegration,
    grant: &AccessGrant,
    targets: Option<&BTreeMap<String, String>>,
) -> Result<String, String> {
    let status = grant.status.clone().unwrap_or_default();
    let found = match targets {
        Some(targets) => digest::digest(integration, grant, targets),
        None => {
            let Some(known) = status.digest_sections.get(TARGETS) else {
                return Err(
                    "the namespaces could not be read and the status holds no digest of them: \
                    ask for the right to get them, or wait for the operator"
                        .to_owned(),
                );
            };
            let mut sections = digest::digest(integration, grant, &BTreeMap::new()).sections;
            sections.insert(TARGETS.to_owned(), known.clone());
            GrantDigest::of_sections(sections)
        }
    };
    match &status.digest {
        Some(said) if *said != found.digest => {
            let changed = found.changed_since(&status.digest_sections);
            let changed = if changed.is_empty() {
                "none named".to_owned()
            } else {
                changed.join(", ")
            };
            Err(format!(
                "what was read has the digest {}, but the status says {said}; changed sections: {changed}: \
                 wait until the operator has seen the change, then look again",
                found.digest
            ))
        }
        _ => Ok(found.digest),
    }
}

/// Who an integration is for, why, owned by whom, on which agreement: lines for [`listed`].
pub(super) fn relationship(integration: &PartnerIntegration) -> [(&'static str, String); 5] {
    let spec = &integration.spec;
    [
        ("partner", format!("{} ({})", spec.partner.name, spec.partner.id)),
        ("purpose", spec.purpose.to_string()),
        (
            "owners",
            format!(
                "{} (business), {} (technical)",
                spec.owners.business_ref.name, spec.owners.technical_ref.name
            ),
        ),
        (
            "agreement",
            match spec.agreement.ends_at {
                Some(end) => format!("{} until {end}", spec.agreement.reference),
                None => spec.agreement.reference.to_string(),
            },
        ),
        (
            "data",
            format!("{:?}, {:?}", spec.data_classification, spec.environment),
        ),
    ]
}

/// What is approved, in words for a terminal; `roles` and `approved` as for [`access::lines`].
#[must_use]
pub fn describe(
    integration: &PartnerIntegration,
    grant: &AccessGrant,
    digest: &str,
    roles: &Roles,
    approved: &[ResolvedClusterRole],
) -> String {
    let spec = &integration.spec;
    let own = grant.metadata.namespace.as_deref().unwrap_or_default();
    let mut lines = vec![(
        "grant",
        format!("{own}/{}", grant.metadata.name.as_deref().unwrap_or_default()),
    )];
    lines.extend(relationship(integration));
    lines.push(("asked by", askers(integration, grant)));
    if !spec.allowed_sources.is_empty() {
        lines.push(("sources", words(&spec.allowed_sources)));
    }
    if let Some(ticket) = &grant.spec.ticket {
        lines.push(("ticket", ticket.to_string()));
    }
    lines.extend(access::lines(grant, roles, approved));
    lines.extend(describe_credential(grant));
    let start = grant.spec.starts_at.map_or("now".to_owned(), |at| at.to_string());
    lines.push(("term", format!("{start} to {}", grant.spec.expires_at)));
    lines.push(("digest", digest.to_owned()));
    listed(&lines)
}

/// What the operator found beside: of a static credential, and of rights from elsewhere.
pub(super) fn findings(grant: &AccessGrant) -> impl Iterator<Item = String> {
    let conditions = grant.status.as_ref().map(|status| status.conditions.as_slice());
    conditions::findings(conditions.unwrap_or_default()).map(|finding| finding.message)
}

/// By which credential access is used; of a static one, what is asked to be put up with.
fn describe_credential(grant: &AccessGrant) -> Vec<(&'static str, String)> {
    if let Some(found) = grant.static_credential() {
        let (account, secret) = (&found.service_account_name, &found.secret_name);
        let what = format!(
            "Static: the token of ServiceAccount {account} in Secret {secret}, which never ends by itself and is never replaced"
        );
        let replacement = found.replacement.as_ref().map_or("nothing named", |it| it.as_ref());
        let mut lines = vec![
            ("credential", what),
            ("because", found.reason.to_string()),
            ("replaced by", replacement.to_owned()),
        ];
        lines.extend(findings(grant).map(|words| ("found", words)));
        return lines;
    }
    let token = grant.token();
    let delivery = match token.delivery {
        Delivery::Namespace => "in the grant's namespace",
        Delivery::Private => "in private",
    };
    let mut credential = format!("{:?}, delivered {delivery}", grant.spec.credential.type_);
    if let Ok(serde_json::Value::String(lifetime)) = serde_json::to_value(token.lifetime) {
        // Writing to a String can't fail.
        let _ = write!(credential, ", replaced within {lifetime}");
    }
    if !token.audiences.is_empty() {
        let _ = write!(credential, ", for {}", words(&token.audiences));
    }
    vec![("credential", credential)]
}

/// A line for each label and value; nothing in it can take over a terminal.
#[must_use]
pub fn listed(lines: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (label, value) in lines {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {label:<11} {}", escape(value));
    }
    text
}

/// Everybody who asked for it or changed it, each once.
fn askers(integration: &PartnerIntegration, grant: &AccessGrant) -> String {
    let (asked, agreed) = (&grant.spec, &integration.spec);
    let all = asked.requested_by.iter().chain(&asked.contributors);
    let mut names: Vec<&str> = Vec::new();
    for principal in all.chain(&agreed.requested_by).chain(&agreed.contributors) {
        if !names.contains(&principal.0.as_str()) {
            names.push(&principal.0);
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::AccessGrantStatus;
    use crate::domain::fixtures::{GRANT_UID, grant, integration};

    fn draft<'a>(grant: &'a str, targets: &'a [String]) -> Draft<'a> {
        Draft {
            namespace: "payments",
            kind: SubjectKind::AccessGrant,
            name: grant,
            uid: Some(GRANT_UID),
            decision: Decision::Approve,
            digest: Some("sha256:00"),
            grants: &[],
            targets,
            user: "dave@corp.example",
            groups: &[],
            valid_until: None,
            reason: "read-only",
        }
    }

    fn with_status(found: &GrantDigest) -> AccessGrant {
        let mut grant = grant();
        grant.status = Some(AccessGrantStatus {
            digest: Some(found.digest.clone()),
            digest_sections: found.sections.clone(),
            ..AccessGrantStatus::default()
        });
        grant
    }

    fn targets() -> BTreeMap<String, String> {
        [("payments".to_owned(), "11111111-1111-1111-1111-111111111111".to_owned())].into()
    }

    #[test]
    fn a_decision_is_pinned_and_says_who_made_it() {
        let targets = ["ledger".to_owned()];
        let made = build(&draft("reader", &targets), Timestamp::UNIX_EPOCH);
        assert_eq!(made.spec.subject.uid, Some(GRANT_UID.into()));
        assert_eq!(made.spec.digest, Some("sha256:00".into()));
        assert_eq!(made.spec.target_namespaces, ["ledger".into()]);
        assert_eq!(made.spec.decided_by, Some("dave@corp.example".into()));
        assert_eq!(made.spec.decided_by, made.spec.submitted_by);
    }

    #[test]
    fn the_name_fits_and_differs_from_one_time_to_the_next() {
        let long = format!("{}-{}", "a".repeat(45), "b".repeat(17));
        let first = build(&draft(&long, &[]), Timestamp::UNIX_EPOCH).metadata.name.unwrap();
        let second = build(&draft(&long, &[]), Timestamp::MAX).metadata.name.unwrap();
        assert_ne!(first, second);
        assert!(first.len() <= NAME_LENGTH, "{first}");
        assert!(first.starts_with(&format!("{}-approve-", "a".repeat(45))), "{first}");
    }

    #[test]
    fn only_what_the_status_says_too_is_approved() {
        let found = digest::digest(&integration(), &grant(), &targets());
        let grant = with_status(&found);
        assert_eq!(
            digest_to_approve(&integration(), &grant, Some(&targets())),
            Ok(found.digest.clone())
        );
        let mut changed = grant;
        changed.spec.ticket = Some("CHG-1".into());
        let refusal = digest_to_approve(&integration(), &changed, Some(&targets())).unwrap_err();
        assert!(refusal.contains("changed sections: ticket:"), "{refusal}");
    }

    #[test]
    fn the_status_stands_in_for_namespaces_that_cannot_be_read_and_for_nothing_else() {
        let found = digest::digest(&integration(), &grant(), &targets());
        let grant = with_status(&found);
        assert_eq!(digest_to_approve(&integration(), &grant, None), Ok(found.digest));
        let mut changed = grant.clone();
        changed.spec.ticket = Some("CHG-1".into());
        assert!(digest_to_approve(&integration(), &changed, None).is_err());
        changed.status = None;
        assert!(digest_to_approve(&integration(), &changed, None).is_err());
    }

    #[test]
    fn who_asked_or_changed_is_told_so_and_nobody_else() {
        let (mut integration, mut grant) = (integration(), grant());
        grant.spec.requested_by = Some("carol@corp.example".into());
        grant.spec.contributors = vec!["erin@corp.example".into()];
        integration.spec.requested_by = Some("ivan@corp.example".into());
        for (user, words) in [
            ("carol@corp.example", "requested this grant"),
            ("erin@corp.example", "changed this grant"),
            ("ivan@corp.example", "requested this integration"),
        ] {
            let told = involvement(&integration, &grant, user).unwrap();
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(involvement(&integration, &grant, "dave@corp.example"), None);
    }

    #[test]
    fn groups_that_have_no_room_are_told() {
        let groups: Vec<String> = (0..34).map(|number| format!("team-{number}")).collect();
        let told = groups_left_out(&groups, &groups_stated(&groups)).unwrap();
        assert!(
            told.contains("left out: team-32, team-33. ") && told.contains("--group"),
            "{told}"
        );
        let few = &groups[..32];
        assert_eq!(groups_left_out(few, &groups_stated(few)), None);
        assert_eq!(groups_left_out(&["system:authenticated".to_owned()], &[]), None);
    }

    #[test]
    fn groups_of_the_system_are_not_stated_and_not_more_than_fit() {
        let mut groups: Vec<String> = (0..40).map(|number| format!("team-{number}")).collect();
        groups.insert(0, "system:authenticated".to_owned());
        let stated = groups_stated(&groups);
        assert_eq!((stated.len(), stated[0].as_str()), (MOST_GROUPS, "team-0"));
    }

    #[test]
    fn what_is_shown_names_partner_owners_access_and_term() {
        let text = describe(&integration(), &grant(), "sha256:00", &Roles::new(), &[]);
        for part in [
            "Acme Corp (acme)",
            "alice (business)",
            "get configmaps (core) named invoice-feed in payments",
            "now to 2027-01-20",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
