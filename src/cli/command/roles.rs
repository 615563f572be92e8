//! What the ClusterRoles hold that grants name: whoever decides sees it, as far as he may read it.

use anyhow::Context as _;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;

use super::is_forbidden;
use crate::api::v1alpha1::AccessGrant;
use crate::cli::Session;
use crate::cli::access::{Role, Roles, named_by};
use crate::cli::world::resolved;

/// Reads the ClusterRoles that some grants name and that were not read yet.
pub(super) async fn read<'a>(
    roles: &mut Roles,
    grants: impl IntoIterator<Item = &'a AccessGrant>,
    session: &Session,
) -> anyhow::Result<()> {
    for name in named_by(grants) {
        if roles.contains_key(&name) {
            continue;
        }
        let found = match Api::<ClusterRole>::all(session.client.clone()).get_opt(&name).await {
            Ok(Some(role)) => Role::Held(resolved(&role)),
            Ok(None) => Role::Absent,
            Err(error) if is_forbidden(&error) => Role::Unread,
            Err(error) => return Err(error).with_context(|| format!("reading ClusterRole {name}")),
        };
        roles.insert(name, found);
    }
    Ok(())
}
