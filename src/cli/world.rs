//! What is known of a cluster, or of files, and what it says of a grant. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::ClusterRole;

use super::carried;
use super::documents::{Documents, Key};
use super::output::escape;
use crate::api::conditions::{Reason, counted, types};
use crate::api::names::IDENTITY_NAMESPACE;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessOwner, AccessPolicy, Instant, PartnerIntegration, ResolvedRule,
};
use crate::domain::admission::Proofs;
use crate::domain::approval::Confirmation;
use crate::domain::ownership::Owners;
use crate::domain::policy::{self, Judgement, Request};
use crate::domain::static_credential::{Others, Seen};
use crate::domain::verdict::{self, Facts, Namespace, Verdict};
use crate::domain::{conditions, elsewhere, permission};

/// Where the chart puts the operator unless told otherwise.
const OPERATOR_NAMESPACE: &str = "wayleave-system";

/// Something that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The AccessPolicies.
    Policies,
    /// A namespace.
    Namespace,
    /// A PartnerIntegration.
    Integration,
    /// The PartnerIntegration that stands where a file holds one anew.
    StandingIntegration,
    /// The AccessOwners.
    Owners,
    /// The AccessDecisions of the grant's namespace.
    Decisions,
    /// A ClusterRole.
    ClusterRole,
    /// Whether a namespace is enrolled.
    Enrolment,
    /// The other grants of the grant's namespace.
    Siblings,
    /// The grants of another namespace, whose Secrets no rule may reach.
    Deliveries,
    /// The bindings of others that reach the grant's identity.
    OtherRights,
    /// What is there of a static credential.
    StaticCredential,
}

impl Missing {
    /// Without it, whether the policies permit the grant is not known.
    #[must_use]
    pub fn hides_policies(self) -> bool {
        matches!(self, Self::Policies | Self::Namespace)
    }

    /// Without it, whether the grant is active is not known.
    #[must_use]
    pub fn hides_verdict(self) -> bool {
        self.hides_policies()
            || matches!(
                self,
                Self::Integration | Self::Owners | Self::Decisions | Self::ClusterRole
            )
    }

    /// What follows from it.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Policies => "what the policies say is not known",
            Self::Namespace => "which policies select it, and the digest, are not known",
            Self::Integration => "nothing can be judged without it",
            Self::StandingIntegration => "who asked for it and who changed it is not known",
            Self::Owners => "whether the owners are there is not known",
            Self::Decisions => "which approvals count is not known",
            Self::ClusterRole => "it counts as if it did not exist",
            Self::Enrolment => "it is taken for enrolled",
            Self::Siblings => {
                "how many grants of the integration are active is not known, nor who asked for those that exist and changed them"
            }
            Self::Deliveries => "which Secrets deliver credentials there is not known",
            Self::OtherRights => "whether the identity has any is for the operator to see",
            Self::StaticCredential => "whether they are there is for the operator to see",
        }
    }
}

/// Something that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// What.
    pub missing: Missing,
    /// Its name; empty where it has none.
    pub name: String,
    /// What was tried, and the answer.
    pub why: String,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", escape(&self.why), self.missing.consequence())
    }
}

/// Everything that a grant is judged by.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Integrations.
    pub integrations: BTreeMap<Key, PartnerIntegration>,
    /// Grants.
    pub grants: BTreeMap<Key, AccessGrant>,
    /// Decisions.
    pub decisions: BTreeMap<Key, AccessDecision>,
    /// Owners.
    pub owners: BTreeMap<String, AccessOwner>,
    /// Policies.
    pub policies: BTreeMap<String, AccessPolicy>,
    /// Namespaces.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Resolved rules of ClusterRoles.
    pub cluster_roles: BTreeMap<String, Vec<ResolvedRule>>,
    /// What could not be read.
    pub gaps: BTreeSet<Gap>,
}

/// What is said of a grant.
#[derive(Clone, Debug)]
pub struct Opinion<'a> {
    /// The grant.
    pub grant: &'a AccessGrant,
    /// Its integration, where it exists.
    pub integration: Option<&'a PartnerIntegration>,
    /// The verdict by what is known.
    pub verdict: Verdict,
    /// What the policies say; none without an integration.
    pub judgement: Option<Judgement>,
    /// What could not be read, and matters for this grant.
    pub gaps: Vec<Gap>,
}

