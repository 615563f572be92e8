//! The reconcile of one grant: observe, plan, apply, status, requeue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use super::apply::{self, Error, Hung, Result};
use super::cache::Guarded;
use super::observe::{Judgement, World, reached};
use super::{Context, NOT_LEADING, after, decision, issue, lock, now};
use crate::api::conditions::Reason;
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessGrantStatus, ChildKind, Instant, SubjectKind};
use crate::closing::why_close;
use crate::domain::approval::Confirmation;
use crate::domain::conditions;
use crate::domain::verdict::Verdict;
use crate::plan::{Child, Step, announcement};

/// After a step: what it changed is looked at at once.
const AT_ONCE: Duration = Duration::from_millis(20);
/// What the API server refuses for good is tried again this often, and whenever something changes.
const REFUSED: Duration = Duration::from_mins(1);
/// An object that can't be read is looked at this often.
const UNREADABLE: Duration = Duration::from_mins(1);

/// Brings one grant a step further.
pub(crate) async fn reconcile(object: Arc<Guarded<AccessGrant>>, context: Arc<Context>) -> Result<Action> {
    let uid = object.uid().unwrap_or_default();
    let this = ObjectRef::from_obj(object.as_ref());
    // What was queued is older than the turn that it waited for.
    let action = match context.cache.grants.get(&this).as_ref().map(|it| &it.0) {
        Some(Ok(_)) => step(&context, &this).await?,
        Some(Err(invalid)) => unreadable(&context, invalid).await?,
        None => Action::await_change(),
    };
    context.cache.attempts.went_well(&uid);
    Ok(action)
}

/// The world for a grant as it is known now.
fn look(context: &Context, grant: &ObjectRef<Guarded<AccessGrant>>) -> Option<World> {
    let cache = &context.cache;
    let newest = cache.grants_written.newest(&cache.grants, grant)?;
    Some(World::of(context, newest))
}

async fn step(context: &Arc<Context>, grant: &ObjectRef<Guarded<AccessGrant>>) -> Result<Action> {
    if !is_denial_of_its_own(context, grant) {
        context.cache.denials.over().await;
    }
    let Some(world) = look(context, grant) else {
        return Ok(Action::requeue(AT_ONCE));
    };
    let mut judgement = world.judge(context);
    // A question without an answer means an approval that doesn't count yet; what must end ends all the same.
    let mut unanswered = Ok(());
    if !judgement.verdict.to_confirm.is_empty() {
        unanswered = confirm(context, &world, &judgement.verdict.to_confirm).await;
        judgement = world.judge(context);
    }
    if !context.is_leader() {
        return Ok(Action::requeue(NOT_LEADING));
    }
    if judgement.plan.step == Step::Rest && !context.probe.seen().tried {
        // Whether anything may be issued is not known yet: what must end ends, and all else is said after the first proof,
        // which looks at every grant again. A new process would take its words back a moment later.
        return unanswered.map(|()| Action::await_change());
    }
    let done = act(context, &world, &judgement).await;
    decision::settle(context, &world.grant, &world.decisions(), &judgement.verdict).await;
    unanswered.and(done)
}

/// Whether bindings are to be taken away, and the closing lane leaves that to others: that waits for no other denial. Asked only
/// where it would.
fn is_denial_of_its_own(context: &Context, grant: &ObjectRef<Guarded<AccessGrant>>) -> bool {
    let cache = &context.cache;
    if cache.denials.put_off_until().is_none() {
        return false;
    }
    let Some(newest) = cache.grants_written.newest(&cache.grants, grant) else {
        return false;
    };
    // Where thousands end at once, a look at the world for each would hold the closing lane up.
    let bindings = cache.index.bindings_of(&newest.uid().unwrap_or_default());
    let is_left = |(_, last_no): &(Child, Option<Instant>)| why_close(cache, &newest, *last_no).is_none();
    if bindings.is_empty() || !bindings.iter().all(is_left) {
        return false;
    }
    let is_binding = |child: &Child| child.kind == ChildKind::RoleBinding;
    let judgement = World::of(context, newest).judge(context);
    matches!(judgement.plan.step, Step::Close(children) if children.iter().any(is_binding))
}

