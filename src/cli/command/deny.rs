//! `deny`: says no to a grant.

use super::{decide, grant, who_am_i};
use crate::api::v1alpha1::{Decision, SubjectKind};
use crate::cli::args::Deny;
use crate::cli::decision::Draft;
use crate::cli::{Io, Session};

/// Denies a grant.
///
/// # Errors
///
/// When the grant can't be read or the API server refuses.
pub async fn run(args: &Deny, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let grant = grant(session, &args.grant).await?;
    let user = who_am_i(&session.client).await?;
    let draft = Draft {
        namespace: &session.namespace,
        kind: SubjectKind::AccessGrant,
        name: &args.grant,
        uid: grant.metadata.uid.as_deref(),
        decision: Decision::Deny,
        digest: None,
        grants: &[],
        // A no needs no right anywhere else.
        targets: &[],
        user: &user.name,
        groups: &user.groups_stated(),
        valid_until: None,
        reason: &args.reason,
    };
    decide(&draft, io, session).await
}
