//! `rotate`: asks for a new credential.

use anyhow::{Context as _, ensure};
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::grant;
use crate::api::names::ANNOTATION_ROTATE_REQUESTED_AT;
use crate::api::v1alpha1::{AccessGrant, Instant};
use crate::cli::args::Rotate;
use crate::cli::{Io, Session, output};

/// Sets the annotation that asks for it.
///
/// # Errors
///
/// When the grant doesn't exist, its credential is a static one, or the API server refuses.
pub async fn run(args: &Rotate, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let grant = grant(session, &args.grant).await?;
    ensure!(
        grant.static_credential().is_none(),
        "{}/{} is used by a static credential, which Wayleave does not make: nothing of it is rotated",
        session.namespace,
        args.grant
    );
    let at = Instant::new(io.now);
    let patch = serde_json::json!({"metadata": {"annotations": {ANNOTATION_ROTATE_REQUESTED_AT: at}}});
    let mut patched = Api::<AccessGrant>::namespaced(session.client.clone(), &session.namespace)
        .patch(&args.grant, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("asking for a rotation of {}/{}", session.namespace, args.grant))?;
    patched.metadata.managed_fields = None;
    let text = format!("rotation of {}/{} requested at {at}", session.namespace, args.grant);
    output::write(io.out, session.output, &patched, &output::escape(&text))
}
