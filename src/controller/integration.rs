//! The reconcile of one PartnerIntegration: observe, plan, status, requeue. Nothing is made for it. Does I/O.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::apply::{Error, Result, write_status};
use super::cache::{Guarded, by_name, key_of};
use super::{Context, after, lock, now};
use crate::api::v1alpha1::{AccessGrant, PartnerIntegration};
use crate::plan::{announcement, integration};

/// The pause after an error.
const PAUSE: Duration = Duration::from_secs(5);
/// Numbers of grants alone are written at most this often: a thousand that begin at once are not a thousand writes.
const COUNTING: Duration = Duration::from_secs(1);

/// When each integration's status was written last, by UID.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<String, Instant>>);

impl Pace {
    fn wrote(&self, uid: String) {
        lock(&self.0).insert(uid, Instant::now());
    }

    /// How long a count is to wait, if at all.
    fn left(&self, uid: &str) -> Option<Duration> {
        let since = lock(&self.0).get(uid)?.elapsed();
        COUNTING.checked_sub(since).filter(|left| !left.is_zero())
    }

    /// Forgets all but objects of these UIDs.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}

/// Brings the status of an integration up to date.
pub(crate) async fn reconcile(object: Arc<Guarded<PartnerIntegration>>, context: Arc<Context>) -> Result<Action> {
    context.cache.denials.over().await;
    // Where it can't be read its grants end, and say so; of itself nothing can be said before it is mended.
    let this = ObjectRef::from_obj(object.as_ref());
    let newest = context
        .cache
        .integrations_written
        .newest(&context.cache.integrations, &this);
    let Some(found) = newest else {
        return Ok(Action::await_change());
    };
    let cache = &context.cache;
    let owners = cache.owners_of(&found);
    let owners = by_name(&owners);
    let grants = cache.grants_of(&key_of(found.as_ref()));
    let grants: Vec<&AccessGrant> = grants.iter().filter_map(|it| it.0.as_ref().ok()).collect();
    let at = now();
    let plan = integration::plan(&found, &owners, &grants, at);
    if found.status.as_ref() != Some(&plan.status) {
        let uid = found.uid().unwrap_or_default();
        if integration::is_count_alone(found.status.as_ref(), &plan.status)
            && let Some(left) = context.integrations_pace.left(&uid)
        {
            return Ok(Action::requeue(left));
        }
        let written = write_status(&context, found.as_ref(), &plan.status).await?;
        let said = announcement::of_integration(found.status.as_ref(), &plan.status);
        let leaving = integration::owners::announce(&found, found.status.as_ref(), &plan.status);
        context.cache.integrations_written.remember(written);
        context.integrations_pace.wrote(uid);
        for said in said.into_iter().chain(leaving) {
            context.events.announce(found.as_ref(), Some(said)).await;
        }
    }
    Ok(Action::requeue(after(at.plus(plan.again_in))))
}

/// What follows an error: a pause, and a look at everything anew.
pub(crate) fn after_error(_: Arc<Guarded<PartnerIntegration>>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(PAUSE)
}
