//! Makes access and renews credentials: each object by POST, the bindings last. Does I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{ListParams, ObjectMeta, PartialObjectMeta, Patch, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::apply::{self, Error, Hung, Result, call, patch_params, post, set_finalizers, write_status};
use super::credential::mint;
use super::observe::{self, World};
use super::watches::source_of_deliveries;
use super::{Context, now};
use crate::api::conditions::Reason;
use crate::api::names::FINALIZER;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessGrantStatus, AccessOwner, ChildKind, ChildRef, Instant, PartnerIntegration,
};
use crate::closing::why_close;
use crate::domain::lifetime::TokenAsk;
use crate::domain::verdict::Verdict;
use crate::domain::{conditions, ownership};
use crate::plan::children::{Site, binding_content, evidence, last_no, role_content};
use crate::plan::{Child, Issue, Minted, Rotate, issued, rotated};

/// Another replica may be at it.
const NO_LONGER_LEADS: Error = Error::Incomplete("this replica leads no more: what it began is taken back");

/// A conversation with the API server about one grant: what was made in it goes again when it fails.
struct Making<'a> {
    context: &'a Context,
    made: Vec<ChildRef>,
}

/// Makes everything of an activation: claim, identity, roles, anchor, token, delivery, and the bindings last.
///
/// # Errors
/// Whatever went wrong; what had been made is taken away again, as far as that is possible.
pub(crate) async fn issue(
    context: &Context,
    world: &World,
    verdict: &Verdict,
    claim: &AccessGrantStatus,
    issue: &Issue,
) -> Result<AccessGrant> {
    let integration = world
        .integration()
        .ok_or(Error::Incomplete("the integration is gone"))?;
    let site = |grant| Site {
        grant,
        activation: issue.activation,
        identities: &context.settings.identities,
    };
    let notes = evidence(&world.grant, integration, claim);
    if issue.activation > 1 && !is_fresh(context, world).await? {
        return Err(Error::Incomplete(
            "the caches lag behind what decides on another activation: looked at again",
        ));
    }
    if was_refused(&world.grant) {
        rehearse(context, &site(&world.grant), &notes).await?;
    }
    let mut grant = AccessGrant::clone(&world.grant);
    if issue.add_finalizer {
        let api: Api<AccessGrant> = Api::namespaced(context.client.clone(), &grant.namespace().unwrap_or_default());
        let finalizers = [grant.finalizers(), &[FINALIZER.to_owned()]].concat();
        let version = grant.resource_version().unwrap_or_default();
        grant = set_finalizers(&api, &grant.name_any(), &version, &finalizers).await?;
    }
    let grant = write_status(context, &grant, claim).await?;
    let mut making = Making {
        context,
        made: Vec::new(),
    };
    let minted = match making.all(&grant, &site(&grant), claim, issue, &notes).await {
        Ok(minted) => minted,
        Err(error) => {
            making.undo().await?;
            return Err(error);
        }
    };
    let status = issued(claim, verdict, issue.until, minted.as_ref(), making.made.clone(), now());
    match write_status(context, &grant, &status).await {
        // Without a no, it may have been written: then access is in place, and else what was made is found by the next look.
        Err(error) if error.is_refusal() => {
            making.undo().await?;
            Err(error)
        }
        other => other,
    }
}

impl Making<'_> {
    async fn all(
        &mut self,
        grant: &AccessGrant,
        site: &Site<'_>,
        claim: &AccessGrantStatus,
        issue: &Issue,
        notes: &BTreeMap<String, String>,
    ) -> Result<Option<Minted>> {
        // First what may be past the ceiling: no token is made for nothing.
        for role in site.roles(notes) {
            self.create(ChildKind::Role, "roles", role, role_content).await?;
        }
        let minted = match issue.token {
            Some(token) => Some(self.credential(grant, site, claim, token, issue.until, notes).await?),
            None => None,
        };
        // The token alone opens nothing. Whatever held us up since the grant was judged, what is known by now counts.
        if !self.context.is_leader() {
            return Err(NO_LONGER_LEADS);
        }
        if let Some(reason) = why_close(&self.context.cache, grant, last_no(claim)) {
            return Err(Error::Overtaken(reason));
        }
        for binding in site.bindings(notes) {
            self.create(ChildKind::RoleBinding, "rolebindings", binding, binding_content)
                .await?;
        }
        Ok(minted)
    }

    /// The identity, and a token of it where it is to be used from.
    async fn credential(
        &mut self,
        grant: &AccessGrant,
        site: &Site<'_>,
        claim: &AccessGrantStatus,
        token: TokenAsk,
        until: Instant,
        notes: &BTreeMap<String, String>,
    ) -> Result<Minted> {
        let nothing = String::new;
        let account = site.service_account(notes);
        let account = self
            .create(ChildKind::ServiceAccount, "serviceaccounts", account, |_| nothing())
            .await?;
        let generation = claim.credential.as_ref().map_or(1, |credential| credential.generation);
        let anchor = site.anchor_secret(generation, notes);
        let anchor = self.create(ChildKind::Anchor, "secrets", anchor, |_| nothing()).await?;
        let (minted, data) = mint(self.context, grant, &account, &anchor, token, until).await?;
        let mut delivery = site.delivery_secret(notes);
        delivery.data = Some(data);
        let namespace = delivery.namespace().unwrap_or_default();
        let source = source_of_deliveries(&namespace, &self.context.settings.identities);
        self.create(ChildKind::DeliverySecret, &source, delivery, |_| nothing())
            .await?;
        Ok(minted)
    }

    async fn create<K>(
        &mut self,
        kind: ChildKind,
        source: &str,
        object: K,
        content: impl Fn(&K) -> String,
    ) -> Result<ChildRef>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
    {
        let created = post_one(self.context, kind, &object, &post()).await?;
        self.context
            .cache
            .index
            .put(source, kind, created.meta(), content(&created));
        let child = ChildRef {
            kind,
            namespace: created.namespace().unwrap_or_default(),
            name: created.name_any(),
            uid: created.uid().unwrap_or_default(),
        };
        self.made.push(child.clone());
        Ok(child)
    }

    /// Takes away what was made, bindings first.
    async fn undo(&mut self) -> Result<()> {
        let mut children: Vec<Child> = self.made.drain(..).map(Child::from).collect();
        children.sort();
        apply::close(self.context, &children, &Hung::default()).await
    }
}

