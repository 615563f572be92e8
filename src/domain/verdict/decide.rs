//! Gathers every reason against access.

use std::collections::{BTreeMap, BTreeSet};

use super::growth::Roles;
use super::{Access, Facts, Kept, Verdict, ends, removal};
use crate::api::conditions::{Reason, types};
use crate::api::v1alpha1::{
    AccessDecision, AccessGrantStatus, HardExpiry, Instant, PartnerIntegration, ReplacedDigest,
};
use crate::domain::approval::{self, Covered, Question, Standing};
use crate::domain::conditions::Desired;
use crate::domain::digest::{GrantDigest, TARGETS, absent, digest};
use crate::domain::policy::{self, Outcome, Request, Terms};
use crate::domain::{elsewhere, lifetime, ownership};

/// The most replaced digests that status keeps.
const MOST_REPLACED: usize = 16;

/// Judges a grant. The order of policies and decisions doesn't matter.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Verdict {
    let mut against: Vec<(Reason, String)> = Vec::new();
    let mut status = facts.grant.status.clone().unwrap_or_default();
    if let Some(deleted) = &facts.grant.metadata.deletion_timestamp {
        against.push((
            Reason::Deleting,
            format!("the AccessGrant was deleted at {}", Instant::new(deleted.0)),
        ));
    }
    against.extend(facts.uninstalling.map(|words| (Reason::Uninstalling, words.to_owned())));
    let integration = facts
        .integration
        .filter(|integration| integration.metadata.deletion_timestamp.is_none());
    let Some(integration) = integration else {
        let name = &facts.grant.spec.integration_ref.name;
        against.push((
            Reason::IntegrationMissing,
            format!("PartnerIntegration {name} does not exist here, is being deleted or can't be read: apply it in this namespace"),
        ));
        removal::remember_removal(facts, None, &[], &mut status);
        let approved = Desired::new(
            types::APPROVED,
            "Unknown",
            Reason::IntegrationMissing.as_str(),
            "nothing to approve",
        );
        let standing = Standing {
            conditions: approval::unweighed(facts.grant, facts.decisions),
            ..Standing::default()
        };
        return inactive(facts, against, approved, status, None, standing);
    };

    removal::remember_departed(facts, integration, &mut status);
    let missing = ownership::missing(integration, facts.owners, &status.departed_owners, facts.now);
    removal::remember_removal(facts, Some(integration), &missing, &mut status);
    removal::remember_account(facts, &mut status);
    removal::remember_involved(facts, integration, &mut status);
    renew_digest(facts, integration, &mut status);
    let outcome = permit(facts, integration);
    let mut closed = BTreeSet::new();
    let terms = match outcome {
        Outcome::Permitted { policies, terms } => {
            status.policies = policies;
            if let Some(most) = terms.active_grants_per_integration
                && i64::try_from(facts.earlier_siblings).unwrap_or(i64::MAX) >= i64::from(most)
            {
                let name = &facts.grant.spec.integration_ref.name;
                let words = format!(
                    "{} grants of {name} are active already, at most {most}",
                    facts.earlier_siblings
                );
                against.push((Reason::NotPermitted, words));
            }
            Some(terms)
        }
        Outcome::Refused {
            failing,
            closed: others,
            ..
        } => {
            closed = others;
            status.policies = Vec::new();
            against.push((Reason::NotPermitted, failing.join("; ")));
            None
        }
    };

    let roles = Roles::of(facts, &status);
    let covered = roles.covered(terms.as_ref(), &status);
    let standing = weigh(facts, integration, terms.as_ref(), &status, &covered);
    remember_forgotten(&standing, &mut status);
    status.approvals = standing.counted.clone();
    status.denied_at = standing.denied_at;
    status.revoked_at = standing.revoked_at;
    let self_service = terms.as_ref().is_some_and(|terms| terms.self_service);
    let approved_until = standing.in_force_until;
    let is_approved = self_service || approved_until.is_some();
    // Without an approval after it nothing brings back what ended with its owner.
    if let Some(at) = status
        .ended_without_owner_at
        .filter(|_| self_service && standing.counted.is_empty())
    {
        let words =
            format!("an owner was found removed at {at}: self-service doesn't bring access back, have it approved");
        against.push((Reason::OwnerRemoved, words));
    }
    let grown = roles.against(terms.as_ref(), &standing);
    if is_approved {
        roles.keep(&standing, &mut status);
    }
    let has_grown = grown.is_some();
    let roles_changed = roles.finding(&standing).filter(|_| !has_grown);
    against.extend(grown.map(|words| (Reason::RoleGrew, words)));
    against.extend(missing.into_iter().map(|words| (Reason::OwnerRemoved, words)));
    // It voids no approval: while somebody's user names move from one AccessOwner to another, both may list them.
    let one_person = ownership::one_person(integration, facts.owners);
    against.extend(one_person.map(|words| (Reason::OwnerRemoved, words)));
    against.extend(standing_against(&standing, is_approved || has_grown));
    against.extend(plain_reasons(facts, integration, &closed));

    let (until, ends_because) = ends::earliest(facts, integration, &standing);
    // An approval's own date ends nothing that has ended by then.
    let is_moot = standing.own_end == standing.review_due && ends_because != Reason::ApprovalEnded;
    status.next_review_at = standing.review_due.filter(|_| !is_moot);
    let is_static = facts.grant.static_credential().is_some();
    // A static token never ends by itself: whoever permits one has said so.
    let hard_expiry = !is_static
        && terms
            .as_ref()
            .is_none_or(|terms| terms.hard_expiry == HardExpiry::Required);
    let hold = hold(facts);
    let is_live = status
        .identity
        .as_ref()
        .is_some_and(|identity| identity.activated_at.is_some());
    against.extend(not_usable(facts));
    if !is_live && against.is_empty() {
        let lifetime = facts.grant.token().lifetime.as_seconds();
        if is_static {
            if !lifetime::may_issue(facts.now, until) {
                against.push((Reason::TooShort, ends::too_late(facts.now, until)));
            }
            against.extend(not_seen(facts));
        } else if lifetime::ask(facts.now, until, lifetime, hard_expiry).is_none() {
            against.push((Reason::TooShort, ends::too_short(facts.now, until)));
        }
        against.extend(other_rights(facts, terms.as_ref()));
        against.extend(unreadable(facts));
        against.extend(hold.clone());
    }
    let approved = approved_condition(&standing, self_service);
    if !against.is_empty() {
        return inactive(facts, against, approved, status, terms, standing);
    }
    status.active_until = Some(until);
    status.ends_because = Some(ends_because.as_str().to_owned());
    Verdict {
        access: Access::Active {
            until,
            ends_because,
            hard_expiry,
            hold,
        },
        reason: Reason::Issued,
        message: format!(
            "access is in place until {until}, {}{}",
            ends::when(ends_because),
            if is_static {
                "; by a static credential, which does not end by itself"
            } else {
                ""
            }
        ),
        against,
        approved,
        kept: Kept { status },
        terms,
        to_confirm: standing.to_confirm,
        not_counted: standing.not_counted,
        decisions: standing.conditions,
        reviews: standing.reviews,
        roles_changed,
        next_change: ends::next_change(facts, Some(integration), approved_until),
    }
}

