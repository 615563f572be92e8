//! `explain`: what is said of a grant now, and why, policy by policy and point by point.

use super::grant;
use crate::api::v1alpha1::Instant;
use crate::cli::args::Explain;
use crate::cli::explanation::Explanation;
use crate::cli::reader::Reader;
use crate::cli::world::{World, key};
use crate::cli::{Io, Session, output};

/// Explains a grant.
///
/// # Errors
///
/// When the grant or its integration can't be read, or the cluster doesn't answer.
pub async fn run(args: &Explain, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let grant = grant(session, &args.grant).await?;
    let mut world = World::default();
    // The same look at it for everything that follows.
    world.grants.insert(key(&grant), grant.clone());
    let mut reader = Reader::new(session.client.clone());
    reader.cluster_wide(&mut world).await?;
    reader.namespace_wide(&mut world, &session.namespace).await?;
    reader.of_grant(&mut world, &grant).await?;
    let explanation = Explanation::of(&world.judge(&grant, Instant::new(io.now)));
    output::write(io.out, session.output, &explanation, &explanation.text())
}