/// Namespace and name of a grant.
#[must_use]
pub fn key(grant: &AccessGrant) -> Key {
    let metadata = &grant.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// Namespace and name of a grant's integration.
#[must_use]
pub fn integration_key(grant: &AccessGrant) -> Key {
    (key(grant).0, grant.spec.integration_ref.name.0.clone())
}

/// Every namespace that the grant lies in or reaches.
#[must_use]
pub fn reached(grant: &AccessGrant) -> BTreeSet<String> {
    let mut reached: BTreeSet<String> = grant.target_namespaces().into_iter().collect();
    reached.insert(key(grant).0);
    reached
}

/// The resolved rules of a ClusterRole.
#[must_use]
pub fn resolved(role: &ClusterRole) -> Vec<ResolvedRule> {
    permission::from_policy_rules(role.rules.as_deref().unwrap_or_default())
}

impl World {
    /// What some files hold.
    #[must_use]
    pub fn of(documents: &Documents) -> Self {
        let namespaces = documents.namespaces.iter().map(|(name, found)| {
            let namespace = Namespace {
                uid: found.metadata.uid.clone().unwrap_or_default(),
                labels: found.metadata.labels.clone().unwrap_or_default(),
                enrolled: true,
                terminating: false,
            };
            (name.clone(), namespace)
        });
        let roles = documents.cluster_roles.iter();
        Self {
            integrations: documents.integrations.clone(),
            grants: documents.grants.clone(),
            owners: documents.owners.clone(),
            policies: documents.policies.clone(),
            namespaces: namespaces.collect(),
            cluster_roles: roles.map(|(name, role)| (name.clone(), resolved(role))).collect(),
            ..Self::default()
        }
    }

    /// What stands in the cluster goes on with what is to come of it; the rest of it is added.
    pub fn goes_on_with(&mut self, there: Self) {
        for (key, grant) in there.grants {
            match self.grants.get_mut(&key) {
                Some(coming) => carried::into_grant(coming, &grant),
                None => drop(self.grants.insert(key, grant)),
            }
        }
        for (key, integration) in there.integrations {
            match self.integrations.get_mut(&key) {
                Some(coming) => carried::into_integration(coming, &integration),
                None => drop(self.integrations.insert(key, integration)),
            }
        }
        self.decisions.extend(there.decisions);
        self.gaps.extend(there.gaps);
    }

    /// Notes something that could not be read.
    pub fn lacks(&mut self, missing: Missing, name: &str, why: String) {
        self.gaps.insert(Gap {
            missing,
            name: name.to_owned(),
            why,
        });
    }

    /// Whether a grant says by its status that a namespace is enrolled, or that it isn't; none where none says anything.
    #[must_use]
    pub fn enrolled_by_status(&self, namespace: &str) -> Option<bool> {
        let said = format!("namespace {namespace} is not enrolled");
        let mut answer = None;
        for grant in self.grants.values().filter(|grant| reached(grant).contains(namespace)) {
            let Some(status) = &grant.status else { continue };
            if status.observed_generation != grant.metadata.generation {
                continue;
            }
            if let Some(active) = conditions::active(grant) {
                if active.message.contains(&said) {
                    return Some(false);
                }
                answer = Some(true);
            }
        }
        answer
    }

    /// What is said of a grant at a time.
    #[must_use]
    pub fn judge<'a>(&'a self, grant: &'a AccessGrant, now: Instant) -> Opinion<'a> {
        let owners: Owners<'_> = self.owners.iter().map(|(name, it)| (name.as_str(), it)).collect();
        let decisions: Vec<&AccessDecision> = self.decisions.values().collect();
        let policies: Vec<&AccessPolicy> = self.policies.values().collect();
        let confirmations = confirmations(&decisions);
        let reserved: BTreeSet<String> = [OPERATOR_NAMESPACE.to_owned(), IDENTITY_NAMESPACE.to_owned()].into();
        let mut delivery_secrets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for it in self.grants.values() {
            delivery_secrets.entry(key(it).0).or_default().insert(it.secret_name());
        }
        let integration = self.integrations.get(&integration_key(grant));
        let status = grant.status.as_ref();
        let active = conditions::active(grant);
        // So does its word on the bindings of others, which nobody else need be able to read.
        let refused = active.filter(|it| it.reason == Reason::NotPermitted.as_str());
        let other_rights = refused.and_then(|it| elsewhere::of_refusal(&it.message));
        // So does its word on what is there of a static credential.
        let missing = active.filter(|it| it.reason == Reason::IdentityMissing.as_str());
        let others = Others::of(grant, self.grants.values());
        let static_credential = grant.static_credential().map(|_| Seen {
            missing: missing.map(|it| it.message.clone()),
            taken: others.taken(grant),
            ..Seen::default()
        });
        // And on whether Wayleave is being uninstalled.
        let uninstalling = active.filter(|it| it.reason == Reason::Uninstalling.as_str());
        let proofs = Proofs::since(Instant::new(jiff::Timestamp::UNIX_EPOCH));
        let facts = Facts {
            now,
            grant,
            integration,
            owners: &owners,
            decisions: &decisions,
            confirmations: &confirmations,
            policies: &policies,
            namespaces: &self.namespaces,
            absent_key: None,
            cluster_roles: &self.cluster_roles,
            reserved_namespaces: &reserved,
            delivery_secrets: &delivery_secrets,
            earlier_siblings: verdict::earlier_siblings(grant, self.grants.values()),
            // Only the operator knows: its word stands where it has given one.
            admission_proved: active.is_none_or(|it| it.reason != Reason::AdmissionUnproved.as_str()),
            unreadable_policy: None,
            unread: None,
            proofs: Some(&proofs),
            other_rights,
            static_credential: static_credential.as_ref(),
            clock_skew: None,
            uninstalling: uninstalling.map(|it| it.message.as_str()),
        };
        let labels: BTreeMap<String, BTreeMap<String, String>> = self
            .namespaces
            .iter()
            .map(|(name, namespace)| (name.clone(), namespace.labels.clone()))
            .collect();
        let judgement = integration.map(|integration| {
            policy::judge(
                &policies,
                &Request {
                    grant,
                    integration,
                    namespaces: &labels,
                    cluster_roles: &self.cluster_roles,
                    reserved_namespaces: &reserved,
                    delivery_secrets: &delivery_secrets,
                },
            )
        });
        let mut gaps = self.gaps_of(grant);
        let identity = status.and_then(|status| status.identity.as_ref());
        let is_live = identity.is_some_and(|identity| identity.activated_at.is_some());
        let terms = judgement.as_ref().and_then(|judgement| judgement.terms.as_ref());
        if let Some(policy) = terms.and_then(|terms| terms.refuses_other_rights.as_ref())
            && other_rights.is_none()
            && !is_live
        {
            gaps.push(Gap {
                missing: Missing::OtherRights,
                name: String::new(),
                why: format!("policy {policy} refuses identities with other rights (access.onOtherRights)"),
            });
        }
        if grant.static_credential().is_some() && !is_live {
            gaps.push(Gap {
                missing: Missing::StaticCredential,
                name: String::new(),
                why: "spec.credential.static names a ServiceAccount and its token Secret".to_owned(),
            });
        }
        Opinion {
            grant,
            integration,
            verdict: verdict::decide(&facts),
            judgement,
            gaps,
        }
    }

    fn gaps_of(&self, grant: &AccessGrant) -> Vec<Gap> {
        let (namespaces, roles, own) = (reached(grant), grant.cluster_roles(), key(grant).0);
        let matters = |gap: &&Gap| match gap.missing {
            Missing::Policies | Missing::Owners | Missing::OtherRights | Missing::StaticCredential => true,
            Missing::Namespace | Missing::Enrolment | Missing::Deliveries => namespaces.contains(&gap.name),
            Missing::Decisions | Missing::Siblings => gap.name == own,
            Missing::Integration | Missing::StandingIntegration => gap.name == grant.spec.integration_ref.name.0,
            Missing::ClusterRole => roles.contains(&gap.name),
        };
        self.gaps.iter().filter(matters).cloned().collect()
    }
}

/// What the operator was told when it asked whether deciders may decide: it says so on their decisions.
fn confirmations(decisions: &[&AccessDecision]) -> BTreeMap<String, Confirmation> {
    let told = decisions.iter().filter_map(|decision| {
        let status = decision.status.as_ref()?;
        let condition = conditions::find(&status.conditions, types::COUNTED)?;
        let answer = match condition.reason.as_str() {
            counted::NOT_ALLOWED | counted::UNCHECKED => Confirmation::Refused(condition.message.clone()),
            counted::COUNTED | counted::LAPSED | counted::SURPLUS => Confirmation::Allowed,
            _ => return None,
        };
        Some((decision.metadata.uid.clone()?, answer))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{AccessDecisionSpec, AccessDecisionStatus, AccessGrantStatus, OnOtherRights};
    use crate::domain::conditions::Desired;
    use crate::domain::fixtures::{at, decision, grant, integration, owner, policy};
    use crate::domain::policy::Outcome;

    pub(crate) fn world() -> World {
        let namespace = Namespace {
            uid: "uid-of-payments".to_owned(),
            labels: [("partners.example/allowed".to_owned(), "true".to_owned())].into(),
            enrolled: true,
            terminating: false,
        };
        World {
            integrations: [(integration_key(&grant()), integration())].into(),
            owners: ["alice", "bob"].map(|name| (name.to_owned(), owner(name))).into(),
            policies: [("read-only-partners".to_owned(), policy())].into(),
            namespaces: [("payments".to_owned(), namespace)].into(),
            ..World::default()
        }
    }

    #[test]
    fn what_is_said_is_what_the_operator_would_decide() {
        let (world, grant) = (world(), grant());
        let opinion = world.judge(&grant, at("2026-12-01T00:00:00Z"));
        assert_eq!(opinion.verdict.reason, Reason::AwaitingApproval);
        assert!(matches!(opinion.judgement.unwrap().outcome, Outcome::Permitted { .. }));
        let mut late = grant.clone();
        late.spec.expires_at = at("2027-06-01T00:00:00Z");
        let opinion = world.judge(&late, at("2026-12-01T00:00:00Z"));
        let Outcome::Refused { failing, .. } = opinion.judgement.unwrap().outcome else {
            panic!("permitted")
        };
        assert_eq!(opinion.verdict.against[0], (Reason::NotPermitted, failing.join("; ")));
    }

    #[test]
    fn of_other_rights_the_operator_s_word_is_taken_and_without_it_that_is_said() {
        let (mut world, mut grant) = (world(), grant());
        let now = at("2026-12-01T00:00:00Z");
        assert_eq!(world.judge(&grant, now).gaps, [], "no policy asks");
        for policy in world.policies.values_mut() {
            policy.spec.access.on_other_rights = OnOtherRights::Refuse;
        }
        let approved = decision("yes", "Approve", "dave@corp.example", "", "2026-11-20T00:00:00Z");
        let digest = world.judge(&grant, now).verdict.kept.status.digest.unwrap();
        let approved = AccessDecision {
            spec: AccessDecisionSpec {
                digest: Some(digest.as_str().into()),
                ..approved.spec
            },
            status: Some(AccessDecisionStatus {
                conditions: conditions::merge(
                    &[],
                    vec![Desired::new(types::COUNTED, "True", counted::COUNTED, "")],
                    Some(1),
                    now,
                ),
            }),
            ..approved
        };
        world.decisions = [(("payments".to_owned(), "yes".to_owned()), approved)].into();
        let unknown = world.judge(&grant, now);
        assert_eq!(unknown.verdict.reason, Reason::Issued);
        assert_eq!(
            unknown.gaps.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "policy read-only-partners refuses identities with other rights (access.onOtherRights): \
                 whether the identity has any is for the operator to see"
            ]
        );
        let said = elsewhere::refusal("beside this grant the identity has: view", "read-only-partners");
        grant.status = Some(AccessGrantStatus {
            conditions: conditions::merge(&[], conditions::of_grant(Reason::NotPermitted, &said), Some(1), now),
            ..AccessGrantStatus::default()
        });
        let refused = world.judge(&grant, now);
        assert_eq!(refused.verdict.against, [(Reason::NotPermitted, said)]);
        assert_eq!(refused.gaps, []);
        for policy in world.policies.values_mut() {
            policy.spec.access.on_other_rights = OnOtherRights::Report;
        }
        assert_eq!(
            world.judge(&grant, now).verdict.reason,
            Reason::Issued,
            "it no longer matters"
        );
    }

    #[test]
    fn a_gap_matters_to_those_grants_alone_that_need_it() {
        let (mut world, grant) = (world(), grant());
        world.lacks(Missing::Namespace, "elsewhere", "reading it".to_owned());
        world.lacks(Missing::Enrolment, "payments", "reading role bindings\u{1b}".to_owned());
        let opinion = world.judge(&grant, at("2026-12-01T00:00:00Z"));
        let told: Vec<String> = opinion.gaps.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["reading role bindings\\u{1b}: it is taken for enrolled"]);
    }
}