/// Creates one object; says which refusals are nobody's passing trouble.
async fn post_one<K>(context: &Context, kind: ChildKind, object: &K, params: &PostParams) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let what = format!("{kind} {namespace}/{name}");
    match call(what.clone(), api.create(params, object)).await {
        Err(Error::Call {
            source: kube::Error::Api(status),
            ..
        }) if status.is_already_exists() => Err(Error::NameConflict(what)),
        Err(Error::Call {
            source: kube::Error::Api(status),
            ..
        }) if status.is_forbidden() => Err(Error::CeilingExceeded {
            what,
            why: status.message.clone(),
        }),
        other => other,
    }
}

/// Whether what decides is seen as the API server has it now. What ended the last activation may have been another replica,
/// which knew more than our caches do.
async fn is_fresh(context: &Context, world: &World) -> Result<bool> {
    let (client, cache) = (&context.client, &context.cache);
    let namespace = world.grant.namespace().unwrap_or_default();
    let decisions: Api<PartialObjectMeta<AccessDecision>> = Api::namespaced(client.clone(), &namespace);
    let there = call("listing decisions", decisions.list(&ListParams::default())).await?;
    let is_cached = |decision: &PartialObjectMeta<AccessDecision>| {
        let cached = cache
            .decisions
            .get(&ObjectRef::new(&decision.name_any()).within(&namespace));
        cached.is_some_and(|cached| cached.uid() == decision.uid())
    };
    if !there.items.iter().all(is_cached) {
        return Ok(false);
    }
    let there = there.items.iter().filter_map(ResourceExt::uid).collect();
    if !is_judged_by_all(
        &there,
        &observe::uids(&cache.decisions_about(&world.grant)),
        &world.decision_uids(),
    ) {
        return Ok(false);
    }
    if let Some(declared) = world.grant.static_credential() {
        let accounts: Api<PartialObjectMeta<ServiceAccount>> = Api::namespaced(client.clone(), &namespace);
        let named = ListParams::default().fields(&format!("metadata.name={}", declared.service_account_name));
        let there = call("listing the ServiceAccount", accounts.list(&named)).await?;
        let uid = there.items.first().and_then(ResourceExt::uid);
        if uid.is_none() || uid != world.static_account() {
            return Ok(false);
        }
    }
    let Some(integration) = world.integration() else {
        return Ok(false);
    };
    let integrations: Api<PartialObjectMeta<PartnerIntegration>> = Api::namespaced(client.clone(), &namespace);
    let now = call("reading the integration", integrations.get_opt(&integration.name_any())).await?;
    if !is_same(now.as_ref(), Some(integration)) {
        return Ok(false);
    }
    let owners: Api<PartialObjectMeta<AccessOwner>> = Api::all(client.clone());
    for name in ownership::names(integration) {
        let now = call("reading an owner", owners.get_opt(name)).await?;
        if !is_same(now.as_ref(), world.owner(name)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the decisions that a grant was judged by are those about it that are `there`. The cache may have moved on since:
/// what came in was not judged by, and what was withdrawn was.
fn is_judged_by_all(there: &BTreeSet<String>, cached: &BTreeSet<String>, judged: &BTreeSet<String>) -> bool {
    cached == judged && judged.is_subset(there)
}

/// The same object with the same spec: what only status tells apart decides nothing.
fn is_same(now: Option<&impl ResourceExt>, cached: Option<&impl ResourceExt>) -> bool {
    let shape = |meta: &ObjectMeta| (meta.uid.clone(), meta.generation, meta.deletion_timestamp.is_some());
    now.map(|it| shape(it.meta())) == cached.map(|it| shape(it.meta()))
}

/// The last attempt was refused for good.
fn was_refused(grant: &AccessGrant) -> bool {
    let refused = [Reason::NameConflict.as_str(), Reason::CeilingExceeded.as_str()];
    conditions::active(grant).is_some_and(|condition| refused.contains(&condition.reason.as_str()))
}

/// Asks, without writing, whether what was refused before would be refused again: one attempt makes and removes a lot.
async fn rehearse(context: &Context, site: &Site<'_>, notes: &BTreeMap<String, String>) -> Result<()> {
    let dry = PostParams {
        dry_run: true,
        ..post()
    };
    for role in site.roles(notes) {
        post_one(context, ChildKind::Role, &role, &dry).await?;
    }
    if site.grant.static_credential().is_none() {
        post_one(context, ChildKind::DeliverySecret, &site.delivery_secret(notes), &dry).await?;
    }
    // A Role of ours isn't there yet: its binding can't be asked about.
    let bindings = site.bindings(notes);
    for binding in bindings.iter().filter(|binding| binding.role_ref.kind == "ClusterRole") {
        post_one(context, ChildKind::RoleBinding, binding, &dry).await?;
    }
    Ok(())
}

/// Delivers another token, bound to an anchor of its own.
///
/// # Errors
/// Whatever went wrong. The claimed generation is never delivered then: the next attempt takes another.
pub(crate) async fn rotate(
    context: &Context,
    world: &World,
    verdict: &Verdict,
    claim: &AccessGrantStatus,
    rotate: &Rotate,
) -> Result<AccessGrant> {
    let integration = world
        .integration()
        .ok_or(Error::Incomplete("the integration is gone"))?;
    let identity = claim
        .identity
        .as_ref()
        .ok_or(Error::Incomplete("no identity is on record"))?;
    let recorded = |kind| {
        let found = claim.children.iter().find(|child| child.kind == kind);
        found.ok_or(Error::Incomplete("a child is not on record"))
    };
    let (account, delivery) = (
        recorded(ChildKind::ServiceAccount)?,
        recorded(ChildKind::DeliverySecret)?,
    );
    // As it is before the claim: whoever claims after us, and delivers before us, changes it.
    let version = context.cache.index.version_of(delivery);
    let grant = write_status(context, world.grant.as_ref(), claim).await?;
    let site = Site {
        grant: &grant,
        activation: identity.activation,
        identities: &context.settings.identities,
    };
    let mut making = Making {
        context,
        made: Vec::new(),
    };
    let anchor = site.anchor_secret(rotate.generation, &evidence(&grant, integration, claim));
    let anchor = making
        .create(ChildKind::Anchor, "secrets", anchor, |_| String::new())
        .await?;
    let minted = match mint(context, &grant, account, &anchor, rotate.token, rotate.until).await {
        Ok(_) if !context.is_leader() => Err(NO_LONGER_LEADS),
        Ok((minted, data)) => deliver(context, delivery, version, &data).await.map(|()| minted),
        Err(error) => Err(error),
    };
    let minted = match minted {
        Ok(minted) => minted,
        // A token whose answer was lost dies with its anchor; a Secret that was written in spite of the error is not
        // trusted either: the next rotation is due at once, and writes it again.
        Err(error) => {
            making.undo().await?;
            return Err(error);
        }
    };
    let answers = rotate.answers.clone();
    let status = rotated(claim, verdict, rotate.until, &minted, anchor, answers, now());
    write_status(context, &grant, &status).await
}

/// Replaces the data of a delivery Secret, keys that others put there included, if it still is the one on record, and, where
/// its version is known, nobody wrote to it since.
async fn deliver(
    context: &Context,
    delivery: &ChildRef,
    version: Option<String>,
    data: &super::credential::Delivery,
) -> Result<()> {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(context.client.clone(), &delivery.namespace);
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": delivery.uid})];
    operations
        .extend(version.map(|version| json!({"op": "add", "path": "/metadata/resourceVersion", "value": version})));
    operations.push(json!({"op": "add", "path": "/data", "value": data}));
    // The error could quote what it failed on.
    let operations: json_patch::Patch = serde_json::from_value(operations.into())
        .map_err(|_| Error::Incomplete("the credential can't be written as JSON"))?;
    let patch = Patch::Json::<()>(operations);
    let written = call(
        "delivering the credential",
        api.patch(&delivery.name, &patch_params(), &patch),
    )
    .await?;
    let source = source_of_deliveries(&delivery.namespace, &context.settings.identities);
    context
        .cache
        .index
        .put(&source, ChildKind::DeliverySecret, written.meta(), String::new());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_activation_is_judged_by_what_is_there_and_not_by_what_the_cache_has_heard_since() {
        let set = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect::<BTreeSet<String>>();
        let (approve, revoked) = (set(&["approve"]), set(&["approve", "revoke"]));
        assert!(is_judged_by_all(&revoked, &revoked, &revoked));
        assert!(
            is_judged_by_all(&revoked, &approve, &approve),
            "the other is about something else"
        );
        assert!(
            !is_judged_by_all(&revoked, &revoked, &approve),
            "heard of after the grant was judged"
        );
        assert!(
            !is_judged_by_all(&set(&[]), &approve, &approve),
            "withdrawn, and nobody heard of it"
        );
    }
}