fn inactive(
    facts: &Facts<'_>,
    mut against: Vec<(Reason, String)>,
    approved: Desired,
    mut status: AccessGrantStatus,
    terms: Option<Terms>,
    standing: Standing,
) -> Verdict {
    // Stable: reasons of one kind stay in the order in which they were found.
    against.sort_by_key(|(reason, _)| *reason);
    let words: Vec<&str> = against.iter().map(|(_, words)| words.as_str()).collect();
    status.active_until = None;
    status.ends_because = None;
    Verdict {
        access: Access::Inactive,
        reason: against.first().map_or(Reason::AwaitingApproval, |(reason, _)| *reason),
        message: words.join("; "),
        against,
        approved,
        kept: Kept { status },
        terms,
        to_confirm: standing.to_confirm,
        not_counted: standing.not_counted,
        decisions: standing.conditions,
        reviews: standing.reviews,
        roles_changed: None,
        next_change: ends::next_change(facts, facts.integration, standing.in_force_until),
    }
}

/// An approval of what stands there now that counted and does no more is forgotten, and with it what was frozen of it: it doesn't
/// count again, whatever it was that it stopped for.
fn remember_forgotten(standing: &Standing, status: &mut AccessGrantStatus) {
    let is_kept = |uid: &str| standing.counted.iter().any(|it| it.uid == uid);
    let forgotten = status.approvals.iter().filter(|it| {
        let is_of_now = Some(&it.digest) == status.digest.as_ref();
        is_of_now && !is_kept(&it.uid)
    });
    let latest = forgotten.map(|it| it.at).max();
    status.approvals_forgotten = status.approvals_forgotten.max(latest);
}

/// Notes the digest of what stands there now, and the one that it replaces.
fn renew_digest(facts: &Facts<'_>, integration: &PartnerIntegration, status: &mut AccessGrantStatus) {
    let current = digest_of(facts, integration, status);
    if status.digest.as_ref() == Some(&current.digest) {
        return;
    }
    // What was forgotten was of the one before, which is dead anyway; one of the new may have been approved ahead.
    status.approvals_forgotten = None;
    if let Some(before) = status.digest.take() {
        let is_of_it = |it: &AccessDecision| it.spec.digest.as_ref().is_some_and(|digest| digest.0 == before);
        let at = removal::after_approvals(facts, is_of_it);
        status.replaced_digests.retain(|it| it.digest != before);
        status.replaced_digests.push(ReplacedDigest {
            digest: before,
            at,
            changed: current.changed_since(&status.digest_sections),
        });
        let surplus = status.replaced_digests.len().saturating_sub(MOST_REPLACED);
        let forgotten = status.replaced_digests.drain(..surplus).map(|it| it.at).max();
        status.replaced_before = status.replaced_before.max(forgotten);
    }
    status.digest = Some(current.digest);
    status.digest_sections = current.sections;
    status.digest_since = Some(facts.now);
}