async fn act(context: &Arc<Context>, world: &World, judgement: &Judgement) -> Result<Action> {
    let Judgement { verdict, plan, at } = judgement;
    let paused = context.cache.attempts.left(&world.grant.uid().unwrap_or_default());
    let written = match &plan.step {
        Step::Rest => None,
        Step::Finish => {
            context.metrics.stepped(plan.step.as_str());
            return finish(context, &world.grant, &plan.status).await;
        }
        Step::Close(children) | Step::Retire(children) => {
            if let Err(error) = apply::close(context, children, &Hung::default()).await {
                if matches!(error, Error::NotClosed(_) | Error::StaticNotClosed(_)) {
                    report(context, &world.grant, verdict, Reason::RevocationFailed, &error).await;
                } else {
                    leave(context, &world.grant, &plan.status).await;
                }
                // Where the operator may not go nothing is held up. What is left names an identity that is gone; or one that is
                // static, and then it lies in the grant's own namespace, and the garbage collector takes it with the grant.
                let is_deleted = world.grant.metadata.deletion_timestamp.is_some();
                let is_static = matches!(error, Error::StaticNotClosed(_));
                let ends = is_deleted || context.cache.uninstalling().is_some() && !is_static;
                if error.is_forbidden() && ends {
                    return let_go(context, &world.grant).await;
                }
                return Err(error);
            }
            None
        }
        // The end of the sweep looks at every grant again.
        Step::Issue(_) if !context.is_swept() => return Ok(Action::await_change()),
        Step::Issue(_) | Step::Rotate(_) if paused.is_some() => {
            return Ok(Action::requeue(paused.unwrap_or_default()));
        }
        Step::Issue(issue) => Some(issue::issue(context, world, verdict, &plan.status, issue).await),
        Step::Rotate(rotate) => Some(issue::rotate(context, world, verdict, &plan.status, rotate).await),
    };
    if plan.step != Step::Rest && !matches!(written, Some(Err(_))) {
        context.metrics.stepped(plan.step.as_str());
    }
    match written {
        Some(Ok(grant)) => told(context, &world.grant, grant).await,
        Some(Err(error)) => {
            context.metrics.issue_failed(plan.step.as_str(), error.failure());
            return refused(context, world, judgement, error).await;
        }
        None if world.grant.status.as_ref() != Some(&plan.status) => {
            let grant = apply::write_status(context, world.grant.as_ref(), &plan.status).await?;
            told(context, &world.grant, grant).await;
        }
        None if plan.step == Step::Rest => return Ok(Action::requeue(after(at.plus(plan.again_in)))),
        None => {}
    }
    Ok(Action::requeue(AT_ONCE))
}

/// Lets a grant go of which nothing is left; one that stays says why before.
async fn finish(context: &Context, grant: &AccessGrant, status: &AccessGrantStatus) -> Result<Action> {
    if grant.metadata.deletion_timestamp.is_some() || grant.status.as_ref() == Some(status) {
        return let_go(context, grant).await;
    }
    let written = apply::write_status(context, grant, status).await?;
    told(context, grant, written.clone()).await;
    let_go(context, &written).await
}

/// Takes our finalizer off a grant.
async fn let_go(context: &Context, grant: &AccessGrant) -> Result<Action> {
    let api: Api<AccessGrant> = Api::namespaced(context.client.clone(), &grant.namespace().unwrap_or_default());
    let version = grant.resource_version().unwrap_or_default();
    match apply::release(&api, &grant.name_any(), &version, grant.finalizers()).await {
        // Of a grant that is gone nothing comes of another look; one that was only said to be gone must not wait for ever.
        Err(error) if error.is_gone() => {
            let uid = grant.uid().unwrap_or_default();
            Ok(Action::requeue(context.cache.attempts.failed(&uid)))
        }
        other => other.map(|()| Action::await_change()),
    }
}

/// What follows a failed attempt: what nobody but a person can mend is said in status, and tried again now and then.
async fn refused(context: &Context, world: &World, judgement: &Judgement, error: Error) -> Result<Action> {
    let Judgement { verdict, plan, .. } = judgement;
    let reason = match &error {
        Error::NameConflict(_) => Reason::NameConflict,
        Error::CeilingExceeded { .. } => Reason::CeilingExceeded,
        Error::TokenTooLong(_) => Reason::Issuing,
        _ => {
            if matches!(plan.step, Step::Issue(_)) {
                context
                    .cache
                    .attempts
                    .at_issuing(&world.grant.uid().unwrap_or_default());
            }
            return Err(error);
        }
    };
    let is_live = verdict
        .kept
        .status
        .identity
        .as_ref()
        .is_some_and(|identity| identity.activated_at.is_some());
    if is_live {
        // The credential in use goes on working.
        return Err(error);
    }
    // What was made and taken away again on the way tells of itself: that must not begin the next attempt.
    let uid = world.grant.uid().unwrap_or_default();
    context.cache.attempts.at_issuing(&uid);
    context.cache.attempts.failed(&uid);
    // The claim was written since the world was looked at.
    let grant = newest_of(context, &world.grant).await?;
    let identity = |status: Option<&AccessGrantStatus>| status.and_then(|status| status.identity.clone());
    let there = identity(grant.status.as_ref());
    if there != identity(Some(&plan.status)) && there != identity(world.grant.status.as_ref()) {
        // Another replica took over meanwhile, and may have issued: what it wrote is not ours to take back.
        return Err(error);
    }
    report(context, &grant, verdict, reason, &error).await;
    Ok(Action::requeue(REFUSED))
}

