//! Everything that a decision about one grant needs, from the caches alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::apply::is_held;
use super::cache::{Cache, Guarded, by_name};
use super::{Context, lock, mapping, now};
use crate::api::names::ANNOTATION_ROTATE_REQUESTED_AT;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessOwner, AccessPolicy, ChildKind, Instant, PartnerIntegration, ResolvedRule,
};
use crate::domain::approval::Confirmation;
use crate::domain::elsewhere::{Account, is_ordinary};
use crate::domain::permission;
use crate::domain::static_credential::Seen;
use crate::domain::verdict::{self, Facts, Namespace, Verdict, decide};
use crate::plan::{Child, Observed, Plan, plan, rotation_asked};

/// After so many seconds the API server is asked again about a decider whom it refused.
const ASK_AGAIN: i64 = 60;

/// A look at the world for one grant; [`World::judge`] decides and plans from it.
pub(crate) struct World {
    pub(crate) grant: Arc<AccessGrant>,
    integration: Option<Arc<Guarded<PartnerIntegration>>>,
    owners: Vec<Arc<Guarded<AccessOwner>>>,
    decisions: Vec<Arc<Guarded<AccessDecision>>>,
    policies: Vec<Arc<Guarded<AccessPolicy>>>,
    namespaces: BTreeMap<String, Namespace>,
    cluster_roles: BTreeMap<String, Vec<ResolvedRule>>,
    delivery_secrets: BTreeMap<String, BTreeSet<String>>,
    earlier_siblings: usize,
    other_rights: Option<String>,
    unreadable_policy: Option<String>,
    unread: Option<String>,
    static_credential: Option<Seen>,
    pub(crate) observed: Observed,
}

/// What a look at the world amounts to.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) plan: Plan,
    /// When the plan's `again_in` counts from.
    pub(crate) at: Instant,
}

impl World {
    pub(crate) fn of(context: &Context, grant: Arc<AccessGrant>) -> Self {
        let cache = &context.cache;
        let reached = reached(&grant);
        let cluster_roles = grant.cluster_roles().into_iter();
        let cluster_roles = cluster_roles
            .filter_map(|name| cache.cluster_roles.get(&ObjectRef::new(&name)))
            .map(|role| {
                let rules = permission::from_policy_rules(role.rules.as_deref().unwrap_or_default());
                (role.name_any(), rules)
            })
            .collect();
        let observed = observed(context, &grant);
        let policies = cache.policies.state();
        let namespaces: BTreeMap<_, _> = reached.iter().filter_map(|name| namespace(cache, name)).collect();
        let unreadable_policy = cache.unreadable_policy(&policies, namespaces.values().map(|it| &it.labels));
        let earlier_siblings = earlier_siblings(cache, &policies, &grant);
        let mut world = Self {
            integration: cache.integration_of(&grant),
            owners: cache.owners.state(),
            decisions: cache.decisions_about(&grant),
            policies,
            namespaces,
            cluster_roles,
            delivery_secrets: BTreeMap::new(),
            earlier_siblings,
            other_rights: other_rights(context, &grant, &reached),
            unreadable_policy,
            unread: cache.lost().into_iter().next(),
            static_credential: cache.static_credential(&context.client, &grant),
            observed,
            grant,
        };
        if permission::may_reach_secrets(&world.grant, &world.cluster_roles) {
            let all = cache.delivery_secrets().into_iter();
            let near = all.filter(|(namespace, _)| reached.contains(namespace));
            world.delivery_secrets = near
                .map(|(namespace, names)| (namespace, names.into_iter().collect()))
                .collect();
        }
        world
    }

    /// The integration, where it exists and can be read.
    pub(crate) fn integration(&self) -> Option<&PartnerIntegration> {
        self.integration.as_ref().and_then(|it| it.0.as_ref().ok())
    }

    /// UID of the ServiceAccount of a static credential, as it is seen.
    pub(crate) fn static_account(&self) -> Option<String> {
        self.static_credential.as_ref().and_then(|seen| seen.uid.clone())
    }

    /// The decisions about the grant and its integration that can be read.
    pub(crate) fn decisions(&self) -> Vec<&AccessDecision> {
        self.decisions.iter().filter_map(|it| it.0.as_ref().ok()).collect()
    }

