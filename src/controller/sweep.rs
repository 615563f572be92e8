//! Before anything is issued, and whenever something is there whose grant is not: what should be gone is taken away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt as _};

use super::apply::Hung;
use super::observe::World;
use super::{Context, apply};
use crate::api::v1alpha1::{AccessGrant, ChildKind};
use crate::domain::verdict::Access;
use crate::plan::Child;

/// A sweep is repeated at least this often.
const AGAIN: Duration = Duration::from_mins(10);
/// And while Wayleave is being uninstalled: somebody waits for it.
const WAITED_FOR: Duration = Duration::from_secs(5);
/// And this soon after one that could not take everything away.
const FAILED_AGAIN: Duration = Duration::from_mins(1);
/// How often it is seen whether everything was read.
const SOON: Duration = Duration::from_millis(50);
/// The pause after a listing that failed.
const PAUSE: Duration = Duration::from_secs(2);
/// So many grants are closed at once; of those that hang, too: no more is asked of a namespace that gives no answer.
const AT_ONCE: usize = 16;
/// So many bindings are.
const BINDINGS_AT_ONCE: usize = 64;

/// Sweeps for ever: whole, whenever this replica begins to lead.
pub(crate) async fn run(context: Arc<Context>) {
    let mut leadership = context.leadership.changes();
    loop {
        while !(context.cache.is_known() && context.is_leader()) {
            tokio::time::sleep(SOON).await;
        }
        close(&context, ended(&context)).await;
        let mut all_went = close(&context, orphans(&context).await).await;
        // What could not be closed is tried again, and does not keep others from what they are owed.
        context.set_swept(true);
        context.metrics.leads(true);
        context.cache.enqueue_all();
        while context.is_leader() {
            let again = if all_went { AGAIN } else { FAILED_AGAIN };
            let again = context.cache.uninstalling().map_or(again, |_| WAITED_FOR);
            tokio::select! {
                () = context.cache.orphan_seen.notified() => all_went = close(&context, orphans(&context).await).await,
                // However short it was: whatever was looked at in the gap is looked at again.
                _ = leadership.changed() => break,
                () = tokio::time::sleep(again) => {
                    context.forget_gone();
                    all_went = close(&context, orphans(&context).await).await;
                }
            }
        }
        context.set_swept(false);
        context.metrics.leads(false);
    }
}

/// What is there of grants whose access has ended, perhaps while no operator ran.
fn ended(context: &Arc<Context>) -> Vec<Vec<Child>> {
    let mut ended = Vec::new();
    for grant in context.cache.grants.state() {
        if let Ok(grant) = &grant.0 {
            let world = World::of(context, Arc::new(grant.clone()));
            if !world.observed.children.is_empty() && world.judge(context).verdict.access == Access::Inactive {
                ended.push(world.observed.children);
            }
        }
    }
    ended
}

/// Takes away what each grant left, and before anything else the access of all; whether all of it went, as far as the operator may go.
async fn close(context: &Context, mut doomed: Vec<Vec<Child>>) -> bool {
    let hung = &Hung::default();
    let is_binding = |child: &&Child| child.kind == ChildKind::RoleBinding;
    let bindings: Vec<Child> = doomed.iter().flatten().filter(is_binding).cloned().collect();
    let bindings = futures::stream::iter(bindings).map(|binding| async move {
        // What is left is tried again, and told, with the rest.
        apply::close(context, std::slice::from_ref(&binding), hung)
            .await
            .is_ok()
    });
    bindings.buffer_unordered(BINDINGS_AT_ONCE).for_each(async |_| ()).await;
    doomed.iter_mut().for_each(|children| children.sort());
    let closings = futures::stream::iter(doomed).map(|children| async move {
        let closed = apply::close(context, &children, hung).await;
        let closed = closed.inspect_err(|error| tracing::error!(%error, "the sweep could not take access away"));
        // Where the operator may not go nothing is gained by asking often: an enrolment has it look again.
        closed.map_or_else(|error| error.is_forbidden(), |()| true)
    });
    // Whatever becomes of one, each is tried.
    closings
        .buffer_unordered(AT_ONCE)
        .fold(true, async |all, went| all && went)
        .await
}

/// What was made for grants that are gone. The API server is asked which are there: a cache can lag behind another replica.
async fn orphans(context: &Context) -> Vec<Vec<Child>> {
    let known: HashSet<String> = context
        .cache
        .grants
        .state()
        .iter()
        .filter_map(|grant| grant.uid())
        .collect();
    let suspects = context.cache.index.orphans(|uid| known.contains(uid));
    if suspects.is_empty() {
        return Vec::new();
    }
    let api: Api<PartialObjectMeta<AccessGrant>> = Api::all(context.client.clone());
    let there = match apply::call("listing grants", api.list(&ListParams::default())).await {
        Ok(there) => there.items,
        // The kind is gone, and with it every grant.
        Err(error) if error.is_not_found() && context.cache.uninstalling().is_some() => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "orphans could not be told from the rest");
            context.cache.orphan_seen.notify_one();
            tokio::time::sleep(PAUSE).await;
            return Vec::new();
        }
    };
    let there: HashSet<String> = there.iter().filter_map(|grant| grant.uid()).collect();
    // Those that were orphans before the listing too: what was made meanwhile belongs to somebody.
    let orphans = context
        .cache
        .index
        .orphans(|uid| !suspects.contains_key(uid) || there.contains(uid));
    for (grant_uid, children) in &orphans {
        tracing::warn!(
            grant_uid,
            objects = children.len(),
            "an AccessGrant is gone and left access: it ends"
        );
    }
    orphans.into_values().collect()
}