/// The digest of what stands there now.
fn digest_of(facts: &Facts<'_>, integration: &PartnerIntegration, status: &AccessGrantStatus) -> GrantDigest {
    let mut targets = BTreeMap::new();
    let mut is_complete = true;
    for name in facts.grant.target_namespaces() {
        let uid = match (facts.namespaces.get(&name), facts.absent_key) {
            (Some(namespace), _) => namespace.uid.clone(),
            (None, Some(key)) => absent(&name, key),
            (None, None) => {
                is_complete = false;
                continue;
            }
        };
        targets.insert(name, uid);
    }
    let current = digest(integration, facts.grant, &targets);
    match status.digest_sections.get(TARGETS) {
        Some(known) if !is_complete => {
            let mut sections = current.sections;
            sections.insert(TARGETS.to_owned(), known.clone());
            GrantDigest::of_sections(sections)
        }
        _ => current,
    }
}

fn permit(facts: &Facts<'_>, integration: &PartnerIntegration) -> Outcome {
    let labels = facts
        .namespaces
        .iter()
        .map(|(name, namespace)| (name.clone(), namespace.labels.clone()))
        .collect();
    policy::evaluate(
        facts.policies,
        &Request {
            grant: facts.grant,
            integration,
            namespaces: &labels,
            cluster_roles: facts.cluster_roles,
            reserved_namespaces: facts.reserved_namespaces,
            delivery_secrets: facts.delivery_secrets,
        },
    )
}

fn weigh(
    facts: &Facts<'_>,
    integration: &PartnerIntegration,
    terms: Option<&Terms>,
    status: &AccessGrantStatus,
    covered: &Covered,
) -> Standing {
    let one = approval::merged([]);
    let lines = match terms {
        Some(terms) if terms.self_service => &[],
        Some(terms) => terms.approvals.as_slice(),
        None => one.as_slice(),
    };
    approval::consider(&Question {
        now: facts.now,
        grant: facts.grant,
        integration,
        digest: status.digest.as_deref().unwrap_or_default(),
        replaced: &status.replaced_digests,
        owners: facts.owners,
        decisions: facts.decisions,
        proofs: facts.proofs,
        confirmations: facts.confirmations,
        lines,
        covered,
        previous: status,
    })
}

fn standing_against(standing: &Standing, is_approved: bool) -> Vec<(Reason, String)> {
    let mut against = Vec::new();
    if let Some(revoked) = &standing.revoked {
        against.push((
            Reason::Revoked,
            format!("revoked at {} ({})", revoked.at, revoked.words),
        ));
    }
    if let Some(denied) = &standing.denied {
        against.push((Reason::Denied, format!("denied at {} ({})", denied.at, denied.words)));
    }
    if let Some(end) = standing.own_end.filter(|_| !is_approved) {
        against.push((
            Reason::ApprovalEnded,
            format!(
                "the approval ended at {end}, a date that it set itself, so that no review renews it: approve again ({} asked for)",
                standing.asked_for
            ),
        ));
    } else if !is_approved && standing.lapsed {
        against.push((
            Reason::ReviewLapsed,
            format!("the approval lapsed: {} asked for", standing.asked_for),
        ));
    } else if !is_approved {
        let why: Vec<String> = standing
            .not_counted
            .iter()
            .map(|(name, why)| format!("AccessDecision {name} does not count: {why}"))
            .collect();
        let rest = if why.is_empty() {
            String::new()
        } else {
            format!("; {}", why.join("; "))
        };
        against.push((
            Reason::AwaitingApproval,
            format!("{} asked for{rest}", standing.asked_for),
        ));
    }
    against
}

