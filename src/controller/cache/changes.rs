//! What each kind of change does to the cache, and whom it tells.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::{Cache, GrantShape, Guarded, Shape, key_of, lock};
use crate::api::conditions::Reason;
use crate::api::names::{ANNOTATION_ROTATE_REQUESTED_AT, LABEL_ENROLMENT};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessOwner, AccessPolicy, PartnerIntegration, SubjectKind};
use crate::controller::mapping;
use crate::controller::observe::limits_siblings;
use crate::domain::elsewhere::is_of_kubernetes;
use crate::domain::{conditions, ownership, verdict};

/// What each kind of change does. `note` keeps the references, for listed objects too; `touch` tells of a single change.
impl Cache {
    pub(crate) fn note_grant(&self, object: &Guarded<AccessGrant>, is_there: bool) {
        let target = object.0.as_ref().ok().filter(|_| is_there).map(mapping::integration_of);
        lock(&self.referrers).grants.put(key_of(object), target);
    }

    pub(crate) fn touch_grant(&self, object: &Guarded<AccessGrant>, is_there: bool) {
        if let Ok(grant) = &object.0 {
            self.grants_written.caught_up(grant);
            self.enqueue_integration(&mapping::integration_of(grant));
        }
        if self.uninstalling().is_some() {
            // With the last grant that is let go its enrolment is.
            self.enrolment_changed.notify_one();
        }
        if is_there {
            let (before, now) = self.remember_shape(object);
            // A change of nothing but the status is our own word: whoever wrote it looks again by himself, and at his own
            // pace where something failed.
            let is_another = before.as_ref().is_none_or(|before| before.is_another(&now));
            if is_another {
                self.attempts.lift(&object.uid().unwrap_or_default());
                self.enqueue_key(&key_of(object));
            } else {
                self.enqueue_closing(key_of(object));
            }
            if let Ok(grant) = &object.0 {
                match (before.is_some_and(|before| before.is_active), now.is_active) {
                    (true, false) => self.enqueue_waiting_for(grant),
                    (false, true) => self.enqueue_behind(grant),
                    _ => {}
                }
                if is_another {
                    self.enqueue_readers_of(grant);
                }
            }
            return;
        }
        lock(&self.grant_shapes).remove(&key_of(object));
        self.enqueue_decisions_of(SubjectKind::AccessGrant, &key_of(object));
        let uid = object.uid().unwrap_or_default();
        if !self.index.of_grant(&uid, &[], |_, _| false).is_empty() {
            self.orphan_seen.notify_one();
        }
        // A sibling may be within the limit of active grants now.
        if let Ok(grant) = &object.0 {
            self.enqueue_grants_of(&mapping::integration_of(grant));
        }
    }

    /// What the grant was before, and what it is now.
    fn remember_shape(&self, object: &Guarded<AccessGrant>) -> (Option<GrantShape>, GrantShape) {
        let shape = GrantShape {
            shape: Shape::of(object),
            finalizers: object.finalizers().to_vec(),
            rotate_requested: object.annotations().get(ANNOTATION_ROTATE_REQUESTED_AT).cloned(),
            is_active: object.0.as_ref().is_ok_and(verdict::is_active),
        };
        let before = lock(&self.grant_shapes).insert(key_of(object), shape.clone());
        (before, shape)
    }

    /// The grants that an active one may have kept out: by the limit of active grants, or by the ServiceAccount that they share.
    fn enqueue_waiting_for(&self, ended: &AccessGrant) {
        let waits = [Reason::NotPermitted.as_str(), Reason::NameConflict.as_str()];
        let is_waiting =
            |grant: &AccessGrant| conditions::active(grant).is_some_and(|it| waits.contains(&it.reason.as_str()));
        self.enqueue_siblings(ended, is_waiting);
        let Some(shared) = ended.static_credential().map(|it| &it.service_account_name) else {
            return;
        };
        self.enqueue_where(|grant| {
            let declared = grant.static_credential().map(|it| &it.service_account_name);
            grant.metadata.namespace == ended.metadata.namespace && declared == Some(shared) && is_waiting(grant)
        });
    }

    /// The active grants of the same integration that come after one that became active: with it they may be too many.
    fn enqueue_behind(&self, active: &AccessGrant) {
        if !limits_siblings(&self.policies.state()) {
            return;
        }
        let is_behind = |grant: &AccessGrant| verdict::is_active(grant) && verdict::rank(active) < verdict::rank(grant);
        self.enqueue_siblings(active, is_behind);
    }

