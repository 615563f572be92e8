//! Tells each AccessDecision whether it counts: those about a grant when the grant was judged, all others when they or
//! their subjects change. Does I/O.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::apply::write_status;
use super::cache::key_of;
use super::mapping::{self, Key};
use super::{Context, lock, now};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, Decision, SubjectKind};
use crate::domain::approval::ReviewOutcome;
use crate::domain::verdict::Verdict;
use crate::plan::decision::{Listed, Subject, plan};

/// What each Review was found to do for each grant that it lists, by the decision's UID and the grant's name: one is told
/// when all of its grants were judged.
#[derive(Debug, Default)]
pub(crate) struct Reviews(Mutex<HashMap<String, HashMap<String, ReviewOutcome>>>);

impl Reviews {
    /// Keeps what was found for a grant; none where it was not weighed. Whether that is news.
    fn put(&self, review: &str, grant: &str, outcome: Option<&ReviewOutcome>) -> bool {
        let mut all = lock(&self.0);
        if all.get(review).and_then(|grants| grants.get(grant)) == outcome {
            return false;
        }
        let grants = all.entry(review.to_owned()).or_default();
        match outcome {
            Some(outcome) => grants.insert(grant.to_owned(), outcome.clone()),
            None => grants.remove(grant),
        };
        true
    }

    fn of(&self, review: &str) -> HashMap<String, ReviewOutcome> {
        lock(&self.0).get(review).cloned().unwrap_or_default()
    }

    /// Forgets all but decisions of these UIDs.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}

/// Tells the decisions about a grant what became of them, and keeps what Reviews of its integration did for it. What could not
/// be told is told after another look: it says nothing against the grant.
pub(crate) async fn settle(
    context: &Arc<Context>,
    grant: &AccessGrant,
    decisions: &[&AccessDecision],
    verdict: &Verdict,
) {
    for decision in decisions {
        match (decision.spec.subject.kind, decision.spec.decision) {
            (SubjectKind::AccessGrant, _) => tell(context, decision, Subject::Grant(Some(&verdict.decisions))).await,
            (SubjectKind::PartnerIntegration, Decision::Review) => {
                let found = verdict.reviews.get(&decision.name_any());
                let uid = decision.uid().unwrap_or_default();
                // What has lapsed is told anew, and nothing but the time made it so.
                let is_over = matches!(found, Some(ReviewOutcome::Renewed(until)) if now() >= *until);
                if context.reviews.put(&uid, &grant.name_any(), found) || is_over {
                    context.cache.enqueue_decision(key_of(*decision));
                }
            }
            (SubjectKind::PartnerIntegration, _) => {}
        }
    }
}

/// Looks after decisions that no grant's reconcile speaks of, for ever: `changed` names those to look at.
pub(crate) async fn run(context: Arc<Context>, mut changed: UnboundedReceiver<Key>) {
    while let Some((namespace, name)) = changed.next().await {
        if !context.is_leader() {
            continue;
        }
        let found = context.cache.decisions.get(&ObjectRef::new(&name).within(&namespace));
        if let Some(decision) = found.as_ref().and_then(|it| it.0.as_ref().ok()) {
            look(&context, decision).await;
        }
    }
}

async fn look(context: &Arc<Context>, decision: &AccessDecision) {
    let cache = &context.cache;
    let (kind, key) = mapping::subject_of(decision);
    match kind {
        SubjectKind::AccessGrant => match cache.grants.get(&ObjectRef::new(&key.1).within(&key.0)) {
            None => tell(context, decision, Subject::Missing).await,
            Some(grant) if grant.0.is_err() => tell(context, decision, Subject::Unreadable).await,
            // The reconcile of the grant tells it.
            Some(_) => {}
        },
        SubjectKind::PartnerIntegration => match cache.integrations.get(&ObjectRef::new(&key.1).within(&key.0)) {
            None => tell(context, decision, Subject::Missing).await,
            Some(integration) if integration.0.is_err() => tell(context, decision, Subject::Unreadable).await,
            Some(_) if decision.spec.decision == Decision::Review => {
                let outcomes = context.reviews.of(&decision.uid().unwrap_or_default());
                let entries = decision.spec.grants.iter().flatten();
                let grants: Vec<_> = entries
                    .map(|entry| {
                        let grant = ObjectRef::new(&entry.name.0).within(&key.0);
                        (entry.name.0.as_str(), cache.grants.get(&grant))
                    })
                    .collect();
                let listed: Vec<(&str, Listed<'_>)> = grants
                    .iter()
                    .map(|(name, grant)| {
                        let listed = match grant.as_ref().map(|grant| &grant.0) {
                            None => Listed::Missing,
                            Some(Err(_)) => Listed::Unreadable,
                            Some(Ok(grant)) => Listed::There(grant, outcomes.get(*name)),
                        };
                        (*name, listed)
                    })
                    .collect();
                tell(context, decision, Subject::Reviewed(&listed)).await
            }
            Some(_) => {
                let grants = cache.grants_of(&key);
                let grants: Vec<&AccessGrant> = grants.iter().filter_map(|it| it.0.as_ref().ok()).collect();
                tell(context, decision, Subject::Integration(&grants)).await
            }
        },
    }
}

/// Writes what became of a decision. What can't be written is tried again by itself, at a pace of the decision's own: however
/// often it is looked at meanwhile, one attempt follows another.
async fn tell(context: &Arc<Context>, cached: &AccessDecision, subject: Subject<'_>) {
    let uid = cached.uid().unwrap_or_default();
    // What was judged by may be older than what was told since; of one that is gone nobody is told.
    let (name, namespace) = (cached.name_any(), cached.namespace().unwrap_or_default());
    let this = ObjectRef::new(&name).within(&namespace);
    let newest = context.cache.decisions_written.newest(&context.cache.decisions, &this);
    let Some(decision) = newest.filter(|newest| newest.metadata.uid == cached.metadata.uid) else {
        return;
    };
    let is_of_grant = matches!(subject, Subject::Grant(_));
    let Some(status) = plan(&decision, subject, now()) else {
        context.tellings.went_well(&uid);
        return;
    };
    if context.tellings.left(&uid).is_some() {
        return;
    }
    match write_status(context, decision.as_ref(), &status).await {
        Ok(written) => {
            context.cache.decisions_written.remember(written);
            context.tellings.went_well(&uid);
        }
        Err(error) => {
            // It was deleted, or somebody wrote: the watch tells of it, as a rule before the next attempt.
            if !error.is_gone() {
                tracing::warn!(%error, "a decision could not be told whether it counts");
            }
            let (context, key) = (Arc::clone(context), key_of(cached));
            let grant = is_of_grant.then(|| mapping::subject_of(cached).1);
            let pause = context.tellings.failed(&uid);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                match grant {
                    Some(grant) => context.cache.enqueue_key(&grant),
                    None => context.cache.enqueue_decision(key),
                }
            });
        }
    }
}