/// What needs no weighing: dates, suspension, enrolment; of namespaces that are closed to the grant nothing is said, and nobody is
/// told to enrol a reserved one, which is refused.
fn plain_reasons(
    facts: &Facts<'_>,
    integration: &PartnerIntegration,
    closed: &BTreeSet<String>,
) -> Vec<(Reason, String)> {
    let (now, spec) = (facts.now, &facts.grant.spec);
    let mut against = Vec::new();
    if let Some(end) = integration.spec.agreement.ends_at.filter(|end| now >= *end) {
        against.push((
            Reason::AgreementEnded,
            format!("agreement {} ended at {end}", integration.spec.agreement.reference),
        ));
    }
    if now >= spec.expires_at {
        against.push((
            Reason::Expired,
            format!("spec.expiresAt {} has passed", spec.expires_at),
        ));
    }
    if integration.spec.suspend {
        against.push((
            Reason::IntegrationSuspended,
            format!("PartnerIntegration {} is suspended", spec.integration_ref.name),
        ));
    }
    if spec.suspend {
        against.push((Reason::Suspended, "spec.suspend is true".to_owned()));
    }
    if let Some(start) = spec.starts_at.filter(|start| now < *start) {
        against.push((Reason::Scheduled, format!("spec.startsAt {start} is yet to come")));
    }
    let own = facts.grant.metadata.namespace.clone().unwrap_or_default();
    let mut needed = facts.grant.target_namespaces();
    needed.push(own);
    needed.retain(|name| !closed.contains(name) && !policy::is_reserved(facts.reserved_namespaces, name));
    needed.sort();
    needed.dedup();
    for name in needed {
        match facts.namespaces.get(&name) {
            Some(namespace) if namespace.terminating => {
                against.push((Reason::NotEnrolled, format!("namespace {name} is being deleted")));
            }
            Some(namespace) if namespace.enrolled => {}
            _ => against.push((
                Reason::NotEnrolled,
                format!("namespace {name} is not enrolled: bind the operator's ServiceAccount to an enrolment ClusterRole there"),
            )),
        }
    }
    against
}

fn hold(facts: &Facts<'_>) -> Option<(Reason, String)> {
    if !facts.admission_proved {
        return Some((
            Reason::AdmissionUnproved,
            "the admission policies are not all there, or were not seen to refuse a forged decision and a forged request: install them".to_owned(),
        ));
    }
    if let Some(skew) = facts.clock_skew {
        return Some((
            Reason::ClockSkew,
            format!("local time and the API server's differ by {skew} s, at most 30 s"),
        ));
    }
    let words = facts.unread?;
    Some((
        Reason::ReadFailed,
        format!("{words}; nothing is issued until it can be"),
    ))
}

/// A static credential that is not there, or is another partner's already.
fn not_usable(facts: &Facts<'_>) -> Option<(Reason, String)> {
    let seen = facts.static_credential?;
    let missing = seen.missing.clone().map(|words| (Reason::IdentityMissing, words));
    missing.or_else(|| seen.taken.clone().map(|words| (Reason::NameConflict, words)))
}

/// What there is of a static credential is not known: no reason to end anything, and none to begin.
fn not_seen(facts: &Facts<'_>) -> Option<(Reason, String)> {
    match facts.static_credential {
        None => Some((Reason::Issuing, "the static credential is being looked for".to_owned())),
        Some(seen) => Some((Reason::CeilingExceeded, seen.unread.clone()?)),
    }
}

/// It ends nothing that others permit; what it would ask for is not known.
fn unreadable(facts: &Facts<'_>) -> Option<(Reason, String)> {
    let name = facts.unreadable_policy?;
    Some((
        Reason::NotPermitted,
        format!("AccessPolicy {name} can't be read, and may ask for more than others: nothing is issued until it can"),
    ))
}

/// Before anything is issued only: otherwise anybody's binding could end the access of others.
fn other_rights(facts: &Facts<'_>, terms: Option<&Terms>) -> Option<(Reason, String)> {
    let (words, policy) = (facts.other_rights?, terms?.refuses_other_rights.as_ref()?);
    Some((Reason::NotPermitted, elsewhere::refusal(words, policy)))
}

fn approved_condition(standing: &Standing, self_service: bool) -> Desired {
    let (status, reason, message) = if let Some(revoked) = &standing.revoked {
        (
            "False",
            "Revoked",
            format!("revoked at {} ({})", revoked.at, revoked.words),
        )
    } else if let Some(denied) = &standing.denied {
        ("False", "Denied", format!("denied at {} ({})", denied.at, denied.words))
    } else if self_service {
        ("True", "SelfService", "the policies ask for no approval".to_owned())
    } else if let Some(until) = standing.in_force_until {
        let by: Vec<&str> = standing.counted.iter().map(|approval| approval.by.as_str()).collect();
        (
            "True",
            "Approved",
            format!("approved by {} until {until}", by.join(", ")),
        )
    } else if let Some(end) = standing.own_end {
        (
            "False",
            Reason::ApprovalEnded.as_str(),
            format!("the approval ended at {end}, a date that it set itself: approve again"),
        )
    } else if standing.lapsed {
        (
            "False",
            "ReviewLapsed",
            "enough approvals counted, but they lapsed".to_owned(),
        )
    } else {
        (
            "Unknown",
            "AwaitingApproval",
            format!("{} asked for", standing.asked_for),
        )
    };
    Desired::new(types::APPROVED, status, reason, message)
}