    /// The UIDs of all decisions about the grant and its integration, those that can't be read included.
    pub(crate) fn decision_uids(&self) -> BTreeSet<String> {
        uids(&self.decisions)
    }

    /// An owner as it was seen.
    pub(crate) fn owner(&self, name: &str) -> Option<&Guarded<AccessOwner>> {
        let mut owners = self.owners.iter();
        owners.find(|owner| owner.name_any() == name).map(Arc::as_ref)
    }

    pub(crate) fn judge(&self, context: &Context) -> Judgement {
        let owners = by_name(&self.owners);
        let decisions = self.decisions();
        let policies: Vec<&AccessPolicy> = self.policies.iter().filter_map(|it| it.0.as_ref().ok()).collect();
        let confirmations = confirmations(context, &self.grant, &decisions);
        let seen = context.probe.seen();
        let reserved = context.reserved_namespaces();
        let of_identities = ObjectRef::new(&context.settings.identities);
        let absent_key = context.cache.namespaces.get(&of_identities).and_then(|it| it.uid());
        let at = now();
        let facts = Facts {
            now: at,
            grant: &self.grant,
            integration: self.integration(),
            owners: &owners,
            decisions: &decisions,
            confirmations: &confirmations,
            policies: &policies,
            unreadable_policy: self.unreadable_policy.as_deref(),
            unread: self.unread.as_deref(),
            namespaces: &self.namespaces,
            absent_key: absent_key.as_deref(),
            cluster_roles: &self.cluster_roles,
            reserved_namespaces: &reserved,
            delivery_secrets: &self.delivery_secrets,
            earlier_siblings: self.earlier_siblings,
            admission_proved: seen.proved,
            proofs: seen.proofs.as_deref(),
            other_rights: self.other_rights.as_deref(),
            static_credential: self.static_credential.as_ref(),
            clock_skew: seen.skew().or(context.metrics.clock().skew()),
            uninstalling: context.cache.uninstalling(),
        };
        let verdict = decide(&facts);
        let plan = plan(&facts, &verdict, &self.observed, &context.settings.identities);
        Judgement { verdict, plan, at }
    }
}

/// The answers about deciders that were asked for already. A no is asked for again after a while: rights are given, too.
fn confirmations(
    context: &Context,
    grant: &AccessGrant,
    decisions: &[&AccessDecision],
) -> BTreeMap<String, Confirmation> {
    let known = lock(&context.confirmations);
    let grant = grant.uid().unwrap_or_default();
    let still_holds = |(answer, at): &(Confirmation, Instant)| {
        *answer == Confirmation::Allowed || now().seconds_since(*at) < ASK_AGAIN
    };
    let uids = decisions.iter().filter_map(|decision| decision.metadata.uid.as_ref());
    let answers = uids.filter_map(|uid| Some((uid, known.get(&(uid.clone(), grant.clone()))?)));
    let answers = answers.filter(|(_, answer)| still_holds(answer));
    answers
        .map(|(uid, (answer, _))| (uid.clone(), answer.clone()))
        .collect()
}

/// The UIDs of decisions.
pub(crate) fn uids(decisions: &[Arc<Guarded<AccessDecision>>]) -> BTreeSet<String> {
    decisions.iter().filter_map(|decision| decision.uid()).collect()
}

/// Every namespace that the grant lies in or reaches.
pub(crate) fn reached(grant: &AccessGrant) -> BTreeSet<String> {
    let mut reached: BTreeSet<String> = grant.target_namespaces().into_iter().collect();
    reached.extend(grant.namespace());
    reached
}

