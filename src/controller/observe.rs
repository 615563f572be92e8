//! Everything that a decision about one grant needs, from the caches alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::cache::Cache;
use super::{Context, lock, now};
use crate::api::conditions::types;
use crate::api::names::{ANNOTATION_ROTATE_REQUESTED_AT, FINALIZER, LABEL_ENROLMENT};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessOwner, AccessPolicy, PartnerIntegration, ResolvedRule};
use crate::domain::approval::Confirmation;
use crate::domain::ownership::Owners;
use crate::domain::permission;
use crate::domain::verdict::{Facts, Namespace, Verdict, decide};
use crate::plan::{Observed, Plan, plan};

/// A look at the world for one grant; [`World::judge`] decides and plans from it.
pub(crate) struct World {
    pub(crate) grant: Arc<AccessGrant>,
    pub(crate) integration: Option<PartnerIntegration>,
    owners: Vec<AccessOwner>,
    pub(crate) decisions: Vec<AccessDecision>,
    policies: Vec<AccessPolicy>,
    namespaces: BTreeMap<String, Namespace>,
    cluster_roles: BTreeMap<String, Vec<ResolvedRule>>,
    earlier_siblings: usize,
    pub(crate) observed: Observed,
}

impl World {
    pub(crate) fn of(context: &Context, grant: Arc<AccessGrant>) -> Self {
        let cache = &context.cache;
        let namespace = grant.namespace().unwrap_or_default();
        let reference = ObjectRef::new(&grant.spec.integration_ref.name.0).within(&namespace);
        let integration = cache.integrations.get(&reference).and_then(|it| it.0.clone().ok());
        let mut reached: BTreeSet<String> = grant.target_namespaces().into_iter().collect();
        reached.insert(namespace.clone());
        let in_namespace =
            |it: &&Arc<super::cache::Guarded<AccessDecision>>| it.namespace().as_deref() == Some(namespace.as_str());
        let roles = grant
            .spec
            .access
            .iter()
            .filter_map(|entry| entry.cluster_role_ref.as_ref());
        let role = |name: &str| cache.cluster_roles.get(&ObjectRef::new(name));
        let cluster_roles = roles
            .filter_map(|reference| role(&reference.name.0))
            .map(|role| {
                (
                    role.name_any(),
                    permission::from_policy_rules(role.rules.as_deref().unwrap_or_default()),
                )
            })
            .collect();
        let status = grant.status.clone().unwrap_or_default();
        let uid = grant.uid().unwrap_or_default();
        let delivery = status
            .credential
            .as_ref()
            .map(|credential| credential.secret_namespace.clone());
        let delivery_known =
            delivery.is_none_or(|at| cache.follow_deliveries(&context.client, &at, &context.settings.identities));
        let observed = Observed {
            children: cache.index.of_grant(&uid, &status.children),
            delivery_known,
            finalizer: grant.finalizers().iter().any(|name| name == FINALIZER),
            rotate_requested: grant.annotations().get(ANNOTATION_ROTATE_REQUESTED_AT).cloned(),
        };
        Self {
            integration,
            owners: cache.owners.state().iter().filter_map(|it| it.0.clone().ok()).collect(),
            decisions: cache
                .decisions
                .state()
                .iter()
                .filter(in_namespace)
                .filter_map(|it| it.0.clone().ok())
                .collect(),
            policies: cache
                .policies
                .state()
                .iter()
                .filter_map(|it| it.0.clone().ok())
                .collect(),
            namespaces: namespaces(context, &reached),
            cluster_roles,
            earlier_siblings: earlier_siblings(cache, &grant),
            observed,
            grant,
        }
    }

    pub(crate) fn judge(&self, context: &Context) -> (Verdict, Plan) {
        let owners: Owners<'_> = self
            .owners
            .iter()
            .map(|owner| (owner.metadata.name.as_deref().unwrap_or_default(), owner))
            .collect();
        let confirmations: BTreeMap<String, Confirmation> = lock(&context.confirmations)
            .iter()
            .map(|(uid, answer)| (uid.clone(), answer.clone()))
            .collect();
        let decisions: Vec<&AccessDecision> = self.decisions.iter().collect();
        let policies: Vec<&AccessPolicy> = self.policies.iter().collect();
        let seen = context.probe.seen();
        let reserved = context.reserved_namespaces();
        let facts = Facts {
            now: now(),
            grant: &self.grant,
            integration: self.integration.as_ref(),
            owners: &owners,
            decisions: &decisions,
            confirmations: &confirmations,
            policies: &policies,
            namespaces: &self.namespaces,
            cluster_roles: &self.cluster_roles,
            reserved_namespaces: &reserved,
            delivery_secrets: &BTreeMap::new(),
            earlier_siblings: self.earlier_siblings,
            admission_proved: seen.proved,
            clock_skew: seen.skew,
        };
        let verdict = decide(&facts);
        let plan = plan(&facts, &verdict, &self.observed, &context.settings.identities);
        (verdict, plan)
    }
}

fn namespaces(context: &Context, reached: &BTreeSet<String>) -> BTreeMap<String, Namespace> {
    let cache = &context.cache;
    let enrolled = |namespace: &str| {
        cache.bindings.state().iter().any(|binding| {
            let role = || cache.cluster_roles.get(&ObjectRef::new(&binding.role_ref.name));
            let ours = binding.subjects.iter().flatten().any(|subject| {
                subject.kind == "ServiceAccount"
                    && subject.name == context.settings.service_account
                    && subject.namespace.as_deref() == Some(context.settings.namespace.as_str())
            });
            ours && binding.namespace().as_deref() == Some(namespace)
                && binding.role_ref.kind == "ClusterRole"
                && binding.metadata.deletion_timestamp.is_none()
                && role().is_some_and(|role| role.labels().contains_key(LABEL_ENROLMENT))
        })
    };
    let known = reached
        .iter()
        .filter_map(|name| cache.namespaces.get(&ObjectRef::new(name)));
    known
        .map(|it| {
            let name = it.name_any();
            let namespace = Namespace {
                uid: it.uid().unwrap_or_default(),
                labels: it.labels().clone(),
                enrolled: enrolled(&name),
                terminating: it.metadata.deletion_timestamp.is_some(),
            };
            (name, namespace)
        })
        .collect()
}

/// Active grants of the same integration that are older, or as old and first by UID.
fn earlier_siblings(cache: &Cache, grant: &AccessGrant) -> usize {
    let rank = |it: &AccessGrant| (it.metadata.creation_timestamp.as_ref().map(|time| time.0), it.uid());
    let is_active = |it: &AccessGrant| {
        let conditions = it.status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .any(|condition| condition.type_ == types::ACTIVE && condition.status == "True")
    };
    let all = cache.grants.state();
    let siblings = all
        .iter()
        .filter_map(|it| it.0.as_ref().ok())
        .filter(|it| it.namespace() == grant.namespace() && it.spec.integration_ref == grant.spec.integration_ref);
    siblings.filter(|it| is_active(it) && rank(it) < rank(grant)).count()
}
