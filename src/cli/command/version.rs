//! `version`: of the plugin and, when asked for, of the API server.

use anyhow::Context as _;

use crate::cli::args::{Global, Version};
use crate::cli::{Io, Session, output};

const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Writes the plugin's version; needs no cluster.
///
/// # Errors
///
/// When it can't be written.
pub fn client(global: &Global, io: &mut Io<'_>) -> anyhow::Result<()> {
    let value = serde_json::json!({"client": CLIENT});
    output::write(io.out, global.output, &value, &format!("client: {CLIENT}"))
}

/// Writes both versions.
///
/// # Errors
///
/// When the API server doesn't answer.
pub async fn run(_: &Version, io: &mut Io<'_>, session: &Session) -> anyhow::Result<()> {
    let server = session
        .client
        .apiserver_version()
        .await
        .context("asking the API server for its version")?
        .git_version;
    let value = serde_json::json!({"client": CLIENT, "server": server});
    let text = format!("client: {CLIENT}\nserver: {}", output::escape(&server));
    output::write(io.out, session.output, &value, &text)
}
