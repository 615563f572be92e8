//! The reconcile of one PartnerIntegration: observe, plan, status, requeue. Nothing is made for it. Does I/O.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use super::apply::{Error, Result, call, patch_params, status_patch};
use super::cache::{Guarded, key_of};
use super::{Context, now, until};
use crate::api::v1alpha1::{AccessGrant, AccessOwner, PartnerIntegration};
use crate::domain::ownership::{self, Owners};
use crate::plan::{announcement, integration};

/// The pause after an error.
const PAUSE: Duration = Duration::from_secs(5);

/// Brings the status of an integration up to date.
pub(crate) async fn reconcile(object: Arc<Guarded<PartnerIntegration>>, context: Arc<Context>) -> Result<Action> {
    let Ok(cached) = &object.0 else {
        // Its grants end, and say so; of itself nothing can be said before it is mended.
        return Ok(Action::await_change());
    };
    if !context.is_leader() {
        return Ok(Action::await_change());
    }
    let found = context.integrations_written.newest(Arc::new(cached.clone()));
    let cache = &context.cache;
    let owners = ownership::names(&found).map(|name| cache.owners.get(&ObjectRef::new(name)));
    let owners: Vec<&AccessOwner> = owners.iter().flatten().filter_map(|it| it.0.as_ref().ok()).collect();
    let owners: Owners<'_> = owners
        .into_iter()
        .map(|owner| (owner.metadata.name.as_deref().unwrap_or_default(), owner))
        .collect();
    let grants = cache.grants_of(&key_of(found.as_ref()));
    let grants: Vec<_> = grants
        .iter()
        .filter_map(|(namespace, name)| cache.grants.get(&ObjectRef::new(name).within(namespace)))
        .collect();
    let grants: Vec<&AccessGrant> = grants.iter().filter_map(|it| it.0.as_ref().ok()).collect();
    let at = now();
    let plan = integration::plan(&found, &owners, &grants, at);
    if found.status.as_ref() != Some(&plan.status) {
        let api: Api<PartnerIntegration> =
            Api::namespaced(context.client.clone(), &found.namespace().unwrap_or_default());
        let patch = status_patch(found.as_ref(), &plan.status)?;
        let params = patch_params();
        let write = api.patch_status(found.metadata.name.as_deref().unwrap_or_default(), &params, &patch);
        let written = call("writing status of a PartnerIntegration", write).await?;
        let said = announcement::of_integration(found.status.as_ref(), &plan.status);
        context.integrations_written.remember(written);
        context.events.announce(found.as_ref(), said).await;
    }
    Ok(Action::requeue(until(at.plus(plan.again_in))))
}

/// What follows an error: a pause, and a look at everything anew.
pub(crate) fn after_error(_: Arc<Guarded<PartnerIntegration>>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(PAUSE)
}
