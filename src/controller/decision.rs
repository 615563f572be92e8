//! Tells each AccessDecision whether it counts: those about a grant when the grant was judged, all others when they or
//! their subjects change. Does I/O.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use kube::runtime::reflector::ObjectRef;

use super::apply::{Result, write_status};
use super::mapping::{self, Key};
use super::{Context, now};
use crate::api::v1alpha1::{AccessDecision, AccessGrant, SubjectKind};
use crate::domain::verdict::Verdict;
use crate::plan::decision::{Subject, plan};

/// An attempt to tell that failed is repeated after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Tells the decisions about a grant what became of them.
///
/// # Errors
/// The first that could not be told; the others were tried all the same.
pub(crate) async fn settle(context: &Context, decisions: &[&AccessDecision], verdict: &Verdict) -> Result<()> {
    let of_grant = decisions
        .iter()
        .filter(|it| it.spec.subject.kind == SubjectKind::AccessGrant);
    let mut outcome = Ok(());
    for decision in of_grant {
        outcome = outcome.and(tell(context, decision, Subject::Grant(Some(&verdict.decisions))).await);
    }
    outcome
}

/// Looks after decisions that no grant's reconcile speaks of, for ever: `changed` names those to look at.
pub(crate) async fn run(context: Arc<Context>, mut changed: UnboundedReceiver<Key>) {
    while let Some((namespace, name)) = changed.next().await {
        if !context.is_leader() {
            continue;
        }
        let found = context.cache.decisions.get(&ObjectRef::new(&name).within(&namespace));
        if let Some(decision) = found.as_ref().and_then(|it| it.0.as_ref().ok())
            && let Err(error) = look(&context, decision).await
        {
            tracing::warn!(%error, namespace, name, "a decision could not be told whether it counts");
            let context = Arc::clone(&context);
            tokio::spawn(async move {
                tokio::time::sleep(AGAIN).await;
                context.cache.enqueue_decision((namespace, name));
            });
        }
    }
}

async fn look(context: &Context, decision: &AccessDecision) -> Result<()> {
    let cache = &context.cache;
    let (kind, key) = mapping::subject_of(decision);
    match kind {
        SubjectKind::AccessGrant => match cache.grants.get(&ObjectRef::new(&key.1).within(&key.0)) {
            None => tell(context, decision, Subject::Missing).await,
            Some(grant) if grant.0.is_err() => tell(context, decision, Subject::Unreadable).await,
            // The reconcile of the grant tells it.
            Some(_) => Ok(()),
        },
        SubjectKind::PartnerIntegration => match cache.integrations.get(&ObjectRef::new(&key.1).within(&key.0)) {
            None => tell(context, decision, Subject::Missing).await,
            Some(integration) if integration.0.is_err() => tell(context, decision, Subject::Unreadable).await,
            Some(_) => {
                let grants = cache.grants_of(&key);
                let grants: Vec<&AccessGrant> = grants.iter().filter_map(|it| it.0.as_ref().ok()).collect();
                tell(context, decision, Subject::Integration(&grants)).await
            }
        },
    }
}

async fn tell(context: &Context, cached: &AccessDecision, subject: Subject<'_>) -> Result<()> {
    let decision = context.decisions_written.newest(Arc::new(cached.clone()));
    let Some(status) = plan(&decision, subject, now()) else {
        return Ok(());
    };
    match write_status(context, decision.as_ref(), &status).await {
        Ok(written) => context.decisions_written.remember(written),
        // It was deleted, or somebody wrote: the watch tells of it.
        Err(error) if error.is_gone() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