fn observed(context: &Context, grant: &AccessGrant) -> Observed {
    let (cache, identities) = (&context.cache, &context.settings.identities);
    let status = grant.status.clone().unwrap_or_default();
    let delivery = status
        .credential
        .as_ref()
        .filter(|_| grant.static_credential().is_none())
        .map(|credential| credential.secret_namespace.clone());
    let delivery_known = delivery.is_none_or(|at| cache.follow_deliveries(&context.client, &at, identities));
    // Where it is by the claim, which is written before it is made, and where the spec wants it.
    let declared = grant.static_credential().map(|it| it.secret_name.as_ref());
    let is_delivery = |namespace: &str, name: &str| {
        if declared == Some(name) {
            // The Secret of a static token is not ours, whatever is written on it.
            return false;
        }
        let claimed = status.credential.as_ref();
        let is_claimed = claimed.is_some_and(|it| it.secret_namespace == namespace && it.secret_name == name);
        is_claimed || (grant.namespace().as_deref() == Some(namespace) && grant.secret_name() == name)
    };
    let uid = grant.uid().unwrap_or_default();
    let children = cache.index.of_grant(&uid, &status.children, is_delivery);
    let is_within_reach = |child: &Child| cache.is_within_reach(&context.settings, &child.namespace);
    let seen: BTreeSet<String> = children.iter().map(|child| child.uid.clone()).collect();
    let (children, beyond_reach) = children.into_iter().partition(is_within_reach);
    // Of all that is ours only delivery Secrets are told of by their label, which others can take off.
    let recorded = status
        .children
        .into_iter()
        .filter(|child| child.kind == ChildKind::DeliverySecret);
    // A grant that is let go and stays takes nothing along: what is on record goes, whether or not it can be seen.
    let told = delivery_known || cache.uninstalling().is_some();
    let unseen = recorded
        .filter(|child| told && !seen.contains(&child.uid) && !cache.index.is_gone_unseen(&child.uid))
        .map(Child::from);
    Observed {
        children,
        unseen: unseen.filter(is_within_reach).collect(),
        beyond_reach,
        delivery_known,
        finalizer: is_held(grant.finalizers()),
        rotate_requested: grant
            .annotations()
            .get(ANNOTATION_ROTATE_REQUESTED_AT)
            .map(|annotation| rotation_asked(annotation)),
    }
}

fn namespace(cache: &Cache, name: &str) -> Option<(String, Namespace)> {
    let found = cache.namespaces.get(&ObjectRef::new(name))?;
    let enrolments = cache.enrolments.of(name);
    let enrols = enrolments
        .iter()
        .any(|it| !it.is_ending && cache.is_enrolment(&it.cluster_role));
    let namespace = Namespace {
        uid: found.uid().unwrap_or_default(),
        labels: found.labels().clone(),
        enrolled: enrols,
        terminating: found.metadata.deletion_timestamp.is_some(),
    };
    Some((name.to_owned(), namespace))
}

/// What the identity of a grant, or any that it may get, has beside it.
fn other_rights(context: &Context, grant: &AccessGrant, reached: &BTreeSet<String>) -> Option<String> {
    let identity = grant.status.as_ref().and_then(|status| status.identity.as_ref());
    let elsewhere = &context.cache.elsewhere;
    let is_ordinary = |role: &str| {
        let role = context.cache.cluster_roles.get(&ObjectRef::new(role));
        role.is_none_or(|role| is_ordinary(role.rules.as_deref().unwrap_or_default()))
    };
    if let Some(declared) = grant.static_credential() {
        let namespace = grant.metadata.namespace.as_deref().unwrap_or_default();
        let name = &declared.service_account_name.0;
        // It goes no further than its own namespace, whatever is asked for.
        return elsewhere.of(Account { namespace, name }, &[namespace.to_owned()].into(), is_ordinary);
    }
    let account = Account {
        namespace: &context.settings.identities,
        name: identity.map_or("", |identity| &identity.service_account),
    };
    elsewhere.of(account, reached, is_ordinary)
}

/// Whether any policy limits the active grants of an integration.
pub(crate) fn limits_siblings(policies: &[Arc<Guarded<AccessPolicy>>]) -> bool {
    let mut readable = policies.iter().filter_map(|it| it.0.as_ref().ok());
    readable.any(|policy| policy.spec.limits.active_grants_per_integration.is_some())
}

/// Counted only where a policy asks: it takes a look at each, for each of them.
fn earlier_siblings(cache: &Cache, policies: &[Arc<Guarded<AccessPolicy>>], grant: &AccessGrant) -> usize {
    if !limits_siblings(policies) {
        return 0;
    }
    let siblings = cache.grants_of(&mapping::integration_of(grant));
    let siblings = siblings.iter().filter_map(|it| it.0.as_ref().ok());
    verdict::earlier_siblings(grant, siblings)
}
