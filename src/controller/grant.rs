//! The reconcile of one grant: observe, plan, apply, status, requeue.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};

use super::cache::Guarded;
use super::observe::World;
use super::{Context, apply, lock, now};
use crate::api::conditions::{Reason, types};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, AccessGrantStatus};
use crate::domain::approval::Confirmation;
use crate::domain::conditions::{self, Desired};
use crate::domain::verdict::Verdict;
use crate::plan::Step;

/// Brings one grant a step further.
pub(crate) async fn reconcile(object: Arc<Guarded<AccessGrant>>, context: Arc<Context>) -> apply::Result<Action> {
    let grant = match &object.0 {
        Ok(grant) => newest(&context, Arc::new(grant.clone())),
        Err(invalid) => {
            // It counts as absent: what hangs on it ends.
            let uid = invalid.metadata.uid.clone().unwrap_or_default();
            tracing::warn!(name = invalid.metadata.name, error = %invalid.error, "an AccessGrant can't be read: its access ends");
            let mut children = context.cache.index.of_grant(&uid, &[]);
            children.sort();
            apply::close(&context, &children).await?;
            return Ok(Action::requeue(Duration::from_mins(1)));
        }
    };
    let world = World::of(&context, grant);
    confirm(&context, &world).await?;
    let (verdict, plan) = world.judge(&context);
    let written = match &plan.step {
        Step::Rest => None,
        Step::Finish => {
            apply::finish(&context, &world.grant).await?;
            return Ok(Action::await_change());
        }
        Step::Close(children) | Step::Retire(children) => {
            if let Err(error) = apply::close(&context, children).await {
                report(&context, &world.grant, &verdict, Reason::RevocationFailed, &error).await;
                return Err(error);
            }
            None
        }
        Step::Issue(issue) => Some(apply::issue(&context, &world, &verdict, &plan.status, issue).await),
        Step::Rotate(rotate) => Some(apply::rotate(&context, &world, &verdict, &plan.status, rotate).await),
    };
    let again = Action::requeue(Duration::from_secs(u64::try_from(plan.again_in).unwrap_or(1)));
    match written {
        Some(written) => remember(&context, written?),
        None if world.grant.status.as_ref() == Some(&plan.status) => return Ok(again),
        None => remember(
            &context,
            apply::write_status(&context, &world.grant, &plan.status).await?,
        ),
    }
    Ok(Action::requeue(Duration::from_secs(1)))
}

/// What follows an error: a second, and a look at everything anew.
pub(crate) fn after_error(_: Arc<Guarded<AccessGrant>>, error: &apply::Error, _: Arc<Context>) -> Action {
    Action::requeue(match error {
        apply::Error::NameConflict(_) => Duration::from_secs(30),
        _ => Duration::from_secs(2),
    })
}

/// The cache's grant, or the answer to a write of ours that the cache has not seen yet.
fn newest(context: &Context, cached: Arc<AccessGrant>) -> Arc<AccessGrant> {
    let version = |grant: &AccessGrant| {
        grant
            .resource_version()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let mut written = lock(&context.written);
    let uid = cached.uid().unwrap_or_default();
    match written.get(&uid) {
        Some(ours) if version(ours) > version(&cached) => Arc::clone(ours),
        _ => {
            written.remove(&uid);
            cached
        }
    }
}

fn remember(context: &Context, grant: AccessGrant) {
    lock(&context.written).insert(grant.uid().unwrap_or_default(), Arc::new(grant));
}

/// Says in status what went wrong; what can't be written now is said by the next attempt.
async fn report(context: &Context, grant: &AccessGrant, verdict: &Verdict, reason: Reason, error: &apply::Error) {
    let mut status: AccessGrantStatus = grant.status.clone().unwrap_or_default();
    let mut desired = conditions::of_grant(reason, &error.to_string());
    desired.push(Desired::new(
        types::APPROVED,
        verdict.approved.status,
        verdict.approved.reason.clone(),
        verdict.approved.message.clone(),
    ));
    status.conditions = conditions::merge(&status.conditions, desired, grant.metadata.generation, now());
    if grant.status.as_ref() == Some(&status) {
        return;
    }
    match apply::write_status(context, grant, &status).await {
        Ok(grant) => remember(context, grant),
        Err(error) => tracing::warn!(%error, "status could not be written"),
    }
}

/// Asks the API server about deciders who are yet to be confirmed, in every namespace that the grant reaches.
async fn confirm(context: &Context, world: &World) -> apply::Result<()> {
    let (verdict, _) = world.judge(context);
    for decision in &world.decisions {
        let uid = decision.uid().unwrap_or_default();
        if verdict.to_confirm.contains(&uid) {
            let answer = ask(context, &world.grant, decision).await?;
            lock(&context.confirmations).insert(uid, answer);
        }
    }
    Ok(())
}

async fn ask(context: &Context, grant: &AccessGrant, decision: &AccessDecision) -> apply::Result<Confirmation> {
    let mut namespaces = grant.target_namespaces();
    namespaces.extend(grant.namespace());
    namespaces.sort();
    namespaces.dedup();
    let user = decision
        .spec
        .decided_by
        .as_ref()
        .map(|user| user.0.clone())
        .unwrap_or_default();
    for namespace in namespaces {
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
                    verb: Some("approve".to_owned()),
                    group: Some(crate::api::GROUP.to_owned()),
                    resource: Some("accessgrants".to_owned()),
                    subresource: Some("approval".to_owned()),
                    name: Some(grant.name_any()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(context.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|source| apply::Error::Call {
            what: "asking about a decider".to_owned(),
            source,
        })?;
        if !answer.status.is_some_and(|status| status.allowed) {
            return Ok(Confirmation::Refused(format!(
                "{user} may not approve in namespace {namespace}"
            )));
        }
    }
    Ok(Confirmation::Allowed)
}