    fn enqueue_siblings(&self, grant: &AccessGrant, is_touched: impl Fn(&AccessGrant) -> bool) {
        for sibling in self.grants_of(&mapping::integration_of(grant)) {
            if sibling.0.as_ref().is_ok_and(&is_touched) {
                self.enqueue_key(&key_of(sibling.as_ref()));
            }
        }
    }

    /// The grants that may read a Secret of the name in which this one is to deliver its credential: they may do so no longer.
    fn enqueue_readers_of(&self, delivering: &AccessGrant) {
        let (namespace, secret) = (delivering.namespace().unwrap_or_default(), delivering.secret_name());
        let by_role = |name: &str| {
            let role = self.cluster_roles.get(&ObjectRef::new(name));
            role.is_some_and(|role| mapping::speaks_of_secrets(&role))
        };
        self.enqueue_where(|grant| {
            let mut roles = grant
                .spec
                .access
                .iter()
                .filter_map(|entry| entry.cluster_role_ref.as_ref());
            mapping::touches_namespace(grant, &namespace)
                && grant.metadata.uid != delivering.metadata.uid
                && (mapping::names_object(grant, &secret) || roles.any(|role| by_role(&role.name.0)))
        });
    }

    pub(crate) fn note_decision(&self, object: &Guarded<AccessDecision>, is_there: bool) {
        let target = object.0.as_ref().ok().filter(|_| is_there).map(mapping::subject_of);
        lock(&self.referrers).decisions.put(key_of(object), target);
    }

    pub(crate) fn touch_decision(&self, object: &Guarded<AccessDecision>, is_there: bool) {
        if is_there && self.is_known() {
            self.enqueue_decision(key_of(object));
        }
        if let Ok(decision) = &object.0 {
            self.decisions_written.caught_up(decision);
        }
        match object.0.as_ref().map(mapping::subject_of) {
            Ok((SubjectKind::AccessGrant, grant)) => self.enqueue_key(&grant),
            Ok((SubjectKind::PartnerIntegration, integration)) => self.enqueue_grants_of(&integration),
            Err(_) => self.enqueue_all(),
        }
    }

    /// What we write into its status is no news to its grants: each look at them would bring the next write about.
    pub(crate) fn touch_integration(&self, object: &Guarded<PartnerIntegration>, is_there: bool) {
        let key = key_of(object);
        if let Ok(integration) = &object.0 {
            self.integrations_written.caught_up(integration);
        }
        self.enqueue_integration(&key);
        let shape = is_there.then(|| Shape::of(object));
        let mut shapes = lock(&self.integration_shapes);
        let is_same = shape.is_some() && shapes.get(&key) == shape.as_ref();
        match shape {
            Some(shape) => shapes.insert(key.clone(), shape),
            None => shapes.remove(&key),
        };
        drop(shapes);
        if !is_same {
            self.enqueue_grants_of(&key);
        }
    }

    /// What a policy selects is remembered past the day on which it can't be read.
    pub(crate) fn note_policy(&self, policy: &Guarded<AccessPolicy>, is_there: bool) {
        let mut selectors = lock(&self.policy_selectors);
        if !is_there {
            selectors.remove(&policy.name_any());
        } else if let Ok(policy) = &policy.0 {
            selectors.insert(policy.name_any(), policy.spec.namespace_selector.clone());
        }
    }

