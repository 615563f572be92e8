//! Keeps an enrolment until what it lets the operator close is closed: our finalizer on the binding. Does I/O.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;

use super::enrolments::Enrolment;
use super::{Context, apply};
use crate::api::names::FINALIZER;

/// Enrolments are looked at at least this often.
const AGAIN: Duration = Duration::from_mins(1);
/// And this soon after one that could not be written.
const SOON: Duration = Duration::from_secs(5);

/// Looks after enrolments for ever.
pub(crate) async fn run(context: Arc<Context>) {
    loop {
        let mut pause = AGAIN;
        if context.cache.is_known() {
            context.cache.unfollow_static();
        }
        if context.cache.is_known() && context.is_leader() {
            for enrolment in context.cache.enrolments.all() {
                if let Err(error) = look_after(&context, &enrolment).await
                    && !error.is_gone()
                {
                    tracing::warn!(namespace = enrolment.namespace, name = enrolment.name, %error, "an enrolment could not be looked after");
                    // Who enrols nothing any more gives no rights to mend it by.
                    if !(enrolment.is_former && error.is_forbidden()) {
                        pause = SOON;
                    }
                }
            }
        }
        tokio::select! {
            () = context.cache.enrolment_changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn look_after(context: &Context, enrolment: &Enrolment) -> apply::Result<()> {
    let cache = &context.cache;
    let api: Api<RoleBinding> = Api::namespaced(context.client.clone(), &enrolment.namespace);
    let version = &enrolment.resource_version;
    if enrolment.is_former || cache.uninstalling().is_some() {
        // By the time that it is deleted nobody may be there to let it go.
        let is_needed = !enrolment.is_former && cache.needs_enrolment(&enrolment.namespace);
        if enrolment.is_held() && !is_needed {
            apply::release(&api, &enrolment.name, version, &enrolment.finalizers).await?;
        }
    } else if enrolment.is_ending {
        let others = cache.enrolments.of(&enrolment.namespace);
        let is_needed = !others
            .iter()
            .any(|it| !it.is_ending && cache.is_enrolment(&it.cluster_role))
            && cache.index.is_in_use(&enrolment.namespace);
        if enrolment.is_held() && !is_needed {
            apply::release(&api, &enrolment.name, version, &enrolment.finalizers).await?;
        }
    } else if !enrolment.is_held() && cache.is_enrolment(&enrolment.cluster_role) {
        let finalizers = [enrolment.finalizers.as_slice(), &[FINALIZER.to_owned()]].concat();
        apply::set_finalizers(&api, &enrolment.name, version, &finalizers).await?;
    }
    Ok(())
}
