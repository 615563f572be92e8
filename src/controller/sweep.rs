//! Before anything is issued, and whenever something is there whose grant is not: what should be gone is taken away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt as _};

use super::observe::World;
use super::{Context, apply};
use crate::api::v1alpha1::AccessGrant;
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
/// So many grants are closed at once.
const AT_ONCE: usize = 16;

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

/// Takes away what each grant left; whether all of it went.
async fn close(context: &Context, doomed: Vec<Vec<Child>>) -> bool {
    let closings = futures::stream::iter(doomed).map(|mut children| async move {
        children.sort();
        let closed = apply::close(context, &children).await;
        closed.inspect_err(|error| tracing::error!(%error, "the sweep could not take access away"))
    });
    closings
        .buffer_unordered(AT_ONCE)
        .all(async |closed| closed.is_ok())
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