    /// The first policy by name that can't be read and selected one of these namespaces while it could; or nobody knows what it selects.
    pub(crate) fn unreadable_policy<'a>(
        &self,
        policies: &[Arc<Guarded<AccessPolicy>>],
        labels: impl Iterator<Item = &'a BTreeMap<String, String>> + Clone,
    ) -> Option<String> {
        let unreadable = policies.iter().filter(|policy| policy.0.is_err());
        let selectors = lock(&self.policy_selectors);
        let may_select = |name: &String| {
            let selector = selectors.get(name);
            selector.is_none_or(|selector| labels.clone().any(|it| selector.matches(it)))
        };
        unreadable.map(|policy| policy.name_any()).filter(may_select).min()
    }

    /// An approval counts as its person's, and who that is may change with the names that any AccessOwner lists.
    pub(crate) fn note_owner(&self, owner: &Guarded<AccessOwner>, is_there: bool) {
        let readable = owner.0.as_ref().ok().filter(|_| is_there);
        let listed = readable.iter().flat_map(|owner| &owner.spec.usernames);
        let listed: BTreeSet<String> = listed.map(|user| user.0.clone()).collect();
        let mut known = lock(&self.owner_usernames);
        let before = if listed.is_empty() {
            known.remove(&owner.name_any())
        } else {
            known.insert(owner.name_any(), listed.clone())
        };
        let mut users = before.unwrap_or_default();
        if users == listed {
            return;
        }
        users.extend(listed);
        let users = mapping::tied(users, known.values());
        let of_these = known.iter().filter(|(_, names)| !names.is_disjoint(&users));
        let owners: BTreeSet<String> = of_these.map(|(owner, _)| owner.clone()).collect();
        drop(known);
        self.enqueue_naming(&users, &owners);
    }

    /// Looks at the grants that name these people, by user name or as accountable for them.
    fn enqueue_naming(&self, users: &BTreeSet<String>, owners: &BTreeSet<String>) {
        self.enqueue_where(|grant| {
            let integration = self.integration_of(grant);
            let integration = integration.as_ref().and_then(|it| it.0.as_ref().ok());
            let decisions = self.decisions_about(grant);
            let decisions = decisions.iter().filter_map(|it| it.0.as_ref().ok());
            let answer_for = |it: &PartnerIntegration| ownership::names(it).iter().any(|owner| owners.contains(*owner));
            integration.is_some_and(answer_for) || mapping::names_any(users, grant, integration, decisions)
        });
    }

    pub(crate) fn touch_owner(&self, owner: &Guarded<AccessOwner>, is_there: bool) {
        if let Some(uid) = owner.uid().filter(|_| !is_there) {
            lock(&self.deleted_owners).insert(uid);
        }
        let name = owner.name_any();
        for integration in self.integrations.state() {
            if integration.0.as_ref().is_ok_and(|it| mapping::is_owned_by(it, &name)) {
                self.enqueue_integration(&key_of(integration.as_ref()));
                self.enqueue_grants_of(&key_of(integration.as_ref()));
            }
        }
    }

    pub(crate) fn touch_cluster_role(&self, role: &ClusterRole) {
        let name = role.name_any();
        let enrols = role.labels().contains_key(LABEL_ENROLMENT)
            || self
                .enrolments
                .all()
                .iter()
                .any(|enrolment| enrolment.cluster_role == name);
        if enrols {
            self.enrolment_changed.notify_one();
        }
        let is_everybodys = is_of_kubernetes(&name);
        self.enqueue_where(|grant| enrols || is_everybodys || mapping::gives_cluster_role(grant, &name));
    }

    /// After a new listing of `source`: what went while nobody watched is forgotten, and every grant is looked at.
    ///
    /// Of other sources nothing may be forgotten: what they are just listing is noted already, and not in their stores yet.
    pub(crate) fn listed(&self, source: &str) {
        let mut referrers = lock(&self.referrers);
        match source {
            "accessowners" => {
                lock(&self.owner_usernames).retain(|name, _| self.owners.get(&ObjectRef::new(name)).is_some());
            }
            "accessgrants" => referrers.grants.retain(|(namespace, name)| {
                let grant = ObjectRef::new(name).within(namespace);
                self.grants.get(&grant).is_some()
            }),
            "accessdecisions" => referrers.decisions.retain(|(namespace, name)| {
                let decision = ObjectRef::new(name).within(namespace);
                self.decisions.get(&decision).is_some()
            }),
            _ => {}
        }
        drop(referrers);
        // Of a grant that went while nobody watched nothing else tells.
        self.orphan_seen.notify_one();
        self.enqueue_all();
    }

    /// Whether a ClusterRole enrols a namespace where it is bound to the operator.
    pub(crate) fn is_enrolment(&self, cluster_role: &str) -> bool {
        let role = self.cluster_roles.get(&ObjectRef::new(cluster_role));
        role.is_some_and(|role| role.labels().contains_key(LABEL_ENROLMENT))
    }

    /// The names of the Secrets that deliver credentials, or may, by namespace.
    pub(crate) fn delivery_secrets(&self) -> HashMap<String, HashSet<String>> {
        let mut names: HashMap<String, HashSet<String>> = HashMap::new();
        for grant in self.grants.state() {
            if let Ok(grant) = &grant.0 {
                let namespace = grant.namespace().unwrap_or_default();
                names.entry(namespace).or_default().insert(grant.secret_name());
            }
        }
        names
    }
}