/// It counts as absent: what hangs on it ends.
async fn unreadable(context: &Context, invalid: &InvalidObject) -> Result<Action> {
    let meta = &invalid.metadata;
    let (uid, name) = (
        meta.uid.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    );
    let namespace = meta.namespace.clone().unwrap_or_default();
    // What its credential is called nobody can read.
    let mut children = context.cache.index.of_grant(&uid, &[], |_, _| true);
    children.retain(|child| context.cache.is_within_reach(&context.settings, &child.namespace));
    children.sort();
    if !children.is_empty() {
        tracing::warn!(namespace, name, error = %invalid.error, "an AccessGrant can't be read: its access ends");
        apply::close(context, &children, &Hung::default()).await?;
    }
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    let ends = meta.deletion_timestamp.is_some() || context.cache.uninstalling().is_some();
    if ends && apply::is_held(finalizers) {
        let api: Api<kube::api::PartialObjectMeta<AccessGrant>> = Api::namespaced(context.client.clone(), &namespace);
        let version = meta.resource_version.clone().unwrap_or_default();
        apply::release(&api, &name, &version, finalizers).await?;
    }
    Ok(Action::requeue(UNREADABLE))
}

/// What follows an error: a pause that grows, and a look at everything anew.
pub(crate) fn after_error(object: Arc<Guarded<AccessGrant>>, _: &Error, context: Arc<Context>) -> Action {
    Action::requeue(context.cache.attempts.failed(&object.uid().unwrap_or_default()))
}

/// Keeps what was written, and publishes what changed by it.
async fn told(context: &Context, before: &AccessGrant, written: AccessGrant) {
    let said = written
        .status
        .as_ref()
        .and_then(|after| announcement::of_grant(before.status.as_ref(), after));
    context.cache.grants_written.remember(written);
    context.events.announce(before, said).await;
}

/// The grant as the API server has it: after a failed attempt neither cache nor memory need to have it.
async fn newest_of(context: &Context, grant: &AccessGrant) -> Result<AccessGrant> {
    let api: Api<AccessGrant> = Api::namespaced(context.client.clone(), &grant.namespace().unwrap_or_default());
    apply::call("reading the grant", api.get(&grant.name_any())).await
}

/// Says in status what went wrong.
async fn report(context: &Context, grant: &AccessGrant, verdict: &Verdict, reason: Reason, error: &Error) {
    let mut status: AccessGrantStatus = grant.status.clone().unwrap_or_default();
    if reason != Reason::RevocationFailed {
        status.identity = None;
        status.credential = None;
        status.children = Vec::new();
    }
    let mut desired = conditions::of_grant(reason, &error.to_string());
    desired.push(verdict.approved.clone());
    desired.extend(conditions::findings(&status.conditions));
    status.conditions = conditions::merge(&status.conditions, desired, grant.metadata.generation, now());
    say(context, grant, &status).await;
}

/// Access is closed, and something of no use without it is left: said as what it is, with the objects kept on record.
async fn leave(context: &Context, grant: &AccessGrant, planned: &AccessGrantStatus) {
    let recorded = grant.status.clone().unwrap_or_default().children;
    let status = AccessGrantStatus {
        children: recorded,
        ..planned.clone()
    };
    say(context, grant, &status).await;
}

/// Writes a status beside the ordinary course; what can't be said now is said after the next attempt.
async fn say(context: &Context, grant: &AccessGrant, status: &AccessGrantStatus) {
    if grant.status.as_ref() == Some(status) {
        return;
    }
    match apply::write_status(context, grant, status).await {
        Ok(written) => told(context, grant, written).await,
        Err(error) => tracing::warn!(%error, "status could not be written"),
    }
}

/// Asks the API server about deciders who are yet to be confirmed, in every namespace that the grant reaches.
async fn confirm(context: &Context, world: &World, unconfirmed: &BTreeSet<String>) -> Result<()> {
    // Whoever decided, it is yet to be known whether that was checked: all are looked at again when it is.
    if context.probe.seen().proofs.is_none() {
        return Ok(());
    }
    let grant = world.grant.uid().unwrap_or_default();
    for decision in world.decisions() {
        let uid = decision.uid().unwrap_or_default();
        if unconfirmed.contains(&uid) {
            let answer = ask(context, &world.grant, decision).await?;
            lock(&context.confirmations).insert((uid, grant.clone()), (answer, now()));
        }
    }
    Ok(())
}

/// Whether a decider may approve the grant, or review its integration, in every namespace that the grant lies in or reaches.
async fn ask(context: &Context, grant: &AccessGrant, decision: &AccessDecision) -> apply::Result<Confirmation> {
    let user = decision
        .spec
        .decided_by
        .as_ref()
        .map(|user| user.0.clone())
        .unwrap_or_default();
    let (verb, resource) = match decision.spec.subject.kind {
        SubjectKind::AccessGrant => ("approve", "accessgrants"),
        SubjectKind::PartnerIntegration => ("review", "partnerintegrations"),
    };
    for namespace in reached(grant) {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.clone()),
                groups: Some(
                    decision
                        .spec
                        .decided_by_groups
                        .iter()
                        .map(|group| group.0.clone())
                        .collect(),
                ),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.clone()),
                    verb: Some(verb.to_owned()),
                    group: Some(crate::api::GROUP.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: Some("approval".to_owned()),
                    name: Some(decision.spec.subject.name.0.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(context.client.clone());
        let params = PostParams::default();
        let answer = apply::call("asking about a decider", api.create(&params, &review)).await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            return Ok(Confirmation::Refused(format!(
                "{user} may not {verb} in namespace {namespace}"
            )));
        }
    }
    Ok(Confirmation::Allowed)
}
